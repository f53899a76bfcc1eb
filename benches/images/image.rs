//! The image that is unpacked and moved, the same each time: 4 layers, most files small and most bytes in large ones, a third
//! of each kind text, half compressible, and random.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::support::Result;

pub(crate) const LAYERS: u64 = 4;
/// Its name in the daemon.
pub(crate) const NAME: &str = "slim-bench/images:1";
/// What it runs if nothing else is said: it reads 500 files of the top layer (25 MB), an eightieth of the image, and ends.
const COMMAND: [&str; 5] = ["/busybox", "grep", "-rc", "license", "/usr/lib/layer3/package0"];
/// Its size, unless [`SIZE`] says another.
const MEGABYTES: u64 = 2000;
/// The variable with another size.
const SIZE: &str = "SLIM_BENCH_MEGABYTES";
const FILES_PER_MEGABYTE: u64 = 20;
/// Files of a directory.
const SIBLINGS: u64 = 25;

/// How many files it has: its size sets them.
pub(crate) fn files() -> Result<u64> {
    let megabytes = match std::env::var(SIZE) {
        Ok(megabytes) => megabytes.parse().map_err(|error| format!("{SIZE}={megabytes}: {error}"))?,
        Err(_) => MEGABYTES,
    };
    if megabytes == 0 {
        return Err(format!("{SIZE} is at least 1").into());
    }
    Ok(megabytes * FILES_PER_MEGABYTE)
}

/// Writes the archive of the image, of so many files; their bytes.
pub(crate) fn make_image(files: u64, folder: &Path, archive: &Path) -> Result<u64> {
    let mut bytes = 0;
    let mut outer = tar::Builder::new(BufWriter::new(File::create(archive)?));
    let (mut diff_ids, mut names) = (vec![], vec![]);
    for layer in 0..LAYERS {
        let path = folder.join("layer.tar");
        bytes += make_layer(layer, files / LAYERS, &path)?;
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
    let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": COMMAND}, "rootfs": rootfs}).to_string();
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
fn make_layer(layer: u64, files: u64, path: &Path) -> Result<u64> {
    let mut archive = tar::Builder::new(BufWriter::new(File::create(path)?));
    let mut bytes = 0;
    if layer == 0 {
        append(&mut archive, "busybox", &fs::read(PathBuf::from("/bin/busybox"))?, 0o755)?;
    }
    let mut random = Random(layer + 1);
    let mut content = vec![];
    for number in 0..files {
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
