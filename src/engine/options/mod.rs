//! How the observed container is run: the options of `docker run` that the user gave, as ready objects.
//!
//! Each is passed on to the engine one to one, as the docker command line would do it, so that the program sees what it
//! would see there. They are for the observed container only: the configuration of the image isn't changed by them.
//! The modules below parse what was typed, a family of options each; they do no I/O.

pub mod environment;
pub mod limits;
pub mod mounts;
pub mod network;
pub mod ports;
pub mod security;

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, PortMap, ResourcesUlimits};

use self::environment::Variable;
use self::mounts::MountRequest;
use self::ports::PublishedPort;
use self::security::SecurityOptions;
use super::capabilities::CapabilityOptions;

/// The run options. The default is a plain run: nothing differs from what the image says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunOptions {
    /// Variables, the later winning over the earlier.
    pub environment: Vec<Variable>,
    /// `USER[:GROUP]`, names or numbers.
    pub user: Option<String>,
    /// In place of the image's; empty: without one.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's; empty: without one.
    pub command: Option<Vec<String>>,
    /// Absolute.
    pub working_directory: Option<String>,
    /// Volumes and mounts.
    pub mounts: Vec<MountRequest>,
    /// Paths with the options of their tmpfs.
    pub tmpfs: Vec<(String, String)>,
    /// Network mode.
    pub network: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// `NAME:IP` for `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// `PORT/PROTOCOL` beside those of the image.
    pub exposed_ports: Vec<String>,
    /// Published ports.
    pub published_ports: Vec<PublishedPort>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<i64>,
    /// Resource limits.
    pub ulimits: Vec<ResourcesUlimits>,
    /// Capabilities added and dropped.
    pub capabilities: CapabilityOptions,
    /// Security options.
    pub security: SecurityOptions,
    /// The root is mounted read-only.
    pub read_only: bool,
    /// The engine's init is PID 1; `None`: as the engine is set up.
    pub init: Option<bool>,
    /// The program has a terminal.
    pub tty: bool,
    /// Labels of the container.
    pub labels: HashMap<String, String>,
    /// OCI runtime.
    pub runtime: Option<String>,
    /// All of these as they were given, for the header of the observation; variables by their names alone.
    pub described: Vec<String>,
}

impl RunOptions {
    /// The command line of the container, by Docker's rules: an entrypoint given here takes the image's command away.
    /// Empty where neither says what to run.
    #[must_use]
    pub fn command_line(&self, image_entrypoint: &[String], image_command: &[String]) -> Vec<String> {
        let (entrypoint, image_command) = match &self.entrypoint {
            Some(entrypoint) => (entrypoint.as_slice(), &[][..]),
            None => (image_entrypoint, image_command),
        };
        [entrypoint, self.command.as_deref().unwrap_or(image_command)].concat()
    }

    /// The part of the container's configuration that is about the host.
    #[must_use]
    pub fn host_config(&self) -> HostConfig {
        let mut binds = Vec::new();
        let mut mounts: Vec<Mount> = Vec::new();
        for request in &self.mounts {
            match request {
                MountRequest::Bind(bind) => binds.push(bind.clone()),
                MountRequest::Mount(mount) => mounts.push((**mount).clone()),
                MountRequest::Anonymous(_) => {}
            }
        }
        let (cap_add, cap_drop) = self.capabilities.asked();
        let no_paths = || self.security.system_paths_unconfined.then(Vec::new);
        HostConfig {
            binds: some(binds),
            mounts: some(mounts),
            tmpfs: (!self.tmpfs.is_empty()).then(|| self.tmpfs.iter().cloned().collect()),
            network_mode: self.network.clone(),
            extra_hosts: some(self.extra_hosts.clone()),
            dns: some(self.dns.clone()),
            port_bindings: self.port_bindings(),
            shm_size: self.shm_size,
            ulimits: some(self.ulimits.clone()),
            cap_add: some(cap_add),
            cap_drop: some(cap_drop),
            security_opt: some(self.security.words.clone()),
            masked_paths: no_paths(),
            readonly_paths: no_paths(),
            readonly_rootfs: self.read_only.then_some(true),
            init: self.init,
            runtime: self.runtime.clone(),
            ..HostConfig::default()
        }
    }

    fn port_bindings(&self) -> Option<PortMap> {
        let mut map = PortMap::new();
        for port in &self.published_ports {
            let bindings = map.entry(port.container.clone()).or_default();
            bindings.get_or_insert_default().push(port.binding.clone());
        }
        (!map.is_empty()).then_some(map)
    }

