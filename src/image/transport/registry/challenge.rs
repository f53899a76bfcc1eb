//! What a registry says of how to log in: the header `WWW-Authenticate` of RFC 9110, section 11.6.1.
//!
//! ```text
//! header     = challenge *("," challenge)
//! challenge  = scheme [parameter *("," parameter)]
//! parameter  = name "=" (token / quoted)
//! ```
//!
//! A comma separates challenges as well as parameters; which it is, is told by whether `=` follows the word behind it.

/// A way to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// With the account itself.
    Basic,
    /// With a token that another server gives out.
    Bearer {
        /// Its address.
        realm: String,
        /// For whom the token is.
        service: Option<String>,
    },
}

/// The ways of a header that are known here, in its order; what makes no sense ends the list.
#[must_use]
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = header;
    let mut challenges = vec![];
    while let Some(scheme) = word(&mut rest) {
        let mut parameters = vec![];
        while let Some(parameter) = parameter(&mut rest) {
            parameters.push(parameter);
        }
        let mut take = |wanted: &str| {
            let at = parameters.iter().position(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
            Some(parameters.swap_remove(at).1)
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = take("realm")
        {
            challenges.push(Challenge::Bearer { realm, service: take("service") });
        }
    }
    challenges
}

/// The next word, behind blanks and commas.
fn word<'t>(rest: &mut &'t str) -> Option<&'t str> {
    let text = rest.trim_start_matches([' ', '\t', ',']);
    let end = text.find(|c: char| !is_of_token(c)).unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    *rest = behind;
    (!word.is_empty()).then_some(word)
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// The next parameter; what is none is left for the next challenge.
fn parameter(rest: &mut &str) -> Option<(String, String)> {
    let mut text = *rest;
    let name = word(&mut text)?;
    let text = text.trim_start_matches([' ', '\t']).strip_prefix('=')?.trim_start_matches([' ', '\t']);
    let (value, behind) = match text.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let mut behind = text;
            (word(&mut behind)?.to_owned(), behind)
        }
    };
    *rest = behind;
    Some((name.to_owned(), value))
}

/// What is in quotes, the first of which was taken already, and what is behind them.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_of_registries() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        assert_eq!(parse(hub), [bearer("https://auth.docker.io/token", Some("registry.docker.io"))]);
        assert_eq!(parse(r#"Basic realm="test""#), [Challenge::Basic]);
        assert_eq!(parse("basic"), [Challenge::Basic]);
        let several = r#"Negotiate, Basic realm="a, b = \"c\"" , BEARER Realm = "https://x/" ,service=y"#;
        assert_eq!(parse(several), [Challenge::Basic, bearer("https://x/", Some("y"))]);
        assert_eq!(parse(r#"Digest qop="auth", realm="x", Bearer realm="z""#), [bearer("z", None)]);
    }

    #[test]
    fn what_makes_no_sense() {
        for header in
            ["", ",", "=", r#"Bearer service="x""#, r#"Bearer realm="x"#, r#"Bearer realm="x\"#, "Bearer realm=", "\u{e4}"]
        {
            assert_eq!(parse(header), [], "{header}");
        }
    }
}
