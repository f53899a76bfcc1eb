//! What a build writes, and where: the flags of the help's last section.

use std::path::PathBuf;

use super::args::OutputArgs;
use super::request::{UsageError, wrong};
use crate::image::output::{FileOutput, Output};
use crate::image::reference::Reference;
use crate::pack::compression::Compression;

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFlags {
    /// Names of the result; empty: [`crate::image::local::default_tag`].
    pub tags: Vec<Reference>,
    /// Where the result goes; empty: back to where the image came from.
    pub outputs: Vec<Output>,
    /// How the layer is compressed in files.
    pub compression: Compression,
    /// The report; `None`: off.
    pub report: Option<PathBuf>,
    /// The observation.
    pub observation: Option<PathBuf>,
    /// The plan.
    pub plan: Option<PathBuf>,
}

impl OutputFlags {
    /// The result is to be in the daemon.
    #[must_use]
    pub fn is_for_daemon(&self) -> bool {
        self.outputs.iter().any(|output| matches!(output, Output::Daemon(_)))
    }

    /// Files and directories that the result goes to.
    pub fn files(&self) -> impl Iterator<Item = &FileOutput> {
        self.outputs.iter().filter_map(|output| match output {
            Output::File(file) => Some(file),
            Output::Daemon(_) | Output::Registry(_) => None,
        })
    }

    /// Registries that it goes to, by its names there.
    pub fn registries(&self) -> impl Iterator<Item = &Reference> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Registry(name) => Some(name),
            Output::Daemon(_) | Output::File(_) => None,
        })
    }
}

fn outputs(texts: &[String]) -> Result<Vec<Output>, UsageError> {
    let mut outputs: Vec<Output> = vec![];
    for text in texts {
        let output = Output::parse(text).map_err(|error| wrong("--output", text, error))?;
        if outputs.iter().any(|other| output.overwrites(other)) {
            return Err(wrong("--output", text, "another `--output` goes to the same path"));
        }
        outputs.push(output);
    }
    Ok(outputs)
}

/// Makes sense of what was typed.
pub(super) fn output_flags(args: OutputArgs) -> Result<OutputFlags, UsageError> {
    let tag = |text: &String| Reference::parse_tag(text).map_err(|error| wrong("--tag", text, error));
    Ok(OutputFlags {
        tags: args.tag.iter().map(tag).collect::<Result<_, _>>()?,
        outputs: outputs(&args.output)?,
        compression: args.compression,
        report: Some(args.report).filter(|path| path.as_os_str() != "off"),
        observation: args.observation_out,
        plan: args.write_plan,
    })
}
