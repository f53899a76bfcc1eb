//! What is going on right now: a spinner on a terminal, a line each in a log.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::style::{Level, Messages};
use crate::image::transport::registry::Tell;

/// Messages, and the line that tells what is being done.
#[derive(Debug)]
pub struct Progress {
    /// Everything else that is said.
    pub messages: Messages,
    /// Hidden where there is no terminal.
    spinner: ProgressBar,
}

/// Writes above the spinner.
struct AboveSpinner(ProgressBar);

impl Write for AboveSpinner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Progress {
    /// On standard error.
    #[must_use]
    pub fn new(level: Level) -> Progress {
        if level != Level::Normal || !io::stderr().is_terminal() {
            return Progress { messages: Messages::to_standard_error(level), spinner: ProgressBar::hidden() };
        }
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(100));
        let colour = super::style::wants_colour();
        Progress { messages: Messages::new(level, colour, Box::new(AboveSpinner(spinner.clone()))), spinner }
    }

    /// A step begins.
    pub fn step(&self, text: impl Into<String>) {
        let text = text.into();
        if self.spinner.is_hidden() {
            self.messages.info(&text);
        } else {
            self.spinner.set_message(text);
        }
    }

    /// Something that changes many times a second: only for a terminal.
    pub fn tick(&self, text: impl Into<String>) {
        self.spinner.set_message(text.into());
    }

    /// What tells of layers that are fetched from a registry.
    #[must_use]
    pub fn downloads(self: &Arc<Progress>) -> Arc<Tell> {
        let progress = Arc::clone(self);
        Arc::new(move |done, all| {
            progress.tick(format!("downloading layers: {} of {} MB", done / 1_000_000, all / 1_000_000));
        })
    }

    /// Nothing is going on any more.
    pub fn done(&self) {
        self.spinner.finish_and_clear();
    }
}
