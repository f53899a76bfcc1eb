//! An observed container of a daemon: its configuration, its start, and what the daemon says of it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfigLogConfig, PortBinding};
use slim_sensor::stub::StubSpec;
use slim_sensor::{Meeting, monitor};

use super::{Facts, Started, TargetError, TargetSpec, start_failure};
use crate::engine::answer::ContainerAnswer;
use crate::engine::docker::Engine;
use crate::engine::inject::Program;
use crate::engine::runtime::{Contained, Ending};
use crate::engine::volumes::Copies;
use crate::hidden;
use crate::observe::observation::{Mount, Shows};

/// The container's configuration, without entrypoint and command.
fn body(spec: &TargetSpec) -> ContainerCreateBody {
    let TargetSpec { image, options, ports, .. } = spec;
    let mut body = ContainerCreateBody::default();
    options.apply(&mut body);
    body.image = Some(image.id.clone());
    body.user = Some("0".to_owned());
    body.healthcheck = Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() });
    let host = body.host_config.get_or_insert_default();
    let (add, drop) = options.capabilities.observed();
    (host.cap_add, host.cap_drop) = (Some(add), Some(drop));
    // The log is shown when the program fails; it must be readable, and not fill the host's disk.
    let bounds = HashMap::from([("max-size".to_owned(), "16m".to_owned()), ("max-file".to_owned(), "2".to_owned())]);
    host.log_config = Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(bounds) });
    if has_own_network(host.network_mode.as_deref()) {
        let published = host.port_bindings.get_or_insert_default();
        let any = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None };
        for port in ports {
            published.entry(format!("{port}/tcp")).or_insert_with(|| Some(vec![any.clone()]));
        }
        let exposed = body.exposed_ports.get_or_insert_default();
        for port in ports.iter().map(|port| format!("{port}/tcp")) {
            if !exposed.contains(&port) {
                exposed.push(port);
            }
        }
    }
    if spec.has_input() {
        (body.open_stdin, body.stdin_once, body.attach_stdin) = (Some(true), Some(true), Some(true));
        // On a terminal, the input would have no end.
        body.tty = Some(false);
    }
    body
}

/// Creates the container and starts stub and monitor in it.
pub(super) async fn start(
    spec: &TargetSpec,
    engine: &Engine,
    program: &Program,
    volumes: Option<&Copies>,
    role: &str,
) -> Result<(Started, Facts), TargetError> {
    let stub = StubSpec { meeting: Meeting::Named(secret()), ..spec.stub.clone() };
    let mut body = body(spec);
    let mut words = vec![hidden::STUB.to_owned(), hidden::to_json(&stub)];
    words.extend(spec.command.iter().cloned());
    (body.entrypoint, body.cmd) = (Some(vec![program.path()]), Some(words));
    let (container, sees_our_files) = program.create(engine, role, &body, false).await?;
    if let Some(volumes) = volumes {
        volumes.fill(&container).await?;
    }
    let attached = match &spec.input {
        Some(_) => Some(container.attach_parts().await?),
        None => None,
    };
    if let Err(error) = container.start().await {
        let state = container.state().await.map(|state| state.error).unwrap_or_default();
        let reason = if state.is_empty() { error.to_string() } else { state };
        return Err(TargetError::Start(reason));
    }
    let options = monitor::Options { meeting: stub.meeting.clone(), senses: stub.senses };
    let variable = format!("{}={}", hidden::MONITOR_VARIABLE.0, hidden::MONITOR_VARIABLE.1);
    let order = vec![program.path(), hidden::MONITOR.to_owned(), hidden::to_json(&options)];
    let (monitor, inspected) = tokio::join!(container.exec_with_variable(order, &variable), container.inspect());
    let container = Contained::Docker(Box::new(container), program.path());
    let (monitor, exec) = match monitor {
        Ok(started) => started,
        Err(error) => return Err(start_failure(&container, &error.to_string()).await),
    };
    let inspected = inspected?;
    let facts = Facts {
        stop_timeout: spec.image.stop_timeout(engine.kind, &inspected),
        ..facts(&inspected, &program.inside, sees_our_files, volumes)
    };
    let monitor_end = Ending::Docker(exec);
    Ok((Started { container, stub, monitor, monitor_end, attached }, facts))
}

/// A name that nobody guesses, for a socket in a network namespace that may be shared.
fn secret() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness: `Owner` took some at the start");
    random.iter().fold("slim-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Whether ports can be published: not with the host's network, none, or another container's.
fn has_own_network(mode: Option<&str>) -> bool {
    !mode.is_some_and(|mode| mode == "host" || mode == "none" || mode.starts_with("container:"))
}

/// What the daemon says of a running container, as far as an observation needs it.
fn facts(inspected: &ContainerAnswer, own: &str, sees_our_files: bool, volumes: Option<&Copies>) -> Facts {
    let mounts = mounts_of(inspected, own).into_iter().map(|mount| of_user(mount, volumes)).collect();
    let config = inspected.config.as_ref();
    Facts {
        // A port that a daemon elsewhere publishes on its loopback is not to be reached from here.
        published: if sees_our_files { published(inspected) } else { BTreeMap::new() },
        mounts,
        stop_timeout: None,
        hostname: config.and_then(|config| config.hostname.clone()).unwrap_or_default(),
        addresses: addresses(inspected),
        notes: vec![],
    }
}

/// Where the container's published ports are to be reached from here.
fn published(inspected: &ContainerAnswer) -> BTreeMap<u16, SocketAddr> {
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
fn addresses(inspected: &ContainerAnswer) -> Vec<String> {
    let networks = inspected.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let addresses = networks.into_iter().flatten().flat_map(|(_, network)| [&network.ip_address, &network.global_ipv6_address]);
    addresses.flatten().filter(|address| !address.is_empty()).cloned().collect()
}

/// A fresh volume that stands for one of the user's shows the user's files.
fn of_user(mount: Mount, volumes: Option<&Copies>) -> Mount {
    match volumes {
        Some(copies) if copies.replaces(&mount.target) => Mount { shows: Shows::User, ..mount },
        _ => mount,
    }
}

/// What is mounted in a container, for the plan: which paths below are not the image's own.
fn mounts_of(inspected: &ContainerAnswer, own: &str) -> Vec<Mount> {
    let engine = |target: &str| Mount { target: target.as_bytes().to_vec(), shows: Shows::Engine };
    let mut mounts: Vec<Mount> =
        ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", own].map(engine).into();
    for mount in inspected.mounts.iter().flatten() {
        let Some(target) = mount.destination.as_deref().filter(|target| !target.starts_with(own)) else { continue };
        let shows = match mount.r#type.as_deref().unwrap_or_default() {
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
