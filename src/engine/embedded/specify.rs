//! From an image's configuration and options to what the runner takes: everything resolved, as Docker would.

use std::io::Read;
use std::path::{Path, PathBuf};

use bollard::models::MountType;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use slim_sensor::container::spec::{CapabilitySets, ContainerSpec, Mount, Mounted, Network, Owner, ResourceLimit, Root};
use slim_sensor::identity;
use slim_sensor::stub::Engine as Rules;

use super::engine::EmbeddedError;
use crate::engine::options::RunOptions;
use crate::engine::options::environment::Variable;
use crate::engine::options::mounts::{Bind, MountRequest};
use crate::engine::options::security::Seccomp;
use crate::image::config::RunConfig;

/// What Docker sets where an image has no `PATH`.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// More of a passwd or group file is not read.
const MAX_FILE: u64 = 16 << 20;

/// Refuses options that the runner has no notion of; published ports too, unless the caller `publishes` them.
///
/// # Errors
/// [`EmbeddedError::Option`]
pub fn refuse_what_is_not_known(options: &RunOptions, publishes: bool) -> Result<(), EmbeddedError> {
    let network = options.network.as_deref();
    let given = [
        ("--network", network.is_some_and(|mode| mode != "none" && mode != "host"), "it knows `none` and `host`"),
        (
            "--publish-port",
            !publishes && !options.published_ports.is_empty(),
            "probes reach all ports; for others, use `--network host`",
        ),
        ("--init", options.init == Some(true), "the program is process 1"),
        ("--runtime", options.runtime.is_some(), "slim itself is the runtime"),
        (
            "--security-opt",
            options.security.words.iter().any(|word| word != "seccomp=unconfined" && !is_no_new_privileges(word)),
            "it knows `seccomp=unconfined`, `systempaths=unconfined` and `no-new-privileges`",
        ),
    ];
    match given.into_iter().find(|(_, is_given, _)| *is_given) {
        Some((option, _, hint)) => Err(EmbeddedError::Option { option, hint }),
        None => mounts(options, &RunConfig::default()).map(drop),
    }
}

/// The container of an image with this configuration, whose files are in `layers`, the topmost first.
///
/// # Errors
/// [`EmbeddedError`]
pub(super) fn specify(
    options: &RunOptions,
    config: &RunConfig,
    layers: &[PathBuf],
    owners: Vec<Owner>,
    state: PathBuf,
) -> Result<ContainerSpec, EmbeddedError> {
    let or_empty = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let argv = options.command_line(&or_empty(&config.entrypoint), &or_empty(&config.cmd));
    let user = options.user.clone().or_else(|| config.user.clone()).unwrap_or_default();
    let find = |path: &str| layers.iter().find_map(|layer| read_below(layer, path)).unwrap_or_default();
    let rules = Rules::Docker(String::new());
    let who = identity::resolve(&rules, &user, &find("etc/passwd"), &find("etc/group"));
    let who = who.map_err(|error| EmbeddedError::User(error.to_string()))?;

    let capabilities = options.capabilities.plain().mask();
    let mut spec = ContainerSpec::new(Root::Layers(layers.to_vec()), state, capabilities, argv);
    spec.owners = owners;
    if let Some(hostname) = &options.hostname {
        spec.hostname.clone_from(hostname);
    }
    spec.read_only = options.read_only;
    spec.network = if options.network.as_deref() == Some("host") { Network::Host } else { Network::Loopback };
    spec.hosts =
        options.extra_hosts.iter().filter_map(|host| host.split_once(':')).map(|(name, ip)| (ip.into(), name.into())).collect();
    if !options.dns.is_empty() {
        spec.resolv_conf = Some(options.dns.iter().map(|server| format!("nameserver {server}\n")).collect());
    }
    spec.mounts = mounts(options, config)?;
    if options.security.system_paths_unconfined {
        (spec.masked_paths, spec.read_only_paths) = (vec![], vec![]);
    }
    if let Some(size) = options.shm_size.and_then(|size| u64::try_from(size).ok()) {
        spec.shared_memory = size;
    }
    let process = &mut spec.process;
    process.env = environment(options, config, &who.home, &spec.hostname);
    let directory = options.working_directory.clone().or_else(|| config.working_dir.clone()).filter(|path| !path.is_empty());
    process.cwd = directory.unwrap_or_else(|| "/".to_owned());
    process.capabilities = CapabilitySets::docker(capabilities);
    (process.uid, process.gid, process.groups) = (who.uid, who.gid, who.groups);
    process.seccomp = options.security.seccomp == Seccomp::EngineDefault;
    process.no_new_privileges = options.security.words.iter().any(|word| is_no_new_privileges(word));
    let limit = |limit: &bollard::models::ResourcesUlimits| {
        // -1 is none.
        let value = |value: Option<i64>| value.map_or(0, |value| u64::try_from(value).unwrap_or(u64::MAX));
        ResourceLimit { name: limit.name.clone().unwrap_or_default(), soft: value(limit.soft), hard: value(limit.hard) }
    };
    process.limits = options.ulimits.iter().map(limit).collect();
    process.terminal = options.tty;
    Ok(spec)
}

