//! The HTTP probes of a run: each command on each port, in the order in which the user gave them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::HttpCommand;
use crate::connect::{Connect, Phases};
use crate::crawl::{self, Crawl, CrawlOptions, Cut};
use crate::http::Client;
use crate::record::{self, HttpRecord, Outcome, Records};

/// Most warnings of one kind that are told one by one.
const MAX_WARNINGS: usize = 10;

/// How requests are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// For one attempt, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// How often a connection that was refused is tried again.
    pub retry_count: u32,
    /// How long to wait before that.
    pub retry_wait: Duration,
    /// How far crawls go.
    pub crawl: CrawlOptions,
}

impl Default for HttpOptions {
    /// docker-slim waits 8 s between retries, as it can't know when a program is ready. Who calls this looks before it asks.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            retry_count: 5,
            retry_wait: Duration::from_secs(1),
            crawl: CrawlOptions::default(),
        }
    }
}

/// What came of the HTTP probes of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResult {
    /// Each request, in the order in which they were made (within a wave of a crawl: in sorted order).
    pub records: Vec<HttpRecord>,
    /// Each port that was asked, in this order, and what it speaks.
    pub ports: Vec<PortResult>,
    /// The crawls, in the order in which they were made.
    pub crawls: Vec<Crawl>,
}

/// What a port speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortResult {
    /// The target's port.
    pub port: u16,
    /// What it speaks.
    pub speaks: Speaks,
}

/// What a port speaks, as its answers tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaks {
    /// At least one answer in HTTP.
    Http,
    /// Something else; the beginning of what it said, as text.
    Other(String),
    /// No answer at all; the last reason, in words.
    Nothing(String),
}

/// Makes the requests of all `commands` on all `ports` (of a command with a port of its own: only there); where there is no
/// command, `GET /` with crawling. Every request is told to `phases` before it is made.
///
/// Nothing is an error here, not even that nobody answers: the caller knows what was to be expected.
pub async fn probe_http(
    options: &HttpOptions,
    commands: &[HttpCommand],
    ports: &[u16],
    connect: &dyn Connect,
    phases: &dyn Phases,
) -> HttpResult {
    let front_page = [HttpCommand::front_page()];
    let commands = if commands.is_empty() { &front_page } else { commands };
    let client = Client::new(connect, options);
    let mut records = Records::default();
    let mut crawls = vec![];
    let requests = plan(commands, ports);
    let several_ports = requests.iter().map(|(port, _)| port).collect::<BTreeSet<_>>().len() > 1;
    for (port, command) in &requests {
        let place = if several_ports { format!(" on port {port}") } else { String::new() };
        let name = format!("{} {}{place}", command.method, command.resource);
        phases.begin(&name).await;
        let first = client.request(*port, command).await;
        if command.crawl && first.answer().is_some() {
            let name = format!("crawl {name}");
            crawls.push(crawl::crawl(&client, &options.crawl, command, &name, first, phases, &mut records).await);
        } else {
            crawl::follow_redirects(&client, command, &place, first, phases, &mut records).await;
        }
    }
    let records = records.all;
    HttpResult { ports: speaking(&requests, &records), records, crawls }
}

/// Makes requests again that were recorded (see [`HttpRecord::to_command`]), one after the other in the order of the records:
/// the pages that a crawl found are asked for, not looked for. Every request is told to `phases` before it is made.
pub async fn replay_http(
    options: &HttpOptions,
    recorded: &[HttpCommand],
    connect: &dyn Connect,
    phases: &dyn Phases,
) -> HttpResult {
    let client = Client::new(connect, options);
    let requests = plan(recorded, &[]);
    let mut records = Records::default();
    for (port, command) in &requests {
        phases.begin(&format!("{} {} on port {port}", command.method, command.resource)).await;
        records.push(client.request(*port, command).await);
    }
    let records = records.all;
    HttpResult { ports: speaking(&requests, &records), records, crawls: vec![] }
}

