//! What the engine says of a running container, as far as an observation needs it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use bollard::models::ContainerInspectResponse;

use super::observation::{Mount, Shows};
use crate::engine::volumes::Copies;

/// Where the container's published ports are to be reached from here.
pub(super) fn published(inspected: &ContainerInspectResponse) -> BTreeMap<u16, SocketAddr> {
    let ports = inspected.network_settings.as_ref().and_then(|settings| settings.ports.as_ref());
    let mut published = BTreeMap::new();
    for (name, bindings) in ports.into_iter().flatten() {
        let Some(port) = name.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else { continue };
        let address = bindings.iter().flatten().find_map(|binding| {
            let port = binding.host_port.as_ref()?.parse().ok()?;
            let ip: std::net::IpAddr = binding.host_ip.as_deref().unwrap_or_default().parse().ok()?;
            let ip = if ip.is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { ip };
            Some(SocketAddr::new(ip, port))
        });
        published.extend(address.map(|address| (port, address)));
    }
    published
}

/// The container's own addresses.
pub(super) fn addresses(inspected: &ContainerInspectResponse) -> Vec<String> {
    let networks = inspected.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let addresses = networks.into_iter().flatten().flat_map(|(_, network)| [&network.ip_address, &network.global_ipv6_address]);
    addresses.flatten().filter(|address| !address.is_empty()).cloned().collect()
}

/// A fresh volume that stands for one of the user's shows the user's files.
pub(super) fn of_user(mount: Mount, volumes: Option<&Copies>) -> Mount {
    match volumes {
        Some(copies) if copies.replaces(&mount.target) => Mount { shows: Shows::User, ..mount },
        _ => mount,
    }
}

/// What is mounted in a container, for the plan: which paths below are not the image's own.
pub(super) fn mounts_of(inspected: &ContainerInspectResponse, own: &str) -> Vec<Mount> {
    let engine = |target: &str| Mount { target: target.as_bytes().to_vec(), shows: Shows::Engine };
    let mut mounts: Vec<Mount> =
        ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", own].map(engine).into();
    for mount in inspected.mounts.iter().flatten() {
        let Some(target) = mount.destination.as_deref().filter(|target| !target.starts_with(own)) else { continue };
        let shows = match mount.typ.as_deref().unwrap_or_default() {
            "tmpfs" => Shows::Engine,
            // The engine fills a new volume from the image; one that it named itself is new.
            "volume" if mount.name.as_deref().is_some_and(is_anonymous) => Shows::Image,
            _ => Shows::User,
        };
        mounts.push(Mount { target: target.as_bytes().to_vec(), shows });
    }
    let tmpfs = inspected.host_config.as_ref().and_then(|host| host.tmpfs.as_ref());
    mounts.extend(tmpfs.into_iter().flat_map(HashMap::keys).map(|target| engine(target)));
    mounts
}

/// The engine's own names for volumes.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_engines_own_names_are_anonymous() {
        assert!(is_anonymous(&"0a".repeat(32)));
        assert!(!is_anonymous("data") && !is_anonymous(&"0g".repeat(32)));
    }
}
