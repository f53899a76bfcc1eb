//! The patterns of links that a crawl leaves out.
//!
//! A plain text is found anywhere, as the links to be afraid of (`/user/7/delete`) have their word at the end as often as at the
//! beginning. `*` is the one special character, for who wants to say exactly where; globs with classes and alternatives
//! would only make `?` and `[`, which are common in links, hard to write.

/// Whether `resource` (path and query) matches `pattern`, in any case: a pattern without `*` is found anywhere in it, one
/// with `*` (any characters, also none) matches it as a whole.
pub(crate) fn is_excluded(resource: &str, pattern: &str) -> bool {
    let (resource, pattern) = (resource.to_ascii_lowercase(), pattern.to_ascii_lowercase());
    let Some((start, rest)) = pattern.split_once('*') else { return resource.contains(&pattern) };
    let Some(mut resource) = resource.strip_prefix(start) else { return false };
    let mut parts = rest.split('*');
    let end = parts.next_back().unwrap_or_default();
    for part in parts {
        let Some(found) = resource.find(part) else { return false };
        resource = &resource[found + part.len()..];
    }
    resource.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, resource, matches) in [
            ("/logout", "/auth/logout?x", true),
            ("/logout", "/auth/log-out", false),
            ("", "/", true),
            ("*", "/", true),
            ("/a*", "/a", true),
            ("/a*", "/b/a", false),
            ("*.pdf", "/x/y.PDF", true),
            ("*.pdf", "/x.pdf?download", false),
            ("/a*b*c", "/a-b-b-c", true),
            ("/a*b*c", "/a-c-b", false),
            ("/ab*ba", "/aba", false),
            ("**", "/x", true),
        ] {
            assert_eq!(is_excluded(resource, pattern), matches, "{pattern} {resource}");
        }
    }
}
