//! What the typed words of `slim build` mean: ready objects, with the files that they name read.
//!
//! Every complaint names the flag and what was given; of variables only the name, for their values may be secrets. What
//! belongs to the probes stays text here: the crate of the probes knows its own languages.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use super::args::{BuildArgs, ContainerArgs, KeepArgs, ProbeArgs, RegistryArgs, Secret, TargetArgs};
use super::continue_after::parse_continue_after;
use super::engines::EngineChoice;
pub use super::output_flags::OutputFlags;
use super::output_flags::output_flags;
pub use super::verification_flags::VerificationFlags;
use super::verification_flags::{nothing_but_the_plan, verification_flags};
use super::words::parse_command_line;
use crate::engine::capabilities::CapabilityOptions;
use crate::engine::options::RunOptions;
use crate::engine::options::environment::{parse_environment_file, parse_variable};
use crate::engine::options::limits::{parse_size, parse_ulimit};
use crate::engine::options::mounts::{parse_mount, parse_tmpfs, parse_volume};
use crate::engine::options::network::{parse_address, parse_extra_host, parse_label, parse_network};
use crate::engine::options::ports::{parse_exposed, parse_published};
use crate::engine::options::security::SecurityOptions;
use crate::image::location::ImageSource;
use crate::image::transport::platform::Platform;
use crate::image::transport::registry::place;
use crate::observe::continue_after::ContinueAfter;
use crate::observe::sensor::Sensor;
use crate::plan::{KeepLookedAt, PathPermissions};

/// The most bytes of a file that a flag names.
const FILE_LIMIT: u64 = 16 << 20;

/// A flag whose value can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{option} {value}`: {reason}")]
pub struct UsageError {
    /// With its dashes.
    pub option: &'static str,
    /// As given, or the name of the variable.
    pub value: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// What is read from outside while the words are made sense of.
pub trait Outside {
    /// The content of a file.
    ///
    /// # Errors
    /// Whatever stood in the way.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// A variable of our own environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The real one.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Outside for System {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(io::Error::other(format!("it is larger than {} MiB", FILE_LIMIT >> 20)));
        }
        Ok(bytes)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// One `slim build`.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildRequest {
    /// Which image.
    pub image: ImageSource,
    /// What it must be for.
    pub platform: Platform,
    /// Bytes that are unpacked of it at most.
    pub max_unpacked_size: u64,
    /// Which engine runs it.
    pub engine: EngineChoice,
    /// Bytes of unpacked layers that are left for the next time.
    pub cache_size: u64,
    /// Pull it when the daemon hasn't got it.
    pub pull: bool,
    /// How registries are spoken to.
    pub registries: RegistryFlags,
    /// Also an image that we made.
    pub force: bool,
    /// How the container is run.
    pub run: RunOptions,
    /// How it is watched.
    pub sensor: Sensor,
    /// How it is exercised.
    pub probes: ProbeFlags,
    /// What is kept besides what was seen.
    pub keep: KeepFlags,
    /// How the result is checked.
    pub verification: VerificationFlags,
    /// The plan that says what is kept, in place of what is seen.
    pub plan: Option<PathBuf>,
    /// What is written.
    pub output: OutputFlags,
}

/// How registries are spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryFlags {
    /// With these, rather than what `docker login` stored.
    pub credentials: Option<Credentials>,
    /// Hosts without TLS.
    pub insecure: Vec<String>,
}

/// An account at a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its name.
    pub account: String,
    /// Its password or token.
    pub secret: Secret,
}

/// When HTTP is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpProbe {
    /// When a port answers HTTP.
    #[default]
    Auto,
    /// Always: no answer is an error.
    On,
    /// Never.
    Off,
}

/// How the container is exercised. Requests and commands are as they were typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeFlags {
    /// When HTTP is probed.
    pub http: HttpProbe,
    /// Ports in this order; empty: found out.
    pub ports: Vec<u16>,
    /// `[crawl:][PROTO:][METHOD:]/PATH` each.
    pub commands: Vec<String>,
    /// A JSON file of requests.
    pub command_file: Option<PathBuf>,
    /// For one answer.
    pub timeout: Duration,
    /// How often a refused connection is tried again.
    pub retry_count: u32,
    /// Before each new try.
    pub retry_wait: Duration,
    /// How the default request is followed up.
    pub crawl: CrawlFlags,
    /// Commands in the container, in this order.
    pub exec: Vec<String>,
    /// A file for the container's shell.
    pub exec_file: Option<PathBuf>,
    /// What is waited for.
    pub continue_after: ContinueAfter,
    /// For readiness.
    pub start_timeout: Duration,
    /// For each command.
    pub exec_timeout: Duration,
    /// Print the log of the container, also when all is well.
    pub show_log: bool,
}

