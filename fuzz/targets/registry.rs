//! What a registry says of itself: its challenges, its tokens, its words on errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim::image::transport::registry::challenge::{self, Challenge};
use slim::image::transport::registry::words::{parse_token, shown, words};

fuzz_target!(|data: &[u8]| {
    if let Some(token) = parse_token(data) {
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "it goes into a header");
    }
    let said = shown(&words(data));
    assert!(!said.chars().any(char::is_control), "it goes to a terminal");
    let Ok(header) = std::str::from_utf8(data) else { return };
    for challenge in challenge::parse(header) {
        if let Challenge::Bearer { realm, service } = challenge {
            assert!(realm.len() + service.map_or(0, |service| service.len()) < header.len());
        }
    }
});
