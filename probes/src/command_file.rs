//! The file of `--http-probe-cmd-file`, in docker-slim's format:
//!
//! ```json
//! {"commands": [{
//!   "method": "POST", "resource": "/login", "port": 8080, "protocol": "https",
//!   "headers": ["Content-Type: application/json"], "body": "{}", "body_file": "login.json",
//!   "username": "me", "password": "secret", "crawl": false
//! }]}
//! ```
//!
//! Every field may be left out, or be `""` or `0`, which is the same. No resource is `/`; no method is GET, or POST where there is
//! a body. Of `body` and `body_file` only one may be there; a relative `body_file` starts, as in docker-slim, from the
//! current folder. A field that isn't known is an error: a misspelt one would silently probe something else.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;

use crate::command::{CommandError, HttpCommand, valid_header, valid_method, valid_protocol, valid_resource};
use crate::exec::{ExecCommand, ExecError};

/// Largest body of a request, and largest command file. It is held in memory, once for the whole run.
const MAX_BODY: u64 = 64 << 20;

/// What is wrong with a command file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandFileError {
    /// The file, or a body that it names, cannot be read.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file, or a body that it names, is too large.
    #[error("`{}` is larger than 64 MiB", .0.display())]
    TooLarge(PathBuf),
    /// Not the JSON that is expected.
    #[error("the HTTP probe file `{}` is not as expected: {error}", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// What, with line and column.
        error: serde_json::Error,
    },
    /// A command that is wrong in itself.
    #[error("command {number} of the HTTP probe file `{}`: {error}", path.display())]
    Command {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
        /// What.
        error: CommandError,
    },
    /// A command for the container that is wrong in itself.
    #[error("`exec` {number} of the probe script `{}`: {error}", path.display())]
    Exec {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
        /// What.
        error: ExecError,
    },
    /// Both ways of giving a body.
    #[error("command {number} of the HTTP probe file `{}` has both `body` and `body_file`: leave one out", path.display())]
    TwoBodies {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
    },
}

/// Reads the commands of the file at `path`, and the bodies that they name.
///
/// # Errors
/// [`CommandFileError`], with file, command and field.
pub fn read_command_file(path: &Path) -> Result<Vec<HttpCommand>, CommandFileError> {
    with_bodies(parse(path, &read(path)?)?)
}

fn with_bodies(commands: Vec<Unread>) -> Result<Vec<HttpCommand>, CommandFileError> {
    let with_body = |(mut command, body_file): Unread| {
        if let Some(body_file) = body_file {
            command.body = Some(read(&body_file)?.into());
        }
        Ok(command)
    };
    commands.into_iter().map(with_body).collect()
}

/// Reads a script of probes: a file of requests that may have commands as well, `{"commands": [...], "exec": ["redis-cli ping"]}`.
///
/// # Errors
/// [`CommandFileError`], with file, command and field.
pub fn read_probe_script(path: &Path) -> Result<(Vec<HttpCommand>, Vec<ExecCommand>), CommandFileError> {
    let (commands, exec) = parse_script(path, &read(path)?)?;
    Ok((with_bodies(commands)?, exec))
}

/// A request, and the file of its body, which is still to be read.
type Unread = (HttpCommand, Option<PathBuf>);

