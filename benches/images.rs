//! How fast images that no daemon has are unpacked, and how fast they are taken from a registry and put there again, slim.
//!
//! The image is made here, the same each time: 4 layers, 40,000 files, 2.0 GB. It is an archive as `docker save` writes it,
//! whose layers are not compressed, and the same as an OCI layout by `skopeo copy`, whose layers are gzip. What is compared
//! takes turns, after a `sync`, so that nobody pays for what another one left to be written. Archives are in the page cache
//! for all.
//!
//! `cargo bench --bench images` needs root, a Docker daemon with its client, `skopeo`, `umoci`, `docker-registry` and
//! `busybox` (static), 30 GB of disk and some minutes. `-- unpack` and `-- registry` do one part alone, the second without a
//! daemon and `umoci`. `SLIM_BENCH_MEGABYTES` is another size of the image than 2000, by the number of its files.

#![expect(clippy::print_stdout, reason = "this is what a bench is for")]

#[path = "images/image.rs"]
mod image;
#[path = "images/measure.rs"]
mod measure;
#[path = "images/pull_push.rs"]
mod pull_push;
#[path = "images/registry.rs"]
mod registry;
mod support;
#[path = "images/unpack.rs"]
mod unpack;

use std::path::Path;
use std::process::Command;

use image::LAYERS;
use measure::MEASURE;
use support::{Result, run};

/// Turns of each, few as they take long; of three, the median is the middle one.
const TURNS: usize = 3;

/// A part of this bench: its name, and what does it.
type Part = (&'static str, fn(&Image) -> Result<()>);
const PARTS: [Part; 2] = [("unpack", unpack::bench), ("registry", pull_push::bench)];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first() {
        Some(first) if first == MEASURE => measure::measure_here(&arguments[1..]),
        // `cargo test --all-targets` starts benches too, without this.
        _ if arguments.iter().any(|argument| argument == "--bench") => bench(&arguments),
        _ => Ok(()),
    }
}

/// The image as an archive and as a layout, in a folder that is for whatever else there is to keep.
struct Image<'f> {
    folder: &'f Path,
    /// Of content.
    megabytes: f64,
}

impl Image<'_> {
    fn archive(&self) -> String {
        format!("docker-archive:{}", self.folder.join("image.tar").display())
    }

    fn layout(&self) -> String {
        format!("oci:{}:1", self.folder.join("layout").display())
    }
}

/// Does the parts that are asked for, or all.
fn bench(arguments: &[String]) -> Result<()> {
    let asked: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|name| PARTS.iter().all(|(part, _)| part != *name)) {
        return Err(format!("there is no part {unknown}").into());
    }
    let folder = tempfile::tempdir()?;
    let files = image::files()?;
    let bytes = image::make_image(files, folder.path(), &folder.path().join("image.tar"))?;
    let image = Image { folder: folder.path(), megabytes: bytes as f64 / 1e6 };
    run(Command::new("skopeo").args(["copy", "--quiet", &image.archive(), &image.layout()]))?;
    println!("{LAYERS} layers, {files} files, {:.0} MB of content; {TURNS} turns each, medians (least to most)", image.megabytes);
    for (name, part) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| *asked == name) {
            part(&image)?;
        }
    }
    Ok(())
}
