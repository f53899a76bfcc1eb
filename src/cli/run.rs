//! From the typed words to the exit code, and what is left behind: nothing.
//!
//! A verb runs as a task of its own. Ctrl-C, SIGTERM, a panic, an error or the end: whatever comes first, the task is
//! over then, and everything that it made in the engine is removed before the program ends. A second Ctrl-C ends at once; what
//! remains then is labelled or locked, and the next run removes it.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::args::{Cli, GeneralArgs, OutputFormat, Verb};
use super::build::build;
use super::cache::{Trim, cache};
use super::doctor::examine;
use super::engines::Engines;
use super::failure::Failure;
use super::progress::Progress;
use super::request::{BuildRequest, System};
use super::run_image::{RunRequest, run_image};
use super::style::Level;
use super::told::Told;
use super::verify::{VerifyRequest, verify};
use crate::exit::Exit;

/// How long the clean-up may take where the engine does not answer any more.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command line.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::read(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap: they end the program, but well.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let level = match (cli.general.quiet, cli.general.verbose) {
        (true, _) => Level::Quiet,
        (_, true) => Level::Verbose,
        _ => Level::Normal,
    };
    if level == Level::Verbose {
        trace();
    }
    let progress = Arc::new(Progress::new(level));
    let result = begin(cli, &progress);
    progress.done();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            progress.messages.error(&failure.message);
            failure.exit.into()
        }
    }
}

/// Shows what the steps tell of their work, on standard error.
fn trace() {
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr);
    let lines = lines.without_time().with_target(false).with_ansi(super::style::wants_colour());
    // Fails only where somebody traces already, who then sees it.
    let _ = lines.try_init();
}

/// Does what was asked for; the exit code.
fn begin(cli: Cli, progress: &Arc<Progress>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::internal(format!("cannot start: {error}")))?;
    // The one provider of cryptography; who installed one before us did the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Cli { general, verb } = cli;
    let told = match verb {
        Verb::Build(arguments) => {
            let request = BuildRequest::new(*arguments, &System).map_err(|error| Failure::usage(error.to_string()))?;
            let shown = Arc::clone(progress);
            let trim = Trim::after(&request.image, request.cache_size);
            let work = |engines: Arc<Engines>| async move {
                let summary = build(&engines, request, shown, interrupted()).await?;
                Ok(Told { text: summary.to_string(), json: summary.to_json(), quiet: summary.names(), exit: Exit::Done })
            };
            let told = runtime.block_on(with_engines(&general, progress, work));
            trim.run(&progress.messages);
            told
        }
        Verb::Verify(arguments) => {
            let request = VerifyRequest::new(*arguments, &System)?;
            let shown = Arc::clone(progress);
            let work = |engines: Arc<Engines>| async move { verify(&engines, request, shown, interrupted()).await };
            runtime.block_on(with_engines(&general, progress, work))
        }
        Verb::Run(arguments) => {
            let request = RunRequest::new(*arguments, &System)?;
            let trim = Trim::after(&request.source, request.cache_size);
            let engines = Engines::new(general.host.clone(), own_executable()?, Arc::clone(progress)).unwatched();
            let exit_code = runtime.block_on(async move {
                let exit_code = run_image(&engines, request, progress).await;
                let _ = engines.clean_up().await;
                // The layers that it held can be removed from here on.
                drop(engines);
                exit_code
            });
            trim.run(&progress.messages);
            // Who types nothing is not waited for.
            runtime.shutdown_background();
            return exit_code;
        }
        Verb::Cache(arguments) => cache(&arguments),
        Verb::Doctor => runtime.block_on(examine(general.host.as_deref(), &own_executable()?, interrupted())),
    };
    // A thread that still waits for a dead packer must not hold us.
    runtime.shutdown_timeout(Duration::from_secs(1));
    progress.done();
    tell(&told?, &general).map(Exit::code)
}

/// The result, on standard output.
fn tell(told: &Told, general: &GeneralArgs) -> Result<Exit, Failure> {
    let text = match general.output_format {
        OutputFormat::Json => &told.json,
        OutputFormat::Text if general.quiet => &told.quiet,
        OutputFormat::Text => &told.text,
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Who reads no further has what it wanted.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::internal(format!("the result cannot be written: {error}")))
        }
        _ => Ok(told.exit),
    }
}

/// Does a verb's work as a task of its own, and removes what it leaves in the engines, however it ends.
async fn with_engines<F>(
    general: &GeneralArgs,
    progress: &Arc<Progress>,
    work: impl FnOnce(Arc<Engines>) -> F,
) -> Result<Told, Failure>
where
    F: Future<Output = Result<Told, Failure>> + Send + 'static,
{
    let engines = Arc::new(Engines::new(general.host.clone(), own_executable()?, Arc::clone(progress)));
    let task = tokio::spawn(work(Arc::clone(&engines)));
    let result = task.await.unwrap_or_else(|error| Err(Failure::internal(format!("a fault of slim: {error}"))));
    if result.is_err() {
        progress.step("cleaning up");
    }
    tokio::select! {
        cleaned = tokio::time::timeout(CLEAN_UP_PATIENCE, engines.clean_up()) => match cleaned {
            Ok(Ok(())) => {}
            Ok(Err(error)) => progress.messages.warn(format!("something is left in the engine, the next run removes it: {error}")),
            Err(_) => progress.messages.warn("the engine does not answer: what is left in it, the next run removes"),
        },
        exit = interrupted() => {
            progress.messages.warn("interrupted again: what is left in the engine, the next run removes");
            return Err(Failure { exit, message: "interrupted".to_owned() });
        }
    }
    result
}

/// Waits for a signal that ends the program.
async fn interrupted() -> Exit {
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        },
        // Signals that cannot be caught end the program by themselves.
        _ => std::future::pending().await,
    }
}

/// The file of this program: what runs now, also where the file was replaced meanwhile.
fn own_executable() -> Result<PathBuf, Failure> {
    let path = PathBuf::from("/proc/self/exe");
    if path.exists() {
        return Ok(path);
    }
    std::env::current_exe().map_err(|error| Failure::internal(format!("slim's own program cannot be found: {error}")))
}
