//! How a step's error becomes an exit code and a message.

use crate::engine::daemon_image::SourceError;
use crate::engine::embedded::{EmbeddedError, RunnerError};
use crate::engine::error::EngineError;
use crate::engine::inject::ProgramError;
use crate::exit::Exit;
use crate::image::local::LocalError;
use crate::image::store::StoreError;
use crate::observe::run::ObserveError;
use crate::observe::target::TargetError;
use crate::pack::load::LoadError;
use crate::pack::push::PushError;
use crate::plan::PlanError;

/// Why the program ends without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// For the user.
    pub message: String,
}

impl Failure {
    /// A fault of the command line, or of a file that it names.
    #[must_use]
    pub fn usage(message: String) -> Failure {
        Failure { exit: Exit::Usage, message }
    }

    /// A fault of ours.
    #[must_use]
    pub fn internal(message: String) -> Failure {
        Failure { exit: Exit::Internal, message }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let exit = match error {
            EngineError::NoImage { .. } | EngineError::Pull { .. } => Exit::Image,
            _ => Exit::Engine,
        };
        Failure { exit, message: error.to_string() }
    }
}

impl From<EmbeddedError> for Failure {
    fn from(error: EmbeddedError) -> Failure {
        let exit = match error {
            EmbeddedError::Runner(error) => return error.into(),
            EmbeddedError::Image(error) => return error.into(),
            EmbeddedError::Option { .. } | EmbeddedError::NamedVolume(_) => Exit::Usage,
            EmbeddedError::User(_) => Exit::Target,
            EmbeddedError::InDaemon(_) => Exit::Image,
            EmbeddedError::Workspace(_) => Exit::Engine,
            EmbeddedError::Task(_) => Exit::Internal,
        };
        Failure { exit, message: error.to_string() }
    }
}

impl From<RunnerError> for Failure {
    fn from(error: RunnerError) -> Failure {
        let exit = match error {
            RunnerError::Start(_) => Exit::Target,
            _ => Exit::Engine,
        };
        Failure { exit, message: error.to_string() }
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Failure {
        let exit = match error {
            ProgramError::Architecture { .. } => Exit::Image,
            ProgramError::NotStatic | ProgramError::Prepare { .. } => Exit::Internal,
        };
        Failure { exit, message: error.to_string() }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Failure {
        match error {
            SourceError::Engine(error) => error.into(),
            other => Failure { exit: Exit::Engine, message: other.to_string() },
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let exit = match error {
            StoreError::Io { .. } | StoreError::NoHome => Exit::Engine,
            _ => Exit::Image,
        };
        Failure { exit, message: error.to_string() }
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Failure {
        let exit = match error {
            LocalError::Store(error) => return error.into(),
            LocalError::Daemon => Exit::Internal,
            _ => Exit::Image,
        };
        Failure { exit, message: error.to_string() }
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Failure {
        Failure { exit: Exit::Image, message: error.to_string() }
    }
}

impl From<ObserveError> for Failure {
    fn from(error: ObserveError) -> Failure {
        if let ObserveError::Target(TargetError::Embedded(error)) = error {
            return error.into();
        }
        let exit = match &error {
            ObserveError::Target(
                TargetError::Engine(_) | TargetError::Monitor(_) | TargetError::Blind(_) | TargetError::NoFanotify { .. },
            ) => Exit::Engine,
            ObserveError::Target(TargetError::NoCommand) => Exit::Usage,
            ObserveError::Target(_) | ObserveError::Died { .. } => Exit::Target,
            ObserveError::NotReady { .. }
            | ObserveError::NoAnswer { .. }
            | ObserveError::OnlyErrors { .. }
            | ObserveError::Unhealthy { .. }
            | ObserveError::Command { .. } => Exit::Probes,
            ObserveError::Incomplete(_) => Exit::Evidence,
        };
        Failure { exit, message: error.to_string() }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        let exit = match error {
            LoadError::Aborted(_) | LoadError::Pack(_) => Exit::Internal,
            LoadError::Read(_) | LoadError::Engine(_) | LoadError::NoSpace { .. } => Exit::Engine,
        };
        Failure { exit, message: error.to_string() }
    }
}