/// How links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrawlFlags {
    /// From the default request; a request that says `crawl:` always does.
    pub default_request: bool,
    /// Links deep.
    pub max_depth: u32,
    /// Pages in all.
    pub max_page_count: u32,
    /// Pages at a time.
    pub concurrency: u32,
    /// In all.
    pub timeout: Duration,
    /// Paths that are not followed.
    pub exclude: Vec<String>,
}

/// What is kept besides what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepFlags {
    /// Absolute paths and globs.
    pub paths: Vec<String>,
    /// Absolute paths of ELF files, kept with their libraries.
    pub binaries: Vec<String>,
    /// Programs on the image's PATH, kept with their libraries.
    pub executables: Vec<String>,
    /// A shell with basic tools.
    pub shell: bool,
    /// Certificates of authorities.
    pub certificates: bool,
    /// Time zones.
    pub zoneinfo: bool,
    /// All in the working directory.
    pub working_directory: bool,
    /// Globs of what is left out.
    pub exclude: Vec<String>,
    /// Other permissions.
    pub permissions: Vec<PathPermissions>,
    /// How much is kept of what was only looked at.
    pub looked_at: KeepLookedAt,
}

impl BuildRequest {
    /// Makes sense of what was typed.
    ///
    /// # Errors
    /// The first flag that can't be used.
    pub fn new(args: BuildArgs, outside: &dyn Outside) -> Result<BuildRequest, UsageError> {
        let TargetArgs { image, target, pull, registry, force, platform, max_unpacked_size, cache, plan } = args.target;
        // clap has seen to it that there is exactly one.
        let (option, name) = match (target, image) {
            (Some(target), _) => ("--target", target),
            (None, image) => ("IMAGE", image.unwrap_or_default()),
        };
        let keep = keep_flags(args.keep, outside)?;
        if plan.is_some() {
            nothing_but_the_plan(&keep)?;
        }
        let source = ImageSource::parse(&name).map_err(|error| wrong(option, &name, error))?;
        let output = output_flags(args.output)?;
        must_go_somewhere(option, &source, &output)?;
        Ok(BuildRequest {
            image: source,
            platform: match platform {
                Some(text) => Platform::parse(&text).map_err(|error| wrong("--platform", &text, error))?,
                None => Platform::of_host(),
            },
            max_unpacked_size: parse_size(&max_unpacked_size)
                .map(i64::unsigned_abs)
                .map_err(|error| wrong("--max-unpacked-size", &max_unpacked_size, error))?,
            engine: args.engine.engine,
            cache_size: cache.cache_size,
            pull: pull.unwrap_or(true),
            registries: registry_flags(registry)?,
            force: force.unwrap_or(false),
            sensor: args.container.sensor,
            run: run_options(args.container, outside)?,
            probes: probe_flags(args.probes)?,
            keep,
            verification: verification_flags(&args.verification, plan.is_some()),
            plan,
            output,
        })
    }
}

/// Nobody but the user says where the result of a registry's image goes.
fn must_go_somewhere(option: &'static str, source: &ImageSource, output: &OutputFlags) -> Result<(), UsageError> {
    if !matches!(source, ImageSource::Registry(_)) || !output.tags.is_empty() || !output.outputs.is_empty() {
        return Ok(());
    }
    let reason = "say where the result goes: `--output oci-archive:FILE`, `--output docker://NAME` (see `--help`), or `--tag NAME` \
        for the daemon";
    Err(wrong(option, &source.to_string(), reason))
}

pub(super) fn registry_flags(args: RegistryArgs) -> Result<RegistryFlags, UsageError> {
    let RegistryArgs { registry_account, registry_secret, insecure_registry } = args;
    let host = |text: &String| place::parse_host(text).map_err(|error| wrong("--insecure-registry", text, error));
    Ok(RegistryFlags {
        credentials: registry_account.zip(registry_secret).map(|(account, secret)| Credentials { account, secret }),
        insecure: insecure_registry.iter().map(host).collect::<Result<_, _>>()?,
    })
}

pub(super) fn wrong(option: &'static str, value: &str, reason: impl Display) -> UsageError {
    UsageError { option, value: value.to_owned(), reason: reason.to_string() }
}

