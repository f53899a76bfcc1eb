//! Our own files, which anybody may have written: what can be read can be written again, and is the same then.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim::image::reference::ImageName;
use slim::observe::file;
use slim::plan::Plan;

fuzz_target!(|data: &[u8]| {
    if let Ok(plan) = Plan::from_json(data) {
        assert_eq!(Plan::from_json(&plan.to_json()).expect("a written plan can be read"), plan);
    }
    if let Ok(observation) = file::read(data) {
        let mut written = vec![];
        if file::write(&observation, &mut written).is_ok() {
            assert_eq!(file::read(written.as_slice()).expect("a written observation can be read").uses, observation.uses);
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = ImageName::parse(text).map(|name| name.default_tag("sha256:0123456789abcdef", &[]));
    }
});
