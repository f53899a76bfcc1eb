//! How long `slim build` takes, as a ratio to the least that its work can take.
//!
//! The floor is what nobody who minifies by watching can do without: a plain `docker run` until the application answers,
//! the same requests that `slim` makes, `docker stop`, and `docker load` of the slim image. Floor and `slim` take turns, so that
//! what else the machine does burdens both; medians are compared. The slim image is removed before each turn, or loading it
//! would cost nothing. The seconds of each of `slim`'s steps come from its report. A bad ratio is told, never a failure.
//!
//! The floor makes an image that nobody has tried, so it is compared with `--verify=off`; what trying it costs is a ratio of its own.
//!
//! `cargo bench --bench build` needs a Docker daemon, its client, and `mmdebstrap` for the images, which are made once.

#![expect(clippy::print_stdout, reason = "this is what a bench is for")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::{Result, docker, median, run, spread};

/// Turns of each; the median is the middle one.
const TURNS: usize = 7;
/// The ratio that is aimed at.
const AIM: f64 = 2.0;
/// The ratio that is not to be exceeded.
const LIMIT: f64 = 3.0;
/// The same for a verified build, to one that is not.
const VERIFIED_LIMIT: f64 = 2.0;
/// An application that has not answered by now won't.
const PATIENCE: Duration = Duration::from_secs(30);

/// An application: its name in `tests/debian-image`, and its port.
const APPLICATIONS: [(&str, u16); 2] = [("nginx", 80), ("python-flask", 8000)];

fn main() -> Result<()> {
    // `cargo test --all-targets` starts benches too, without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    println!("{TURNS} turns each, medians (least to most) in seconds");
    for (application, port) in APPLICATIONS {
        measure(application, port)?;
    }
    Ok(())
}

/// Measures one application, and prints what came of it.
fn measure(application: &str, port: u16) -> Result<()> {
    let (image, slim_image) = (format!("slim-bench/{application}:1"), format!("slim-bench/{application}.slim:1"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/debian-image");
    run(Command::new(script).args([application, &image]))?;
    let folder = tempfile::tempdir()?;
    let (report, archive) = (folder.path().join("report.json"), folder.path().join("slim.tar"));

    // Not measured: what `slim` asks for, and what is to be loaded.
    build(&image, &slim_image, &report, OFF)?;
    let requests = requests(&read_report(&report)?)?;
    run(docker(&["save", "-o"]).arg(&archive).arg(&slim_image))?;

    let (mut floors, mut builds, mut verified) = (Vec::new(), Vec::new(), Vec::new());
    let mut steps = Vec::<(String, Vec<f64>)>::new();
    for _ in 0..TURNS {
        run(&mut docker(&["rmi", &slim_image]))?;
        floors.push(floor(&image, port, &requests, &archive)?);
        run(&mut docker(&["rmi", &slim_image]))?;
        builds.push(build(&image, &slim_image, &report, OFF)?);
        run(&mut docker(&["rmi", &slim_image]))?;
        verified.push(build(&image, &slim_image, &report, STRICT)?);
        add_steps(&mut steps, &read_report(&report)?)?;
    }
    run(&mut docker(&["rmi", &slim_image]))?;

    let ratio = median(&mut builds) / median(&mut floors);
    let cost = median(&mut verified) / median(&mut builds);
    let verdict = match ratio {
        ratio if ratio <= AIM => "as aimed at",
        ratio if ratio <= LIMIT => "within the limit, more than aimed at",
        _ => "TOO SLOW",
    };
    let cost_verdict = if cost <= VERIFIED_LIMIT { "within the limit" } else { "TOO SLOW" };
    println!("\n{application}: {} requests", requests.len());
    println!("  floor       {}", spread(&mut floors));
    println!("  unverified  {}", spread(&mut builds));
    println!("  verified    {}", spread(&mut verified));
    println!("  unverified to floor     {ratio:.2}: {verdict} (aim {AIM:.1}, at most {LIMIT:.1})");
    println!("  verified to unverified  {cost:.2}: {cost_verdict} (at most {VERIFIED_LIMIT:.1})");
    println!("  steps of the verified builds:");
    for (step, mut seconds) in steps {
        println!("    {step:<22} {}", spread(&mut seconds));
    }
    Ok(())
}

const OFF: &str = "--verify=off";
const STRICT: &str = "--verify=strict";

/// Seconds of `slim build`.
fn build(image: &str, slim_image: &str, report: &Path, verify: &str) -> Result<f64> {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
    run(command.args(["build", image, "--http-probe", verify, "--tag", slim_image, "--report"]).arg(report))?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds of the same work by hand.
fn floor(image: &str, port: u16, requests: &[String], archive: &Path) -> Result<f64> {
    let host_port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let publish = format!("127.0.0.1:{host_port}:{port}");
    let begun = Instant::now();
    let container = run(&mut docker(&["run", "--detach", "--publish", &publish, image]))?;
    let exercised = exercise(host_port, requests);
    let stopped = run(&mut docker(&["stop", &container]));
    let loaded = run(docker(&["load", "--quiet", "-i"]).arg(archive));
    let seconds = begun.elapsed().as_secs_f64();
    run(&mut docker(&["rm", "--force", "--volumes", &container]))?;
    exercised.and(stopped).and(loaded).map(|_| seconds)
}

/// Waits until the application answers, then makes the requests.
fn exercise(port: u16, requests: &[String]) -> Result<()> {
    let begun = Instant::now();
    while get(port, "/").is_err() {
        if begun.elapsed() > PATIENCE {
            return Err("the application does not answer".into());
        }
        sleep(Duration::from_millis(5));
    }
    for resource in requests {
        get(port, resource)?;
    }
    Ok(())
}

/// One request as `slim` makes it; an answer in HTTP, read to its end.
fn get(port: u16, resource: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {resource} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: */*\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.") { Ok(()) } else { Err("no answer in HTTP".into()) }
}

/// The resources that `slim` asked for.
fn requests(report: &Value) -> Result<Vec<String>> {
    let records = report["probes"]["http"]["records"].as_array().ok_or("the report has no requests")?;
    let resources = records.iter().map(|record| record["resource"].as_str().map(str::to_owned));
    resources.collect::<Option<_>>().ok_or_else(|| "a request has no resource".into())
}

/// Adds the seconds of each step of one turn.
fn add_steps(steps: &mut Vec<(String, Vec<f64>)>, report: &Value) -> Result<()> {
    for (step, seconds) in serde_json::from_value::<Vec<(String, f64)>>(report["seconds"].clone())? {
        match steps.iter_mut().find(|(known, _)| *known == step) {
            Some((_, all)) => all.push(seconds),
            None => steps.push((step, vec![seconds])),
        }
    }
    Ok(())
}

fn read_report(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