/// Reads all of a file, within the bound.
fn read(path: &Path) -> Result<Vec<u8>, CommandFileError> {
    let mut bytes = vec![];
    File::open(path)
        .and_then(|file| file.take(MAX_BODY + 1).read_to_end(&mut bytes))
        .map_err(|error| CommandFileError::Read { path: path.into(), error })?;
    if bytes.len() as u64 > MAX_BODY { Err(CommandFileError::TooLarge(path.into())) } else { Ok(bytes) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Commands {
    commands: Vec<Command>,
}

/// See [`read_probe_script`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    commands: Vec<Command>,
    #[serde(default)]
    exec: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Command {
    method: String,
    resource: String,
    port: i64,
    protocol: String,
    headers: Vec<String>,
    body: String,
    body_file: String,
    username: String,
    password: String,
    crawl: bool,
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    drop((parse(Path::new("file"), bytes), parse_script(Path::new("file"), bytes)));
}

/// The commands in the bytes of a file, each with the path of its body. `path` is for messages.
fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Unread>, CommandFileError> {
    let file: Commands = serde_json::from_slice(bytes).map_err(|error| CommandFileError::Json { path: path.into(), error })?;
    check_all(path, file.commands)
}

/// The requests and commands in the bytes of a script.
fn parse_script(path: &Path, bytes: &[u8]) -> Result<(Vec<Unread>, Vec<ExecCommand>), CommandFileError> {
    let script: Script = serde_json::from_slice(bytes).map_err(|error| CommandFileError::Json { path: path.into(), error })?;
    let commands = check_all(path, script.commands)?;
    let exec = script.exec.iter().zip(1..).map(|(text, number)| {
        ExecCommand::parse(text).map_err(|error| CommandFileError::Exec { path: path.into(), number, error })
    });
    Ok((commands, exec.collect::<Result<_, _>>()?))
}

fn check_all(path: &Path, commands: Vec<Command>) -> Result<Vec<Unread>, CommandFileError> {
    let numbered = commands.into_iter().zip(1..);
    numbered
        .map(|(command, number)| {
            if !command.body.is_empty() && !command.body_file.is_empty() {
                return Err(CommandFileError::TwoBodies { path: path.into(), number });
            }
            command.check().map_err(|error| CommandFileError::Command { path: path.into(), number, error })
        })
        .collect()
}

impl Command {
    fn check(self) -> Result<Unread, CommandError> {
        let body_file = non_empty(self.body_file).map(PathBuf::from);
        let body = non_empty(self.body).map(Bytes::from);
        let default_method = if body.is_some() || body_file.is_some() { "POST" } else { "GET" };
        if self.username.contains(':') {
            return Err(CommandError::Username(self.username));
        }
        let command = HttpCommand {
            method: valid_method(non_empty(self.method).as_deref().unwrap_or(default_method))?,
            resource: valid_resource(non_empty(self.resource).as_deref().unwrap_or("/"))?,
            protocol: non_empty(self.protocol).map(|name| valid_protocol(&name)).transpose()?,
            headers: self.headers.iter().map(|header| valid_header(header)).collect::<Result<_, _>>()?,
            body,
            username: non_empty(self.username),
            password: non_empty(self.password),
            port: valid_port(self.port)?,
            crawl: self.crawl,
        };
        Ok((command, body_file))
    }
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn valid_port(port: i64) -> Result<Option<u16>, CommandError> {
    match u16::try_from(port) {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(port)),
        Err(_) => Err(CommandError::Port(port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Protocol;

    fn parse_text(text: &str) -> Result<Vec<Unread>, CommandFileError> {
        parse(Path::new("probes.json"), text.as_bytes())
    }

    #[test]
    fn a_script_has_requests_and_commands() {
        let read = |text: &str| parse_script(Path::new("script.json"), text.as_bytes());
        let (commands, exec) =
            read(r#"{"commands": [{"resource": "/a"}], "exec": ["redis-cli ping", "a | b"]}"#).expect("script");
        assert_eq!(commands, [(HttpCommand::get("/a"), None)]);
        assert_eq!(exec[0], ExecCommand::Direct(vec!["redis-cli".into(), "ping".into()]));
        assert_eq!(exec[1], ExecCommand::Shell("a | b".into()));
        assert!(matches!(read(r#"{"exec": ["'"]}"#), Err(CommandFileError::Exec { number: 1, .. })));
        assert!(matches!(read(r#"{"execs": []}"#), Err(CommandFileError::Json { .. })));
    }

    #[test]
    fn every_field() {
        let commands = parse_text(
            r#"{"commands": [
                {"method": "put", "resource": "/a?b=c", "port": 8080, "protocol": "HTTPS", "headers": ["A: b", "A:c"], "body": "x",
                 "username": "u", "password": "p", "crawl": true},
                {},
                {"method": "", "resource": "", "port": 0, "protocol": "", "headers": [], "body": "", "username": ""},
                {"body": "x"},
                {"body_file": "body.bin", "resource": "/upload"},
                {"body": "x", "method": "GET"}
            ]}"#,
        )
        .expect("commands");
        let full = HttpCommand {
            method: "PUT".into(),
            resource: "/a?b=c".into(),
            protocol: Some(Protocol::Https),
            headers: vec![("A".into(), "b".into()), ("A".into(), "c".into())],
            body: Some("x".into()),
            username: Some("u".into()),
            password: Some("p".into()),
            port: Some(8080),
            crawl: true,
        };
        assert_eq!(commands[0], (full, None));
        assert_eq!(commands[1], (HttpCommand::get("/"), None));
        assert_eq!(commands[2], (HttpCommand::get("/"), None));
        assert_eq!(commands[3].0.method, "POST");
        assert_eq!(commands[4].0.method, "POST");
        assert_eq!(commands[4].1.as_deref(), Some(Path::new("body.bin")));
        assert_eq!(commands[5].0.method, "GET");
    }

    #[test]
    fn errors_name_file_command_and_field() {
        for (text, message) in [
            (
                r#"{"commands": [{"resource": "/", "resorce": "/"}]}"#,
                "the HTTP probe file `probes.json` is not as expected: unknown field `resorce`, expected one of `method`, `resource`, \
                 `port`, `protocol`, `headers`, `body`, `body_file`, `username`, `password`, `crawl` at line 1 column 41",
            ),
            (
                r#"{"comands": []}"#,
                "the HTTP probe file `probes.json` is not as expected: unknown field `comands`, expected `commands` at line 1 column 10",
            ),
            ("", "the HTTP probe file `probes.json` is not as expected: EOF while parsing a value at line 1 column 0"),
            (
                r#"{"commands": [{}, {"port": 65536}]}"#,
                "command 2 of the HTTP probe file `probes.json`: the port 65536 is not between 1 and 65535",
            ),
            (
                r#"{"commands": [{"port": -1}]}"#,
                "command 1 of the HTTP probe file `probes.json`: the port -1 is not between 1 and 65535",
            ),
            (
                r#"{"commands": [{"protocol": "http2"}]}"#,
                "command 1 of the HTTP probe file `probes.json`: the protocol `http2` is not spoken: use `http` or `https`",
            ),
            (
                r#"{"commands": [{"method": "BREW"}]}"#,
                "command 1 of the HTTP probe file `probes.json`: the method `BREW` is not spoken: use one of GET, HEAD, POST, PUT, \
                 DELETE, PATCH, OPTIONS",
            ),
            (
                r#"{"commands": [{"resource": "index.html"}]}"#,
                "command 1 of the HTTP probe file `probes.json`: the resource `index.html` does not begin with `/`",
            ),
            (
                r#"{"commands": [{"headers": ["X"]}]}"#,
                "command 1 of the HTTP probe file `probes.json`: the header `X` has no colon: write `Name: value`",
            ),
            (
                r#"{"commands": [{"username": "a:b"}]}"#,
                "command 1 of the HTTP probe file `probes.json`: the username `a:b` holds a colon, which basic authentication cannot carry",
            ),
            (
                r#"{"commands": [{"body": "a", "body_file": "b"}]}"#,
                "command 1 of the HTTP probe file `probes.json` has both `body` and `body_file`: leave one out",
            ),
        ] {
            assert_eq!(parse_text(text).expect_err(text).to_string(), message);
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(parse_text(&"[".repeat(1 << 20)).is_err());
        assert!(parse_text(&format!("{{\"commands\": {}", "[".repeat(1 << 20))).is_err());
    }

    #[test]
    fn files_are_read_within_bounds() {
        let folder = std::env::temp_dir().join(format!("slim-probes-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let (file, body) = (folder.join("probes.json"), folder.join("body.bin"));
        let text = serde_json::json!({"commands": [{"body_file": body}]}).to_string();
        std::fs::write(&file, text).expect("file");
        let missing = read_command_file(&file).expect_err("no body yet");
        std::fs::write(&body, b"\xff\x00").expect("body");
        let commands = read_command_file(&file);
        std::fs::write(&file, r#"{"commands": [{"body_file": "/dev/zero"}]}"#).expect("file");
        let endless = read_command_file(&file);
        std::fs::remove_dir_all(&folder).expect("removed");
        assert!(missing.to_string().ends_with("body.bin`: No such file or directory (os error 2)"), "{missing}");
        assert_eq!(commands.expect("commands")[0].body.as_deref(), Some(&b"\xff\x00"[..]));
        assert_eq!(endless.expect_err("too large").to_string(), "`/dev/zero` is larger than 64 MiB");
    }
}