/// Each request with its port: command by command, so that a login comes before what needs it, on each port.
fn plan<'a>(commands: &'a [HttpCommand], ports: &[u16]) -> Vec<(u16, &'a HttpCommand)> {
    let mut distinct = vec![];
    for port in ports {
        if !distinct.contains(port) {
            distinct.push(*port);
        }
    }
    let mut requests = vec![];
    for command in commands {
        match command.port {
            Some(port) => requests.push((port, command)),
            None => requests.extend(distinct.iter().map(|&port| (port, command))),
        }
    }
    requests
}

/// What each port speaks: HTTP if any answer is HTTP, else what was learnt last.
fn speaking(requests: &[(u16, &HttpCommand)], records: &[HttpRecord]) -> Vec<PortResult> {
    let mut ports: Vec<PortResult> = vec![];
    for &(port, _) in requests {
        if ports.iter().any(|known| known.port == port) {
            continue;
        }
        let mut speaks = Speaks::Nothing(String::new());
        for record in records.iter().filter(|record| record.port == port) {
            speaks = match (&record.outcome, speaks) {
                (Outcome::Answered(_), _) | (_, Speaks::Http) => Speaks::Http,
                (Outcome::NotHttp(seen), _) => Speaks::Other(seen.clone()),
                (Outcome::Failed(_), other @ Speaks::Other(_)) => other,
                (Outcome::Failed(reason), Speaks::Nothing(_)) => Speaks::Nothing(reason.clone()),
            };
        }
        ports.push(PortResult { port, speaks });
    }
    ports
}

impl HttpResult {
    /// The records for a file that another run can be compared with: with bodies, those that are longer than 64 KiB and
    /// those beyond 16 MiB in all excepted.
    pub fn to_save(&self) -> impl Iterator<Item = serde_json::Value> {
        record::to_save(&self.records)
    }

    /// How many requests were answered in HTTP, with any status.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.records.iter().filter(|record| record.answer().is_some()).count()
    }

    /// How many were not.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.records.len() - self.answered()
    }

    /// How many were answered with a status of 500 or more.
    #[must_use]
    pub fn server_errors(&self) -> usize {
        self.records.iter().filter(|record| is_server_error(record)).count()
    }

    /// What a user should be told: server errors, broken answers, requests without an answer on a port that speaks HTTP
    /// otherwise, and crawls that were cut short. A port that never speaks HTTP is for the caller to judge.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![];
        let name = |record: &HttpRecord| format!("`{} {}` on port {}", record.method, record.resource, record.port);
        warn_each(&mut warnings, "requests were answered with a server error", self.records.iter(), |record| {
            let status = record.answer()?.status;
            is_server_error(record).then(|| format!("{} was answered with {}", name(record), status_text(status)))
        });
        warn_each(&mut warnings, "answers were not read to their end", self.records.iter(), |record| {
            let answer = record.answer()?;
            let why = answer.truncated?;
            Some(format!("the answer to {} {why}: {} bytes of it were read", name(record), answer.size))
        });
        warn_each(&mut warnings, "requests were not answered", self.records.iter(), |record| {
            let Outcome::Failed(reason) = &record.outcome else { return None };
            self.speaks_http(record.port).then(|| format!("{} was not answered: {reason}", name(record)))
        });
        for crawl in &self.crawls {
            for cut in &crawl.cut {
                let bound = match cut {
                    Cut::Depth => "the depth (`--http-crawl-max-depth`)",
                    Cut::PageCount => "the number of pages (`--http-crawl-max-page-count`)",
                    Cut::Timeout => "the time (`--http-crawl-timeout`)",
                    Cut::PageSize => "the size of a page that is searched for links",
                };
                let Crawl { start, port, pages, .. } = crawl;
                warnings.push(format!("the crawl of `{start}` on port {port} left pages out after {pages}: {bound} is bounded"));
            }
        }
        warnings
    }

    fn speaks_http(&self, port: u16) -> bool {
        self.ports.iter().any(|known| known.port == port && known.speaks == Speaks::Http)
    }
}

