//! Which senses watch the program: what `--sensor` asks for.
//!
//! Completeness needs both. The filter (notify) sees every name that a program gives to the kernel, also where it only
//! looks, and where nothing is there; but not what the kernel opens by itself, as it does the loader of a program and
//! the interpreter of a script. fanotify sees all that is opened, but no look-up and no symbolic link on the way. So both
//! is the default. With `notify` alone, which costs less, the plan's closure finds the loader and the interpreter all the same;
//! what then lacks is what no rule foresees. With `fanotify` alone few images work: it is there to compare with, and to test
//! what is done about too little evidence.

use slim_sensor::wire::Senses;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Sensor {
    /// Both senses; the filter alone, which is said, where the kernel refuses fanotify.
    #[default]
    Auto,
    /// Both senses, or a failure.
    Full,
    /// The filter alone.
    Notify,
    /// fanotify alone, or a failure.
    Fanotify,
}

impl Sensor {
    /// What is to be used.
    #[must_use]
    pub fn senses(self) -> Senses {
        match self {
            Sensor::Auto | Sensor::Full => Senses { notify: true, fanotify: true },
            Sensor::Notify => Senses { notify: true, fanotify: false },
            Sensor::Fanotify => Senses { notify: false, fanotify: true },
        }
    }

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Sensor::Auto => "auto",
            Sensor::Full => "full",
            Sensor::Notify => "notify",
            Sensor::Fanotify => "fanotify",
        }
    }

    /// Whether there is no going on where the kernel refuses fanotify.
    #[must_use]
    pub fn insists_on_fanotify(self) -> bool {
        matches!(self, Sensor::Full | Sensor::Fanotify)
    }
}