fn unreadable(option: &'static str, path: &str, error: &io::Error) -> UsageError {
    wrong(option, path, format!("can't be read: {error}"))
}

/// Parses values of one option after the other, and notes them as they were given.
#[derive(Default)]
struct Given {
    described: Vec<String>,
}

impl Given {
    fn one<T, E: Display>(
        &mut self,
        option: &'static str,
        value: Option<&str>,
        mut parse: impl FnMut(&str) -> Result<T, E>,
    ) -> Result<Option<T>, UsageError> {
        value.map(|value| self.take(option, value, &mut parse)).transpose()
    }

    fn list<T, E: Display>(
        &mut self,
        option: &'static str,
        values: &[String],
        mut parse: impl FnMut(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, UsageError> {
        values.iter().map(|value| self.take(option, value, &mut parse)).collect()
    }

    fn take<T, E: Display>(
        &mut self,
        option: &'static str,
        value: &str,
        parse: &mut impl FnMut(&str) -> Result<T, E>,
    ) -> Result<T, UsageError> {
        let parsed = parse(value).map_err(|error| wrong(option, value, error))?;
        self.described.push(format!("{option} {value}"));
        Ok(parsed)
    }

    fn switch(&mut self, option: &'static str, value: Option<bool>) -> Option<bool> {
        if let Some(value) = value {
            self.described.push(format!("{option}={value}"));
        }
        value
    }
}

pub(super) fn run_options(args: ContainerArgs, outside: &dyn Outside) -> Result<RunOptions, UsageError> {
    let lookup = |name: &str| outside.variable(name);
    let mut given = Given::default();
    let mut environment = Vec::new();
    for path in &args.env_file {
        let bytes = outside.read(path).map_err(|error| unreadable("--env-file", path, &error))?;
        environment.extend(parse_environment_file(&bytes, &lookup).map_err(|error| wrong("--env-file", path, error))?);
    }
    for Secret(text) in &args.env {
        let name = text.split('=').next().unwrap_or_default();
        environment.push(parse_variable(text, &lookup).map_err(|error| wrong("--env", name, error))?);
    }
    given.described.extend(environment.iter().map(|variable| format!("--env {}", variable.name)));

    let mut mounts = given.list("--volume", &args.volume, parse_volume)?;
    mounts.extend(given.list("--mount", &args.mount, parse_mount)?);
    let mut capabilities = CapabilityOptions::default();
    given.list("--cap-add", &args.cap_add, |word| capabilities.add(word))?;
    given.list("--cap-drop", &args.cap_drop, |word| capabilities.drop(word))?;
    let mut security = SecurityOptions::default();
    given.list("--security-opt", &args.security_opt, |word| security.add(word, &|path| outside.read(path)))?;

    if args.sensor != Sensor::default() {
        given.described.push(format!("--sensor {}", args.sensor.word()));
    }
    Ok(RunOptions {
        environment,
        user: given.one("--user", args.user.as_deref(), not_empty)?,
        entrypoint: given.one("--entrypoint", args.entrypoint.as_deref(), parse_command_line)?,
        command: given.one("--cmd", args.cmd.as_deref(), parse_command_line)?,
        working_directory: given.one("--workdir", args.workdir.as_deref(), absolute)?,
        mounts,
        tmpfs: given.list("--tmpfs", &args.tmpfs, parse_tmpfs)?,
        network: given.one("--network", args.network.as_deref(), parse_network)?,
        hostname: given.one("--hostname", args.hostname.as_deref(), not_empty)?,
        extra_hosts: given.list("--add-host", &args.add_host, parse_extra_host)?,
        dns: given.list("--dns", &args.dns, |text| parse_address(text).map(|address| address.to_string()))?,
        exposed_ports: given.list("--expose", &args.expose, parse_exposed)?.concat(),
        published_ports: given.list("--publish-port", &args.publish_port, parse_published)?.concat(),
        shm_size: given.one("--shm-size", args.shm_size.as_deref(), parse_size)?,
        ulimits: given.list("--ulimit", &args.ulimit, parse_ulimit)?,
        capabilities,
        security,
        read_only: given.switch("--read-only", args.read_only).unwrap_or(false),
        init: given.switch("--init", args.init),
        tty: given.switch("--tty", args.tty).unwrap_or(false),
        labels: given.list("--label", &args.label, parse_label)?.into_iter().collect(),
        runtime: given.one("--runtime", args.runtime.as_deref(), not_empty)?,
        described: given.described,
    })
}

fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

fn absolute(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("the path in the container must be absolute") }
}

pub(super) fn probe_flags(args: ProbeArgs) -> Result<ProbeFlags, UsageError> {
    let http = match (args.http_probe, args.http_probe_off) {
        (_, Some(true)) | (Some(false), _) => HttpProbe::Off,
        (Some(true), _) => HttpProbe::On,
        (None, _) => HttpProbe::Auto,
    };
    let continue_after =
        parse_continue_after(&args.continue_after).map_err(|error| wrong("--continue-after", &args.continue_after, error))?;
    Ok(ProbeFlags {
        http,
        ports: args.http_probe_ports,
        commands: args.http_probe_cmd,
        command_file: args.http_probe_cmd_file,
        timeout: args.http_probe_timeout,
        retry_count: args.http_probe_retry_count,
        retry_wait: args.http_probe_retry_wait,
        crawl: CrawlFlags {
            default_request: args.http_probe_crawl.unwrap_or(true),
            max_depth: args.http_crawl_max_depth,
            max_page_count: args.http_crawl_max_page_count,
            concurrency: args.http_crawl_concurrency,
            timeout: args.http_crawl_timeout,
            exclude: args.http_crawl_exclude,
        },
        exec: args.exec,
        exec_file: args.exec_file,
        continue_after,
        start_timeout: args.start_timeout,
        exec_timeout: args.exec_timeout,
        show_log: args.show_clogs.unwrap_or(false),
    })
}

fn keep_flags(args: KeepArgs, outside: &dyn Outside) -> Result<KeepFlags, UsageError> {
    let mut paths = Vec::new();
    let mut permissions = Vec::new();
    let mut include = |text: &str| {
        let (path, special) = split_permissions(text);
        permissions.extend(special);
        absolute(path).map(|path| paths.push(path))
    };
    for text in &args.include_path {
        include(text).map_err(|error| wrong("--include-path", text, error))?;
    }
    for file in &args.include_path_file {
        let bytes = outside.read(file).map_err(|error| unreadable("--include-path-file", file, &error))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("--include-path-file", file, "it is not UTF-8"))?;
        for line in path_lines(&text) {
            include(line).map_err(|error| wrong("--include-path-file", file, format!("`{line}`: {error}")))?;
        }
    }
    for text in &args.path_perms {
        let form = "permissions are written `PATH:MODE[#UID[#GID]]`, such as `/srv/data:0750#1000#1000`";
        permissions.push(split_permissions(text).1.ok_or_else(|| wrong("--path-perms", text, form))?);
    }
    let checked = |option, values: Vec<String>, check: fn(&str) -> Result<String, &'static str>| {
        values.iter().map(|value| check(value).map_err(|error| wrong(option, value, error))).collect::<Result<_, _>>()
    };
    Ok(KeepFlags {
        paths,
        binaries: checked("--include-bin", args.include_bin, absolute)?,
        executables: checked("--include-exe", args.include_exe, not_empty)?,
        shell: args.include_shell.unwrap_or(false),
        certificates: args.include_cert_all.unwrap_or(true),
        zoneinfo: args.include_zoneinfo.unwrap_or(false),
        working_directory: args.include_workdir.unwrap_or(false),
        exclude: checked("--exclude-pattern", args.exclude_pattern, not_empty)?,
        permissions,
        looked_at: args.keep_looked_at,
    })
}

/// The paths of an `--include-path-file`: a line each; blank lines and those that begin with `#` are skipped.
fn path_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `PATH:MODE[#UID[#GID]]`; what doesn't end so is a path with a colon in it.
fn split_permissions(text: &str) -> (&str, Option<PathPermissions>) {
    let parse = || {
        let (path, rest) = text.rsplit_once(':')?;
        let mut parts = rest.split('#');
        let mode = parts.next().filter(|mode| (3..=5).contains(&mode.len()))?;
        let mode = mode.bytes().all(|byte| matches!(byte, b'0'..=b'7')).then(|| u16::from_str_radix(mode, 8).ok())??;
        let number = |part: Option<&str>| part.map(str::parse::<u32>).transpose().ok();
        let (uid, gid) = (number(parts.next())?, number(parts.next())?);
        let good = path.starts_with('/') && mode <= 0o7777 && parts.next().is_none();
        good.then(|| (path, PathPermissions { path: path.as_bytes().to_vec(), mode, uid, gid }))
    };
    parse().map_or((text, None), |(path, permissions)| (path, Some(permissions)))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
