//! What the typed words of `slim verify` mean.

use std::path::PathBuf;

use slim_probes::read_probe_script;

use crate::cli::args::VerifyArgs;
use crate::cli::engines::EngineChoice;
use crate::cli::failure::Failure;
use crate::cli::meaning;
use crate::cli::request::{Outside, UsageError, probe_flags, registry_flags, run_options, wrong};
use crate::engine::options::RunOptions;
use crate::image::location::ImageSource;
use crate::image::transport::registry::Access;
use crate::observe::run::Probes;
use crate::verify::Level;

/// A verification that was asked for.
#[derive(Debug)]
pub struct VerifyRequest {
    /// What is checked.
    pub image: ImageSource,
    /// With what it is compared.
    pub against: Against,
    /// Which engine runs both.
    pub engine: EngineChoice,
    /// How registries may be spoken to.
    pub access: Access,
    /// Bytes that are unpacked of one at most.
    pub max_unpacked_size: u64,
    /// How much must be the same.
    pub level: Level,
    /// How both are run.
    pub run: RunOptions,
    /// How both are exercised, the script included.
    pub probes: Probes,
    /// Where the report goes.
    pub report: Option<PathBuf>,
}

/// The original.
#[derive(Debug)]
pub enum Against {
    /// An image, which is run.
    Image(ImageSource),
    /// What was seen of it.
    Observation(PathBuf),
}

impl VerifyRequest {
    /// Makes sense of what was typed.
    ///
    /// # Errors
    /// The first flag that can't be used.
    pub fn new(args: VerifyArgs, outside: &dyn Outside) -> Result<VerifyRequest, Failure> {
        let usage = |error: UsageError| Failure::usage(error.to_string());
        let name = |option, text: &str| ImageSource::parse(text).map_err(|error| usage(wrong(option, text, error)));
        if args.verify == Level::Off {
            return Err(usage(wrong("--verify", "off", "then there is nothing to do: use `strict` or `run`")));
        }
        let file = PathBuf::from(&args.against);
        let against = if file.is_file() { Against::Observation(file) } else { Against::Image(name("--against", &args.against)?) };
        let mut probes = meaning::probes(&probe_flags(args.probes).map_err(usage)?)?;
        if let Some(path) = &args.probe_script {
            if let Against::Observation(_) = against {
                let reason = "an observation has no answers to new probes: compare with the image, `--against IMAGE`";
                return Err(usage(wrong("--probe-script", &path.display().to_string(), reason)));
            }
            let script = read_probe_script(path).map_err(|error| Failure::usage(format!("`--probe-script`: {error}")))?;
            meaning::add_script(&mut probes, script);
        }
        let image = name("SLIM", &args.image)?;
        let registries = registry_flags(args.registry).map_err(usage)?;
        Ok(VerifyRequest {
            access: meaning::access(&registries, &image, []),
            image,
            against,
            engine: args.engine.engine,
            max_unpacked_size: args.max_unpacked_size,
            level: args.verify,
            run: run_options(args.container, outside).map_err(usage)?,
            probes,
            report: args.report,
        })
    }
}
