//! Names of images: what the user types, and what the result is called.
//!
//! A name follows Docker's grammar (`distribution/reference`), written out by hand:
//!
//! ```text
//! reference = [domain "/"] component *("/" component) [":" tag] ["@" digest]
//! domain    = host [":" port]              the first part, where it holds a `.` or `:`, or is `localhost`
//! component = lower-case letters and digits, with `.`, `_`, `__` or dashes between them
//! tag       = letters, digits, `_`, `.`, `-`; not `.` or `-` in front; at most 128
//! digest    = algorithm ":" at least 32 hexadecimal digits
//! ```
//!
//! The result of `NAME:TAG` is `NAME.slim:TAG`. A digest can't be a tag, so it becomes one of its first 12 digits; an
//! image that has no name but its id gives `slim-` and the first 12 digits of the id.

use std::fmt;

/// The most bytes of a name without tag and digest.
const NAME_LIMIT: usize = 255;

/// The most bytes of a tag.
const TAG_LIMIT: usize = 128;

/// How many digits stand for a digest or an id.
const SHORT: usize = 12;

/// What is wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("the name of the image is empty")]
    Empty,
    /// A transport that is known, but not supported here.
    #[error(
        "`{transport}` is not supported here: load the image into the daemon first and give its name \
         (an image that is really called so: `docker-daemon:{text}`)"
    )]
    Transport {
        /// Such as `oci:`.
        transport: &'static str,
        /// All that was typed.
        text: String,
    },
    /// A transport without a path.
    #[error("`{0}` names no file: a path must follow")]
    NoPath(String),
    /// A part of the path.
    #[error(
        "`{text}` is not the name of an image: `{part}` must be lower-case letters and digits, with single `.`, `_`, \
         `__` or dashes between them"
    )]
    Component {
        /// All that was typed.
        text: String,
        /// What is wrong.
        part: String,
    },
    /// The registry.
    #[error("`{text}` is not the name of an image: `{part}` is not a host with an optional port")]
    Domain {
        /// All that was typed.
        text: String,
        /// What is wrong.
        part: String,
    },
    /// The tag.
    #[error(
        "`{text}` is not the name of an image: the tag `{part}` must be at most 128 letters, digits, `_`, `.` or `-`, \
         and not begin with `.` or `-`"
    )]
    Tag {
        /// All that was typed.
        text: String,
        /// What is wrong.
        part: String,
    },
    /// The digest.
    #[error("`{text}` is not the name of an image: the digest `{part}` must be like `sha256:` and 64 hexadecimal digits")]
    Digest {
        /// All that was typed.
        text: String,
        /// What is wrong.
        part: String,
    },
    /// The name.
    #[error("`{0}` is not the name of an image: it is longer than 255 bytes")]
    TooLong(String),
    /// It would be read as an id.
    #[error("`{0}` can't be a name: 64 hexadecimal digits are an image's id")]
    LooksLikeId(String),
    /// A digest where a tag is given.
    #[error("`{0}` can't be a tag: a digest is not chosen, leave out `@...`")]
    DigestAsTag(String),
}

/// What begins the name of an image that no daemon has.
const TRANSPORTS: [&str; 5] = ["docker-archive:", "oci:", "oci-archive:", "docker://", "rootfs:"];

