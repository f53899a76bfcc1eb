//! From an image and options to what the runner takes: everything resolved, as an engine would.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::models::MountType;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use slim_sensor::container::spec::{CapabilitySets, ContainerSpec, Mount, Mounted, Network, Root};
use slim_sensor::identity;
use slim_sensor::stub::Engine as Rules;

use super::RunRequest;
use crate::cli::failure::Failure;
use crate::engine::embedded::Tier;
use crate::engine::options::RunOptions;
use crate::engine::options::mounts::MountRequest;
use crate::engine::options::security::Seccomp;
use crate::exit::Exit;
use crate::image::config::RunConfig;
use crate::image::reference::{FileSource, ImageSource};
use crate::image::source::moment;
use crate::image::store::merge::merge;
use crate::image::store::read::LayerFiles;
use crate::image::store::{Flavour, Store, StoredLayer};
use crate::image::transport;

/// What Docker sets where an image has no `PATH`.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// More of a passwd or group file is not read.
const MAX_FILE: u64 = 16 << 20;

/// A container that can be started.
pub(super) struct Prepared {
    pub(super) spec: ContainerSpec,
    /// Held for as long as it runs.
    pub(super) layers: Vec<StoredLayer>,
}

/// Options that the runner has no notion of.
pub(super) fn refuse_what_is_not_known(options: &RunOptions) -> Result<(), Failure> {
    let network = options.network.as_deref();
    let given = [
        ("--network", network.is_some_and(|mode| mode != "none" && mode != "host"), "it knows `none` and `host`"),
        ("--dns", !options.dns.is_empty(), "its network is this machine's, or none"),
        ("--publish-port", !options.published_ports.is_empty(), "use `--network host`"),
        ("--init", options.init == Some(true), "the program is process 1"),
        ("--runtime", options.runtime.is_some(), "slim itself is the runtime"),
        ("--ulimit", !options.ulimits.is_empty(), "set it before slim is started"),
        ("--add-host", !options.extra_hosts.is_empty(), "add it to this machine's /etc/hosts"),
        (
            "--security-opt",
            options.security.words.iter().any(|word| word != "seccomp=unconfined" && !word.starts_with("no-new-privileges")),
            "it knows `seccomp=unconfined` and `no-new-privileges`",
        ),
    ];
    match given.into_iter().find(|(_, is_given, _)| *is_given) {
        Some((option, _, hint)) => Err(Failure::usage(format!("`slim run` has no `{option}`: {hint}"))),
        None => Ok(()),
    }
}

/// Unpacks the image where that is needed, and works out its container.
pub(super) fn prepare(
    request: &RunRequest,
    tier: Tier,
    state: PathBuf,
    tell: &(dyn Fn(String) + Sync),
) -> Result<Prepared, Failure> {
    let (config, layers, directories) = match &request.source {
        ImageSource::File(file) => unpack(request, file, tier, &state.with_file_name("patch"), tell)?,
        ImageSource::Rootfs(directory) => {
            let directory = directory.canonicalize().map_err(|error| Failure {
                exit: Exit::Image,
                message: format!("`{}` cannot be used: {error}", directory.display()),
            })?;
            (RunConfig::default(), vec![], vec![directory])
        }
        ImageSource::Daemon(name) => {
            let hint =
                "it runs what no daemon has: `docker-archive:FILE`, `oci:DIRECTORY`, `oci-archive:FILE` or `rootfs:DIRECTORY`";
            return Err(Failure::usage(format!("`slim run` has no daemon to ask for `{name}`: {hint}")));
        }
    };
    let spec = specify(&request.options, &config, &directories, state)?;
    Ok(Prepared { spec, layers })
}

type Unpacked = (RunConfig, Vec<StoredLayer>, Vec<PathBuf>);

/// Unpacks what the store lacks. `patch` is a directory that can be made for what overlayfs does not show of the layers.
fn unpack(
    request: &RunRequest,
    file: &FileSource,
    tier: Tier,
    patch: &Path,
    tell: &(dyn Fn(String) + Sync),
) -> Result<Unpacked, Failure> {
    let of_image = |error: &dyn std::fmt::Display| Failure { exit: Exit::Image, message: error.to_string() };
    let image = transport::open(file, &request.platform, request.max_unpacked_size).map_err(|error| of_image(&error))?;
    let store = Store::open(&Store::default_path()?)?;
    let flavour = if tier == Tier::Root { Flavour::Root } else { Flavour::User };
    let told = |done: usize, all: usize| tell(format!("unpacking layers: {done} of {all}"));
    let layers = store.unpack(&image, flavour, request.max_unpacked_size, &told)?;
    let created = image.config.created.as_deref().and_then(moment).map_or(0, |(seconds, _)| seconds);
    let merged = merge(layers.iter().map(|layer| &*layer.index), created, &[]).map_err(|error| of_image(&error))?;
    std::fs::create_dir(patch).map_err(|error| Failure::internal(format!("no directory for temporary files: {error}")))?;
    let is_patched = LayerFiles::new(layers.clone(), Arc::new(merged)).patch(flavour, patch)?;
    // overlayfs wants the topmost first.
    let patch = is_patched.then(|| patch.to_owned());
    let directories = patch.into_iter().chain(layers.iter().rev().map(|layer| layer.files.clone())).collect();
    Ok((image.config.config.unwrap_or_default(), layers, directories))
}

