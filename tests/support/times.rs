//! How long each test takes, which a stable libtest doesn't say; and which of them must not run beside each other.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A file that gets a line `SECONDS NAME` for each test that ends; `tests/run` shows the slowest.
const VARIABLE: &str = "SLIM_TEST_TIMES";

/// A test, from its first use of this support to its end.
struct Test {
    begun: Instant,
}

impl Drop for Test {
    fn drop(&mut self) {
        // Only a test's own thread has a name.
        let thread = std::thread::current();
        let (Some(name), Some(path)) = (thread.name(), std::env::var_os(VARIABLE)) else { return };
        let line = format!("{:.1} {name}\n", self.begun.elapsed().as_secs_f64());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

thread_local! {
    static TEST: Test = Test { begun: Instant::now() };
}

/// Notes that the test of this thread has begun.
pub fn begin() {
    TEST.with(|_| ());
}

/// How often something is repeated: in the usual run, and in that of `tests/nightly`.
pub fn nightly(usual: usize, nightly: usize) -> usize {
    if std::env::var_os("SLIM_TEST_NIGHTLY").is_some() { nightly } else { usual }
}

/// Held by a test that loads the machine, or depends on its speed: they run one at a time.
pub fn heavy() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The wait isn't its own.
    begin();
    turn
}
