//! Requests to one repository: sent with what the registry wants to see, again where that may help, and answers that are
//! no longer than they should be.
//!
//! Nothing is known in advance of how a registry wants to be logged in to: its refusal (401) says it, a token is fetched or
//! the account itself shown, and the request is sent again. The same happens when a token is too old. What goes wrong on the
//! way, or says that the registry is busy (408, 429, 5xx), is tried again after a pause that doubles.
//!
//! Plain HTTP is spoken only where that is allowed (see [`place`](super::place)), and where HTTPS was tried before. A
//! redirection never leads from HTTPS to HTTP; accounts and tokens don't go along to another host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, header};

use super::RegistryError;
use super::account::Credentials;
use super::account::{Access, Account};
use super::challenge::{self, Challenge};
use super::place::{Place, is_loopback, may_be_plain};
use super::words::{MAX_READ, parse_token, reason, shown, told, words};
use crate::escape::escape;

/// For a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// For the beginning of an answer, and for each part of it.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// For what is sent to get on.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);
/// How often something is tried that does not get on.
pub(crate) const ATTEMPTS: u32 = 5;
/// Before something is tried again; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause that a registry can demand.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const MAX_REDIRECTIONS: usize = 8;
/// The most bytes of a token's document.
const MAX_TOKEN: u64 = 1 << 20;
/// What is to be done in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Reading.
    Pull,
    /// Writing, too.
    Push,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    pub(super) place: Place,
    client: Client,
    /// `https://HOST/v2/`
    base: Url,
    account: Account,
    action: Action,
    /// Repositories of the registry that are read, too.
    also_read: Vec<String>,
    insecure: Vec<String>,
    /// What was shown last.
    shown: Mutex<Option<Shown>>,
}

/// Who asks.
#[derive(Clone)]
enum Shown {
    Account(Credentials),
    Token(String),
}

impl std::fmt::Debug for Shown {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if let Shown::Account(_) = self { "Account" } else { "Token" })
    }
}

impl Session {
    /// Gets ready to ask.
    ///
    /// # Errors
    /// [`RegistryError`]
    pub async fn open(place: Place, access: &Access, action: Action) -> Result<Session, RegistryError> {
        // The one provider of cryptography; who installed one before us did the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let finding = (place.clone(), access.clone());
        let account = tokio::task::spawn_blocking(move || Account::find(&finding.0, &finding.1)).await;
        let account = account.map_err(|error| RegistryError::Fault(error.to_string()))?;
        let host = place.host().to_owned();
        let insecure = access.insecure.clone();
        let builder = || {
            let insecure = insecure.clone();
            let builder = Client::builder()
                .user_agent(concat!("slim/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_PATIENCE)
                .redirect(Policy::custom(move |attempt| redirect(attempt, &insecure)));
            // A proxy has another loopback.
            if is_loopback(&host) { builder.no_proxy() } else { builder }
        };
        let client = match builder().build() {
            // Where there are no authorities, none are needed for plain HTTP.
            Err(_) if may_be_plain(&host, &insecure) => builder().tls_certs_only([]).build(),
            built => built,
        };
        let client = client.map_err(|error| RegistryError::Tls(reason(&error)))?;
        let base = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{host}/v2/"));
            url.map_err(|error| RegistryError::Unreachable { host: host.clone(), reason: error.to_string(), hint: "" })
        };
        let mut session = Session {
            base: base("https")?,
            client,
            account,
            action,
            also_read: vec![],
            insecure: access.insecure.clone(),
            shown: Mutex::new(None),
            place,
        };
        if may_be_plain(&host, &access.insecure) && !session.speaks_tls().await {
            session.base = base("http")?;
        }
        Ok(session)
    }

    /// Asks for the right to read other repositories of the registry, too.
    #[must_use]
    pub(crate) fn also_reading(self, repositories: Vec<String>) -> Session {
        Session { also_read: repositories, ..self }
    }

    async fn speaks_tls(&self) -> bool {
        match tokio::time::timeout(CONNECT_PATIENCE, self.client.get(self.base.clone()).send()).await {
            Ok(Ok(_)) => true,
            // Whoever shows a certificate that we don't like, does. It is told when something is asked for.
            Ok(Err(error)) => {
                tracing::debug!("the registry `{}`: {error:?}", self.place.registry);
                is_about_certificates(&error)
            }
            Err(_) => false,
        }
    }

    /// The address of something in the repository, such as `blobs/sha256:...`.
    pub(crate) fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{rest}", self.place.repository));
        url
    }

