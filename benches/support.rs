//! What the benches share: commands, and the middle of many figures.

use std::error::Error;
use std::process::{Command, Stdio};

/// Whatever is wrong ends a bench.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The docker client with these words.
pub(crate) fn docker(arguments: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments);
    command
}

/// Runs a command; what it wrote.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The middle one.
pub(crate) fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Median, least and most.
pub(crate) fn spread(seconds: &mut [f64]) -> String {
    let middle = median(seconds);
    format!("{middle:.3} ({:.3} to {:.3})", seconds[0], seconds[seconds.len() - 1])
}
