//! From what was asked for to what the steps take: the last translation, where the crates' own languages are parsed.

use slim_probes::{CrawlOptions, ExecCommand, HttpCommand, HttpOptions, read_command_file};

use super::failure::Failure;
use super::request::{self, KeepFlags, ProbeFlags, RegistryFlags};
use crate::engine::options::RunOptions;
use crate::engine::options::environment::Variable;
use crate::image::config::{ImageConfig, RunConfig};
use crate::image::location::ImageSource;
use crate::image::output::Output;
use crate::image::reference::ImageName;
use crate::image::transport::registry::Access;
use crate::image::transport::registry::Credentials;
use crate::image::transport::registry::place::Place;
use crate::observe::run::{HttpProbe, Probes};
use crate::plan::{ConfigView, Extras, KeepLookedAt};

/// The probes, their languages parsed and their files read.
///
/// # Errors
/// A usage failure that names the option.
pub fn probes(flags: &ProbeFlags) -> Result<Probes, Failure> {
    let wrong = |option: &str, error: &dyn std::fmt::Display| Failure::usage(format!("`{option}`: {error}"));
    let mut requests = vec![];
    for text in &flags.commands {
        requests.push(HttpCommand::parse(text).map_err(|error| wrong("--http-probe-cmd", &error))?);
    }
    if let Some(path) = &flags.command_file {
        requests.extend(read_command_file(path).map_err(|error| wrong("--http-probe-cmd-file", &error))?);
    }
    if requests.is_empty() && !flags.crawl.default_request {
        requests.push(HttpCommand::get("/"));
    }
    let mut commands = vec![];
    for text in &flags.exec {
        commands.push(ExecCommand::parse(text).map_err(|error| wrong("--exec", &error))?);
    }
    let script = flags.exec_file.as_ref().map(|path| {
        let content = std::fs::read(path);
        let content = content.map_err(|error| wrong("--exec-file", &format!("`{}` cannot be read: {error}", path.display())));
        content.map(|content| (path.display().to_string(), content))
    });
    Ok(Probes {
        http: match flags.http {
            // Who says what to ask, or whom, asks for it.
            request::HttpProbe::Auto if names_requests(flags) => HttpProbe::On,
            request::HttpProbe::Auto => HttpProbe::Auto,
            request::HttpProbe::On => HttpProbe::On,
            request::HttpProbe::Off => HttpProbe::Off,
        },
        ports: flags.ports.clone(),
        requests,
        http_options: HttpOptions {
            timeout: flags.timeout,
            retry_count: flags.retry_count,
            retry_wait: flags.retry_wait,
            crawl: CrawlOptions {
                max_depth: flags.crawl.max_depth,
                max_page_count: flags.crawl.max_page_count as usize,
                concurrency: flags.crawl.concurrency as usize,
                timeout: flags.crawl.timeout,
                exclude: flags.crawl.exclude.clone(),
            },
        },
        commands,
        script: script.transpose()?,
        continue_after: flags.continue_after,
        start_timeout: flags.start_timeout,
        exec_timeout: flags.exec_timeout,
        keep_log: flags.show_log,
        must_work: true,
        replay: None,
    })
}

/// Adds the probes of a script to those that the flags name.
pub fn add_script(probes: &mut Probes, (requests, commands): (Vec<HttpCommand>, Vec<ExecCommand>)) {
    if !requests.is_empty() {
        if probes.http != HttpProbe::Off {
            probes.http = HttpProbe::On;
        }
        if probes.requests.is_empty() {
            probes.requests.push(HttpCommand::front_page());
        }
    }
    probes.requests.extend(requests);
    probes.commands.extend(commands);
}

fn names_requests(flags: &ProbeFlags) -> bool {
    !flags.commands.is_empty() || flags.command_file.is_some() || !flags.ports.is_empty()
}