    /// Puts the options into `body`, [`RunOptions::host_config`] included; entrypoint and command are left to who knows
    /// the image's: see [`RunOptions::command_line`].
    pub fn apply(&self, body: &mut ContainerCreateBody) {
        let anonymous = self.mounts.iter().filter_map(|request| match request {
            MountRequest::Anonymous(path) => Some(path.clone()),
            MountRequest::Bind(_) | MountRequest::Mount(_) => None,
        });
        let mut exposed = self.exposed_ports.clone();
        exposed.extend(self.published_ports.iter().map(|port| port.container.clone()));
        exposed.sort();
        exposed.dedup();

        body.env = some(self.environment.iter().map(Variable::to_api).collect());
        body.user = self.user.clone();
        body.working_dir = self.working_directory.clone();
        body.hostname = self.hostname.clone();
        body.tty = self.tty.then_some(true);
        body.labels = (!self.labels.is_empty()).then(|| self.labels.clone());
        body.volumes = some(anonymous.collect());
        body.exposed_ports = some(exposed);
        body.host_config = Some(self.host_config());
    }
}

/// The API's word for "nothing said".
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_plain_run_says_nothing() {
        let mut body = ContainerCreateBody::default();
        RunOptions::default().apply(&mut body);
        let expected = ContainerCreateBody { host_config: Some(HostConfig::default()), ..ContainerCreateBody::default() };
        assert_eq!(body, expected);
    }

    #[test]
    fn command_lines() {
        for (entrypoint, command, expected) in [
            (None, None, "entry -a cmd"),
            (None, Some("other x"), "entry -a other x"),
            (None, Some(""), "entry -a"),
            (Some("sh -c"), None, "sh -c"),
            (Some("sh -c"), Some("ls"), "sh -c ls"),
            (Some(""), Some("ls"), "ls"),
            (Some(""), None, ""),
        ] {
            let options = RunOptions { entrypoint: entrypoint.map(words), command: command.map(words), ..RunOptions::default() };
            let got = options.command_line(&words("entry -a"), &words("cmd"));
            assert_eq!(got, words(expected), "{entrypoint:?} {command:?}");
        }
    }

    #[test]
    fn every_option_reaches_the_api() {
        let parse = |text: &str| mounts::parse_mount(text).unwrap();
        let mut capabilities = CapabilityOptions::default();
        capabilities.add("net_admin").unwrap();
        capabilities.drop("ALL").unwrap();
        let options = RunOptions {
            environment: vec![Variable { name: "A".into(), value: Some("1".into()) }],
            user: Some("1000:1000".into()),
            working_directory: Some("/srv".into()),
            mounts: vec![
                parse("/host:/x:ro"),
                mounts::parse_volume("/fresh").unwrap(),
                parse("type=volume,source=data,target=/data"),
            ],
            tmpfs: vec![("/t".into(), "size=1m".into())],
            network: Some("none".into()),
            hostname: Some("h".into()),
            extra_hosts: words("db:10.0.0.5"),
            dns: words("1.1.1.1"),
            exposed_ports: words("80/tcp 81/tcp"),
            published_ports: ["127.0.0.1:8080:80", "8081:80"]
                .iter()
                .flat_map(|text| ports::parse_published(text).unwrap())
                .collect(),
            shm_size: Some(1 << 20),
            ulimits: vec![limits::parse_ulimit("core=0").unwrap()],
            capabilities,
            security: SecurityOptions {
                words: words("no-new-privileges"),
                system_paths_unconfined: true,
                ..SecurityOptions::default()
            },
            read_only: true,
            init: Some(false),
            tty: true,
            labels: HashMap::from([("l".into(), "v".into())]),
            runtime: Some("runc".into()),
            ..RunOptions::default()
        };
        let mut body = ContainerCreateBody::default();
        options.apply(&mut body);
        let json = serde_json::to_value(&body).unwrap();
        let expected = serde_json::json!({
            "Hostname": "h",
            "User": "1000:1000",
            "ExposedPorts": {"80/tcp": {}, "81/tcp": {}},
            "Tty": true,
            "Env": ["A=1"],
            "Volumes": {"/fresh": {}},
            "WorkingDir": "/srv",
            "Labels": {"l": "v"},
            "HostConfig": {
                "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
                "Binds": ["/host:/x:ro"],
                "NetworkMode": "none",
                "PortBindings": {"80/tcp": [
                    {"HostIp": "127.0.0.1", "HostPort": "8080"},
                    {"HostPort": "8081"},
                ]},
                "Mounts": [{"Type": "volume", "Source": "data", "Target": "/data"}],
                "CapAdd": ["CAP_NET_ADMIN"],
                "CapDrop": ["ALL"],
                "Dns": ["1.1.1.1"],
                "ExtraHosts": ["db:10.0.0.5"],
                "ReadonlyRootfs": true,
                "SecurityOpt": ["no-new-privileges"],
                "Init": false,
                "Tmpfs": {"/t": "size=1m"},
                "ShmSize": 1 << 20,
                "Runtime": "runc",
                "MaskedPaths": [],
                "ReadonlyPaths": [],
            },
        });
        assert_eq!(json, expected);
    }
}
