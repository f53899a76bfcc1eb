//! The links of a page: a pure function from HTML to the resources of the same origin that it names.
//!
//! `href`, `src` and `srcset` of any element count, as scripts, styles, images and frames are what a page makes its server
//! read. They are resolved as a browser does, against the page or its `<base href>`, without their fragments. The page may
//! be hostile: it is tokenized, never made a tree; its links are bounded in number and length.

use std::collections::BTreeSet;

use html5gum::{DefaultEmitter, Token, Tokenizer};
use http::uri::PathAndQuery;
use url::{Position, Url};

use crate::command::MAX_RESOURCE;

/// Most references that are taken from one page. A page with more is a generated index; its first links stand for all.
const MAX_LINKS: usize = 10_000;

/// The resources (path and query) on the origin of `page` to which `html`, found there, links.
pub(crate) fn of_html(html: &[u8], page: &Url) -> BTreeSet<String> {
    let (references, base) = references(html);
    let base = base.and_then(|base| resolve(&base, page)).unwrap_or_else(|| page.clone());
    references.iter().filter_map(|reference| of_reference(reference, &base, page)).collect()
}

/// The resource that `reference` names, where it is on the origin of `page`. `base` is what relative ones start from.
pub(crate) fn of_reference(reference: &str, base: &Url, page: &Url) -> Option<String> {
    let url = resolve(reference, base)?;
    let resource = &url[Position::BeforePath..Position::AfterQuery];
    // What the URL standard lets pass and the http crate doesn't could not be asked for.
    let can_be_asked = resource.len() <= MAX_RESOURCE && resource.parse::<PathAndQuery>().is_ok();
    (url.origin() == page.origin() && can_be_asked).then(|| resource.to_owned())
}

fn resolve(reference: &str, base: &Url) -> Option<Url> {
    if reference.len() > MAX_RESOURCE {
        return None;
    }
    base.join(reference).ok()
}

/// What the attributes say, and the first `<base href>`.
fn references(html: &[u8]) -> (Vec<String>, Option<String>) {
    let mut emitter = DefaultEmitter::default();
    // What looks like a tag within a script or a style is none.
    emitter.naively_switch_states(true);
    let (mut references, mut base) = (vec![], None);
    for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
        let Token::StartTag(tag) = token else { continue };
        let text = |name: &[u8]| tag.attributes.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        if tag.name.as_slice() == b"base" {
            base = base.or_else(|| text(b"href"));
            continue;
        }
        references.extend(text(b"href"));
        references.extend(text(b"src"));
        if let Some(srcset) = text(b"srcset") {
            references.extend(candidates(&srcset).map(str::to_owned));
        }
        if references.len() >= MAX_LINKS {
            references.truncate(MAX_LINKS);
            break;
        }
    }
    (references, base)
}

/// The URLs of a `srcset`: each is a run without white space, which may be followed by a descriptor up to a comma. A comma
/// at the end of a URL ends the candidate; within it, it belongs to it.
fn candidates(srcset: &str) -> impl Iterator<Item = &str> {
    let is_gap = |character: char| character.is_ascii_whitespace() || character == ',';
    let mut rest = srcset;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(is_gap);
        if rest.is_empty() {
            return None;
        }
        let (url, tail) = rest.split_at(rest.find(|character: char| character.is_ascii_whitespace()).unwrap_or(rest.len()));
        let trimmed = url.trim_end_matches(',');
        rest = if trimmed.len() < url.len() { tail } else { after_descriptors(tail) };
        Some(trimmed)
    })
    .take(MAX_LINKS)
}

