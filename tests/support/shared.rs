//! An image that several tests use: made once, and removed with the last of them that uses it at a time.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Builder, Engine, Image};

/// See the module. Only for tests that leave the image as it is, and make no result in a daemon.
pub struct Shared {
    make: fn() -> Builder,
    of_engines: [Mutex<Weak<Image>>; 2],
}

impl Shared {
    pub const fn new(make: fn() -> Builder) -> Shared {
        Shared { make, of_engines: [const { Mutex::new(Weak::new()) }; 2] }
    }

    /// It, for an engine.
    pub fn on(&self, engine: Engine) -> Arc<Image> {
        // Whoever comes meanwhile waits for it.
        let mut known = self.of_engines[engine as usize].lock().unwrap_or_else(PoisonError::into_inner);
        known.upgrade().unwrap_or_else(|| {
            let image = Arc::new((self.make)().build_for(engine));
            *known = Arc::downgrade(&image);
            image
        })
    }
}