fn is_no_new_privileges(word: &str) -> bool {
    matches!(word, "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true")
}

/// Docker's order: its own variables where nobody sets them, the image's, those that were given.
fn environment(options: &RunOptions, config: &RunConfig, home: &[u8], hostname: &str) -> Vec<String> {
    let own = [DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}"), format!("HOME={}", String::from_utf8_lossy(home))];
    let terminal = options.tty.then(|| "TERM=xterm".to_owned());
    let mut variables: Vec<String> = own.into_iter().chain(terminal).collect();
    let given = options.environment.iter().map(Variable::to_api);
    for variable in config.env.iter().flatten().cloned().chain(given) {
        let name = variable.split('=').next().unwrap_or_default().to_owned();
        variables.retain(|known| known.split('=').next() != Some(name.as_str()));
        if variable.contains('=') {
            variables.push(variable);
        }
    }
    variables
}

/// What is mounted: what was asked for, and where the root is read-only the image's volumes, which can be written all the same.
/// (Where it is not, a volume of the image is a directory like others: it has the image's files, and goes with the container.)
fn mounts(options: &RunOptions, config: &RunConfig) -> Result<Vec<Mount>, EmbeddedError> {
    let fresh = |target: &str| Mount { target: target.to_owned(), what: Mounted::Volume(None), read_only: false };
    let mut mounts = vec![];
    for request in &options.mounts {
        mounts.push(match request {
            MountRequest::Anonymous(target) => fresh(target),
            MountRequest::Bind(bind) => {
                let Bind { source, target, read_only } = Bind::of(bind);
                if !source.starts_with('/') {
                    return Err(EmbeddedError::NamedVolume(source.to_owned()));
                }
                Mount { target: target.to_owned(), what: Mounted::Bind(source.into()), read_only }
            }
            MountRequest::Mount(mount) => {
                let (target, source) = (mount.target.clone().unwrap_or_default(), mount.source.clone().unwrap_or_default());
                let read_only = mount.read_only == Some(true);
                match mount.typ {
                    Some(MountType::BIND) => Mount { target, what: Mounted::Bind(source.into()), read_only },
                    Some(MountType::TMPFS) => tmpfs(&target, ""),
                    _ if source.is_empty() => fresh(&target),
                    _ => return Err(EmbeddedError::NamedVolume(source)),
                }
            }
        });
    }
    mounts.extend(options.tmpfs.iter().map(|(target, options)| tmpfs(target, options)));
    if options.read_only {
        let is_free = |target: &&String| !mounts.iter().any(|mount| mount.target == **target);
        let volumes: Vec<_> =
            config.volumes.iter().flatten().map(|(target, _)| target).filter(is_free).map(|target| fresh(target)).collect();
        mounts.extend(volumes);
    }
    Ok(mounts)
}

fn tmpfs(target: &str, options: &str) -> Mount {
    let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    Mount { target: target.to_owned(), what: Mounted::Tmpfs(options), read_only: false }
}

/// A small file of a layer; links are followed inside it. `None` where it isn't there.
fn read_below(directory: &Path, path: &str) -> Option<Vec<u8>> {
    let root = std::fs::File::open(directory).ok()?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = std::fs::File::from(openat2(&root, path, how).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = vec![];
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::options::environment::parse_variable;
    use crate::engine::options::mounts::parse_volume;

    #[test]
    fn variables_are_set_as_docker_does() {
        let config =
            RunConfig { env: Some(vec!["PATH=/bin".into(), "A=image".into(), "B=image".into()]), ..RunConfig::default() };
        let given = ["A=given", "EMPTY="].map(|text| parse_variable(text, &|_| None).unwrap());
        let options = RunOptions { environment: given.to_vec(), ..RunOptions::default() };
        let variables = environment(&options, &config, b"/root", "box");
        assert_eq!(variables, ["HOSTNAME=box", "HOME=/root", "PATH=/bin", "B=image", "A=given", "EMPTY="]);
    }

    #[test]
    fn what_the_runner_does_not_know_is_refused() {
        let options = RunOptions { network: Some("bridge".into()), ..RunOptions::default() };
        assert!(refuse_what_is_not_known(&options, true).unwrap_err().to_string().contains("`none` and `host`"));
        assert!(refuse_what_is_not_known(&RunOptions { network: Some("host".into()), ..RunOptions::default() }, true).is_ok());
        let volume = |text: &str| {
            mounts(&RunOptions { mounts: vec![parse_volume(text).unwrap()], ..RunOptions::default() }, &RunConfig::default())
        };
        assert!(volume("name:/data").is_err());
        assert!(volume("/host:/data:ro").unwrap()[0].read_only);
    }

    #[test]
    fn files_are_read_within_their_layer() {
        let layer = tempfile::tempdir().unwrap();
        std::fs::create_dir(layer.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/other", layer.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc/hostname", layer.path().join("etc/group")).unwrap();
        std::fs::write(layer.path().join("etc/other"), "root").unwrap();
        assert_eq!(read_below(layer.path(), "etc/passwd").as_deref(), Some(&b"root"[..]));
        assert_eq!(read_below(layer.path(), "etc/group"), None);
    }
}
