//! Where a name leads: the registry's host, the repository in it, and whether it may be spoken to without TLS.
//!
//! A name without a host is Docker Hub's, where a name of one part is in `library/`; its requests go to another host than
//! its names say. Without TLS anybody on the way can read what goes by, passwords too, so plain HTTP is for hosts that are
//! this machine, and for those that the user names.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::image::reference::{Reference, split_domain};

/// What Docker Hub is called in names.
const HUB: &str = "docker.io";
/// Whom to ask for its images.
const HUB_HOST: &str = "registry-1.docker.io";
/// What `docker login` calls it.
const HUB_ACCOUNT: &str = "https://index.docker.io/v1/";

/// A repository in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What the registry is called in names.
    pub registry: String,
    /// In that registry.
    pub repository: String,
}

impl Place {
    /// Where the image of this name is.
    #[must_use]
    pub fn of(reference: &Reference) -> Place {
        let (domain, path) = split_domain(&reference.name);
        let registry = domain.unwrap_or(HUB);
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let repository = if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        Place { registry: registry.to_owned(), repository }
    }

    /// Host and port of requests.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.registry == HUB { HUB_HOST } else { &self.registry }
    }

    /// Under which name `docker login` stores its account.
    #[must_use]
    pub fn account_key(&self) -> &str {
        if self.registry == HUB { HUB_ACCOUNT } else { &self.registry }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

/// Whether `host`, with or without a port, is this machine by its very name; `localhost` is, by RFC 6761.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = without_port(host);
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => host,
    }
}

/// Whether plain HTTP may be spoken to `host`; `insecure` are hosts that the user named, each for all its ports where it has
/// none.
pub(super) fn may_be_plain(host: &str, insecure: &[String]) -> bool {
    is_loopback(host) || insecure.iter().any(|named| named == host || named == without_port(host))
}

/// Checks a host that the user names.
///
/// # Errors
/// What it should be.
pub fn parse_host(text: &str) -> Result<String, &'static str> {
    let problem = "it must be a host with an optional port, such as `registry.example:5000`";
    // What can be in front of an image's path is a host.
    let has_host = |reference: Reference| reference.name.split_once('/').is_some_and(|(host, _)| host == text);
    let is_host = !text.contains('/') && Reference::parse(&format!("{text}/x")).is_ok_and(has_host);
    // Without a dot or a port it would be a path of Docker Hub in a name, and can't be meant.
    let is_told = text.contains(['.', ':']) || text == "localhost";
    if is_host && is_told { Ok(text.to_owned()) } else { Err(problem) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_places() {
        for (name, registry, repository, host, key) in [
            ("nginx:1", "docker.io", "library/nginx", "registry-1.docker.io", "https://index.docker.io/v1/"),
            ("team/app", "docker.io", "team/app", "registry-1.docker.io", "https://index.docker.io/v1/"),
            ("docker.io/nginx", "docker.io", "library/nginx", "registry-1.docker.io", "https://index.docker.io/v1/"),
            ("index.docker.io/a/b/c", "docker.io", "a/b/c", "registry-1.docker.io", "https://index.docker.io/v1/"),
            ("ghcr.io/app", "ghcr.io", "app", "ghcr.io", "ghcr.io"),
            ("localhost/app", "localhost", "app", "localhost", "localhost"),
            ("reg:5000/team/app", "reg:5000", "team/app", "reg:5000", "reg:5000"),
        ] {
            let place = Place::of(&Reference::parse(name).unwrap());
            assert_eq!((&*place.registry, &*place.repository), (registry, repository), "{name}");
            assert_eq!((place.host(), place.account_key()), (host, key), "{name}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_and_for_named_hosts() {
        let none: [String; 0] = [];
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]", "[::1]:5000"] {
            assert!(may_be_plain(host, &none), "{host}");
        }
        let named = ["reg.example:5000".to_owned(), "other.example".to_owned()];
        for host in ["reg.example:5000", "other.example", "other.example:80"] {
            assert!(may_be_plain(host, &named) && !may_be_plain(host, &none), "{host}");
        }
        for host in
            ["reg.example", "reg.example:5001", "127.0.0.1.example", "10.0.0.1", "[::2]:5000", "localhost.example", "[::1"]
        {
            assert!(!may_be_plain(host, &named), "{host}");
        }
    }

    #[test]
    fn hosts_that_are_named() {
        for host in ["reg.example:5000", "reg.example", "reg:5000", "10.0.0.1", "[::2]:5000", "localhost"] {
            assert_eq!(parse_host(host), Ok(host.to_owned()));
        }
        for text in ["", "reg", "http://reg.example", "reg.example/team", "reg.example:x", "*.example", "a,b.c"] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }
}
