//! The observation as a file (`--observation-out`): JSON Lines, for later verbs and for other programs.
//!
//! Each line is one JSON object that says in its first field what kind of record it is; `docs/observation.md` describes
//! them. Lines, because a run has hundreds of thousands of uses: they are written and read one at a time, and `grep`, `jq`
//! and `split` work on them. Processes and phases are numbered by their order and told before they are used, so that one
//! pass checks every number. `end` comes last: a file without it is of a run that was cut off, and no evidence.
//!
//! Versions: one number. A field that a reader may ignore without drawing other conclusions can be added at any time, and
//! unknown fields are ignored; anything else (a new kind of record, a new word, another meaning) is a new version, and
//! whoever reads refuses a version, a record or a word that it doesn't know: to skip evidence is to build an image that
//! lacks files.
//!
//! Whoever hands a file over can have written anything into it, so lines and paths are bounded, and what is shown of them
//! in messages is too.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::observation::{Counters, End, Header, Mount, Observation, PathUse, Phase, Process};
use crate::escape::escape;
use crate::files::write_file_atomically;

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// Most bytes of a line, its end included. The longest that can be meant is a header whose options fill a command line (2 MiB
/// on Linux), each byte of it escaped with six. An answer's headers take up a few hundred KiB, a use three paths.
pub const MAX_LINE: usize = 16 << 20;

/// Most bytes of a path: Linux's `PATH_MAX`.
const MAX_PATH: usize = 4096;

/// Most characters of the file's own text that a message shows.
const MAX_SHOWN: usize = 200;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Line<'a> {
    Observation {
        version: u32,
        #[serde(flatten)]
        header: Cow<'a, Header>,
    },
    Phase(Cow<'a, Phase>),
    Process(Cow<'a, Process>),
    Mount(Cow<'a, Mount>),
    Use(Cow<'a, PathUse>),
    Answer {
        answer: Cow<'a, serde_json::Value>,
    },
    Syscalls {
        names: Cow<'a, BTreeSet<String>>,
    },
    /// Of these there can be as many as of uses: each has its own line, so that no line grows without bound.
    Loss {
        what: Cow<'a, str>,
    },
    Note {
        what: Cow<'a, str>,
    },
    End {
        complete: bool,
        tail_unknown: bool,
        counters: Counters,
        exit_code: Option<i64>,
    },
}

/// What of the first line is the same in all versions.
#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    record: String,
    version: Option<u32>,
}

/// What is wrong with a file, and where.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct FileError {
    /// Counted from 1.
    pub line: u64,
    /// What.
    pub problem: Problem,
}

/// See [`FileError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The system's error.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// Nothing at all.
    #[error("the file is empty, it should begin with an `observation` record")]
    Empty,
    /// Over [`MAX_LINE`].
    #[error("the line is longer than {MAX_LINE} bytes: no observation has such a line")]
    TooLong,
    /// The last line has no newline.
    #[error("the line is cut off, it does not end in a newline: copy the file again, or repeat the observation")]
    Cut,
    /// Not JSON at all.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// Not a record of this version.
    #[error("not a record of version {VERSION} of the observation format: {0}")]
    Record(String),
    /// Another kind of file.
    #[error("not an observation: the file should begin with an `observation` record")]
    Foreign,
    /// Another version.
    #[error(
        "the file has version {0} of the observation format, and this `slim` reads version {VERSION}: use a `slim` that reads \
         version {0}, or repeat the observation with this one"
    )]
    Version(u32),
    /// A second first line.
    #[error("a second `observation` record: files of several runs are merged, not concatenated, see docs/observation.md")]
    Second,
    /// A number that nothing has yet.
    #[error("{what} {number} is used, but only {told} were told so far: they are numbered from 0")]
    Number {
        /// `process` or `phase`.
        what: &'static str,
        /// Its number.
        number: u32,
        /// How many there are.
        told: usize,
    },
    /// Longer than any path in Linux.
    #[error("a path of {0} bytes: the most is {MAX_PATH}")]
    LongPath(usize),
    /// The end says that nothing was lost, other records say what.
    #[error("the run is called complete, but its records say that something was lost: repeat the observation")]
    Contradiction,
    /// Something behind the end.
    #[error("a record after `end`: files of several runs are merged, not concatenated, see docs/observation.md")]
    AfterEnd,
    /// Nothing more, and no end.
    #[error("the file stops without an `end` record: the run was cut off, so repeat the observation")]
    NoEnd,
}

