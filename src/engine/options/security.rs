//! `--security-opt`, as the docker command line hands it to the daemon.
//!
//! Most words are the daemon's business and go there unchanged. Two are the client's: `seccomp=FILE` is read here and its
//! content sent in its place, and `systempaths=unconfined` is turned into empty lists of masked and read-only paths.

use std::io;

/// What the program's system calls are checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// The engine's own profile.
    #[default]
    EngineDefault,
    /// Nothing.
    Unconfined,
    /// The user's profile.
    Profile,
}

/// Security options, ready for the API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecurityOptions {
    /// For `HostConfig.SecurityOpt`.
    pub words: Vec<String>,
    /// Which profile they choose.
    pub seccomp: Seccomp,
    /// `/proc` and `/sys` are shown as they are.
    pub system_paths_unconfined: bool,
}

/// What is wrong with a security option.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// Not `NAME=VALUE`.
    #[error("a security option is written `NAME=VALUE`, such as `seccomp=unconfined` or `apparmor=PROFILE`")]
    Malformed,
    /// The profile can't be read.
    #[error("the seccomp profile `{path}` can't be read: {error}")]
    Unreadable {
        /// As given.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The profile isn't one.
    #[error("the seccomp profile `{path}` is not JSON: {error}")]
    NotJson {
        /// As given.
        path: String,
        /// Why.
        error: serde_json::Error,
    },
}

impl SecurityOptions {
    /// One `--security-opt`; `read` gives the content of a file.
    ///
    /// # Errors
    /// [`SecurityError`].
    pub fn add(&mut self, text: &str, read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> Result<(), SecurityError> {
        let (name, value) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
        let mut word = text.to_owned();
        match (name, value) {
            ("no-new-privileges", _) => {}
            (_, "") => return Err(SecurityError::Malformed),
            ("systempaths", "unconfined") => {
                self.system_paths_unconfined = true;
                return Ok(());
            }
            ("seccomp", "builtin") => self.seccomp = Seccomp::EngineDefault,
            ("seccomp", "unconfined") => self.seccomp = Seccomp::Unconfined,
            ("seccomp", path) => {
                self.seccomp = Seccomp::Profile;
                word = format!("seccomp={}", inline(path, read)?);
            }
            _ => {}
        }
        self.words.push(word);
        Ok(())
    }
}

/// The profile's JSON on one line.
fn inline(path: &str, read: &dyn Fn(&str) -> io::Result<Vec<u8>>) -> Result<String, SecurityError> {
    let bytes = read(path).map_err(|error| SecurityError::Unreadable { path: path.to_owned(), error })?;
    let profile: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| SecurityError::NotJson { path: path.to_owned(), error })?;
    Ok(profile.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<SecurityOptions, SecurityError> {
        let read = |path: &str| match path {
            "p.json" => Ok(b"{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n".to_vec()),
            "bad.json" => Ok(b"{".to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let mut options = SecurityOptions::default();
        words.iter().try_for_each(|word| options.add(word, &read))?;
        Ok(options)
    }

    #[test]
    fn what_is_the_daemons_goes_there_unchanged() {
        let words = ["no-new-privileges", "no-new-privileges:true", "apparmor=p", "label:disable", "label=type:x"];
        let options = parse(&words).unwrap();
        assert_eq!(options, SecurityOptions { words: words.map(str::to_owned).to_vec(), ..SecurityOptions::default() });
    }

    #[test]
    fn seccomp_profiles_are_inlined() {
        let options = parse(&["seccomp=p.json"]).unwrap();
        assert_eq!(options.words, ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]);
        assert_eq!(options.seccomp, Seccomp::Profile);
        let options = parse(&["seccomp=unconfined"]).unwrap();
        assert_eq!((options.words, options.seccomp), (vec!["seccomp=unconfined".to_owned()], Seccomp::Unconfined));
        assert_eq!(parse(&["seccomp=builtin"]).unwrap().seccomp, Seccomp::EngineDefault);
    }

    #[test]
    fn system_paths_are_the_clients() {
        let options = parse(&["systempaths=unconfined"]).unwrap();
        assert!(options.words.is_empty() && options.system_paths_unconfined);
    }

    #[test]
    fn options_that_are_none() {
        let form = "a security option is written `NAME=VALUE`, such as `seccomp=unconfined` or `apparmor=PROFILE`";
        for (word, message) in [
            ("", form),
            ("seccomp", form),
            ("seccomp=", form),
            ("seccomp=none.json", "the seccomp profile `none.json` can't be read: entity not found"),
            ("seccomp=bad.json", "the seccomp profile `bad.json` is not JSON: EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(parse(&[word]).unwrap_err().to_string(), message, "{word}");
        }
    }
}
