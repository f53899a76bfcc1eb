//! What a build leaves when it is cut off, for who cleans up: images that were loaded to be tried, and have no name.
//!
//! A build that is killed cannot clean up. So its images are also noted in a file of its directory for temporary files, which
//! the next run finds, see [`crate::engine::workspace`].

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Leftover(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    images: BTreeSet<String>,
    file: Option<PathBuf>,
}

impl Leftover {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes images in this file from now on.
    pub(super) fn note_in(&self, file: PathBuf) {
        self.known().file = Some(file);
    }

    /// There may be this image from now on.
    pub(super) fn add(&self, image: String) {
        let mut known = self.known();
        if let Some(file) = &known.file {
            // Without a note, only a build that is killed leaves it.
            let noted = OpenOptions::new().create(true).append(true).open(file);
            let _ = noted.and_then(|mut file| writeln!(file, "{image}"));
        }
        known.images.insert(image);
    }

    /// It has a name, or is gone.
    pub(super) fn remove(&self, image: &str) {
        self.known().images.remove(image);
    }

    /// The images' ids.
    #[must_use]
    pub fn images(&self) -> Vec<String> {
        self.known().images.iter().cloned().collect()
    }
}