    /// Where an answer's `Location` leads. On the registry's own host it is never another scheme than ours: a registry
    /// behind something that ends TLS often doesn't know of it.
    pub(crate) fn follow(&self, location: &str) -> Result<Url, RegistryError> {
        let wrong = || self.refused("answers with an address that cannot be used", location);
        let mut url = self.base.join(location).map_err(|_| wrong())?;
        if url.host() == self.base.host() && url.port() == self.base.port() {
            url.set_scheme(self.base.scheme()).map_err(|()| wrong())?;
        }
        self.check(&url)?;
        Ok(url)
    }

    /// Refuses an address that would be spoken to without TLS, where that is not allowed.
    fn check(&self, url: &Url) -> Result<(), RegistryError> {
        let is_plain = self.base.scheme() == "http" && url.scheme() == "http" && may_be_plain(&host_of(url), &self.insecure);
        if url.scheme() == "https" || is_plain {
            return Ok(());
        }
        Err(self.refused("leads to an address without TLS", url.as_str()))
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Sends a request until there is an answer that is worth it: any but those that the module names.
    pub(crate) async fn send(&self, url: &Url, build: impl Fn(&Client) -> RequestBuilder) -> Result<Response, RegistryError> {
        let mut has_logged_in = false;
        loop {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let response = self.persist(|| self.show(shown.as_ref(), url, build(&self.client))).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !self.is_own(url) || has_logged_in {
                return Ok(response);
            }
            let header = |value: &header::HeaderValue| value.to_str().map(challenge::parse).unwrap_or_default();
            let challenges: Vec<_> = response.headers().get_all(header::WWW_AUTHENTICATE).iter().flat_map(header).collect();
            let Some(new) = self.log_in(&challenges).await? else { return Ok(response) };
            *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
            has_logged_in = true;
        }
    }

    /// As [`Session::send`], for reading.
    pub(crate) async fn get(
        &self,
        url: &Url,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        self.send(url, |client| with(client.get(url.clone()))).await
    }

    /// Sends a request once, with what the last one had to show. Its body may take as long as it gets on, which `sent` tells.
    pub(crate) async fn send_once(
        &self,
        url: &Url,
        build: impl FnOnce(&Client) -> RequestBuilder,
        sent: &AtomicU64,
    ) -> Result<Response, RegistryError> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sending = std::pin::pin!(self.show(shown.as_ref(), url, build(&self.client)).send());
        let mut before = None;
        loop {
            match tokio::time::timeout(UPLOAD_PATIENCE, &mut sending).await {
                Ok(answered) => return answered.map_err(|error| self.unreachable(reason(&error))),
                Err(_) if before == Some(sent.load(Ordering::Relaxed)) => {
                    return Err(self.unreachable("it takes nothing any more".to_owned()));
                }
                Err(_) => before = Some(sent.load(Ordering::Relaxed)),
            }
        }
    }

