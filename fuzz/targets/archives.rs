//! Archives of images: their members, their manifests and indexes.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use slim::image::transport::files::{Archive, Files};
use slim::image::transport::platform::Platform;
use slim::image::transport::section::Section;
use slim::image::transport::{TransportError, docker_archive, oci};

/// Any document is the same bytes.
struct Same(Section);

impl Files for Same {
    fn find(&self, name: &str) -> Result<Option<Section>, TransportError> {
        Ok((name != "index.json" || self.0.size() % 2 == 0).then(|| self.0.clone()))
    }
}

fuzz_target!(|data: &[u8]| {
    let section = Section::new(Arc::new(data.to_vec()), data.len() as u64);
    let platform = Platform::of_host();
    let read = |files: &dyn Files| {
        for wanted in [None, Some("app:1"), Some("@0")] {
            let _ = docker_archive::read(files, "archive", wanted, &platform);
            let _ = oci::read(files, "archive", wanted, &platform);
        }
    };
    if let Ok(archive) = Archive::read(section.clone()) {
        read(&archive);
    }
    read(&Same(section));
});