/// A name by Docker's grammar, in its parts as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Registry and path.
    pub name: String,
    /// After the colon.
    pub tag: Option<String>,
    /// After the `@`, with its algorithm.
    pub digest: Option<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Reference {
    /// Takes a name apart.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (domain, path) = split_domain(name);
        let (text, owned) = (|| text.to_owned(), |part: &str| part.to_owned());
        if let Some(part) = domain.filter(|domain| !is_domain(domain)) {
            return Err(ReferenceError::Domain { text: text(), part: owned(part) });
        }
        if let Some(part) = path.split('/').find(|part| !is_component(part)) {
            return Err(ReferenceError::Component { text: text(), part: owned(part) });
        }
        if let Some(part) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag { text: text(), part: owned(part) });
        }
        if let Some(part) = digest.filter(|digest| !is_digest(digest)) {
            return Err(ReferenceError::Digest { text: text(), part: owned(part) });
        }
        if name.len() > NAME_LIMIT {
            return Err(ReferenceError::TooLong(text()));
        }
        if name.len() == 64 && is_hexadecimal(name) {
            return Err(ReferenceError::LooksLikeId(text()));
        }
        Ok(Reference { name: owned(name), tag: tag.map(owned), digest: digest.map(owned) })
    }

    /// A name for a result (`--tag`): without digest, `latest` where no tag is given.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse_tag(text: &str) -> Result<Reference, ReferenceError> {
        let mut reference = Reference::parse(text)?;
        if reference.digest.is_some() {
            return Err(ReferenceError::DigestAsTag(text.to_owned()));
        }
        reference.tag.get_or_insert_with(|| "latest".to_owned());
        Ok(reference)
    }

    /// The registry's host, where the name begins with one.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        split_domain(&self.name).0
    }

    /// The name in this registry, where it says no other.
    #[must_use]
    pub fn or_in(self, domain: &str) -> Reference {
        match self.domain() {
            Some(_) => self,
            None => Reference { name: format!("{domain}/{}", self.name), ..self },
        }
    }

    /// The names by which an engine may list an image of this one: as it is, or in a registry that it adds.
    fn in_full(&self) -> [String; 4] {
        let tag = self.tag.as_deref().unwrap_or("latest");
        ["", "localhost/", "docker.io/library/", "docker.io/"].map(|registry| format!("{registry}{}:{tag}", self.name))
    }
}

/// A name without its registry's host, and that.
pub(super) fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), path),
        _ => (None, name),
    }
}

/// An image of the daemon, as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// By name; a short id looks like one.
    Named(Reference),
    /// By id: `sha256:` and 64 digits, or these alone.
    Id(String),
}

impl fmt::Display for ImageName {
    /// What the daemon is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageName::Named(reference) => reference.fmt(f),
            ImageName::Id(id) => f.write_str(id),
        }
    }
}

impl ImageName {
    /// `docker-daemon:NAME`, a bare name, or an id.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(text: &str) -> Result<ImageName, ReferenceError> {
        if let Some(transport) = TRANSPORTS.into_iter().find(|&transport| text.starts_with(transport)) {
            return Err(ReferenceError::Transport { transport, text: text.to_owned() });
        }
        let name = text.strip_prefix("docker-daemon:").unwrap_or(text);
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.len() == 64 && is_hexadecimal(digits) {
            return Ok(ImageName::Id(name.to_owned()));
        }
        Reference::parse(name).map(ImageName::Named)
    }

    /// What a registry is asked for: a name without tag or digest means `latest`, not every tag there is.
    #[must_use]
    pub fn to_pull(&self) -> String {
        match self {
            ImageName::Named(reference) if reference.tag.is_none() && reference.digest.is_none() => {
                format!("{reference}:latest")
            }
            other => other.to_string(),
        }
    }

    /// What the result is called when nothing is said. `id` is the image's (`sha256:...`), `names` are those that the
    /// daemon lists for it: with them a short id is told from a name such as `cafe`, and Podman's `localhost/app` is found,
    /// where the user said `app`.
    ///
    /// # Errors
    /// [`ReferenceError::TooLong`], where `.slim` is too much for a name.
    pub fn default_tag(&self, id: &str, names: &[String]) -> Result<Reference, ReferenceError> {
        let hexadecimal = id.strip_prefix("sha256:").unwrap_or(id);
        let reference = match self {
            ImageName::Named(reference) if !is_short_id(reference, hexadecimal, names) => reference,
            ImageName::Named(_) | ImageName::Id(_) => {
                return Reference::parse_tag(&format!("slim-{}", short(hexadecimal)));
            }
        };
        let from_digest = || {
            let (algorithm, digits) = reference.digest.as_deref()?.split_once(':')?;
            Some(format!("{algorithm}-{}", short(digits)))
        };
        let tag = reference.tag.clone().or_else(from_digest).unwrap_or_else(|| "latest".to_owned());
        let listed = reference.in_full().into_iter().find(|name| names.contains(name));
        let name =
            listed.and_then(|name| Reference::parse(&name).ok()).map_or_else(|| reference.name.clone(), |listed| listed.name);
        Reference::parse_tag(&format!("{name}.slim:{tag}"))
    }
}

