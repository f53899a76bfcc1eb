//! What can be typed: the verbs and their flags.
//!
//! Names and meanings are those of docker-slim where it has the flag, and those of `docker run` for the options of the
//! observed container, so that a known command line goes on working. A flag that is given twice counts as given last,
//! unless it is a list. The doc comments are the help.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::cache::{CacheArgs, CacheSizeArgs};
use super::engines::EngineChoice;
use super::words::{parse_bytes, parse_duration};
use crate::observe::sensor::Sensor;
use crate::pack::compression::Compression;
use crate::plan::KeepLookedAt;
use crate::verify::Level;

/// Columns of the help where the terminal has more.
const HELP_WIDTH: usize = 100;

/// Flags of verbs that stand alone or take `=true` or `=false`, as Docker's and docker-slim's do.
const SWITCHES: [&str; 15] = [
    "pull",
    "force",
    "read_only",
    "init",
    "tty",
    "http_probe",
    "http_probe_off",
    "http_probe_crawl",
    "show_clogs",
    "include_shell",
    "include_cert_all",
    "include_zoneinfo",
    "include_workdir",
    "keep_unverified",
    "check_reproducible",
];

/// Container images with only what the application was seen to need.
#[derive(Debug, Parser)]
#[command(name = "slim", version, propagate_version = true, max_term_width = HELP_WIDTH)]
pub struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub general: GeneralArgs,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// Reads a command line, the program's name first. Use this and not clap's `parse`: it knows the switches.
    ///
    /// # Errors
    /// What is wrong, or the help that was asked for; `exit()` on it does the right thing for both.
    pub fn read<I, T>(words: I) -> Result<Cli, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches = Cli::complete_command().try_get_matches_from(words)?;
        Cli::from_arg_matches(&matches)
    }

    /// The command with its switches, for parsing, help and completions.
    #[must_use]
    pub fn complete_command() -> clap::Command {
        let switch = |arg: clap::Arg| {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL").hide_possible_values(true)
        };
        let mut command = Cli::command();
        for verb in ["build", "verify", "run"] {
            command = command.mut_subcommand(verb, |verb| {
                let names: Vec<String> = verb.get_arguments().map(|argument| argument.get_id().to_string()).collect();
                let switches = names.into_iter().filter(|name| SWITCHES.contains(&name.as_str()));
                switches.fold(verb, |verb, name| verb.mut_arg(name, switch))
            });
        }
        command
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a slim image: run the image, watch what it uses while it is probed, pack that
    #[command(visible_alias = "b", args_override_self = true)]
    Build(Box<BuildArgs>),
    /// Compare an image with its original: run both the same way, probe both, say what differs
    #[command(args_override_self = true)]
    Verify(Box<VerifyArgs>),
    /// Run an image that no daemon has, in a container of slim's own
    #[command(args_override_self = true)]
    Run(Box<RunArgs>),
    /// See what unpacked layers are kept for the next time, or remove them
    #[command(args_override_self = true)]
    Cache(CacheArgs),
    /// Find out what this machine lets slim do
    Doctor,
}

/// Flags of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "General")]
pub struct GeneralArgs {
    /// Say nothing but warnings and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// How the result is told on standard output
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub output_format: OutputFormat,
    /// The Docker daemon, such as `unix:///run/docker.sock` or `tcp://127.0.0.1:2375` [default: DOCKER_HOST, else that of the docker context, else the default socket]
    #[arg(long, global = true)]
    pub host: Option<String>,
}

/// Which engine runs the images.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// What runs the images: the Docker daemon (`docker`), slim itself (`embedded`), or the daemon for its own images and slim for all others (`auto`)
    #[arg(long, value_name = "ENGINE", default_value = "auto", hide_possible_values = true, help_heading = "General")]
    pub engine: EngineChoice,
}

/// See [`GeneralArgs::output_format`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[value(help = None)]
    Text,
    /// One JSON object.
    #[value(help = None)]
    Json,
}