/// What follows the descriptors of a candidate: they end at a comma that is in no parentheses.
fn after_descriptors(tail: &str) -> &str {
    let mut in_parentheses = false;
    for (index, character) in tail.char_indices() {
        match character {
            '(' => in_parentheses = true,
            ')' => in_parentheses = false,
            ',' if !in_parentheses => return &tail[index + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(html: &str) -> Vec<String> {
        let page = Url::parse("http://localhost:8080/docs/index.html?q=1").expect("page");
        of_html(html.as_bytes(), &page).into_iter().collect()
    }

    #[test]
    fn attributes_of_any_element() {
        assert_eq!(
            links(
                "<!DOCTYPE html><LINK rel=stylesheet HREF='/style.css'><script src=app.js></script><a href=\"../up?a=b&amp;c=d#part\">\
                 <img src=/a.png srcset='/b.png 1x, c.png 2x'><x-made-up href=./same/../x></x-made-up><a href='?page=2'><a href='#top'>\
                 <a href=http://localhost:8080/absolute><a href=//localhost:8080/scheme><a href='  /spaced\n'><a href='/a b é|^'>"
            ),
            [
                "/a%20b%20%C3%A9|^",
                "/a.png",
                "/absolute",
                "/b.png",
                "/docs/app.js",
                "/docs/c.png",
                "/docs/index.html?page=2",
                "/docs/index.html?q=1",
                "/docs/x",
                "/scheme",
                "/spaced",
                "/style.css",
                "/up?a=b&c=d"
            ]
        );
    }

    #[test]
    fn other_origins_are_left() {
        assert_eq!(
            links(
                "<a href=https://localhost:8080/tls><a href=http://localhost/port80><a href=http://127.0.0.1:8080/><a href=//cdn.example/x>\
                 <a href=mailto:me@localhost><a href='javascript:alert(1)'><img src='data:image/png;base64,AAAA'><a href=file:///etc/passwd>\
                 <a href=http://localhost:99999/><a href='http://['><a href=http://user@localhost:8080/kept>"
            ),
            ["/kept"]
        );
    }

    #[test]
    fn the_first_base_counts_for_all() {
        assert_eq!(
            links("<a href=a><base target=_top><base href='/other/'><base href=/third/><a href=b>"),
            ["/other/a", "/other/b"]
        );
        assert_eq!(links("<base href=http://elsewhere/><a href=a><a href=http://localhost:8080/b>"), ["/b"]);
        assert_eq!(links("<base href='http://['><a href=a>"), ["/docs/a"]);
    }

    #[test]
    fn text_is_no_tag() {
        assert_eq!(
            links(
                "<script>'<a href=/script>'</script><style><a href=/style></style><!-- <a href=/comment> --><title><a href=/title></title>\
                 <textarea><a href=/area></textarea><p title='<a href=/title>'><a href=/real>"
            ),
            ["/real"]
        );
    }

    #[test]
    fn srcset() {
        let urls = |text| candidates(text).collect::<Vec<_>>();
        assert_eq!(urls("a.png"), ["a.png"]);
        assert_eq!(urls(" a.png 1x , b.png 100w,c,d.png 2x"), ["a.png", "b.png", "c,d.png"]);
        assert_eq!(urls("a.png, b.png"), ["a.png", "b.png"]);
        assert_eq!(urls("a.png calc(1,2), b.png"), ["a.png", "b.png"]);
        assert_eq!(urls(",, ,"), [""; 0]);
    }

    #[test]
    fn hostile_pages_are_bounded() {
        let many: String = (0..2 * MAX_LINKS).map(|number| format!("<a href=/{number}>")).collect();
        assert_eq!(links(&many).len(), MAX_LINKS);
        let long_set: String = (0..2 * MAX_LINKS).map(|number| format!("/{number} 1x,")).collect();
        assert_eq!(links(&format!("<img srcset='{long_set}'>")).len(), MAX_LINKS);
        let long = "a".repeat(MAX_RESOURCE);
        assert_eq!(links(&format!("<a href=/{long}><base href=/{}/><a href={}>", &long[..5000], &long[..5000])), [""; 0]);
        assert_eq!(links(&"<a ".repeat(100_000)), [""; 0]);
        assert_eq!(links(&format!("<a{}", " x".repeat(200_000))), [""; 0]);
        for html in [&b"<a href=\xff\xfe"[..], b"<a href=/\xff>", b"<", b"</", b"<!--", b"<a href='", b"\0<a\0 href\0=\0/>"] {
            of_html(html, &Url::parse("http://localhost/").expect("page"));
        }
    }
}
