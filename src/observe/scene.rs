//! What a user wants to know when a program failed: what it listened on, the end of its log, and what that log hints at.

use std::fmt;
use std::net::SocketAddr;

use slim_sensor::wire::Listener;

use super::target::Target;
use crate::engine::runtime::Contained;

/// Lines of the log that are shown.
pub(super) const LOG_LINES: usize = 20;
/// Lines in which a reason is looked for: standard output and standard error are logged side by side, in no sure order.
const LINES_SEARCHED: usize = 200;
/// Characters of a line that are shown: some programs log whole documents.
const LINE_LENGTH: usize = 500;

/// What programs log, in lower case, when a service that they need isn't there: the words of the C library, of the Go, Java,
/// Node, Python, Ruby and Rust runtimes, and of the clients of the usual databases.
const UNREACHABLE: [&str; 19] = [
    "connection refused",
    "econnrefused",
    "connectionrefused",
    "no route to host",
    "network is unreachable",
    "enetunreach",
    "ehostunreach",
    "name or service not known",
    "name does not resolve",
    "temporary failure in name resolution",
    "nodename nor servname provided",
    "no such host",
    "unknown host",
    "unknownhostexception",
    "enotfound",
    "eai_again",
    "could not translate host name",
    "could not resolve host",
    "bad address",
];

/// How a container of a daemon gets to a service.
const DOCKER_ADVICE: &str = "start that service in a Docker network, and name the network with `--network`";
/// How one of slim's own does.
const EMBEDDED_ADVICE: &str = "start that service on this machine, and share its network with `--network host`";

/// See the module. Reads as the end of a message: each part begins a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// Addresses that processes of the container listen on.
    listening: Vec<SocketAddr>,
    /// The end of the log.
    log: Vec<String>,
    /// What to do about a service that isn't there, of which the log speaks.
    advice: Option<&'static str>,
}

impl Scene {
    /// Looks around in a container that runs, or has ended.
    pub async fn of(target: &Target) -> Scene {
        let advice = match target.container {
            Contained::Docker(..) => DOCKER_ADVICE,
            Contained::Embedded(_) => EMBEDDED_ADVICE,
        };
        Scene::new(&target.monitor.status().listening, target.container.log(LINES_SEARCHED).await, advice)
    }

    fn new(listening: &[Listener], log: Vec<String>, advice: &'static str) -> Scene {
        let mut listening: Vec<_> = listening.iter().map(|listener| SocketAddr::new(listener.address, listener.port)).collect();
        listening.sort_unstable();
        listening.dedup();
        let lacks_a_service =
            log.iter().map(|line| line.to_lowercase()).any(|line| UNREACHABLE.iter().any(|words| line.contains(words)));
        let log = log[log.len().saturating_sub(LOG_LINES)..].iter().map(|line| shortened(line)).collect();
        Scene { listening, log, advice: lacks_a_service.then_some(advice) }
    }
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE_LENGTH) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listening.as_slice() {
            [] => f.write_str("\nit listened on no port")?,
            [first, rest @ ..] => {
                write!(f, "\nit listened on {first}")?;
                rest.iter().try_for_each(|address| write!(f, ", {address}"))?;
            }
        }
        if self.log.is_empty() {
            return f.write_str("\nits log is empty");
        }
        write!(f, "\nits log ends with:\n  {}", self.log.join("\n  "))?;
        match self.advice {
            Some(advice) => write!(f, "\nit seems to need a service that it cannot reach: {advice}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(lines: &[&str]) -> Scene {
        Scene::new(&[], lines.iter().map(ToString::to_string).collect(), DOCKER_ADVICE)
    }

    #[test]
    fn what_is_shown() {
        assert_eq!(logged(&[]).to_string(), "\nit listened on no port\nits log is empty");
        let listener = |address: &str| Listener { port: 80, address: address.parse().unwrap(), pid: 1 };
        let listening = [listener("127.0.0.1"), listener("::"), listener("127.0.0.1")];
        let log = (0..30).map(|number| format!("line {number}")).collect();
        let text = Scene::new(&listening, log, DOCKER_ADVICE).to_string();
        assert!(text.starts_with("\nit listened on 127.0.0.1:80, [::]:80\nits log ends with:\n  line 10\n  line 11\n"), "{text}");
        assert!(text.ends_with("\n  line 29"), "{text}");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = logged(&[&"ü".repeat(LINE_LENGTH + 1), &"x".repeat(LINE_LENGTH)]).to_string();
        assert!(text.contains(&format!("\n  {}...\n", "ü".repeat(LINE_LENGTH))), "{text}");
        assert!(text.ends_with(&format!("\n  {}", "x".repeat(LINE_LENGTH))), "{text}");
    }

    #[test]
    fn a_missing_service_is_recognised() {
        for line in [
            "psql: error: connection to server at \"127.0.0.1\", port 5432 failed: Connection refused",
            "Error: connect ECONNREFUSED 172.17.0.1:6379",
            "Error: getaddrinfo ENOTFOUND db",
            "psycopg2.OperationalError: could not translate host name \"db\" to address",
            "java.net.UnknownHostException: db",
            "dial tcp: lookup db on 127.0.0.11:53: no such host",
            "wget: bad address 'db'",
            "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        ] {
            assert!(logged(&["starting", line, "bye"]).to_string().contains("`--network`"), "{line}");
        }
        assert!(!logged(&["config file not found", "no such file or directory"]).to_string().contains("--network"));
    }
}