/// An observation could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("the observation cannot be written to `{path}`: {source}")]
pub struct SaveError {
    path: String,
    source: io::Error,
}

/// Writes an observation; equal ones give equal bytes.
///
/// # Errors
/// Those of `out`, and [`io::ErrorKind::InvalidData`] for a line that could not be read again.
pub fn write(observation: &Observation, mut out: impl Write) -> io::Result<()> {
    let Observation { header, phases, processes, uses, mounts, answers, syscalls, end } = observation;
    let End { complete, tail_unknown, counters, losses, notes, exit_code } = end;
    let mut buffer = vec![];
    let mut put = |line: Line<'_>| put_line(&line, &mut buffer, &mut out);

    put(Line::Observation { version: VERSION, header: Cow::Borrowed(header) })?;
    phases.iter().try_for_each(|phase| put(Line::Phase(Cow::Borrowed(phase))))?;
    processes.iter().try_for_each(|process| put(Line::Process(Cow::Borrowed(process))))?;
    mounts.iter().try_for_each(|mount| put(Line::Mount(Cow::Borrowed(mount))))?;
    uses.iter().try_for_each(|path_use| put(Line::Use(Cow::Borrowed(path_use))))?;
    answers.iter().try_for_each(|answer| put(Line::Answer { answer: Cow::Borrowed(answer) }))?;
    put(Line::Syscalls { names: Cow::Borrowed(syscalls) })?;
    losses.iter().try_for_each(|what| put(Line::Loss { what: Cow::Borrowed(what) }))?;
    notes.iter().try_for_each(|what| put(Line::Note { what: Cow::Borrowed(what) }))?;
    put(Line::End { complete: *complete, tail_unknown: *tail_unknown, counters: *counters, exit_code: *exit_code })
}

