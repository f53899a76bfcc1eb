//! Networks, names of hosts, name servers, and labels, written as the docker command line takes them.

use std::net::IpAddr;

/// What is wrong with a name, an address or a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Nothing that a network can be called.
    #[error("`{0}` can't be a network: give `bridge`, `host`, `none`, `container:NAME` or the name of a network")]
    Network(String),
    /// Docker's long form.
    #[error("`name=...,alias=...` is not supported: give the name of the network alone")]
    LongForm,
    /// Not `NAME:IP`.
    #[error("a host is written `NAME:IP`, such as `db:10.0.0.5`; `host-gateway` stands for this machine")]
    ExtraHost,
    /// Not an address.
    #[error("`{0}` is not an IP address")]
    Address(String),
    /// `=VALUE`.
    #[error("a label needs a name before the `=`")]
    Label,
}

/// A network mode of the API.
///
/// # Errors
/// [`NetworkError`].
pub fn parse_network(text: &str) -> Result<String, NetworkError> {
    if text.contains(['=', ',']) {
        return Err(NetworkError::LongForm);
    }
    let name = text.strip_prefix("container:").unwrap_or(text);
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':') {
        return Err(NetworkError::Network(text.to_owned()));
    }
    Ok(text.to_owned())
}

/// `NAME:IP` or `NAME=IP`; an IPv6 address may be in brackets. As the API takes it: `NAME:IP`.
///
/// # Errors
/// [`NetworkError`].
pub fn parse_extra_host(text: &str) -> Result<String, NetworkError> {
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or(NetworkError::ExtraHost)?;
    if name.is_empty() || address.is_empty() || name.contains(char::is_whitespace) {
        return Err(NetworkError::ExtraHost);
    }
    if address == "host-gateway" {
        return Ok(format!("{name}:{address}"));
    }
    let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    Ok(format!("{name}:{}", parse_address(plain)?))
}

/// The address of a name server.
///
/// # Errors
/// [`NetworkError`].
pub fn parse_address(text: &str) -> Result<IpAddr, NetworkError> {
    text.parse().map_err(|_| NetworkError::Address(text.to_owned()))
}

/// `NAME=VALUE`, or `NAME` with an empty value.
///
/// # Errors
/// [`NetworkError`].
pub fn parse_label(text: &str) -> Result<(String, String), NetworkError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() { Err(NetworkError::Label) } else { Ok((name.to_owned(), value.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for text in ["host", "none", "bridge", "default", "app_default", "container:db"] {
            assert_eq!(parse_network(text).as_deref(), Ok(text));
        }
        assert_eq!(
            parse_network("name=app,alias=db").unwrap_err().to_string(),
            "`name=...,alias=...` is not supported: give the name of the network alone"
        );
        for text in ["", "container:", "a b", "a:b", "a/b"] {
            assert_eq!(
                parse_network(text).unwrap_err().to_string(),
                format!("`{text}` can't be a network: give `bridge`, `host`, `none`, `container:NAME` or the name of a network")
            );
        }
    }

    #[test]
    fn extra_hosts() {
        for (text, api) in [
            ("db:10.0.0.5", "db:10.0.0.5"),
            ("db=10.0.0.5", "db:10.0.0.5"),
            ("db:::1", "db:::1"),
            ("db:[::1]", "db:::1"),
            ("me:host-gateway", "me:host-gateway"),
        ] {
            assert_eq!(parse_extra_host(text).as_deref(), Ok(api), "{text}");
        }
        let form = "a host is written `NAME:IP`, such as `db:10.0.0.5`; `host-gateway` stands for this machine";
        for (text, message) in [
            ("db", form),
            (":10.0.0.5", form),
            ("db:", form),
            ("d b:10.0.0.5", form),
            ("db:other", "`other` is not an IP address"),
            ("db:10.0.0", "`10.0.0` is not an IP address"),
        ] {
            assert_eq!(parse_extra_host(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn labels() {
        assert_eq!(parse_label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_label("a"), Ok(("a".into(), String::new())));
        assert_eq!(parse_label("=b").unwrap_err().to_string(), "a label needs a name before the `=`");
    }
}