/// The flags of `slim build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Which image.
    #[command(flatten)]
    pub target: TargetArgs,
    /// What runs it.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// How it is run.
    #[command(flatten)]
    pub container: ContainerArgs,
    /// How it is exercised.
    #[command(flatten)]
    pub probes: ProbeArgs,
    /// What is kept besides what was seen.
    #[command(flatten)]
    pub keep: KeepArgs,
    /// How the result is checked.
    #[command(flatten)]
    pub verification: VerificationArgs,
    /// What is written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The flags of `slim run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The image: `docker://NAME`, `docker-archive:FILE[:NAME]`, `oci:DIRECTORY[:TAG]`, `oci-archive:FILE[:TAG]` or `rootfs:DIRECTORY`
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// What to run in place of the image's command
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Which of several images, `OS/ARCHITECTURE[/VARIANT]` [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Unpack at most so much of an image
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "100g")]
    pub max_unpacked_size: u64,
    /// How its registry is spoken to.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// What is kept of the unpacked layers.
    #[command(flatten)]
    pub cache: CacheSizeArgs,
    /// How it is run.
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// The flags of `slim verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The image to be checked, whoever made it: a name, an id, or an image elsewhere, such as `docker-archive:FILE` or `docker://NAME`
    #[arg(value_name = "SLIM")]
    pub image: String,
    /// The original: an image, or the file of an observation of it (see `slim build --observation-out`)
    #[arg(long, value_name = "FAT|OBSERVATION", help_heading = "Verification")]
    pub against: String,
    /// Also make the probes of this JSON file, in the format of `--http-probe-cmd-file` with a list `exec` of commands
    #[arg(long, value_name = "FILE", help_heading = "Verification")]
    pub probe_script: Option<PathBuf>,
    /// How much must be the same: `strict`, all; `run`, it runs and answers are of the same class
    #[arg(long, value_name = "LEVEL", default_value = "strict", hide_possible_values = true, help_heading = "Verification")]
    pub verify: Level,
    /// Where the report goes
    #[arg(long, value_name = "FILE", help_heading = "Verification")]
    pub report: Option<PathBuf>,
    /// Unpack at most so much of an image that no daemon has
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "100g")]
    pub max_unpacked_size: u64,
    /// How registries are spoken to.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// What runs both.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// How both are run.
    #[command(flatten)]
    pub container: ContainerArgs,
    /// How both are exercised.
    #[command(flatten)]
    pub probes: ProbeArgs,
}

/// Which image.
#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
pub struct TargetArgs {
    /// The image: a name, an id, `docker-daemon:NAME`, `docker://NAME`, `docker-archive:PATH[:REF]`, `oci:DIR[:TAG]`, `oci-archive:PATH[:TAG]` or `rootfs:DIR`
    #[arg(required_unless_present = "target", help_heading = None)]
    pub image: Option<String>,
    /// The image, as docker-slim spells it
    #[arg(long, value_name = "IMAGE", conflicts_with = "image")]
    pub target: Option<String>,
    /// Pull the image when the daemon doesn't have it [default: true]
    #[arg(long)]
    pub pull: Option<bool>,
    /// How its registry is spoken to.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Take also an image that `slim` has made
    #[arg(long)]
    pub force: Option<bool>,
    /// What the image must be for, such as `linux/arm64`; of several in a layout or a registry, which [default: this machine]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Unpack at most so much of an image that comes from a file or a registry
    #[arg(long, value_name = "SIZE", default_value = "100g")]
    pub max_unpacked_size: String,
    /// What is kept of the unpacked layers.
    #[command(flatten)]
    pub cache: CacheSizeArgs,
    /// Keep what this plan says (see `--write-plan`), without running anything
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
}

