//! How a run went, as it shows without asking the program anything: where it listened, and how it ended.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use slim_sensor::wire::Listener;

use crate::observe::target::How;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// The container's host name, which finds its way into answers.
    #[serde(default)]
    pub hostname: String,
    /// Its addresses, which do as well.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Ports that were listened on when all probes were done; those of the loopback apart.
    pub listening: BTreeSet<Listening>,
    /// How it ended.
    #[serde(default)]
    pub end: RunEnd,
}

/// A port that somebody listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Listening {
    /// TCP port.
    pub port: u16,
    /// It can be reached from inside the container only.
    pub is_local: bool,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// It never ran, or nobody saw its end.
    #[default]
    Unknown,
    /// By itself.
    ByItself {
        /// Exit code.
        exit_code: i64,
    },
    /// It was stopped.
    Stopped {
        /// How it took that.
        how: How,
        /// Exit code.
        exit_code: i64,
        /// From the signal to its end.
        milliseconds: u64,
    },
}

impl Course {
    /// Notes who listens. Addresses are left out: a container's own differs from run to run.
    pub(super) fn listening_on(&mut self, listeners: &[Listener]) {
        let is_local = |address: IpAddr| address.is_loopback();
        let ports = listeners.iter().map(|listener| Listening { port: listener.port, is_local: is_local(listener.address) });
        self.listening = ports.collect();
    }
}

impl std::fmt::Display for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.port, if self.is_local { " (loopback)" } else { "" })
    }
}