/// Credentials for a pull: those that were given, else those that `docker login` stored.
#[must_use]
pub fn credentials(given: Option<&request::Credentials>, image: &ImageName) -> Option<Credentials> {
    if let Some(given) = given {
        return Some(to_engine(given));
    }
    let ImageName::Named(reference) = image else { return None };
    match docker_credential::get_credential(Place::of(reference).account_key()) {
        Ok(docker_credential::DockerCredential::UsernamePassword(account, secret)) => Some(Credentials { account, secret }),
        // None stored, or of a kind that a pull through the daemon cannot use: it is tried anonymously.
        _ => None,
    }
}

fn to_engine(given: &request::Credentials) -> Credentials {
    Credentials { account: given.account.clone(), secret: given.secret.0.clone() }
}

/// How registries may be spoken to. The account that was given is for the registry of the source; where that comes from none,
/// for the first one that the result goes to.
#[must_use]
pub fn access<'o>(flags: &RegistryFlags, source: &ImageSource, outputs: impl IntoIterator<Item = &'o Output>) -> Access {
    let of_source = match source {
        ImageSource::Registry(reference)
        | ImageSource::Named(ImageName::Named(reference))
        | ImageSource::Daemon(ImageName::Named(reference)) => Some(Place::of(reference)),
        _ => None,
    };
    let of_output = |output: &Output| match output {
        Output::Registry(reference) => Some(Place::of(reference)),
        _ => None,
    };
    let place = of_source.or_else(|| outputs.into_iter().find_map(of_output));
    Access {
        account: place.map(|place| place.registry).zip(flags.credentials.as_ref().map(to_engine)),
        insecure: flags.insecure.clone(),
    }
}

/// What the plan sees of an image's configuration.
#[must_use]
pub fn config_view(config: &ImageConfig) -> ConfigView {
    let run = config.config.clone().unwrap_or_default();
    let variables = run.env.unwrap_or_default();
    ConfigView {
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        healthcheck: run.healthcheck.and_then(|check| check.test),
        shell: run.shell.unwrap_or_default(),
        working_dir: run.working_dir.unwrap_or_default().into_bytes(),
        volumes: run.volumes.unwrap_or_default().into_keys().map(String::into_bytes).collect(),
        env: variables
            .iter()
            .filter_map(|variable| variable.split_once('='))
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect(),
    }
}

/// How a directory that is taken for an image runs: it has no configuration, so the run options are that.
#[must_use]
pub fn directory_config(options: &RunOptions) -> RunConfig {
    let set = |variable: &Variable| variable.value.as_ref().map(|value| format!("{}={value}", variable.name));
    let variables: Vec<String> = options.environment.iter().filter_map(set).collect();
    RunConfig {
        user: options.user.clone(),
        env: Some(variables).filter(|variables| !variables.is_empty()),
        entrypoint: options.entrypoint.clone(),
        cmd: options.command.clone(),
        working_dir: options.working_directory.clone(),
        ..RunConfig::default()
    }
}

/// What is kept besides what was seen.
#[must_use]
pub fn extras(keep: &KeepFlags) -> (Extras, KeepLookedAt) {
    let bytes = |texts: &[String]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let extras = Extras {
        include_paths: bytes(&keep.paths),
        include_bins: bytes(&keep.binaries),
        include_exes: bytes(&keep.executables),
        include_shell: keep.shell,
        include_certificates: keep.certificates,
        include_zoneinfo: keep.zoneinfo,
        include_workdir: keep.working_directory,
        exclude_patterns: bytes(&keep.exclude),
        path_permissions: keep.permissions.clone(),
    };
    (extras, keep.looked_at)
}

/// `SOURCE_DATE_EPOCH`, where it is set.
///
/// # Errors
/// A usage failure where it is no number.
pub fn source_date_epoch() -> Result<Option<i64>, Failure> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else { return Ok(None) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| {
        Failure::usage(format!("SOURCE_DATE_EPOCH is `{}`: it must be a number of seconds since 1970", text.display()))
    })
}