    /// Adds what the registry wants to see, and nobody else may.
    fn show(&self, shown: Option<&Shown>, url: &Url, request: RequestBuilder) -> RequestBuilder {
        match shown.filter(|_| self.is_own(url)) {
            Some(Shown::Account(Credentials { account, secret })) => request.basic_auth(account, Some(secret)),
            Some(Shown::Token(token)) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Tries again what may work another time.
    async fn persist(&self, build: impl Fn() -> RequestBuilder) -> Result<Response, RegistryError> {
        let mut attempt = 1;
        loop {
            let answered = tokio::time::timeout(ANSWER_PATIENCE, build().send()).await;
            let mut hint = "";
            let (problem, pause) = match answered {
                Ok(Ok(response)) if attempt < ATTEMPTS && is_busy(response.status()) => {
                    (response.status().to_string(), demanded_pause(&response))
                }
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) if error.is_builder() || error.is_redirect() => {
                    return Err(self.refused("cannot be asked", &reason(&error)));
                }
                Ok(Err(error)) => {
                    if error.is_connect() && !may_be_plain(self.place.host(), &self.insecure) {
                        hint = " (one that does not know TLS must be named: `--insecure-registry HOST`)";
                    }
                    (reason(&error), None)
                }
                Err(_) => (format!("no answer in {} seconds", ANSWER_PATIENCE.as_secs()), None),
            };
            if attempt == ATTEMPTS {
                return Err(RegistryError::Unreachable { host: self.place.host().to_owned(), reason: problem, hint });
            }
            tracing::debug!("the registry `{}`: {problem}; trying again", self.place.registry);
            tokio::time::sleep(pause.unwrap_or_else(|| pause_before(attempt))).await;
            attempt += 1;
        }
    }

    /// What to show to a registry that wants to see this; `None` where we have nothing to show.
    async fn log_in(&self, challenges: &[Challenge]) -> Result<Option<Shown>, RegistryError> {
        let token = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service)),
            Challenge::Basic => None,
        });
        match (token, &self.account) {
            (Some((realm, service)), _) => self.token(realm, service.as_deref()).await.map(Some),
            (None, Account::Password(given)) if challenges.contains(&Challenge::Basic) => Ok(Some(Shown::Account(given.clone()))),
            _ => Ok(None),
        }
    }

    async fn token(&self, realm: &str, service: Option<&str>) -> Result<Shown, RegistryError> {
        let mut url = Url::parse(realm).map_err(|_| self.refused("names a server for tokens that is none", realm))?;
        self.check(&url)?;
        let actions = if self.action == Action::Push { "pull,push" } else { "pull" };
        let scope = format!("repository:{}:{actions}", self.place.repository);
        let others: Vec<_> = self.also_read.iter().map(|repository| format!("repository:{repository}:pull")).collect();
        let mut form: Vec<_> = std::iter::once(&scope).chain(&others).map(|scope| ("scope", scope.as_str())).collect();
        form.extend(service.map(|service| ("service", service)));
        let response = if let Account::Identity(token) = &self.account {
            form.extend([("grant_type", "refresh_token"), ("client_id", "slim"), ("refresh_token", token)]);
            let mut encoded = url.clone();
            encoded.set_query(None);
            let body = encoded.query_pairs_mut().extend_pairs(&form).finish().query().unwrap_or_default().to_owned();
            const FORM: &str = "application/x-www-form-urlencoded";
            self.persist(|| self.client.post(url.clone()).header(header::CONTENT_TYPE, FORM).body(body.clone())).await?
        } else {
            url.query_pairs_mut().extend_pairs(&form);
            let ask = || match &self.account {
                Account::Password(Credentials { account, secret }) => {
                    self.client.get(url.clone()).basic_auth(account, Some(secret))
                }
                _ => self.client.get(url.clone()),
            };
            self.persist(ask).await?
        };
        let response = self.accept(response, "the token").await?;
        let bytes = self.body(response, MAX_TOKEN, "the token").await?;
        let token = parse_token(&bytes).ok_or_else(|| self.refused("gives out a token that makes no sense", ""))?;
        Ok(Shown::Token(token))
    }

    /// An answer that is none of an error; `what` was asked for.
    pub(crate) async fn accept(&self, response: Response, what: &str) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let words = self.body(response, MAX_READ, what).await.map(|bytes| words(&bytes)).unwrap_or_default();
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.unauthorised(&words),
            StatusCode::NOT_FOUND => RegistryError::Missing { what: what.to_owned(), place: self.place.to_string() },
            _ => self.refused(&format!("refuses {what} ({status})"), &words),
        })
    }

    fn unauthorised(&self, words: &str) -> RegistryError {
        let registry = &self.place.registry;
        let how = format!("`docker login {registry}`, or `--registry-account` and `--registry-secret`");
        let hint = match &self.account {
            Account::Nobody(None) => format!("it is not there, or needs an account: {how}"),
            Account::Nobody(Some(reason)) => format!("it needs an account ({reason}): {how}"),
            Account::Password(Credentials { account, .. }) => {
                format!("the account `{}` may not, or its secret is wrong: {how}", escape(account.as_bytes()))
            }
            Account::Identity(_) => format!("the account that docker stored may not, or is too old: {how}"),
        };
        RegistryError::Unauthorized { place: self.place.to_string(), words: told(&shown(words)), hint }
    }

    pub(crate) fn refused(&self, how: &str, words: &str) -> RegistryError {
        RegistryError::Refused { registry: self.place.registry.clone(), how: how.to_owned(), words: told(&shown(words)) }
    }

    pub(crate) fn unreachable(&self, reason: String) -> RegistryError {
        RegistryError::Unreachable { host: self.place.host().to_owned(), reason, hint: "" }
    }

    /// All bytes of an answer.
    pub(crate) async fn body(&self, mut response: Response, limit: u64, what: &str) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = vec![];
        loop {
            let part = tokio::time::timeout(ANSWER_PATIENCE, response.chunk()).await;
            let part = part.map_err(|_| self.unreachable("it does not go on".to_owned()))?;
            let Some(part) = part.map_err(|error| self.unreachable(reason(&error)))? else { return Ok(bytes) };
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > limit {
                return Err(RegistryError::TooLong { what: what.to_owned(), limit });
            }
        }
    }
}

