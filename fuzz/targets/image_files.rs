//! Files of an image that the plan looks into: executables, scripts, the loader's cache, databases of
//! packages; and what its programs say in their logs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    slim::fuzzing::image_file(data);
    slim::fuzzing::log(data);
});
