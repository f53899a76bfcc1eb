//! `slim run`: an image that no daemon has, in a container of slim's own.
//!
//! The image's layers are unpacked into the store (once), and the runner makes the container of them, in the first of its
//! tiers that works here. What the program says goes on, signals go to it, and its exit code is ours: what `docker run` would do.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::args::RunArgs;
use super::engines::{EngineChoice, Engines};
use super::failure::Failure;
use super::meaning;
use super::progress::Progress;
use super::request::{Outside, registry_flags, run_options};
use super::sources::{Search, find};
use crate::engine::embedded::{Running, publish};
use crate::engine::options::RunOptions;
use crate::image::location::ImageSource;
use crate::image::transport::platform::Platform;
use crate::image::transport::registry::Access;

/// A container that was asked for.
#[derive(Debug)]
pub struct RunRequest {
    /// Which image.
    pub source: ImageSource,
    /// Bytes of unpacked layers that are left for the next time.
    pub cache_size: u64,
    platform: Platform,
    access: Access,
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
        let registries = registry_flags(args.registry).map_err(|error| usage(&error))?;
        let access = meaning::access(&registries, &source, []);
        let (cache_size, max_unpacked_size) = (args.cache.cache_size, args.max_unpacked_size);
        Ok(RunRequest { source, cache_size, platform, access, max_unpacked_size, options })
    }
}

/// Runs a container to its end; the program's exit code.
///
/// # Errors
/// [`Failure`]: it could not be started.
pub async fn run_image(engines: &Engines, request: RunRequest, progress: &Arc<Progress>) -> Result<u8, Failure> {
    let RunRequest { source, platform, access, max_unpacked_size, options, .. } = &request;
    let search = Search {
        engine: EngineChoice::Embedded,
        platform,
        max_unpacked_size: *max_unpacked_size,
        pull: true,
        credentials: None,
        publishes: true,
        access,
        run: options,
    };
    let (image, _) = find(engines, source, search, progress).await?;
    let engine = engines.embedded(*max_unpacked_size).await?;
    let shown = Arc::clone(progress);
    let root = engine.root(&image, move |done, all| shown.tick(format!("unpacking layers: {done} of {all}"))).await?;
    let mut spec = engine.specify(&image, &root, options)?;
    if spec.process.argv.is_empty() {
        return Err(Failure::usage("the image says nothing of what to run: give a command behind its name".to_owned()));
    }
    spec.process.input = !input_is_null();
    progress.done();
    let (running, streams) = engine.runner().start(&spec, &[]).await?;
    let running = Arc::new(running);
    for fallback in running.fallbacks() {
        progress.messages.info(fallback);
    }
    for port in &options.published_ports {
        let failed = |error| Failure::usage(format!("port `{}` cannot be published: {error}", port.container));
        let address = publish(&running, port).await.map_err(failed)?;
        progress.messages.info(format!("port {} is at {address}", port.container));
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
    Ok(exit_code)
}

/// Whether our standard input is /dev/null: then the program's is too, not a pipe that nobody writes to.
fn input_is_null() -> bool {
    use nix::sys::stat::{SFlag, fstat, makedev};
    fstat(std::io::stdin()).is_ok_and(|status| {
        SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR && status.st_rdev == makedev(1, 3)
    })
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
