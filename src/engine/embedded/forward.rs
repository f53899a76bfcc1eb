//! Ports of a container on this machine, though its network has nothing but the loopback interface: what connects here is
//! connected there, by a socket that the helper makes inside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::running::Running;
use crate::engine::options::ports::PublishedPort;

/// Makes a published port reachable; where. It is as long as the container runs. An address that is not given is the
/// loopback's.
///
/// # Errors
/// The port is in use, or no TCP port.
pub async fn publish(running: &Arc<Running>, port: &PublishedPort) -> io::Result<SocketAddr> {
    let inside = port.container.strip_suffix("/tcp").and_then(|number| number.parse().ok());
    let inside: u16 = inside.ok_or_else(|| io::Error::other("only TCP ports can be published"))?;
    let ip: Option<IpAddr> = port.binding.host_ip.as_deref().and_then(|ip| ip.parse().ok());
    let outside = match port.binding.host_port.as_deref().filter(|number| !number.is_empty()) {
        Some(number) => number.parse().map_err(|_| io::Error::other("a range of this machine's ports is not supported"))?,
        None => 0,
    };
    let address = SocketAddr::new(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), outside);
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(forward(listener, Arc::downgrade(running), inside));
    Ok(bound)
}

async fn forward(listener: TcpListener, running: std::sync::Weak<Running>, port: u16) {
    while let Ok((stream, _)) = listener.accept().await {
        let Some(running) = running.upgrade() else { return };
        tokio::spawn(async move { connect(stream, &running, port).await });
    }
}

/// What can't be connected is closed, as the kernel would.
async fn connect(mut outside: TcpStream, running: &Running, port: u16) {
    if let Ok(mut inside) = running.connect_port(port).await {
        // Either end may hang up whenever it likes.
        let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
    }
}
