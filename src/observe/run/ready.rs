//! When a target is ready to be exercised: told by the ports that it listens on, else by silence.

use std::time::{Duration, Instant};

use super::end::UNPROBED;
use super::{HttpProbe, Run};
use crate::observe::monitor::Status;
use crate::observe::target::Target;

/// A target without a new path for so long has started, where nothing tells otherwise.
const QUIET: Duration = Duration::from_secs(1);
/// The same where a port is still awaited that may never come: a runtime can think for a while.
const LONG_QUIET: Duration = Duration::from_secs(10);
/// The same once it listens, where nobody said on how many ports it will.
const SETTLED: Duration = Duration::from_millis(200);

/// How the wait for readiness ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// It listens on these ports.
    Listening(Vec<u16>),
    /// It has ended.
    Ended,
    /// It does nothing new.
    Quiet,
    /// The time is up.
    TimedOut,
}

/// How much readiness depends on ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// There is no going on without.
    Ports,
    /// They should come, but some are exposed and never used.
    PortsForAWhile,
    /// They are a sign among others.
    Nothing,
}

impl Run<'_> {
    pub(super) async fn ready(&self, target: &Target) -> Ready {
        let probes = self.request.probes;
        let wanted = self.wanted_ports();
        let (awaits, patience) = match probes.http {
            HttpProbe::On => (Awaits::Ports, probes.start_timeout),
            HttpProbe::Auto if !wanted.is_empty() => (Awaits::PortsForAWhile, probes.start_timeout),
            // Where it offers nothing, it would only be watched for so long.
            HttpProbe::Auto if self.depends_on_ports() => (Awaits::PortsForAWhile, probes.start_timeout.min(UNPROBED)),
            HttpProbe::Auto | HttpProbe::Off => (Awaits::Nothing, probes.start_timeout),
        };
        let deadline = self.started + patience;
        let (mut uses, mut since) = (0, Instant::now());
        loop {
            let status = target.monitor.status();
            if status.uses != uses {
                (uses, since) = (status.uses, Instant::now());
            }
            if let Some(ready) = judge(&status, &wanted, awaits, since.elapsed()) {
                return ready;
            }
            if Instant::now() > deadline {
                return Ready::TimedOut;
            }
            let changed = target.monitor.wait_for(|now| *now != status);
            let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
        }
    }

    /// There is nothing to be done with the target but what its ports may offer.
    pub(super) fn depends_on_ports(&self) -> bool {
        let probes = self.request.probes;
        probes.commands.is_empty() && probes.script.is_none() && probes.continue_after.timeout.is_none()
    }
}

/// Whether the target is ready, by what is known now; `quiet`: how long it has used no new path.
fn judge(status: &Status, wanted: &[u16], awaits: Awaits, quiet: Duration) -> Option<Ready> {
    if status.is_over() {
        return Some(Ready::Ended);
    }
    let mut ports: Vec<u16> = status.listening.iter().map(|listener| listener.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let all_there = match wanted {
        [] => !ports.is_empty() && awaits != Awaits::Nothing && quiet >= SETTLED,
        wanted => wanted.iter().all(|port| ports.contains(port)),
    };
    if all_there || (!ports.is_empty() && quiet >= QUIET) {
        return Some(Ready::Listening(ports));
    }
    let patience = match awaits {
        Awaits::Ports => return None,
        Awaits::PortsForAWhile => LONG_QUIET,
        Awaits::Nothing => QUIET,
    };
    (quiet >= patience).then_some(Ready::Quiet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::monitor::{Session, SessionEnd};
    use slim_sensor::wire::Listener;

    #[test]
    fn readiness() {
        let listening = |ports: &[u16]| Status {
            listening: ports
                .iter()
                .map(|&port| Listener { port, address: std::net::Ipv4Addr::UNSPECIFIED.into(), pid: 1 })
                .collect(),
            ..Status::default()
        };
        let end = Some(SessionEnd { status: Some(0), start_failed: false });
        let ended = Status { sessions: [(1, Session { name: "target".into(), end })].into(), ..Status::default() };
        let (now, second, long) = (Duration::ZERO, Duration::from_secs(1), Duration::from_secs(10));
        let ports = |ports: &[u16]| Some(Ready::Listening(ports.to_vec()));
        for (status, wanted, awaits, quiet, expected) in [
            (&ended, &[80][..], Awaits::Ports, now, Some(Ready::Ended)),
            (&listening(&[81, 80]), &[80], Awaits::Ports, now, ports(&[80, 81])),
            (&listening(&[80]), &[80, 443], Awaits::Ports, now, None),
            (&listening(&[80]), &[80, 443], Awaits::Ports, second, ports(&[80])),
            (&listening(&[8080]), &[], Awaits::Ports, now, None),
            (&listening(&[8080]), &[], Awaits::Ports, SETTLED, ports(&[8080])),
            (&listening(&[8080]), &[], Awaits::Nothing, now, None),
            (&listening(&[8080]), &[], Awaits::Nothing, second, ports(&[8080])),
            (&listening(&[]), &[], Awaits::Nothing, second, Some(Ready::Quiet)),
            (&listening(&[]), &[80], Awaits::PortsForAWhile, second, None),
            (&listening(&[]), &[80], Awaits::PortsForAWhile, long, Some(Ready::Quiet)),
            (&listening(&[]), &[80], Awaits::Ports, long, None),
        ] {
            assert_eq!(judge(status, wanted, awaits, quiet), expected, "{wanted:?} {awaits:?} {quiet:?}");
        }
    }
}
