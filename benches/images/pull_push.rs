//! What it takes from an image in a registry to its slim image there: against `skopeo copy` of the image from one registry
//! to another, which moves every layer and looks into none.
//!
//! All bytes move each time: a slim image gets a name of its own, as what a name has already is not sent again, and a copy
//! gets a registry of its own, as one that has the layers under another name is not sent them either. The image has gzip
//! layers. What the registries do is not in the CPU time of what is measured, but takes CPUs from it.

use std::path::Path;
use std::process::Command;

use super::measure::{Measured, measure, middle, note, seconds};
use super::registry::Registry;
use super::support::{Result, run, spread};
use super::{Image, TURNS};

/// No registry here has a certificate.
const PLAIN: [&str; 2] = ["--src-tls-verify=false", "--dest-tls-verify=false"];

pub(crate) fn bench(image: &Image) -> Result<()> {
    let registry = Registry::start()?;
    let source = registry.name("big:1");
    run(Command::new("skopeo").args(["copy", "--quiet", PLAIN[1], &image.layout(), &source]))?;

    let mut rows: [(&str, Vec<Measured>); 3] = ["slim build, cold", "slim build, warm", "skopeo copy"].map(|name| (name, vec![]));
    // Each stays to the end, as where images are unpacked.
    for turn in 0..TURNS {
        let cache = image.folder.join(format!("pulled-{turn}"));
        for (row, kind) in ["cold", "warm"].into_iter().enumerate() {
            let output = registry.name(&format!("big-{kind}-{turn}:slim"));
            note(&mut rows[row], build(&source, &output, &cache)?);
        }
        let other = Registry::start()?;
        let words = ["copy", "--quiet", PLAIN[0], PLAIN[1], &source, &other.name("big:1")].map(str::to_owned);
        note(&mut rows[2], measure("skopeo", &words, image.folder)?);
    }
    print(&rows, image.megabytes);
    Ok(())
}

fn build(source: &str, output: &str, cache: &Path) -> Result<Measured> {
    let words = ["build", "--quiet", source, "--http-probe=false", "--verify=off", "--report", "off", "--output", output]
        .map(str::to_owned);
    measure(env!("CARGO_BIN_EXE_slim"), &words, cache)
}

fn print(rows: &[(&str, Vec<Measured>)], megabytes: f64) {
    let (wall, cpu) = (|it: &Measured| it.seconds, |it: &Measured| it.cpu);
    let copy = &rows[2].1;
    println!("\nfrom a registry to a registry; ratios are those to the copy");
    println!(
        "{:<22} {:>26} {:>8} {:>7} {:>12} {:>7} {:>12} {:>9}",
        "", "seconds", "MB/s", "ratio", "CPU seconds", "ratio", "MB/s a core", "peak MB"
    );
    for (name, measured) in rows {
        let (seconds_taken, cpu_taken) = (middle(measured, wall), middle(measured, cpu));
        println!(
            "{name:<22} {:>26} {:>8.0} {:>7.2} {:>12.3} {:>7.2} {:>12.0} {:>9.0}",
            spread(&mut seconds(measured)),
            megabytes / seconds_taken,
            seconds_taken / middle(copy, wall),
            cpu_taken,
            cpu_taken / middle(copy, cpu),
            megabytes / cpu_taken,
            middle(measured, |it| it.memory),
        );
    }
}