/// How registries are spoken to.
#[derive(Debug, Default, Args)]
pub struct RegistryArgs {
    /// Account in the image's registry; without one: what `docker login` stored
    #[arg(long, value_name = "NAME", env = "SLIM_REGISTRY_ACCOUNT", hide_env_values = true, requires = "registry_secret")]
    pub registry_account: Option<String>,
    /// Password or token of that account; better in the environment than on the command line
    #[arg(long, value_name = "SECRET", env = "SLIM_REGISTRY_SECRET", hide_env_values = true, requires = "registry_account")]
    pub registry_secret: Option<Secret>,
    /// Speak plain HTTP to a registry that knows no TLS: everybody on the way can read along, passwords too
    #[arg(long, value_name = "HOST")]
    pub insecure_registry: Vec<String>,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How the observed container is run; the configuration of the image isn't changed by it.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Container (how the image is run while it is watched, as in `docker run`)")]
pub struct ContainerArgs {
    /// Set a variable; `NAME` alone takes its value from here
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<Secret>,
    /// Set the variables of a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Run as this user
    #[arg(long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Another entrypoint: words as in a shell, or a JSON array; a blank clears it
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub entrypoint: Option<String>,
    /// Another command: words as in a shell, or a JSON array; a blank clears it
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub cmd: Option<String>,
    /// Another working directory
    #[arg(long, value_name = "PATH")]
    pub workdir: Option<String>,
    /// Mount a host path or a volume
    #[arg(long, value_name = "[SOURCE:]PATH[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Mount as `type=bind,source=...,target=...` or `SOURCE:PATH[:ro]`
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// `bridge`, `host`, `none`, `container:NAME`, or a network's name
    #[arg(long)]
    pub network: Option<String>,
    /// Host name of the container
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Add a host to `/etc/hosts`
    #[arg(long, value_name = "NAME:IP", alias = "etc-hosts-map")]
    pub add_host: Vec<String>,
    /// Ask this name server
    #[arg(long, value_name = "IP", alias = "container-dns")]
    pub dns: Vec<String>,
    /// Expose a port that the image doesn't
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub expose: Vec<String>,
    /// Publish a port on this host
    #[arg(long, value_name = "[[IP:]HOST:]PORT")]
    pub publish_port: Vec<String>,
    /// Size of `/dev/shm`, such as `64m`
    #[arg(long, value_name = "SIZE", alias = "cro-shm-size")]
    pub shm_size: Option<String>,
    /// Set a resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Set a security option, such as `seccomp=FILE`
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Mount the root read-only
    #[arg(long)]
    pub read_only: Option<bool>,
    /// Run the engine's init as PID 1
    #[arg(long)]
    pub init: Option<bool>,
    /// Give the program a terminal
    #[arg(long)]
    pub tty: Option<bool>,
    /// Label the container
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// OCI runtime
    #[arg(long, value_name = "NAME", alias = "cro-runtime")]
    pub runtime: Option<String>,
    /// Watch the system calls (`notify`), what the kernel opens (`fanotify`: too little, for comparison), both (`full`), or both where
    /// that is possible (`auto`); nothing is missed only with both
    #[arg(long, value_name = "SENSES", default_value = "auto")]
    pub sensor: Sensor,
}

/// How the container is exercised.
#[derive(Debug, Args)]
#[command(next_help_heading = "Probes (durations: `60`, `60s`, `1500ms`, `2m`)")]
pub struct ProbeArgs {
    /// Probe over HTTP: `true` demands an answer, `false` is never [default: when a port answers HTTP]
    #[arg(long)]
    pub http_probe: Option<bool>,
    /// The same as `--http-probe=false`
    #[arg(long, conflicts_with = "http_probe")]
    pub http_probe_off: Option<bool>,
    /// Probe these ports of the container, in this order [default: exposed ones, and those listened on]
    #[arg(long, value_name = "PORT,...", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub http_probe_ports: Vec<u16>,
    /// Make this request [default: `/`, crawling]
    #[arg(long, value_name = "[crawl:][PROTO:][METHOD:]/PATH")]
    pub http_probe_cmd: Vec<String>,
    /// Make the requests of a JSON file
    #[arg(long, value_name = "FILE")]
    pub http_probe_cmd_file: Option<PathBuf>,
    /// Wait this long for one answer
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub http_probe_timeout: Duration,
    /// Try a refused connection this often again
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    pub http_probe_retry_count: u32,
    /// Wait this long before each new try
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1s")]
    pub http_probe_retry_wait: Duration,
    /// Crawl from the default request [default: true]
    #[arg(long)]
    pub http_probe_crawl: Option<bool>,
    /// Follow links this deep
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    pub http_crawl_max_depth: u32,
    /// Get at most this many pages
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub http_crawl_max_page_count: u32,
    /// Get this many pages at a time
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub http_crawl_concurrency: u32,
    /// Stop crawling after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "60s")]
    pub http_crawl_timeout: Duration,
    /// Don't follow links to such paths
    #[arg(long, value_name = "PATTERN", default_values = ["/logout", "/delete"])]
    pub http_crawl_exclude: Vec<String>,
    /// Run a command in the container
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub exec: Vec<String>,
    /// Run a file with the container's shell
    #[arg(long, value_name = "FILE")]
    pub exec_file: Option<PathBuf>,
    /// What to wait for before the container is stopped: `probe`, `exec`, `timeout:N`, `N` (seconds), `app-exit`, joined by `&`
    #[arg(long, value_name = "WHAT", default_value = "probe")]
    pub continue_after: String,
    /// Wait this long for the program to be ready
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "60s")]
    pub start_timeout: Duration,
    /// Give each command of `--exec` this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10m")]
    pub exec_timeout: Duration,
    /// Print the log of the container
    #[arg(long)]
    pub show_clogs: Option<bool>,
}