/// Whether an answer is about the moment, not about the request.
pub(crate) fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

fn demanded_pause(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(FIRST_PAUSE, LONGEST_PAUSE))
}

/// Before what was tried so often is tried again.
pub(crate) fn pause_before(attempts: u32) -> Duration {
    FIRST_PAUSE * 2_u32.saturating_pow(attempts.saturating_sub(1))
}

fn redirect(attempt: Attempt<'_>, insecure: &[String]) -> reqwest::redirect::Action {
    if attempt.previous().len() > MAX_REDIRECTIONS {
        return attempt.error("it leads from one address to the next without an end");
    }
    let was_plain = attempt.previous().iter().all(|url| url.scheme() == "http");
    match attempt.url().scheme() {
        "https" => attempt.follow(),
        "http" if was_plain && may_be_plain(&host_of(attempt.url()), insecure) => attempt.follow(),
        _ => attempt.error("it leads to an address without TLS"),
    }
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn is_about_certificates(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidCertificate(_));
    }
    // The source of an error of input or output is that of the error in it.
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner {
        Some(inner) => is_about_certificates(inner),
        None => error.source().is_some_and(is_about_certificates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double() {
        assert_eq!([1, 2, 3, 4].map(|attempts| pause_before(attempts).as_millis()), [200, 400, 800, 1600]);
    }

    #[tokio::test]
    async fn addresses_without_tls_are_not_followed() {
        let open = |base: &'static str| async move {
            let place = Place { registry: "reg.example".to_owned(), repository: "a/b".to_owned() };
            let mut session = Session::open(place, &Access::default(), Action::Pull).await.unwrap();
            session.base = Url::parse(base).unwrap();
            session
        };
        let session = open("https://reg.example/v2/").await;
        let follow = |session: &Session, location: &str| session.follow(location).map(|url| url.to_string());
        assert_eq!(session.url("blobs/x").as_str(), "https://reg.example/v2/a/b/blobs/x");
        assert_eq!(follow(&session, "/v2/x?y=z").unwrap(), "https://reg.example/v2/x?y=z");
        assert_eq!(follow(&session, "http://reg.example/x").unwrap(), "https://reg.example/x");
        assert_eq!(follow(&session, "https://cdn.example/x").unwrap(), "https://cdn.example/x");
        for location in ["http://cdn.example/x", "http://127.0.0.1/x", "file:///etc/passwd", "http://"] {
            assert!(session.follow(location).is_err(), "{location}");
        }
        let session = open("http://127.0.0.1:5000/v2/").await;
        assert_eq!(follow(&session, "http://localhost:5001/x").unwrap(), "http://localhost:5001/x");
        assert!(session.follow("http://cdn.example/x").is_err());
    }
}
