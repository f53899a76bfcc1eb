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

/// An answer as an observation has it: an object with one field, which may be one that a newer version knows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    http: Option<HttpRecord>,
    exec: Option<ExecRecord>,
    health_check: Option<ExecRecord>,
    course: Option<Course>,
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
            let answer: Answer = serde_json::from_value(answer.clone()).map_err(ShownError::Answer)?;
            shown.http.extend(answer.http);
            shown.commands.extend(answer.exec);
            shown.health = answer.health_check.or(shown.health);
            shown.course = answer.course.or(shown.course);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::run::RunEnd;

    fn observation(answers: &[&str]) -> Observation {
        let mut observation = crate::plan::observation_of_nothing();
        observation.answers = answers.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        observation
    }

    const REQUEST: &str = r#"{"http": {"method": "POST", "resource": "/login", "port": 80, "protocol": "https", "attempts": 1,
        "milliseconds": 2, "outcome": {"failed": "refused"}}}"#;

    #[test]
    fn a_saved_observation_shows_what_the_run_did() {
        let course = r#"{"course": {"hostname": "h", "listening": [{"port": 80, "is_local": true}],
            "end": {"by_itself": {"exit_code": 3}}}}"#;
        let shown = Shown::read(&observation(&[REQUEST, course, r#"{"of_the_future": 1}"#])).unwrap();
        assert_eq!((shown.http.len(), shown.serves_http(), shown.ports()), (1, false, vec![]));
        assert_eq!(shown.course.unwrap().end, RunEnd::ByItself { exit_code: 3 });
        assert!(matches!(Shown::read(&observation(&[])), Err(ShownError::Empty)));
        assert!(matches!(Shown::read(&observation(&[r#"{"http": 1}"#])), Err(ShownError::Answer(_))));
    }

    #[test]
    fn what_a_file_lacks_of_a_request_is_taken_from_the_flags() {
        let shown = Shown::read(&observation(&[REQUEST])).unwrap();
        let given = HttpCommand { method: "POST".into(), body: Some("secret".into()), ..HttpCommand::get("/login") };
        let [request] = &shown.requests(&[HttpCommand::get("/login"), given])[..] else { panic!() };
        assert_eq!((request.body.as_deref(), request.port, request.crawl), (Some(&b"secret"[..]), Some(80), false));
        assert_eq!(shown.requests(&[])[0].body, None);
    }
}
