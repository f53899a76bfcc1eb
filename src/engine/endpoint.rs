//! Which daemon is meant, in the order in which the docker command line looks: `--host`, `DOCKER_HOST`, the context that
//! `DOCKER_CONTEXT` or the docker configuration names; then Podman's variable `CONTAINER_HOST`; then the usual sockets: the
//! machine's Docker, the user's own (rootless), Podman's, which speaks the same API.
//!
//! A context is a folder under `~/.docker/contexts`, named by the SHA-256 of its name: `meta/DIGEST/meta.json` says where
//! the daemon is, `tls/DIGEST/docker/` may hold the client's key.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::kind::Kind;
use crate::image::digest::digits_of;

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Such as `unix:///var/run/docker.sock` or `tcp://10.0.0.1:2376`.
    pub host: String,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem`, where the connection is by TLS.
    pub tls: Option<PathBuf>,
}

/// What is wrong with a context.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// There is none of that name.
    #[error("the docker context `{name}` cannot be read from `{path}`: {source}; `docker context ls` lists those that there are")]
    Context {
        /// Its name.
        name: String,
        /// Where it should be.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A file that isn't what docker writes.
    #[error("`{path}` is not as docker writes it: {source}")]
    Malformed {
        /// Which.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What is looked at outside of this program.
pub trait Surroundings {
    /// A variable of the environment; an empty one is none.
    fn variable(&self, name: &str) -> Option<String>;
    /// A file's content.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Whether there is something at a path.
    fn exists(&self, path: &Path) -> bool;
}

/// The real ones.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Surroundings for System {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// The parts of docker's `config.json` and `meta.json` that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    current_context: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    #[serde(default)]
    docker: DockerEndpoint,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    #[serde(default)]
    host: String,
}

/// Finds the daemon. `given`: what `--host` says.
///
/// # Errors
/// [`EndpointError`], where a context is named that cannot be used.
pub fn find(given: Option<&str>, surroundings: &dyn Surroundings) -> Result<Endpoint, EndpointError> {
    if let Some(host) = given.map(str::to_owned).or_else(|| surroundings.variable("DOCKER_HOST")) {
        return Ok(named(host, surroundings));
    }
    let folder = configuration_folder(surroundings);
    if let Some(folder) = &folder
        && let Some(context) = context_name(folder, surroundings)?
    {
        return context_endpoint(folder, &context, surroundings);
    }
    if let Some(host) = surroundings.variable("CONTAINER_HOST").filter(|host| !host.starts_with("ssh://")) {
        return Ok(Endpoint { host, tls: None });
    }
    let (docker, podman) = (docker_socket(surroundings), podman_socket(surroundings));
    let is_podman = surroundings.exists(&podman) && !surroundings.exists(&docker);
    Ok(on_socket(if is_podman { &podman } else { &docker }))
}

/// Where Docker and Podman are on a machine on which nothing else is said.
#[must_use]
pub fn usual(surroundings: &dyn Surroundings) -> [(Kind, Endpoint); 2] {
    [(Kind::Docker, on_socket(&docker_socket(surroundings))), (Kind::Podman, on_socket(&podman_socket(surroundings)))]
}

/// The machine's daemon; the user's own (rootless), where there is only that.
fn docker_socket(surroundings: &dyn Surroundings) -> PathBuf {
    let shared = PathBuf::from(DOCKER_SOCKET);
    let own = surroundings.variable("XDG_RUNTIME_DIR").map(|runtime| Path::new(&runtime).join("docker.sock"));
    own.filter(|own| surroundings.exists(own) && !surroundings.exists(&shared)).unwrap_or(shared)
}

/// The user's own service; the machine's, where there is only that.
fn podman_socket(surroundings: &dyn Surroundings) -> PathBuf {
    let runtime = surroundings.variable("XDG_RUNTIME_DIR").unwrap_or_else(|| "/run".to_owned());
    let [own, shared] = [runtime.as_str(), "/run"].map(|runtime| Path::new(runtime).join("podman/podman.sock"));
    if surroundings.exists(&shared) && !surroundings.exists(&own) { shared } else { own }
}

fn on_socket(socket: &Path) -> Endpoint {
    Endpoint { host: format!("unix://{}", socket.display()), tls: None }
}

/// A host that was named by itself: by TLS where `DOCKER_TLS_VERIFY` says so.
fn named(host: String, surroundings: &dyn Surroundings) -> Endpoint {
    let is_tls = surroundings.variable("DOCKER_TLS_VERIFY").is_some() || host.starts_with("https://");
    let folder = || surroundings.variable("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| configuration_folder(surroundings));
    let tls = if is_tls && !host.starts_with("unix://") { folder() } else { None };
    Endpoint { host, tls }
}

fn configuration_folder(surroundings: &dyn Surroundings) -> Option<PathBuf> {
    let set = surroundings.variable("DOCKER_CONFIG").map(PathBuf::from);
    set.or_else(|| surroundings.variable("HOME").map(|home| Path::new(&home).join(".docker")))
}

/// The context in use; `None` is docker's own default.
fn context_name(folder: &Path, surroundings: &dyn Surroundings) -> Result<Option<String>, EndpointError> {
    let name = match surroundings.variable("DOCKER_CONTEXT") {
        Some(name) => name,
        None => {
            let path = folder.join("config.json");
            let Ok(text) = surroundings.read(&path) else { return Ok(None) };
            parse::<Config>(&path, &text)?.current_context
        }
    };
    Ok(Some(name).filter(|name| !name.is_empty() && name != "default"))
}

fn context_endpoint(folder: &Path, name: &str, surroundings: &dyn Surroundings) -> Result<Endpoint, EndpointError> {
    let digest = digits_of(name.as_bytes());
    let path = folder.join("contexts/meta").join(&digest).join("meta.json");
    let text = surroundings.read(&path).map_err(|source| EndpointError::Context {
        name: name.to_owned(),
        path: path.display().to_string(),
        source,
    })?;
    let host = parse::<Meta>(&path, &text)?.endpoints.docker.host;
    let tls = folder.join("contexts/tls").join(&digest).join("docker");
    let tls = surroundings.exists(&tls).then_some(tls);
    Ok(Endpoint { host, tls })
}

fn parse<'a, T: Deserialize<'a>>(path: &Path, text: &'a [u8]) -> Result<T, EndpointError> {
    let path = || path.display().to_string();
    serde_json::from_slice(text).map_err(|source| EndpointError::Malformed { path: path(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Default)]
    struct Machine {
        variables: HashMap<&'static str, &'static str>,
        files: HashMap<String, &'static str>,
    }

    impl Surroundings for Machine {
        fn variable(&self, name: &str) -> Option<String> {
            self.variables.get(name).map(|&value| value.to_owned())
        }

        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let file = self.files.get(path.to_str().unwrap());
            file.map(|text| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn exists(&self, path: &Path) -> bool {
            self.files.contains_key(path.to_str().unwrap())
        }
    }

    fn machine(variables: &[(&'static str, &'static str)], files: &[(&str, &'static str)]) -> Machine {
        Machine {
            variables: variables.iter().copied().collect(),
            files: files.iter().map(|&(path, text)| (path.to_owned(), text)).collect(),
        }
    }

    fn unix(path: &str) -> Endpoint {
        Endpoint { host: format!("unix://{path}"), tls: None }
    }

    fn far() -> String {
        digits_of(b"far")
    }

    #[test]
    fn the_nearest_word_counts() {
        let meta = format!("/h/.docker/contexts/meta/{}/meta.json", far());
        let tls = format!("/h/.docker/contexts/tls/{}/docker", far());
        let meta_text =
            r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://10.0.0.1:2376","SkipTLSVerify":false}}}"#;
        let config = ("/h/.docker/config.json", r#"{"auths":{},"currentContext":"far"}"#);
        let home = ("HOME", "/h");
        let contexts = [config, (meta.as_str(), meta_text), (tls.as_str(), "")];
        let context = Endpoint { host: "tcp://10.0.0.1:2376".into(), tls: Some(tls.clone().into()) };
        let rootless = ("/r/docker.sock", "");
        let tcp = |tls: Option<&str>| Endpoint { host: "tcp://d:1".into(), tls: tls.map(PathBuf::from) };
        for (given, variables, files, expected) in [
            (Some("tcp://d:1"), &[home, ("DOCKER_HOST", "unix:///x")][..], &contexts[..], tcp(None)),
            (None, &[home, ("DOCKER_HOST", "unix:///x")], &contexts, unix("/x")),
            (None, &[home, ("DOCKER_HOST", "tcp://d:1"), ("DOCKER_TLS_VERIFY", "1")], &[], tcp(Some("/h/.docker"))),
            (Some("tcp://d:1"), &[home, ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/c")], &[], tcp(Some("/c"))),
            (None, &[home], &contexts, context.clone()),
            (None, &[home, ("DOCKER_CONTEXT", "default")], &contexts, unix("/var/run/docker.sock")),
            (None, &[home, ("DOCKER_CONTEXT", "far")], &contexts[1..], context),
            (None, &[], &[], unix("/var/run/docker.sock")),
            (None, &[], &[("/run/podman/podman.sock", "")], unix("/run/podman/podman.sock")),
            (None, &[("XDG_RUNTIME_DIR", "/r")], &[("/r/podman/podman.sock", "")], unix("/r/podman/podman.sock")),
            (None, &[("XDG_RUNTIME_DIR", "/r")], &[("/r/podman/podman.sock", ""), rootless], unix("/r/docker.sock")),
            (None, &[("XDG_RUNTIME_DIR", "/r")], &[("/var/run/docker.sock", ""), rootless], unix("/var/run/docker.sock")),
            (None, &[home, ("CONTAINER_HOST", "unix:///p")], &[rootless], unix("/p")),
            (None, &[home, ("CONTAINER_HOST", "ssh://far/p")], &[], unix("/var/run/docker.sock")),
            (None, &[home, ("CONTAINER_HOST", "unix:///p"), ("DOCKER_HOST", "unix:///x")], &[], unix("/x")),
            (None, &[], &[("/run/podman/podman.sock", ""), ("/var/run/docker.sock", "")], unix("/var/run/docker.sock")),
        ] {
            assert_eq!(find(given, &machine(variables, files)).unwrap(), expected, "{given:?} {variables:?}");
        }
    }

    #[test]
    fn the_usual_places() {
        let podman = |variables: &[_], files: &[_]| usual(&machine(variables, files))[1].1.clone();
        let (own, shared) = ("/r/podman/podman.sock", "/run/podman/podman.sock");
        assert_eq!(usual(&machine(&[], &[]))[0], (Kind::Docker, unix("/var/run/docker.sock")));
        assert_eq!(podman(&[], &[]), unix(shared));
        assert_eq!(podman(&[("XDG_RUNTIME_DIR", "/r")], &[]), unix(own));
        assert_eq!(podman(&[("XDG_RUNTIME_DIR", "/r")], &[(shared, "")]), unix(shared));
        assert_eq!(podman(&[("XDG_RUNTIME_DIR", "/r")], &[(shared, ""), (own, "")]), unix(own));
    }

    #[test]
    fn a_context_that_is_not_there_is_an_error() {
        let said = |machine: Machine| find(None, &machine).unwrap_err().to_string();
        let missing = said(machine(&[("HOME", "/h"), ("DOCKER_CONTEXT", "gone")], &[]));
        assert!(missing.contains("`gone`") && missing.contains("docker context ls"), "{missing}");
        let broken = said(machine(&[("HOME", "/h")], &[("/h/.docker/config.json", "{")]));
        assert!(broken.starts_with("`/h/.docker/config.json` is not as docker writes it"), "{broken}");
    }
}