fn is_server_error(record: &HttpRecord) -> bool {
    record.answer().is_some_and(|answer| answer.status >= 500)
}

/// The number with the words that belong to it, such as `503 Service Unavailable`.
fn status_text(status: u16) -> String {
    match http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

/// Adds a warning for each record that `tell` has words for, and only a number for what is more than a few.
fn warn_each<'a>(
    warnings: &mut Vec<String>,
    kind: &str,
    records: impl Iterator<Item = &'a HttpRecord>,
    tell: impl Fn(&HttpRecord) -> Option<String>,
) {
    let mut told = records.filter_map(tell);
    warnings.extend(told.by_ref().take(MAX_WARNINGS));
    let more = told.count();
    if more > 0 {
        warnings.push(format!("{more} more {kind}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Door, Heard, Loopback, Server, options, page, path, reply};

    #[tokio::test]
    async fn each_command_on_each_port() {
        let (one, two, three) =
            tokio::join!(Server::answering(|_| page("")), Server::answering(|_| page("")), Server::answering(|_| page("")));
        let commands = [
            HttpCommand::get("/first"),
            HttpCommand { port: Some(three.port), ..HttpCommand::get("/own") },
            HttpCommand::get("/last"),
        ];
        let heard = Heard::default();
        let ports = [two.port, one.port, two.port];
        let result = probe_http(&options(), &commands, &ports, &Loopback, &heard).await;
        let made: Vec<_> = result.records.iter().map(|record| (record.port, &record.resource[..])).collect();
        assert_eq!(
            made,
            [(two.port, "/first"), (one.port, "/first"), (three.port, "/own"), (two.port, "/last"), (one.port, "/last")]
        );
        assert_eq!(heard.all()[..2], [format!("GET /first on port {}", two.port), format!("GET /first on port {}", one.port)]);
        let speaks = Speaks::Http;
        let ports = [two.port, one.port, three.port].map(|port| PortResult { port, speaks: speaks.clone() });
        assert_eq!(result.ports, ports);
        assert_eq!((result.answered(), result.failed(), result.warnings()), (5, 0, vec![]));
    }

    #[tokio::test]
    async fn with_no_command_the_front_page_is_crawled() {
        let server = Server::answering(|request| page(if path(request) == "/" { "<img src=a.png>" } else { "" })).await;
        let heard = Heard::default();
        let result = probe_http(&options(), &[], &[server.port], &Loopback, &heard).await;
        assert_eq!(heard.all(), ["GET /", "crawl GET / depth 1"]);
        assert_eq!(result.records.len(), 2);
        let result = probe_http(&options(), &[], &[], &Loopback, &heard).await;
        assert_eq!(result, HttpResult::default());
    }

    #[tokio::test]
    async fn ports_are_told_apart() {
        let mail = Server::start(|mut peer| async move { peer.send(b"220 mail\r\n").await }).await;
        let web = Server::answering(|request| if path(request) == "/" { page("") } else { vec![] }).await;
        let commands = [HttpCommand::front_page(), HttpCommand::get("/gone")];
        let door = Door::new(0, || unreachable!());
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("port");
        let ports = [mail.port, web.port, nobody.port()];
        let result = probe_http(&options(), &commands, &ports, &door, &Heard::default()).await;
        let speaks: Vec<_> = result.ports.iter().map(|port| port.speaks.clone()).collect();
        assert_eq!(speaks[0], Speaks::Other("220 mail\\r\\n".into()));
        assert_eq!(speaks[1], Speaks::Http);
        let Speaks::Nothing(reason) = &speaks[2] else { panic!("{speaks:?}") };
        assert!(reason.starts_with("cannot connect: Connection refused"), "{reason}");
        assert_eq!((result.answered(), result.failed()), (1, 5));
        assert_eq!(result.crawls.len(), 1, "what does not answer is not crawled");
        let gone = format!("`GET /gone` on port {} was not answered: the connection was closed without an answer", web.port);
        assert_eq!(result.warnings(), [gone], "only the port that speaks HTTP is worth a warning");
    }

    #[tokio::test]
    async fn server_errors_warn() {
        let server = Server::answering(|request| match path(request) {
            "/404" => reply("404 Not Found", "", ""),
            "/599" => reply("599 Odd", "", ""),
            "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec(),
            _ => reply("503 Service Unavailable", "", ""),
        })
        .await;
        let commands = ["/404", "/599", "/cut"].map(HttpCommand::get);
        let result = probe_http(&options(), &commands, &[server.port], &Loopback, &Heard::default()).await;
        let port = server.port;
        assert_eq!(
            result.warnings(),
            [
                format!("`GET /599` on port {port} was answered with 599"),
                format!("the answer to `GET /cut` on port {port} broke off: 3 bytes of it were read"),
            ]
        );
        assert_eq!((result.answered(), result.server_errors()), (3, 1));
        let commands: Vec<_> = (0..MAX_WARNINGS + 2).map(|number| HttpCommand::get(format!("/{number}"))).collect();
        let warnings = probe_http(&options(), &commands, &[port], &Loopback, &Heard::default()).await.warnings();
        assert_eq!(warnings[0], format!("`GET /0` on port {port} was answered with 503 Service Unavailable"));
        assert_eq!(warnings[MAX_WARNINGS..], ["2 more requests were answered with a server error"]);
    }

    #[tokio::test]
    async fn results_survive_json() {
        let server = Server::answering(|_| page("<a href=/x><a href=/y>")).await;
        let options = HttpOptions { crawl: CrawlOptions { max_page_count: 2, ..CrawlOptions::default() }, ..options() };
        let mut result = probe_http(&options, &[], &[server.port, 1], &Loopback, &Heard::default()).await;
        let json = serde_json::to_string(&result).expect("json");
        let read_back: HttpResult = serde_json::from_str(&json).expect("result");
        for record in &mut result.records {
            assert!(record.request.take().is_some());
            if let Outcome::Answered(answer) = &mut record.outcome {
                assert!(!std::mem::take(&mut answer.body).is_empty());
            }
        }
        assert_eq!(read_back, result);
    }

    #[tokio::test]
    async fn a_crawl_is_repeated_page_by_page() {
        let server = Server::answering(|request| {
            let authorized = request.contains("authorization: Basic");
            page(if path(request) == "/" && authorized { "<a href=/x><a href=/y>" } else { "" })
        })
        .await;
        let login = HttpCommand { username: Some("u".into()), password: Some("p".into()), ..HttpCommand::front_page() };
        let post = HttpCommand { method: "POST".into(), body: Some("data".into()), ..HttpCommand::get("/form") };
        let first = probe_http(&options(), &[login, post], &[server.port], &Loopback, &Heard::default()).await;
        assert_eq!(first.records.len(), 4);
        let made = server.requests();
        let recorded: Vec<HttpCommand> = first.records.iter().map(HttpRecord::to_command).collect();
        let heard = Heard::default();
        let again = replay_http(&options(), &recorded, &Loopback, &heard).await;
        assert_eq!(heard.all()[3], format!("POST /form on port {}", server.port));
        let answers = |result: &HttpResult| -> Vec<_> { result.records.iter().map(|record| record.outcome.clone()).collect() };
        assert_eq!(answers(&again), answers(&first));
        // The pages of a crawl are asked for in no sure order.
        let sorted = |mut requests: Vec<String>| {
            requests.sort_unstable();
            requests
        };
        assert_eq!(sorted(server.requests().split_off(made.len())), sorted(made));
    }

    #[test]
    fn probing_can_be_spawned() {
        fn is_send(_: impl Send) {}
        is_send(probe_http(&options(), &[], &[], &Loopback, &Heard::default()));
    }
}
