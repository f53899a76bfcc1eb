//! `slim run`: an image that no daemon has, in a container of slim's own.
//!
//! The image's layers are unpacked into the store (once), and the runner makes the container of them, in the first of its
//! tiers that works here. What the program says goes on, signals go to it, and its exit code is ours: what `docker run` would do.

mod prepare;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use self::prepare::{Prepared, prepare};
use super::args::RunArgs;
use super::failure::Failure;
use super::progress::Progress;
use super::request::{Outside, run_options};
use crate::engine::embedded::{Runner, RunnerError, Running};
use crate::engine::options::RunOptions;
use crate::engine::workspace::Workspace;
use crate::exit::Exit;
use crate::image::reference::ImageSource;
use crate::image::transport::platform::Platform;

/// A container that was asked for.
#[derive(Debug)]
pub struct RunRequest {
    /// Which image.
    pub source: ImageSource,
    /// Bytes of unpacked layers that are left for the next time.
    pub cache_size: u64,
    platform: Platform,
    max_unpacked_size: u64,
    options: RunOptions,
}

impl RunRequest {
    /// Makes sense of what was typed.
    ///
    /// # Errors
    /// The first flag that can't be used.
    pub fn new(args: RunArgs, outside: &dyn Outside) -> Result<RunRequest, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::usage(error.to_string());
        let source = ImageSource::parse(&args.image).map_err(|error| usage(&error))?;
        let platform = args.platform.as_deref().map_or_else(|| Ok(Platform::of_host()), Platform::parse);
        let platform = platform.map_err(|error| Failure::usage(format!("`--platform`: {error}")))?;
        let mut options = run_options(args.container, outside).map_err(|error| usage(&error))?;
        if !args.command.is_empty() {
            options.command = Some(args.command);
        }
        prepare::refuse_what_is_not_known(&options)?;
        let (cache_size, max_unpacked_size) = (args.cache.cache_size, args.max_unpacked_size);
        Ok(RunRequest { source, cache_size, platform, max_unpacked_size, options })
    }
}

/// Runs a container to its end; the program's exit code.
///
/// # Errors
/// [`Failure`]: it could not be started.
pub async fn run_image(request: RunRequest, executable: PathBuf, progress: &Arc<Progress>) -> Result<u8, Failure> {
    let temporary = std::env::temp_dir();
    let failed = |error: std::io::Error| Failure::internal(format!("no directory for temporary files: {error}"));
    match Workspace::sweep_without_engine(&temporary) {
        0 => {}
        count => progress.messages.detail(format!("removed what killed runs left: directories for temporary files: {count}")),
    }
    let workspace = Workspace::create(&temporary).map_err(failed)?;
    let runner = Runner::choose(executable, workspace.path()).await?;
    let state = workspace.path().join("container");
    std::fs::create_dir(&state).map_err(failed)?;
    let shown = Arc::clone(progress);
    let tier = runner.tier();
    let prepared = tokio::task::spawn_blocking(move || prepare(&request, tier, state, &|text| shown.tick(text))).await;
    let Prepared { spec, layers } = prepared.map_err(|error| Failure::internal(error.to_string()))??;
    progress.done();
    let (running, streams) = runner.start(&spec, &[]).await?;
    for fallback in running.fallbacks() {
        progress.messages.info(fallback);
    }
    let output = tokio::spawn(copy(streams.output, tokio::io::stdout()));
    let errors = streams.errors.map(|errors| tokio::spawn(copy(errors, tokio::io::stderr())));
    if let Some(mut input) = streams.input {
        // Ends with the process's input; who types nothing must not hold us.
        tokio::spawn(async move { tokio::io::copy(&mut tokio::io::stdin(), &mut input).await });
    }
    let exit_code = wait(&running).await?;
    let _ = output.await;
    if let Some(errors) = errors {
        let _ = errors.await;
    }
    // The store must keep the layers for as long.
    drop(layers);
    Ok(exit_code)
}

/// Waits for the program, and hands on the signals that come.
async fn wait(running: &Running) -> Result<u8, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::internal(format!("signals cannot be caught: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut ended = std::pin::pin!(running.wait());
    let mut asked = false;
    let exit_code = loop {
        let number = tokio::select! {
            exit_code = &mut ended => break exit_code?,
            _ = interrupt.recv() => libc::SIGINT,
            _ = terminate.recv() => libc::SIGTERM,
        };
        // Who asks twice means it.
        running.kill(if asked { libc::SIGKILL } else { number }).await?;
        asked = true;
    };
    Ok(u8::try_from(exit_code).unwrap_or(u8::MAX))
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl tokio::io::AsyncWrite + Unpin) {
    // Who reads no further has what it wanted.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.flush().await;
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