/// Whether what was typed is the beginning of the id of the image that it led to, and none of its names.
fn is_short_id(reference: &Reference, hexadecimal: &str, names: &[String]) -> bool {
    let Reference { name, tag, digest } = reference;
    let digits = match (name.as_str(), tag, digest) {
        (name, None, None) => name,
        // `sha256:0123` reads as a name with a tag.
        ("sha256", Some(tag), None) => tag,
        _ => return false,
    };
    hexadecimal.starts_with(digits) && !reference.in_full().iter().any(|name| names.contains(name))
}

fn short(digits: &str) -> &str {
    digits.get(..SHORT).unwrap_or(digits)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |run: &str| matches!(run, "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.split(alphanumeric).all(|run| run.is_empty() || separator(run))
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let host_is_good = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(label),
    };
    host_is_good && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_LIMIT
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else { return false };
    match algorithm {
        "sha256" => digits.len() == 64 && is_hexadecimal(digits),
        "sha512" => digits.len() == 128 && is_hexadecimal(digits),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_taken_apart_and_put_together() {
        let digest = format!("app@{ID}");
        let both = format!("app:1@{ID}");
        for (text, name, tag, has_digest) in [
            ("app", "app", None, false),
            ("app:1.2", "app", Some("1.2"), false),
            ("team/app", "team/app", None, false),
            ("reg:5000/team/app:1.2", "reg:5000/team/app", Some("1.2"), false),
            ("reg:5000/app", "reg:5000/app", None, false),
            ("localhost/app", "localhost/app", None, false),
            ("Reg.example/app", "Reg.example/app", None, false),
            ("[::1]:5000/app", "[::1]:5000/app", None, false),
            ("x/a__b.c-d--e:_1", "x/a__b.c-d--e", Some("_1"), false),
            (&digest, "app", None, true),
            (&both, "app", Some("1"), true),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.name.as_str(), reference.tag.as_deref()), (name, tag), "{text}");
            assert_eq!(reference.digest.is_some(), has_digest, "{text}");
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn names_that_are_none() {
        let component = |text: &str, part: &str| {
            format!(
                "`{text}` is not the name of an image: `{part}` must be lower-case letters and digits, with single \
                 `.`, `_`, `__` or dashes between them"
            )
        };
        let tag = |text: &str, part: &str| {
            format!(
                "`{text}` is not the name of an image: the tag `{part}` must be at most 128 letters, digits, `_`, `.` \
                 or `-`, and not begin with `.` or `-`"
            )
        };
        let domain = |text: &str, part: &str| {
            format!("`{text}` is not the name of an image: `{part}` is not a host with an optional port")
        };
        for (text, message) in [
            ("", "the name of the image is empty".to_owned()),
            ("App", component("App", "App")),
            (" app", component(" app", " app")),
            ("app/", component("app/", "")),
            ("a//b", component("a//b", "")),
            ("a..b", component("a..b", "a..b")),
            ("a___b", component("a___b", "a___b")),
            ("a.-b", component("a.-b", "a.-b")),
            ("-a", component("-a", "-a")),
            ("--http-probe", component("--http-probe", "--http-probe")),
            ("naïve", component("naïve", "naïve")),
            ("/app", component("/app", "")),
            ("app:", tag("app:", "")),
            ("app:.1", tag("app:.1", ".1")),
            ("app:a b", tag("app:a b", "a b")),
            ("reg:x/app", domain("reg:x/app", "reg:x")),
            ("reg_a.b/app", domain("reg_a.b/app", "reg_a.b")),
            (".example/app", domain(".example/app", ".example")),
            (
                "app@sha256:abc",
                "`app@sha256:abc` is not the name of an image: the digest `sha256:abc` must be like `sha256:` and 64 \
                 hexadecimal digits"
                    .to_owned(),
            ),
        ] {
            assert_eq!(Reference::parse(text).unwrap_err().to_string(), message, "{text}");
        }
        let long = "a".repeat(256);
        assert_eq!(Reference::parse(&long), Err(ReferenceError::TooLong(long.clone())));
        let long = format!("app:{}", "1".repeat(129));
        assert!(matches!(Reference::parse(&long), Err(ReferenceError::Tag { .. })));
        let digits = &ID[7..];
        assert_eq!(
            Reference::parse(digits).unwrap_err().to_string(),
            format!("`{digits}` can't be a name: 64 hexadecimal digits are an image's id")
        );
    }

    #[test]
    fn tags_for_results() {
        assert_eq!(Reference::parse_tag("app").unwrap().to_string(), "app:latest");
        assert_eq!(Reference::parse_tag("reg:5000/app:x").unwrap().to_string(), "reg:5000/app:x");
        let text = format!("app@{ID}");
        assert_eq!(
            Reference::parse_tag(&text).unwrap_err().to_string(),
            format!("`{text}` can't be a tag: a digest is not chosen, leave out `@...`")
        );
    }

    #[test]
    fn what_the_user_types() {
        for (text, asked) in [
            ("app:1", "app:1"),
            ("docker-daemon:app:1", "app:1"),
            (ID, ID),
            (&ID[7..], &ID[7..]),
            (&format!("docker-daemon:{ID}"), ID),
            ("docker-daemon:oci:1", "oci:1"),
        ] {
            assert_eq!(ImageName::parse(text).unwrap().to_string(), asked, "{text}");
        }
        for transport in TRANSPORTS {
            let text = format!("{transport}x");
            assert_eq!(
                ImageName::parse(&text).unwrap_err().to_string(),
                format!(
                    "`{transport}` is not supported here: load the image into the daemon first and give \
                     its name (an image that is really called so: `docker-daemon:{text}`)"
                )
            );
        }
        assert_eq!(ImageName::parse("docker-daemon:").unwrap_err(), ReferenceError::Empty);
    }

    /// Regression: Podman's `localhost/app` became `docker.io/app.slim`.
    #[test]
    fn podman_keeps_its_registry() {
        let names = ["localhost/app:1", "docker.io/library/web:latest", "docker.io/team/web:latest"].map(str::to_owned);
        for (text, tag) in [
            ("app:1", "localhost/app.slim:1"),
            ("web", "docker.io/library/web.slim:latest"),
            ("team/web", "docker.io/team/web.slim:latest"),
            ("reg.example/app:1", "reg.example/app.slim:1"),
            ("app:2", "app.slim:2"),
        ] {
            assert_eq!(ImageName::parse(text).unwrap().default_tag(ID, &names).unwrap().to_string(), tag, "{text}");
        }
        let local = |text| Reference::parse_tag(text).unwrap().or_in("localhost").to_string();
        assert_eq!(
            ["app", "team/app", "reg:1/app", "localhost/app:1"].map(local),
            ["localhost/app:latest", "localhost/team/app:latest", "reg:1/app:latest", "localhost/app:1"]
        );
    }

    #[test]
    fn default_tags() {
        let names = ["app:1.2".to_owned(), "01:latest".to_owned()];
        let digest = "sha256:abcdef1234567890abcdef1234567890abcdef1234567890abcdef1234567890";
        for (text, tag) in [
            ("app", "app.slim:latest"),
            ("app:1.2", "app.slim:1.2"),
            ("docker-daemon:app", "app.slim:latest"),
            ("reg:5000/team/app:1.2", "reg:5000/team/app.slim:1.2"),
            (&format!("app@{digest}"), "app.slim:sha256-abcdef123456"),
            (&format!("app:1@{digest}"), "app.slim:1"),
            (ID, "slim-0123456789ab:latest"),
            (&ID[7..], "slim-0123456789ab:latest"),
            ("0123456789ab", "slim-0123456789ab:latest"),
            ("0123", "slim-0123456789ab:latest"),
            ("01", "01.slim:latest"),
            ("sha256:0123", "slim-0123456789ab:latest"),
            ("cafe", "cafe.slim:latest"),
            ("sha256:9", "sha256.slim:9"),
        ] {
            assert_eq!(ImageName::parse(text).unwrap().default_tag(ID, &names).unwrap().to_string(), tag, "{text}");
        }
        let long = "a".repeat(253);
        assert!(matches!(ImageName::parse(&long).unwrap().default_tag(ID, &[]), Err(ReferenceError::TooLong(_))));
    }
}