fn specify(options: &RunOptions, config: &RunConfig, layers: &[PathBuf], state: PathBuf) -> Result<ContainerSpec, Failure> {
    let or_empty = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let argv = options.command_line(&or_empty(&config.entrypoint), &or_empty(&config.cmd));
    if argv.is_empty() {
        return Err(Failure::usage("the image says nothing of what to run: give a command behind its name".to_owned()));
    }
    let user = options.user.clone().or_else(|| config.user.clone()).unwrap_or_default();
    let find = |path: &str| layers.iter().find_map(|layer| read_below(layer, path)).unwrap_or_default();
    let rules = Rules::Docker(String::new());
    let who = identity::resolve(&rules, &user, &find("etc/passwd"), &find("etc/group"));
    let who = who.map_err(|error| Failure { exit: Exit::Target, message: error.to_string() })?;

    let capabilities = options.capabilities.plain().mask();
    let mut spec = ContainerSpec::new(Root::Layers(layers.to_vec()), state, capabilities, argv);
    if let Some(hostname) = &options.hostname {
        spec.hostname.clone_from(hostname);
    }
    spec.read_only = options.read_only;
    spec.network = if options.network.as_deref() == Some("host") { Network::Host } else { Network::Loopback };
    spec.mounts = mounts(options)?;
    if let Some(size) = options.shm_size.and_then(|size| u64::try_from(size).ok()) {
        spec.shared_memory = size;
    }
    let process = &mut spec.process;
    process.env = environment(options, config, &who.home, &spec.hostname);
    let directory = options.working_directory.clone().or_else(|| config.working_dir.clone()).filter(|path| !path.is_empty());
    process.cwd = directory.unwrap_or_else(|| "/".to_owned());
    process.capabilities = CapabilitySets::docker(capabilities);
    if who.uid != 0 {
        (process.capabilities.effective, process.capabilities.permitted) = (0, 0);
    }
    (process.uid, process.gid, process.groups) = (who.uid, who.gid, who.groups);
    process.seccomp = options.security.seccomp == Seccomp::EngineDefault;
    process.no_new_privileges = options.security.words.iter().any(|word| is_no_new_privileges(word));
    process.terminal = options.tty;
    process.input = true;
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
    let given = options.environment.iter().map(crate::engine::options::environment::Variable::to_api);
    for variable in config.env.iter().flatten().cloned().chain(given) {
        let name = variable.split('=').next().unwrap_or_default().to_owned();
        variables.retain(|known| known.split('=').next() != Some(name.as_str()));
        if variable.contains('=') {
            variables.push(variable);
        }
    }
    variables
}

fn mounts(options: &RunOptions) -> Result<Vec<Mount>, Failure> {
    let no_volumes = || Failure::usage("`slim run` has no volumes with names: mount a directory of this machine".to_owned());
    let mut mounts = vec![];
    for request in &options.mounts {
        mounts.push(match request {
            MountRequest::Anonymous(target) => tmpfs(target, ""),
            MountRequest::Bind(bind) => {
                let mut parts = bind.split(':');
                let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().to_owned());
                if !source.starts_with('/') {
                    return Err(no_volumes());
                }
                let read_only = parts.next().is_some_and(|options| options.split(',').any(|option| option == "ro"));
                Mount { target, what: Mounted::Bind(source.into()), read_only }
            }
            MountRequest::Mount(mount) => {
                let (target, source) = (mount.target.clone().unwrap_or_default(), mount.source.clone().unwrap_or_default());
                match mount.typ {
                    Some(MountType::BIND) => {
                        Mount { target, what: Mounted::Bind(source.into()), read_only: mount.read_only == Some(true) }
                    }
                    Some(MountType::TMPFS) => tmpfs(&target, ""),
                    _ => return Err(no_volumes()),
                }
            }
        });
    }
    mounts.extend(options.tmpfs.iter().map(|(target, options)| tmpfs(target, options)));
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
        assert!(refuse_what_is_not_known(&options).unwrap_err().message.contains("`none` and `host`"));
        assert!(refuse_what_is_not_known(&RunOptions { network: Some("host".into()), ..RunOptions::default() }).is_ok());
        let volume = |text: &str| mounts(&RunOptions { mounts: vec![parse_volume(text).unwrap()], ..RunOptions::default() });
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
