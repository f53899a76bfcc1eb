//! `slim doctor`: what this machine lets slim do, found out by trying, and what to change where it doesn't.

mod trial;

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use self::trial::{Interruption, try_daemon};
use super::failure::Failure;
use super::told::Told;
use crate::engine::docker::Engine;
use crate::engine::embedded::{TierReport, probe_tiers};
use crate::engine::endpoint::{self, System};
use crate::engine::owner::Owner;
use crate::exit::Exit;
use crate::workspace::Workspace;

/// What was tried, and what came of it.
#[derive(Debug, Serialize)]
struct Finding {
    /// An engine, or a way in which slim makes containers itself.
    what: String,
    /// It works.
    works: bool,
    /// What is done otherwise than intended, or why it doesn't work, and what to do.
    notes: Vec<String>,
}

/// Tries all ways to run a container, until `interruption` comes. It ends well where one of them works.
///
/// # Errors
/// [`Failure`]
pub async fn examine(
    host: Option<&str>,
    executable: &Path,
    interruption: impl Future<Output = Exit> + Send + 'static,
) -> Result<Told, Failure> {
    let mut interruption: Interruption = Box::pin(interruption);
    let mut findings = vec![daemon(host, executable, &mut interruption).await?];
    let workspace = Workspace::create(&std::env::temp_dir());
    let workspace = workspace.map_err(|error| Failure::internal(format!("no directory for temporary files: {error}")))?;
    tokio::select! {
        reports = probe_tiers(executable, workspace.path()) => findings.extend(reports.into_iter().map(of_tier)),
        exit = &mut interruption => return Err(interrupted(exit)),
    }
    findings.extend(other_daemons(host, executable, &mut interruption).await?);
    let mut text = String::new();
    for finding in &findings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<5} {}", if finding.works { "yes" } else { "no" }, finding.what);
        for note in &finding.notes {
            let _ = writeln!(text, "      {}", note.replace('\n', "\n      "));
        }
    }
    let exit = if findings.iter().any(|finding| finding.works) { Exit::Done } else { Exit::Engine };
    let json = serde_json::to_string(&findings).map_err(|error| Failure::internal(error.to_string()))? + "\n";
    Ok(Told { quiet: String::new(), text, json, exit })
}

/// The daemon that is used where nothing else is said.
async fn daemon(host: Option<&str>, executable: &Path, interruption: &mut Interruption) -> Result<Finding, Failure> {
    finding(host, "a Docker or Podman daemon".to_owned(), None, executable, interruption).await
}

/// Docker and Podman where they usually are, if that is not the daemon that is used anyway.
async fn other_daemons(host: Option<&str>, executable: &Path, interruption: &mut Interruption) -> Result<Vec<Finding>, Failure> {
    let used = endpoint::find(host, &System).ok();
    let mut findings = vec![];
    for (kind, endpoint) in endpoint::usual(&System).into_iter().filter(|(_, endpoint)| used.as_ref() != Some(endpoint)) {
        let note = format!("to use it: `--host {}`", endpoint.host);
        findings.push(finding(Some(&endpoint.host), kind.to_string(), Some(note), executable, interruption).await?);
    }
    Ok(findings)
}

/// Whether a daemon answers and lets slim watch what it runs. `note` is told of one that does.
async fn finding(
    host: Option<&str>,
    absent: String,
    note: Option<String>,
    executable: &Path,
    interruption: &mut Interruption,
) -> Result<Finding, Failure> {
    let owner = Owner::this_process().map_err(|error| Failure::internal(format!("no randomness: {error}")))?;
    let connected = tokio::select! {
        connected = Engine::connect(host, owner) => connected,
        exit = &mut *interruption => return Err(interrupted(exit)),
    };
    let engine = match connected {
        Ok(engine) => engine,
        Err(error) => return Ok(Finding { what: absent, works: false, notes: vec![error.to_string()] }),
    };
    let what = format!("{} {} at {}", engine.kind, engine.version, engine.host());
    Ok(match try_daemon(&engine, executable, interruption).await.map_err(interrupted)? {
        Ok(notes) => Finding { what, works: true, notes: notes.into_iter().chain(note).collect() },
        Err(reason) => Finding { what, works: false, notes: vec![reason] },
    })
}

fn interrupted(exit: Exit) -> Failure {
    Failure { exit, message: exit.describe().to_owned() }
}

fn of_tier(report: TierReport) -> Finding {
    let (works, notes) = match report.outcome {
        Ok(fallbacks) => (true, fallbacks),
        Err(reason) => (false, vec![reason]),
    };
    Finding { what: format!("containers of slim's own, {}", report.tier), works, notes }
}
