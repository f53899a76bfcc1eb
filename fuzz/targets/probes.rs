//! What users write as probes, and what a web server answers with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim_probes::{ExecCommand, HttpCommand};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = HttpCommand::parse(text);
        if let Ok(ExecCommand::Direct(words)) = ExecCommand::parse(text) {
            assert!(!words.is_empty());
        }
    }
    slim_probes::fuzzing::command_file_and_page(data);
});
