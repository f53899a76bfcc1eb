//! What the sensor reads of the kernel and of an image's /etc.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slim_sensor::stub::Engine;
use slim_sensor::{fuzzing, identity, monitor};

fuzz_target!(|data: &[u8]| {
    assert!(monitor::walk_fanotify_events(data).count() <= data.len() / 24);
    let _ = monitor::parse_status(data);
    fuzzing::proc_tables(data);
    let (passwd, group) = data.split_at(data.len() / 2);
    for user in ["", "root", "1000", "web:adm", "5:group"] {
        for engine in [Engine::Docker("28.2.2".to_owned()), Engine::Podman("5.4.2".to_owned())] {
            let _ = identity::resolve(&engine, user, passwd, group);
        }
    }
});