/// What is kept besides what was seen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keep")]
pub struct KeepArgs {
    /// Keep a file, a folder with all in it, or what a glob matches
    #[arg(long, value_name = "PATH[:MODE#UID#GID]")]
    pub include_path: Vec<String>,
    /// Keep the paths of a file, one a line
    #[arg(long, value_name = "FILE")]
    pub include_path_file: Vec<String>,
    /// Keep a program or library with the libraries it needs
    #[arg(long, value_name = "PATH")]
    pub include_bin: Vec<String>,
    /// The same for a program on the image's PATH
    #[arg(long, value_name = "NAME")]
    pub include_exe: Vec<String>,
    /// Keep a shell with basic tools
    #[arg(long)]
    pub include_shell: Option<bool>,
    /// Keep the certificates of authorities, without private keys [default: true]
    #[arg(long)]
    pub include_cert_all: Option<bool>,
    /// Keep the time zones
    #[arg(long)]
    pub include_zoneinfo: Option<bool>,
    /// Keep all in the working directory
    #[arg(long)]
    pub include_workdir: Option<bool>,
    /// Leave out what matches, though it was seen
    #[arg(long, value_name = "GLOB")]
    pub exclude_pattern: Vec<String>,
    /// Give a kept path other permissions
    #[arg(long, value_name = "PATH:MODE[#UID[#GID]]")]
    pub path_perms: Vec<String>,
    /// How much is kept of what the program only looked at, but never opened
    #[arg(long, value_name = "WHAT", default_value = "checked")]
    pub keep_looked_at: KeepLookedAt,
}

/// How the result is checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Verification (the slim image is run and probed as the original was, and repaired)")]
pub struct VerificationArgs {
    /// How much of it must be as in the original: `strict`, all; `run`, it runs and answers are of the same class; `off`, it is not run [default: strict, with `--plan` off]
    #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
    pub verify: Option<Level>,
    /// Repair and try again this often at most
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub repair_rounds: u32,
    /// Tag also what could not be verified, with the label `unverified`; the exit code says it all the same
    #[arg(long)]
    pub keep_unverified: Option<bool>,
    /// Watch the original this often, and keep what any of the runs used
    #[arg(long, value_name = "COUNT", default_value_t = 1, conflicts_with = "plan", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Pack twice, and fail where the images differ
    #[arg(long)]
    pub check_reproducible: Option<bool>,
}

/// What is written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Name of the result; can be given again [default: NAME.slim:TAG]
    #[arg(long, value_name = "NAME[:TAG]")]
    pub tag: Vec<String>,
    /// Where the result goes: `docker-daemon:[NAME]`, `docker-archive:FILE[:NAME]`, `oci-archive:FILE[:TAG]`,
    /// `oci:DIRECTORY[:TAG]` or `docker://NAME[:TAG]`, a registry; can be given again [default: the daemon]
    #[arg(long, value_name = "TRANSPORT:...")]
    pub output: Vec<String>,
    /// How the layer is compressed in files: `gzip`, `zstd` (not for Docker before version 23) or `none`
    #[arg(long, value_name = "HOW[:LEVEL]", default_value = "gzip")]
    pub compression: Compression,
    /// Where the report goes, or `off`
    #[arg(long, value_name = "FILE", default_value = "slim.report.json")]
    pub report: PathBuf,
    /// Write what was seen to a file
    #[arg(long, value_name = "FILE")]
    pub observation_out: Option<PathBuf>,
    /// Write what is kept, and why, to a file
    #[arg(long, value_name = "FILE")]
    pub write_plan: Option<PathBuf>,
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
