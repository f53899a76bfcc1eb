//! How fast an image that no daemon has is unpacked, and how soon its first process has run: against `umoci unpack` and
//! `docker load` of the same image.
//!
//! The image is made here, the same each time: 4 layers, 40,000 files, 2.0 GB, most files small and most bytes in large
//! ones, a third of each kind text, half compressible, and random. It is an archive as `docker save` writes it, whose layers
//! are not compressed, and the same as an OCI layout by `skopeo copy`, whose layers are gzip. What is compared takes
//! turns, after a `sync`, so that nobody pays for what another one left to be written. Archives are in the page cache
//! for all.
//!
//! A command is measured by this program, started again as its only parent: CPU time and peak memory are those of the
//! command and of what it waited for. Of `docker load` only the client could be seen, so its wall time alone is told.
//!
//! `cargo bench --bench images` needs root, a Docker daemon with its client, `skopeo`, `umoci` and `busybox` (static), 8 GB of
//! disk and some minutes.

#![expect(clippy::print_stdout, reason = "this is what a bench is for")]

#[allow(dead_code, reason = "each bench uses its part")]
mod support;

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use support::{Result, docker, median, run, spread};

/// Turns of each, few as they take long; of three, the median is the middle one.
const TURNS: usize = 3;
const LAYERS: u64 = 4;
const FILES: u64 = 40_000;
/// Files of a directory.
const SIBLINGS: u64 = 25;
/// Its name in the daemon.
const NAME: &str = "slim-bench/images:1";
/// Says that this program is to measure a command.
const MEASURE: &str = "--measure-a-command";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1) {
        Some(first) if first == MEASURE => measure_here(&arguments[2..]),
        // `cargo test --all-targets` starts benches too, without this.
        _ if arguments.iter().any(|argument| argument == "--bench") => bench(),
        _ => Ok(()),
    }
}

fn bench() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let bytes = make_image(folder.path(), &at("image.tar"))?;
    let megabytes = bytes as f64 / 1e6;
    let archive = format!("docker-archive:{}", at("image.tar").display());
    let layout = format!("oci:{}:1", at("layout").display());
    run(Command::new("skopeo").args(["copy", "--quiet", &archive, &layout]))?;
    println!("{LAYERS} layers, {FILES} files, {megabytes:.0} MB of content; {TURNS} turns each, medians (least to most)");

    let mut rows: [(&str, Vec<Measured>); 6] =
        ["slim, archive", "slim, layout", "umoci unpack", "docker load", "slim, archive, warm", "slim, layout, warm"]
            .map(|name| (name, vec![]));
    for _ in 0..TURNS {
        let slim = |image: &str| {
            let words = ["run", "--quiet", image, "/busybox", "true"].map(str::to_owned).to_vec();
            measure(env!("CARGO_BIN_EXE_slim"), &words, &at("cache"))
        };
        for (image, cold, warm) in [(&archive, 0, 4), (&layout, 1, 5)] {
            note(&mut rows[cold], slim(image)?);
            note(&mut rows[warm], slim(image)?);
            fs::remove_dir_all(at("cache"))?;
        }
        let bundle = at("bundle").display().to_string();
        let image = format!("{}:1", at("layout").display());
        let words = ["unpack", "--image", &image, &bundle].map(str::to_owned);
        note(&mut rows[2], measure("umoci", &words, folder.path())?);
        fs::remove_dir_all(&bundle)?;
        run(&mut Command::new("sync"))?;
        let begun = Instant::now();
        run(docker(&["load", "--quiet", "-i"]).arg(at("image.tar")))?;
        note(&mut rows[3], Measured { seconds: begun.elapsed().as_secs_f64(), cpu: f64::NAN, memory: f64::NAN });
        run(&mut docker(&["rmi", NAME]))?;
    }

    let base = median(&mut seconds(&rows[0].1));
    println!("\n{:<22} {:>26} {:>8} {:>12} {:>12} {:>9}", "", "seconds", "MB/s", "MB/s a core", "peak MB", "to slim");
    for (name, measured) in &rows[..4] {
        let middle = |pick: fn(&Measured) -> f64| median(&mut measured.iter().map(pick).collect::<Vec<_>>());
        let (wall, cpu, memory) = (middle(|it| it.seconds), middle(|it| it.cpu), middle(|it| it.memory));
        println!(
            "{name:<22} {:>26} {:>8.0} {:>12} {:>12} {:>9.2}",
            spread(&mut seconds(measured)),
            megabytes / wall,
            or_unknown(megabytes / cpu),
            or_unknown(memory),
            wall / base,
        );
    }
    println!("\ntime to the end of the first process, seconds");
    for (cold, warm) in [(0, 4), (1, 5)] {
        let (mut cold_seconds, mut warm_seconds) = (seconds(&rows[cold].1), seconds(&rows[warm].1));
        let ratio = median(&mut cold_seconds) / median(&mut warm_seconds);
        let name = rows[cold].0;
        println!("{name:<22} cold {}, warm {}, {ratio:.0} to 1", spread(&mut cold_seconds), spread(&mut warm_seconds));
    }
    Ok(())
}

