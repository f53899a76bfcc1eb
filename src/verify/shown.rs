//! What a run showed to the outside: the side of a comparison, from a run of now or from an observation that was saved.

use serde::Deserialize;
use slim_probes::{ExecRecord, HttpCommand, HttpRecord};

use crate::observe::observation::Observation;
use crate::observe::run::{Course, Observed};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The requests and what came of them, in their order.
    pub http: Vec<HttpRecord>,
    /// The commands, in their order.
    pub commands: Vec<ExecRecord>,
    /// The health check, where the image has one.
    pub health: Option<ExecRecord>,
    /// How the program went; `None` where an older file does not tell.
    pub course: Option<Course>,
    /// Why the run broke off, where it did.
    pub failure: Option<String>,
}

/// Why an observation is nothing to compare with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShownError {
    /// An answer that isn't one.
    #[error("an answer in the observation cannot be understood: {0}; observe the image again with this version")]
    Answer(serde_json::Error),
    /// Nobody asked it anything.
    #[error("the observation has no answers to compare with: observe the image with probes")]
    Empty,
}

/// An answer as an observation has it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Http(Box<HttpRecord>),
    Exec(ExecRecord),
    HealthCheck(ExecRecord),
    Course(Course),
}

impl Shown {
    /// What `observed` shows, which ended with `failure`.
    #[must_use]
    pub fn of(observed: &Observed, failure: Option<String>) -> Shown {
        Shown {
            http: observed.http.as_ref().map(|http| http.records.clone()).unwrap_or_default(),
            commands: observed.commands.clone(),
            health: observed.health.clone(),
            course: Some(observed.course.clone()),
            failure,
        }
    }

    /// What a saved observation shows.
    ///
    /// # Errors
    /// [`ShownError`]
    pub fn read(observation: &Observation) -> Result<Shown, ShownError> {
        let mut shown = Shown::default();
        for answer in &observation.answers {
            match serde_json::from_value(answer.clone()).map_err(ShownError::Answer)? {
                Answer::Http(record) => shown.http.push(*record),
                Answer::Exec(record) => shown.commands.push(record),
                Answer::HealthCheck(record) => shown.health = Some(record),
                Answer::Course(course) => shown.course = Some(course),
            }
        }
        if shown.http.is_empty() && shown.commands.is_empty() && shown.course.is_none() {
            return Err(ShownError::Empty);
        }
        Ok(shown)
    }

    /// The requests that make all this again. One that was read from a file lacks headers and body: they are taken from the
    /// command of `given` with the same method and path.
    #[must_use]
    pub fn requests(&self, given: &[HttpCommand]) -> Vec<HttpCommand> {
        let again = |record: &HttpRecord| {
            let command = record.to_command();
            let same = |other: &&HttpCommand| other.method == command.method && other.resource == command.resource;
            match given.iter().find(same) {
                Some(given) if record.request.is_none() => {
                    HttpCommand { port: command.port, protocol: command.protocol, crawl: false, ..given.clone() }
                }
                _ => command,
            }
        };
        self.http.iter().map(again).collect()
    }

    /// The ports that were asked.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = vec![];
        for record in &self.http {
            if record.answer().is_some() && !ports.contains(&record.port) {
                ports.push(record.port);
            }
        }
        ports
    }

    /// Whether any request was answered.
    #[must_use]
    pub fn serves_http(&self) -> bool {
        self.http.iter().any(|record| record.answer().is_some())
    }
}
