//! A daemon's answers as a newer one gives them: what is empty is left out, as Docker 29 does (API 1.52), which no release of
//! Debian has. It stands between a client and the socket of the daemon.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where a head ends.
const END: &[u8] = b"\r\n\r\n";

/// Serves at `socket` what the daemon at `daemon` answers, as long as this process lives.
pub fn serve(socket: &Path, daemon: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let daemon = daemon.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let daemon = daemon.clone();
            // Who hangs up early has what it wanted.
            std::thread::spawn(move || pass(client, &daemon).unwrap_or_default());
        }
    });
}

/// One request and its answer; each has a connection of its own.
fn pass(mut client: UnixStream, daemon: &PathBuf) -> std::io::Result<()> {
    let (head, rest) = head_of(&mut client)?;
    let is_upgrade = head.to_ascii_lowercase().contains("\r\nupgrade:");
    let line = head.lines().next().unwrap_or_default().to_owned();
    let is_told = line.starts_with("GET ") && line.split(['?', ' ']).any(|word| word.ends_with("/json"));
    let mut daemon = UnixStream::connect(daemon)?;
    let head = if is_upgrade { head } else { closing(&head) };
    daemon.write_all(head.as_bytes())?;
    daemon.write_all(&rest)?;
    if is_told {
        let (head, mut body) = head_of(&mut daemon)?;
        daemon.read_to_end(&mut body)?;
        if head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked") {
            body = unchunked(&body);
        }
        if let Ok(mut value) = serde_json::from_slice::<Value>(&body) {
            leave_out(&mut value);
            body = value.to_string().into_bytes();
        }
        let status = head.lines().next().unwrap_or_default();
        let length = body.len();
        let head = format!("{status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        client.write_all(head.as_bytes())?;
        return client.write_all(&body);
    }
    let (mut from, mut to) = (client.try_clone()?, daemon.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    std::io::copy(&mut daemon, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// What comes up to the end of a head, and what came after it.
fn head_of(from: &mut UnixStream) -> std::io::Result<(String, Vec<u8>)> {
    let (mut bytes, mut part) = (vec![], [0; 1 << 14]);
    loop {
        if let Some(at) = bytes.windows(END.len()).position(|window| window == END) {
            let rest = bytes.split_off(at + END.len());
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        match from.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(&part[..length]),
        }
    }
}

/// The head of a request after which the connection is closed.
fn closing(head: &str) -> String {
    let lines = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    lines.map(|line| format!("{line}\r\n")).collect::<String>() + "Connection: close\r\n\r\n"
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = vec![];
    while let Some(at) = body.windows(2).position(|window| window == b"\r\n") {
        let length = String::from_utf8_lossy(&body[..at]);
        let Ok(length @ 1..) = usize::from_str_radix(length.trim(), 16) else { break };
        let Some(chunk) = body.get(at + 2..at + 2 + length) else { break };
        whole.extend_from_slice(chunk);
        body = body.get(at + 2 + length + 2..).unwrap_or_default();
    }
    whole
}

fn leave_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(leave_out);
            fields.retain(|_, value| match value {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                // A port or a volume is the name of an empty object.
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out),
        _ => {}
    }
}
