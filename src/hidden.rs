//! The verbs that slim starts itself with inside containers, and beside them. Not part of the command line: their arguments change with
//! the program.
//!
//! They are told apart before anything else happens in the process: the monitor forks and the stub becomes another
//! program, so there may be one thread and nothing may be set up.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use slim_sensor::wire::{MAX_FRAME, MESSAGE, PackerSetup, decode};
use slim_sensor::{container, monitor, packer, relay, stub};

/// Becomes the program in its arguments, observed.
pub const STUB: &str = "__stub";
/// Watches the stubs of its container.
pub const MONITOR: &str = "__monitor";
/// Lists and reads the tree of its container.
pub const PACKER: &str = "__packer";
/// Connects its standard streams with a port of its container.
pub const RELAY: &str = "__relay";
/// Writes an archive of a directory of its container to its standard output.
pub const ARCHIVE: &str = "__archive";
/// Makes a container and stays beside it, without an engine.
pub const CONTAINER: &str = "__container";

/// Environment of a monitor: the C library's restartable sequences (since glibc 2.35) cost each of its task switches, of which
/// every observed call takes two, and it has no use for them.
pub const MONITOR_VARIABLE: (&str, &str) = ("GLIBC_TUNABLES", "glibc.pthread.rseq=0");

/// The first byte of a packer that serves on its standard streams.
pub const ON_STREAMS: u8 = b'>';

/// Exit status of a verb that could not begin.
const FAILED: i32 = 125;

/// Runs the hidden verb that the arguments name; its exit status, `None` where they name none.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> Option<i32> {
    let mut arguments = arguments.into_iter().skip(1);
    let verb = arguments.next()?;
    let result = match verb.to_str()? {
        STUB => run_stub(arguments),
        MONITOR => run_monitor(arguments),
        PACKER => run_packer(arguments),
        RELAY => run_relay(arguments),
        ARCHIVE => run_archive(arguments),
        CONTAINER => container::run().map(|()| 0),
        _ => return None,
    };
    Some(result.unwrap_or_else(|reason| {
        // The engine shows it in the container's log, or hands it to the controller.
        let _ = writeln!(std::io::stderr(), "slim: {reason}");
        FAILED
    }))
}

/// What is told to a verb in its argument.
///
/// # Panics
/// Never: what is told is plain data.
#[must_use]
pub fn to_json(told: &impl serde::Serialize) -> String {
    serde_json::to_string(told).expect("it is plain data")
}

fn text(argument: Option<OsString>) -> Result<String, String> {
    let argument = argument.ok_or("an argument is missing")?;
    argument.into_string().map_err(|argument| format!("`{}` is not UTF-8", argument.display()))
}

fn run_stub(mut arguments: impl Iterator<Item = OsString>) -> Result<i32, String> {
    let spec: stub::StubSpec = serde_json::from_str(&text(arguments.next())?).map_err(|error| error.to_string())?;
    let command = arguments.map(|word| CString::new(word.into_vec())).collect::<Result<Vec<_>, _>>();
    let error = stub::run(&spec, &command.map_err(|error| error.to_string())?);
    let _ = writeln!(std::io::stderr(), "{error}");
    Ok(error.status())
}

fn run_monitor(mut arguments: impl Iterator<Item = OsString>) -> Result<i32, String> {
    let options: monitor::Options = serde_json::from_str(&text(arguments.next())?).map_err(|error| error.to_string())?;
    monitor::run(&options).map_err(|error| error.to_string())
}

fn run_relay(arguments: impl Iterator<Item = OsString>) -> Result<i32, String> {
    let address = |argument| text(Some(argument))?.parse().map_err(|_| "not an address".to_owned());
    let addresses = arguments.map(address).collect::<Result<Vec<_>, _>>()?;
    relay::run(&addresses, std::io::stdin(), raw_stdout()?).map_err(|error| error.to_string())?;
    Ok(0)
}

/// The directory itself is an entry too, by its last name. An engine's own archives lack owners (Podman) or that entry.
fn run_archive(mut arguments: impl Iterator<Item = OsString>) -> Result<i32, String> {
    let directory = PathBuf::from(arguments.next().ok_or("an argument is missing")?);
    // A link is none: what is unpacked in its place would replace it.
    if !std::fs::symlink_metadata(&directory).map_err(|error| error.to_string())?.is_dir() {
        return Err("it is not a directory".to_owned());
    }
    let name = directory.file_name().ok_or("it is the root directory")?;
    let mut archive = tar::Builder::new(BufWriter::with_capacity(256 << 10, raw_stdout()?));
    archive.follow_symlinks(false);
    let written = archive.append_dir_all(name, &directory).and_then(|()| archive.into_inner()?.flush());
    written.map(|()| 0).map_err(|error| error.to_string())
}

/// Serves on the unix socket in the argument. Where that can't be reached (the engine's host does not have our files, or
/// root in the container is nobody outside) it serves on the standard streams, and says so first.
fn run_packer(mut arguments: impl Iterator<Item = OsString>) -> Result<i32, String> {
    let socket = PathBuf::from(arguments.next().ok_or("an argument is missing")?);
    let served = match UnixStream::connect(socket) {
        Ok(stream) => serve_packer(stream.try_clone().map_err(|error| error.to_string())?, stream),
        Err(_) => {
            let mut output = raw_stdout()?;
            output.write_all(&[ON_STREAMS]).map_err(|error| error.to_string())?;
            serve_packer(std::io::stdin(), output)
        }
    };
    served.map(|()| 0)
}

fn serve_packer(mut input: impl Read, output: impl Write) -> Result<(), String> {
    let setup: PackerSetup = read_setup(&mut input).map_err(|error| format!("cannot read the order: {error}"))?;
    let options = packer::Options {
        root: PathBuf::from("/"),
        own: setup.own,
        container_created: setup.container_created,
        image_created: setup.image_created,
        volumes: setup.made_by_engine,
        unmount: true,
    };
    packer::run(options, input, output).map_err(|error| error.to_string())
}

/// The first frame, and not a byte more: the rest is the packer's.
fn read_setup(input: &mut impl Read) -> std::io::Result<PackerSetup> {
    let mut head = [0; 5];
    input.read_exact(&mut head)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length == 0 || length > MAX_FRAME || head[4] != MESSAGE {
        return Err(std::io::Error::other("not an order"));
    }
    let mut payload = vec![0; length - 1];
    input.read_exact(&mut payload)?;
    decode(&payload).map_err(std::io::Error::other)
}

/// Standard output without Rust's line buffer, which would cut the stream at each newline byte.
fn raw_stdout() -> Result<File, String> {
    std::io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(|error| error.to_string())
}
