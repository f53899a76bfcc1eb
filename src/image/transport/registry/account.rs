//! Whose requests these are: the account that the command line names, else the one that `docker login` stored, else nobody's.

use std::path::PathBuf;

use super::place::Place;
use crate::escape::escape;

/// The user's name and secret for a registry.
#[derive(Clone)]
pub struct Credentials {
    /// Account.
    pub account: String,
    /// Password or token.
    pub secret: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("account", &self.account).finish_non_exhaustive()
    }
}

/// How registries may be spoken to.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// An account, and what the registry that it is for is called in names: it is shown to no other.
    pub account: Option<(String, Credentials)>,
    /// Hosts that may be spoken to without TLS, with or without a port.
    pub insecure: Vec<String>,
}

/// See the module.
#[derive(Clone)]
pub(super) enum Account {
    /// None. Where there should be one, why there is none.
    Nobody(Option<String>),
    Password(Credentials),
    /// A token that is good for tokens.
    Identity(String),
}

impl Account {
    /// Finds the account for a registry; may run a helper program.
    pub(super) fn find(place: &Place, access: &Access) -> Account {
        let not_this_one = match &access.account {
            Some((registry, given)) if *registry == place.registry => return Account::Password(given.clone()),
            Some((registry, _)) => Some(format!("the one that was given is for `{registry}`")),
            None => None,
        };
        let unusable = |reason: &str| Account::Nobody(Some(format!("the one that docker stored cannot be used: {reason}")));
        use docker_credential::{CredentialRetrievalError as Error, DockerCredential};
        match docker_credential::get_credential(place.account_key()) {
            Ok(DockerCredential::UsernamePassword(account, secret)) => Account::Password(Credentials { account, secret }),
            Ok(DockerCredential::IdentityToken(token)) => Account::Identity(token),
            Err(Error::ConfigNotFound | Error::NoCredentialConfigured) => Account::Nobody(not_this_one),
            Err(Error::ConfigReadError) if !has_configuration() => Account::Nobody(not_this_one),
            // That it has none is a failure to a helper.
            Err(Error::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => Account::Nobody(not_this_one),
            Err(Error::HelperFailure { helper, stdout, stderr }) => {
                let said = if stderr.trim().is_empty() { stdout } else { stderr };
                unusable(&format!("`{}` failed: {}", escape(helper.as_bytes()), escape(said.trim().as_bytes())))
            }
            Err(other) => unusable(&other.to_string()),
        }
    }
}

/// Whether docker has stored anything.
fn has_configuration() -> bool {
    let at_home = || std::env::home_dir().map(|home| home.join(".docker"));
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(at_home);
    folder.is_some_and(|folder| folder.join("config.json").exists())
}

impl std::fmt::Debug for Account {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Account::Nobody(reason) => f.debug_tuple("Nobody").field(reason).finish(),
            Account::Password(credentials) => f.debug_tuple("Password").field(&credentials.account).finish(),
            Account::Identity(_) => f.write_str("Identity"),
        }
    }
}
