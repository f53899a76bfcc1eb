//! How HTTP probes reach the target, and how each becomes a phase of the observation.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use slim_probes::{BoxFuture, Connect, Phases, Stream};
use slim_sensor::wire::Listener;
use tokio::net::TcpStream;

use super::observation::PhaseKind;
use super::recorder::Recorder;
use super::target::Target;

/// Connects to a target's ports: by the published port where the target listens on more than its loopback, else through a
/// relay inside its network namespace, which works with any network, also with none.
#[derive(Debug)]
pub struct Reach {
    target: Arc<Target>,
}

impl Reach {
    /// To `target`.
    #[must_use]
    pub fn new(target: Arc<Target>) -> Reach {
        Reach { target }
    }

    async fn open(&self, port: u16) -> io::Result<Box<dyn Stream>> {
        let status = self.target.monitor.status();
        if status.is_over() {
            // Not the kind of error after which another try makes sense.
            return Err(io::Error::other("the program has ended"));
        }
        let Some(address) = address(&status.listening, port) else {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("nothing listens on port {port}")));
        };
        match self.target.facts.published.get(&port).filter(|_| !address.is_loopback()) {
            Some(published) => Ok(Box::new(TcpStream::connect(published).await?)),
            None => self.target.container.connect(&from_inside(address, port)).await,
        }
    }
}

impl Connect for Reach {
    fn connect(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(self.open(port))
    }
}

/// The address that a port is bound to: the most public one.
fn address(listening: &[Listener], port: u16) -> Option<IpAddr> {
    let addresses = listening.iter().filter(|listener| listener.port == port).map(|listener| listener.address);
    addresses.min_by_key(|address| (address.is_loopback(), address.is_ipv6()))
}

/// Where a process of the container may reach it.
fn from_inside(address: IpAddr, port: u16) -> Vec<SocketAddr> {
    let addresses = match address {
        IpAddr::V4(address) if address.is_unspecified() => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        // Most of these take IPv4 too, which is there also where the container has no IPv6.
        IpAddr::V6(address) if address.is_unspecified() => {
            vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        }
        other => vec![other],
    };
    addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
}

/// Begins a phase for each probe.
#[derive(Debug)]
pub struct ProbePhases {
    target: Arc<Target>,
    recorder: Recorder,
}

impl ProbePhases {
    /// Of `target`, in `recorder`.
    #[must_use]
    pub fn new(target: Arc<Target>, recorder: Recorder) -> ProbePhases {
        ProbePhases { target, recorder }
    }
}

impl Phases for ProbePhases {
    fn begin<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let phase = self.recorder.phase(PhaseKind::Http, name);
            self.target.monitor.phase(phase).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_public_address_is_used() {
        let listener = |port, address: &str| Listener { port, address: address.parse().unwrap(), pid: 1 };
        let listening = [
            listener(80, "127.0.0.1"),
            listener(80, "::"),
            listener(81, "0.0.0.0"),
            listener(82, "::1"),
            listener(83, "172.17.0.2"),
        ];
        let address = |port| {
            let address = address(&listening, port)?;
            let inside: Vec<_> = from_inside(address, port).iter().map(ToString::to_string).collect();
            Some((address.to_string(), inside.join(" ")))
        };
        let both = |bound: &str, inside: &str| Some((bound.to_owned(), inside.to_owned()));
        assert_eq!(address(80), both("::", "127.0.0.1:80 [::1]:80"));
        assert_eq!(address(81), both("0.0.0.0", "127.0.0.1:81"));
        assert_eq!(address(82), both("::1", "[::1]:82"));
        assert_eq!(address(83), both("172.17.0.2", "172.17.0.2:83"));
        assert_eq!(address(84), None);
    }
}
