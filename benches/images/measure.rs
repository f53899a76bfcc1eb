//! What a command takes, measured by this program, started again as its only parent: CPU time and peak memory are those
//! of the command and of what it waited for.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use super::support::{Result, median, run};

/// Says that this program is to measure a command.
pub(crate) const MEASURE: &str = "--measure-a-command";

/// Keeps what was measured, and tells it at once: on a machine with other work to do a turn can take many minutes.
pub(crate) fn note((name, all): &mut (&str, Vec<Measured>), measured: Measured) {
    println!("{name:<22} {:.3} s, CPU {:.3} s, {:.0} MB", measured.seconds, measured.cpu, measured.memory);
    all.push(measured);
}

pub(crate) fn or_unknown(figure: f64) -> String {
    if figure.is_nan() { "not seen".to_owned() } else { format!("{figure:.0}") }
}

/// What a command took: wall and CPU seconds, and the most memory of one of its processes, in MB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
}

pub(crate) fn seconds(measured: &[Measured]) -> Vec<f64> {
    measured.iter().map(|it| it.seconds).collect()
}

/// The middle one of a figure.
pub(crate) fn middle(measured: &[Measured], pick: fn(&Measured) -> f64) -> f64 {
    median(&mut measured.iter().map(pick).collect::<Vec<_>>())
}

/// Measures a command in a process of its own; `cache` is for its cache.
pub(crate) fn measure(program: &str, words: &[String], cache: &Path) -> Result<Measured> {
    run(&mut Command::new("sync"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(MEASURE).arg(program).args(words).env("XDG_CACHE_HOME", cache);
    let measured: Value = serde_json::from_str(&run(&mut command)?)?;
    let figure = |name: &str| measured[name].as_f64().ok_or("a figure is missing");
    Ok(Measured { seconds: figure("seconds")?, cpu: figure("cpu")?, memory: figure("memory")? })
}

/// Runs a command as this process's only child, and writes what it took.
pub(crate) fn measure_here(words: &[String]) -> Result<()> {
    let [program, words @ ..] = words else { return Err("nothing to measure".into()) };
    let begun = Instant::now();
    let mut command = Command::new(program);
    let status = command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let seconds = begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{command:?} failed: {status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = time(usage.user_time()) + time(usage.system_time());
    println!("{}", json!({"seconds": seconds, "cpu": cpu, "memory": usage.max_rss() as f64 * 1024.0 / 1e6}));
    Ok(())
}