fn put_line(line: &Line<'_>, buffer: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, line)?;
    buffer.push(b'\n');
    if buffer.len() > MAX_LINE {
        let message = format!("a record takes {} bytes: the most is {MAX_LINE}", buffer.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    out.write_all(buffer)
}

/// Writes an observation to a file, whole or not at all.
///
/// # Errors
/// [`SaveError`] names the path.
pub fn save(observation: &Observation, path: &Path) -> Result<(), SaveError> {
    write_file_atomically(path, |out| write(observation, out))
        .map_err(|source| SaveError { path: escape(path.as_os_str().as_bytes()), source })
}

/// Reads an observation.
///
/// # Errors
/// [`FileError`]
pub fn read(input: impl BufRead) -> Result<Observation, FileError> {
    let mut lines = Lines { input, number: 0, line: vec![] };
    let result = read_lines(&mut lines);
    result.map_err(|problem| FileError { line: lines.number, problem })
}

fn read_lines(lines: &mut Lines<impl BufRead>) -> Result<Observation, Problem> {
    let header = read_header(lines.next()?.ok_or(Problem::Empty)?)?;
    let mut observation = Observation {
        header,
        phases: vec![],
        processes: vec![],
        uses: vec![],
        mounts: vec![],
        answers: vec![],
        syscalls: BTreeSet::new(),
        end: End::default(),
    };
    loop {
        let line = parse(lines.next()?.ok_or(Problem::NoEnd)?)?;
        let is_end = matches!(line, Line::End { .. });
        take(&mut observation, line)?;
        if is_end {
            break;
        }
    }
    match lines.next() {
        Ok(None) => Ok(observation),
        Err(Problem::Read(error)) => Err(Problem::Read(error)),
        Ok(Some(_)) | Err(_) => Err(Problem::AfterEnd),
    }
}

/// The version is looked at before anything else: another one may have another header.
fn read_header(line: &[u8]) -> Result<Header, Problem> {
    let start: Start = parse(line)?;
    if start.record != "observation" {
        return Err(Problem::Foreign);
    }
    if let Some(version) = start.version.filter(|&version| version != VERSION) {
        return Err(Problem::Version(version));
    }
    match parse(line)? {
        Line::Observation { header, .. } => Ok(header.into_owned()),
        _ => Err(Problem::Foreign),
    }
}

/// Puts what a record says to the rest.
fn take(observation: &mut Observation, line: Line<'_>) -> Result<(), Problem> {
    let Observation { phases, processes, uses, mounts, answers, syscalls, end, .. } = observation;
    match line {
        Line::Observation { .. } => return Err(Problem::Second),
        Line::Phase(phase) => phases.push(phase.into_owned()),
        Line::Process(process) => {
            check_path(&process.executable)?;
            processes.push(process.into_owned());
        }
        Line::Mount(mount) => {
            check_path(&mount.target)?;
            mounts.push(mount.into_owned());
        }
        Line::Use(path_use) => {
            [&path_use.path, &path_use.base, &path_use.root].into_iter().try_for_each(|path| check_path(path))?;
            check_number("process", path_use.process, processes.len())?;
            check_number("phase", path_use.phase, phases.len())?;
            uses.push(path_use.into_owned());
        }
        Line::Answer { answer } => answers.push(answer.into_owned()),
        Line::Syscalls { names } => syscalls.extend(names.into_owned()),
        Line::Loss { what } => end.losses.push(what.into_owned()),
        Line::Note { what } => end.notes.push(what.into_owned()),
        Line::End { complete, tail_unknown, counters, exit_code } => {
            let (losses, notes) = (std::mem::take(&mut end.losses), std::mem::take(&mut end.notes));
            if complete && (counters.lost > 0 || !losses.is_empty()) {
                return Err(Problem::Contradiction);
            }
            *end = End { complete, tail_unknown, counters, losses, notes, exit_code };
        }
    }
    Ok(())
}

fn check_path(path: &[u8]) -> Result<(), Problem> {
    if path.len() > MAX_PATH { Err(Problem::LongPath(path.len())) } else { Ok(()) }
}

fn check_number(what: &'static str, number: u32, told: usize) -> Result<(), Problem> {
    if number as usize >= told { Err(Problem::Number { what, number, told }) } else { Ok(()) }
}

/// The JSON object of a line.
fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Problem> {
    // Without this, arrays of values in the order of the fields would pass for objects.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::Json("it does not begin with `{`".to_owned()));
    }
    serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        // Each line is the first one for the parser.
        let reason = text.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())).unwrap_or(&text);
        if error.is_data() {
            Problem::Record(shown(reason))
        } else {
            Problem::Json(format!("{reason}, column {}", error.column()))
        }
    })
}

/// A message with text of the file in it, fit for a terminal.
fn shown(message: &str) -> String {
    let mut shown: String =
        message.chars().take(MAX_SHOWN).map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect();
    if message.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The lines of a file, one at a time.
struct Lines<R> {
    input: R,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its newline, which must be there; `None` at the end.
    fn next(&mut self) -> Result<Option<&[u8]>, Problem> {
        self.number += 1;
        self.line.clear();
        let mut bounded = (&mut self.input).take(MAX_LINE as u64);
        let length = bounded.read_until(b'\n', &mut self.line).map_err(Problem::Read)?;
        match self.line.as_slice() {
            [] => Ok(None),
            [line @ .., b'\n'] => Ok(Some(line)),
            _ if length == MAX_LINE => Err(Problem::TooLong),
            _ => Err(Problem::Cut),
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(super) mod tests;
