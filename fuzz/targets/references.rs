//! What names images, platforms and outputs on the command line and in archives: what is understood means the same when
//! it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim::image::location::ImageSource;
use slim::image::output::Output;
use slim::image::reference::{ImageName, Reference};
use slim::image::transport::platform::Platform;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = Reference::parse(text) {
        assert_eq!(Reference::parse(&reference.to_string()).expect("a written reference"), reference);
    }
    if let Ok(tag) = Reference::parse_tag(text) {
        assert_eq!(Reference::parse_tag(&tag.to_string()).expect("a written tag"), tag);
    }
    if let Ok(name) = ImageName::parse(text) {
        assert_eq!(ImageName::parse(&name.to_string()).expect("a written name"), name);
    }
    if let Ok(source) = ImageSource::parse(text) {
        assert_eq!(ImageSource::parse(&source.to_string()).expect("a written source"), source);
    }
    if let Ok(platform) = Platform::parse(text) {
        assert_eq!(Platform::parse(&platform.to_string()).expect("a written platform"), platform);
    }
    if let (Ok(one), Some((_, rest))) = (Output::parse(text), text.split_once(':')) {
        let _ = Output::parse(rest).map(|other| (one.overwrites(&other), other.overwrites(&one)));
    }
});