/// Keeps what was measured, and tells it at once: on a machine with other work to do a turn can take many minutes.
fn note((name, all): &mut (&str, Vec<Measured>), measured: Measured) {
    println!("{name:<22} {:.3} s, CPU {:.3} s, {:.0} MB", measured.seconds, measured.cpu, measured.memory);
    all.push(measured);
}

fn or_unknown(figure: f64) -> String {
    if figure.is_nan() { "not seen".to_owned() } else { format!("{figure:.0}") }
}

/// What a command took: wall and CPU seconds, and the most memory of one of its processes, in MB.
#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    cpu: f64,
    memory: f64,
}

fn seconds(measured: &[Measured]) -> Vec<f64> {
    measured.iter().map(|it| it.seconds).collect()
}

/// Measures a command in a process of its own; `cache` is for its cache.
fn measure(program: &str, words: &[String], cache: &Path) -> Result<Measured> {
    run(&mut Command::new("sync"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(MEASURE).arg(program).args(words).env("XDG_CACHE_HOME", cache);
    let measured: Value = serde_json::from_str(&run(&mut command)?)?;
    let figure = |name: &str| measured[name].as_f64().ok_or("a figure is missing");
    Ok(Measured { seconds: figure("seconds")?, cpu: figure("cpu")?, memory: figure("memory")? })
}

/// Runs a command as this process's only child, and writes what it took.
fn measure_here(words: &[String]) -> Result<()> {
    let [program, words @ ..] = words else { return Err("nothing to measure".into()) };
    let begun = Instant::now();
    let mut command = Command::new(program);
    let status = command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let seconds = begun.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("{command:?} failed: {status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = time(usage.user_time()) + time(usage.system_time());
    println!("{}", json!({"seconds": seconds, "cpu": cpu, "memory": usage.max_rss() as f64 * 1024.0 / 1e6}));
    Ok(())
}

/// Writes the archive of the image; bytes of all its files.
fn make_image(folder: &Path, archive: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut outer = tar::Builder::new(BufWriter::new(File::create(archive)?));
    let (mut diff_ids, mut names) = (vec![], vec![]);
    for layer in 0..LAYERS {
        let path = folder.join("layer.tar");
        bytes += make_layer(layer, &path)?;
        let mut hasher = Sha256::new();
        std::io::copy(&mut BufReader::new(File::open(&path)?), &mut Hash(&mut hasher))?;
        let digits: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{digits}.tar");
        outer.append_path_with_name(&path, &name)?;
        fs::remove_file(&path)?;
        diff_ids.push(format!("sha256:{digits}"));
        names.push(name);
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs}).to_string();
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": names}]).to_string();
    for (name, content) in [("config.json", config), ("manifest.json", manifest)] {
        append(&mut outer, name, content.as_bytes(), 0o644)?;
    }
    outer.into_inner()?.into_inner().map_err(|error| error.into_error())?;
    Ok(bytes)
}

struct Hash<'h>(&'h mut Sha256);

impl Write for Hash<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(content.len() as u64);
    Ok(archive.append_data(&mut header, path, content)?)
}

/// Writes a layer's archive; bytes of its files. The lowest has the program.
fn make_layer(layer: u64, path: &Path) -> Result<u64> {
    let mut archive = tar::Builder::new(BufWriter::new(File::create(path)?));
    let mut bytes = 0;
    if layer == 0 {
        append(&mut archive, "busybox", &fs::read(PathBuf::from("/bin/busybox"))?, 0o755)?;
    }
    let mut random = Random(layer + 1);
    let mut content = vec![];
    for number in 0..FILES / LAYERS {
        let directory = number / SIBLINGS;
        let path = format!("usr/lib/layer{layer}/package{}/module{directory}/file{number}.dat", directory / 20);
        let size = match random.next() % 100 {
            0..70 => 1 + random.next() % (9 << 10),
            70..95 => (16 << 10) + random.next() % (112 << 10),
            _ => (64 << 10) + random.next() % (936 << 10),
        };
        fill(&mut content, usize::try_from(size)?, number % 3, &mut random);
        append(&mut archive, &path, &content, 0o644)?;
        bytes += size;
    }
    archive.into_inner()?.into_inner().map_err(|error| error.into_error())?;
    Ok(bytes)
}

/// Numbers that are the same each time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Text, something between such as programs are, or what is compressed already.
fn fill(content: &mut Vec<u8>, size: usize, kind: u64, random: &mut Random) {
    const WORDS: [&str; 16] = [
        "the ",
        "of ",
        "return ",
        "self",
        "import ",
        "function ",
        "\n    ",
        "= ",
        "(",
        ")",
        "value",
        "name",
        "license ",
        "path",
        "if ",
        "0",
    ];
    content.clear();
    while content.len() < size {
        let number = random.next();
        match kind {
            0 => (0..16).for_each(|at| content.extend_from_slice(WORDS[(number >> (4 * at)) as usize % 16].as_bytes())),
            1 => {
                content.extend_from_slice(&number.to_le_bytes());
                content.extend_from_slice(&[0x48, 0x8b, (number % 8) as u8, 0x24, 0, 0, 0, 0]);
            }
            _ => content.extend_from_slice(&number.to_le_bytes()),
        }
    }
    content.truncate(size);
}
