//! What came of a build, for who started it: a few lines, or JSON.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::report::verification::Verdict;
use crate::report::{EngineFacts, Evidence, OutputFacts, Report, Verification};

/// The result in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The source.
    image: String,
    /// What ran it, and why.
    engine: Option<EngineFacts>,
    /// Names of the result.
    tags: Vec<String>,
    /// Where it went.
    outputs: Vec<OutputFacts>,
    /// The result's id.
    id: String,
    size_before: u64,
    size_after: u64,
    entries_kept: usize,
    entries_removed: usize,
    requests_answered: usize,
    requests_failed: usize,
    commands: usize,
    /// Events that were seen, and those that were lost.
    calls_seen: u64,
    opens_seen: u64,
    lost: u64,
    /// Whether it does what the original does; `None` where it was not run.
    verdict: Option<Verdict>,
    /// Images that were tried, and entries that the repair brought.
    rounds: usize,
    repaired: usize,
    /// Things in which the original differs from itself.
    noise: usize,
    /// What one of the senses could not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
    warnings: usize,
    seconds: f64,
    report: Option<PathBuf>,
    /// The program that speaks to the daemon.
    #[serde(skip)]
    client: &'static str,
}

impl Summary {
    /// Of a successful build; `client`: the program that speaks to the daemon.
    #[must_use]
    pub fn new(report: &Report, path: Option<&Path>, client: &'static str) -> Summary {
        let (image, result) = (report.image.as_ref(), report.result.as_ref());
        let http = report.probes.http.as_ref();
        let verification = report.verification.as_ref();
        let counters = report.evidence.as_ref().map(|evidence| evidence.end.counters).unwrap_or_default();
        let main_steps = report.seconds.iter().filter(|(step, _)| !step.starts_with("observe:") && !step.starts_with("list"));
        Summary {
            image: image.map(|image| image.name.clone()).unwrap_or_default(),
            engine: report.engine.clone(),
            tags: result.map(|result| result.tags.clone()).unwrap_or_default(),
            outputs: result.map(|result| result.outputs.clone()).unwrap_or_default(),
            id: result.map(|result| result.id.clone()).unwrap_or_default(),
            size_before: image.map_or(0, |image| image.size),
            size_after: result.map_or(0, |result| result.size),
            entries_kept: report.counts().map_or(0, |(kept, _)| kept),
            entries_removed: report.counts().map_or(0, |(_, removed)| removed),
            requests_answered: http.map_or(0, slim_probes::HttpResult::answered),
            requests_failed: http.map_or(0, slim_probes::HttpResult::failed),
            commands: report.probes.exec.len(),
            calls_seen: counters.received,
            opens_seen: counters.opens,
            lost: counters.lost,
            verdict: verification.map(|verification| verification.verdict),
            rounds: verification.map_or(0, |verification| verification.rounds.len()),
            repaired: verification.map_or(0, Verification::repaired),
            noise: verification.map_or(0, |verification| verification.noise),
            degraded: report.evidence.as_ref().and_then(Evidence::degraded),
            warnings: report.warnings.len(),
            seconds: main_steps.map(|(_, seconds)| seconds).sum(),
            report: path.map(Path::to_owned),
            client,
        }
    }

    /// Where the result is, a line each: all that a quiet run says.
    #[must_use]
    pub fn names(&self) -> String {
        self.places().iter().map(|place| format!("{place}\n")).collect()
    }

    /// Names in the engine, then files.
    fn places(&self) -> Vec<String> {
        self.tags.iter().cloned().chain(self.files().map(|(place, _)| place)).collect()
    }

    /// The files that it went to, as skopeo names them.
    fn files(&self) -> impl Iterator<Item = (String, &OutputFacts)> {
        let name = |output: &OutputFacts| Some(format!("{}:{}", output.transport, output.path.as_ref()?));
        self.outputs.iter().filter_map(move |output| Some((name(output)?, output)))
    }

    /// A command to go on with.
    fn try_it(&self) -> String {
        let client = self.client;
        let is_embedded = self.engine.as_ref().is_some_and(EngineFacts::is_embedded);
        match (self.tags.first(), self.files().next()) {
            (None, Some((place, _))) if is_embedded => format!("slim run {place}"),
            (None, Some((_, OutputFacts { transport: "docker-archive", path, .. }))) => {
                format!("{client} load --input {}", path.as_deref().unwrap_or_default())
            }
            (None, Some((place, output))) => format!("skopeo inspect {place}:{}", output.names.join(":")),
            (tag, _) => format!("{client} run --rm {}", tag.map(String::as_str).unwrap_or_default()),
        }
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).map(|json| json + "\n").unwrap_or_default()
    }
}

impl Summary {
    fn verified(&self) -> String {
        let mut text = match self.verdict {
            None => return "no: it was not run (`--verify`)".to_owned(),
            Some(Verdict::Unverified | Verdict::Differs) => return "no: see the warnings".to_owned(),
            Some(Verdict::Same) => "it does what the original does".to_owned(),
        };
        if self.noise > 0 {
            text.push_str(&format!(", but for {} things in which that differs from itself", self.noise));
        }
        if self.repaired > 0 {
            text.push_str(&format!("; repaired in {} rounds: {} entries", self.rounds - 1, self.repaired));
        }
        text
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = self.size_before as f64 / self.size_after.max(1) as f64;
        writeln!(f, "{} -> {}", self.image, self.places().join(", "))?;
        writeln!(f, "  size      {} -> {} ({ratio:.1} times smaller)", megabytes(self.size_before), megabytes(self.size_after))?;
        if let Some(EngineFacts { name, reason }) = &self.engine {
            writeln!(f, "  engine    {name}: {reason}")?;
        }
        for (place, output) in self.files() {
            let (size, how) = (megabytes(output.size.unwrap_or(0)), output.compression.as_deref().unwrap_or("none"));
            write!(f, "  file      {place}: layer of {size} ({how})")?;
            match &output.manifest {
                Some(manifest) => writeln!(f, ", {manifest}")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "  entries   {} kept, {} removed", self.entries_kept, self.entries_removed)?;
        write!(f, "  probes    {} HTTP requests answered", self.requests_answered)?;
        if self.requests_failed > 0 {
            write!(f, ", {} not", self.requests_failed)?;
        }
        writeln!(f, ", {} commands run", self.commands)?;
        writeln!(f, "  evidence  {} system calls and {} opens seen, {} lost", self.calls_seen, self.opens_seen, self.lost)?;
        writeln!(f, "  verified  {}", self.verified())?;
        if let Some(degraded) = &self.degraded {
            writeln!(f, "  degraded  {degraded}")?;
        }
        writeln!(f, "  time      {:.1} s", self.seconds)?;
        if let Some(report) = &self.report {
            writeln!(f, "  report    {}", report.display())?;
        }
        writeln!(f, "try it: {}", self.try_it())
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
