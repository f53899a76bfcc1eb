//! The HTTP probes of a run: which ports are asked, and what their answers mean for it.

use std::sync::Arc;

use slim_probes::{HttpResult, Speaks, probe_http, replay_http};

use super::end::{died, hear_of_end};
use super::ready::Ready;
use super::{HttpProbe, ObserveError, Run};
use crate::observe::probing::{ProbePhases, Reach};
use crate::observe::scene::Scene;
use crate::observe::target::Target;

impl Run<'_> {
    pub(super) async fn probe_http(&mut self, target: &Arc<Target>, ready: &Ready) -> Result<(), ObserveError> {
        let probes = self.request.probes;
        if probes.http == HttpProbe::Off {
            return Ok(());
        }
        let listening = match ready {
            Ready::Listening(ports) => ports.clone(),
            Ready::Ended if probes.http == HttpProbe::On => {
                let exit_code = self.exit_code(target).await?.unwrap_or_default();
                return Err(died(target, exit_code, "before it could be probed").await);
            }
            Ready::TimedOut if probes.http == HttpProbe::On => {
                let wanted = self.wanted_ports();
                let ports = if wanted.is_empty() { "any port".to_owned() } else { ports_in_words(&wanted) };
                let scene = Scene::of(target).await;
                return Err(ObserveError::NotReady { ports, seconds: probes.start_timeout.as_secs(), scene });
            }
            Ready::Ended | Ready::Quiet | Ready::TimedOut => vec![],
        };
        let ports = self.ports_to_probe(&listening);
        if ports.is_empty() && !probes.requests.iter().any(|command| command.port.is_some()) {
            let wanted = self.wanted_ports();
            if *ready != Ready::Ended && !wanted.is_empty() {
                let ports = ports_in_words(&wanted);
                self.warnings.push(format!("the program does not listen on {ports}: nothing was probed over HTTP"));
            }
            return Ok(());
        }
        (self.request.progress)(format!("probing HTTP on {}", ports_in_words(&ports)));
        let reach = Reach::new(Arc::clone(target));
        let phases = ProbePhases::new(Arc::clone(target), self.recorder.clone());
        let result = match &probes.replay {
            Some(recorded) => replay_http(&probes.http_options, recorded, &reach, &phases).await,
            None => probe_http(&probes.http_options, &probes.requests, &ports, &reach, &phases).await,
        };
        for record in result.to_save() {
            self.recorder.answer(serde_json::json!({ "http": record }));
        }
        self.warnings.extend(result.warnings());
        let outcome = self.judge_http(target, &result).await;
        self.http = Some(result);
        outcome
    }

    async fn judge_http(&mut self, target: &Target, result: &HttpResult) -> Result<(), ObserveError> {
        let was_asked_for = self.request.probes.http == HttpProbe::On;
        let is_served = result.answered() > 0;
        if result.failed() > 0 {
            hear_of_end(target).await;
        }
        match self.exit_code(target).await? {
            // One that has answered everything may end.
            Some(0) if result.failed() == 0 || (!is_served && !was_asked_for) => {}
            Some(exit_code) => return Err(died(target, exit_code, "while it was probed over HTTP").await),
            None => {}
        }
        if is_served {
            let fails = self.request.probes.must_work && result.server_errors() == result.answered();
            return if fails { Err(only_errors(result, Scene::of(target).await)) } else { Ok(()) };
        }
        if was_asked_for {
            let details = result.ports.iter().map(|port| match &port.speaks {
                Speaks::Http => String::new(),
                Speaks::Other(said) => format!("\nport {} does not speak HTTP: it said {said:?}", port.port),
                Speaks::Nothing(reason) => format!("\nport {}: {reason}", port.port),
            });
            let details = details.collect();
            return Err(ObserveError::NoAnswer { details, scene: Scene::of(target).await });
        }
        self.warnings.push("no port speaks HTTP: the program was not exercised over HTTP".to_owned());
        Ok(())
    }

    /// The ports that the user named; else the exposed ones that are listened on; else all that are listened on.
    fn ports_to_probe(&self, listening: &[u16]) -> Vec<u16> {
        if !self.request.probes.ports.is_empty() {
            return self.request.probes.ports.clone();
        }
        let wanted = self.wanted_ports();
        let exposed: Vec<u16> = listening.iter().copied().filter(|port| wanted.contains(port)).collect();
        if exposed.is_empty() { listening.to_vec() } else { exposed }
    }
}

fn only_errors(result: &HttpResult, scene: Scene) -> ObserveError {
    let example = result.records.iter().find(|record| record.answer().is_some());
    let example = example.map(|record| format!("`{} {}`: {}", record.method, record.resource, record.outcome));
    ObserveError::OnlyErrors { answered: result.answered(), example: example.unwrap_or_default(), scene }
}

fn ports_in_words(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("port{} {}", if ports.len() == 1 { "" } else { "s" }, ports.join(", "))
}
