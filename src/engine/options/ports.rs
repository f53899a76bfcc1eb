//! Published and exposed ports, written as the docker command line takes them: `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`.
//!
//! Both sides can be ranges (`8000-8009`) of the same length; a range of the host before a single port of the container
//! lets the engine take a free one of the range.

use std::net::IpAddr;

use bollard::models::PortBinding;

/// What is wrong with a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Not a port, nor a range.
    #[error("`{0}` is not a port (1 to 65535) or a range of ports (`8000-8009`)")]
    Port(String),
    /// No such protocol.
    #[error("`{0}` is not a protocol: it must be `tcp`, `udp` or `sctp`")]
    Protocol(String),
    /// No address to bind to.
    #[error("`{0}` is not an IP address of this host; an IPv6 address is written in brackets: `[::1]:8080:80`")]
    Address(String),
    /// Ranges that can't be matched.
    #[error("the ranges `{host}` and `{container}` are not of the same length")]
    Ranges {
        /// On the host.
        host: String,
        /// In the container.
        container: String,
    },
}

/// A published port.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedPort {
    /// In the container, as the API names it: `80/tcp`.
    pub container: String,
    /// Where it is reached on the host; an empty port is any free one.
    pub binding: PortBinding,
}

/// The ports that one `--publish-port` names.
///
/// # Errors
/// [`PortError`].
pub fn parse_published(text: &str) -> Result<Vec<PublishedPort>, PortError> {
    let (addresses, protocol) = split_protocol(text)?;
    let (before, container_text) = match addresses.rsplit_once(':') {
        Some((before, container)) => (Some(before), container),
        None => (None, addresses),
    };
    let (address, host_text) = match before {
        None => (None, ""),
        Some(host) if !host.contains(':') => (None, host),
        Some(both) => {
            let (address, host) = both.rsplit_once(':').unwrap_or((both, ""));
            (Some(parse_address(address)?), host)
        }
    };
    let container = Range::parse(container_text)?;
    let host = if host_text.is_empty() { None } else { Some(Range::parse(host_text)?) };
    let host_port = |offset: u16| match host {
        None => Ok(String::new()),
        Some(range) if range.length() == container.length() => Ok((range.first + offset).to_string()),
        Some(_) if container.length() == 1 => Ok(host_text.to_owned()),
        Some(_) => Err(PortError::Ranges { host: host_text.to_owned(), container: container_text.to_owned() }),
    };
    (0..container.length())
        .map(|offset| {
            Ok(PublishedPort {
                container: format!("{}/{protocol}", container.first + offset),
                binding: PortBinding { host_ip: address.clone(), host_port: Some(host_port(offset)?) },
            })
        })
        .collect()
}

/// The ports that one `--expose` names (`80`, `53/udp`, `8000-8009`), as the API writes them: `80/tcp`.
///
/// # Errors
/// [`PortError`].
pub fn parse_exposed(text: &str) -> Result<Vec<String>, PortError> {
    let (ports, protocol) = split_protocol(text)?;
    let range = Range::parse(ports)?;
    Ok((range.first..=range.last).map(|port| format!("{port}/{protocol}")).collect())
}

fn split_protocol(text: &str) -> Result<(&str, String), PortError> {
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let lower = protocol.to_ascii_lowercase();
    if ["tcp", "udp", "sctp"].contains(&lower.as_str()) {
        Ok((ports, lower))
    } else {
        Err(PortError::Protocol(protocol.to_owned()))
    }
}

fn parse_address(text: &str) -> Result<String, PortError> {
    let plain = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(six) if six.contains(':') => six,
        None if !text.contains(':') => text,
        _ => return Err(PortError::Address(text.to_owned())),
    };
    match plain.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(PortError::Address(text.to_owned())),
    }
}

#[derive(Debug, Clone, Copy)]
struct Range {
    first: u16,
    last: u16,
}

impl Range {
    fn parse(text: &str) -> Result<Range, PortError> {
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|&port| digits && port > 0)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Range { first, last }),
            _ => Err(PortError::Port(text.to_owned())),
        }
    }

    fn length(self) -> u16 {
        self.last - self.first + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(text: &str) -> Vec<(String, String, String)> {
        let flat = |port: PublishedPort| {
            (port.container, port.binding.host_ip.unwrap_or_default(), port.binding.host_port.unwrap_or_default())
        };
        parse_published(text).unwrap().into_iter().map(flat).collect()
    }

    #[test]
    fn published_ports() {
        for (text, container, address, host) in [
            ("80", "80/tcp", "", ""),
            ("8080:80", "80/tcp", "", "8080"),
            (":80", "80/tcp", "", ""),
            ("53:53/UDP", "53/udp", "", "53"),
            ("127.0.0.1:8080:80", "80/tcp", "127.0.0.1", "8080"),
            ("127.0.0.1::80", "80/tcp", "127.0.0.1", ""),
            ("[::1]:8080:80/sctp", "80/sctp", "::1", "8080"),
            ("[::1]::80", "80/tcp", "::1", ""),
            ("8000-8009:80", "80/tcp", "", "8000-8009"),
        ] {
            assert_eq!(published(text), [(container.into(), address.into(), host.into())], "{text}");
        }
        assert_eq!(
            published("0.0.0.0:9000-9001:80-81"),
            [("80/tcp".into(), "0.0.0.0".into(), "9000".into()), ("81/tcp".into(), "0.0.0.0".into(), "9001".into())]
        );
        assert_eq!(published("80-82").len(), 3);
        assert_eq!(published("1-65535:1-65535").len(), 65535);
    }

    #[test]
    fn published_ports_that_are_none() {
        for (text, message) in [
            ("", "`` is not a port (1 to 65535) or a range of ports (`8000-8009`)"),
            ("0", "`0` is not a port (1 to 65535) or a range of ports (`8000-8009`)"),
            ("+80", "`+80` is not a port (1 to 65535) or a range of ports (`8000-8009`)"),
            ("65536:80", "`65536` is not a port (1 to 65535) or a range of ports (`8000-8009`)"),
            ("8080:", "`` is not a port (1 to 65535) or a range of ports (`8000-8009`)"),
            ("90-80", "`90-80` is not a port (1 to 65535) or a range of ports (`8000-8009`)"),
            ("80/http", "`http` is not a protocol: it must be `tcp`, `udp` or `sctp`"),
            ("80/", "`` is not a protocol: it must be `tcp`, `udp` or `sctp`"),
            (
                "localhost:8080:80",
                "`localhost` is not an IP address of this host; an IPv6 address is written in brackets: `[::1]:8080:80`",
            ),
            ("::1:8080:80", "`::1` is not an IP address of this host; an IPv6 address is written in brackets: `[::1]:8080:80`"),
            ("8000-8001:80-82", "the ranges `8000-8001` and `80-82` are not of the same length"),
            ("8000:80-82", "the ranges `8000` and `80-82` are not of the same length"),
        ] {
            assert_eq!(parse_published(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn exposed_ports() {
        assert_eq!(parse_exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse_exposed("53-54/udp").unwrap(), ["53/udp", "54/udp"]);
        assert_eq!(parse_exposed("1-65535").unwrap().len(), 65535);
        assert_eq!(
            parse_exposed("8080:80").unwrap_err().to_string(),
            "`8080:80` is not a port (1 to 65535) or a range of ports (`8000-8009`)"
        );
    }
}
