//! What executables need to start: loaders and interpreters, which no sensor reports.
//!
//! The kernel opens the loader of an ELF file (`PT_INTERP`) and the interpreter of a script (`#!`) by itself. What opens
//! files afterwards shows in the observation, but the path *as written* in the executable, with its symbolic links
//! (`/lib64 -> usr/lib64`), shows nowhere. So each executable of the plan is read, and what it names is resolved and
//! read in turn. Of executables that were not seen to run, the libraries are found as well, see [`super::library_search`].

use super::config::ConfigView;
use super::draft::Draft;
use super::elf;
use super::format::{Edge, Reason};
use super::library_search::LibrarySearch;
use crate::escape::escape;
use crate::image::read_files::Contents;
use crate::image::tree::{EntryId, Tree};
use crate::observe::observation::Spelling;

/// Linkers put program headers and the loader's name at the beginning of a file.
const HEAD: u64 = 16 << 10;
/// Where they aren't there (`patchelf` moves them to the end), so much is read at most. The largest programs that people
/// ship (a JavaScript runtime, a browser engine) are half as large.
pub(super) const WHOLE: u64 = 256 << 20;
/// The first line of a script, as far as the kernel reads it.
const FIRST_LINE: usize = 255;
/// So many heads are asked for at once.
const BATCH: usize = 256;

/// Keeps what the draft's programs need, and what that needs.
pub(super) fn keep(draft: &mut Draft, config: &ConfigView, contents: &dyn Contents) {
    let mut libraries = LibrarySearch::new(draft.tree, config, contents);
    loop {
        // a program comes again when its libraries turn out to be wanted
        let programs = draft.next_programs(BATCH);
        if programs.is_empty() {
            return;
        }
        let files: Vec<EntryId> = programs.iter().map(|&(id, _)| id).collect();
        for ((program, with_libraries), head) in programs.into_iter().zip(contents.read_each(&files, HEAD)) {
            match head.and_then(|head| first_needs(draft.tree, contents, program, head)) {
                Ok(Needs::Nothing) => {}
                // the kernel runs no script without the bit for it, and who reads one as its input needs no first line
                Ok(Needs::Interpreter { .. }) if draft.tree.mode(program) & 0o111 == 0 => {}
                Ok(Needs::Loader(loader)) => {
                    if let Some(path) = loader {
                        keep_needed(draft, config, program, &path, Edge::Loader, false);
                    }
                    if with_libraries {
                        libraries.keep(draft, program);
                    }
                }
                Ok(Needs::Interpreter { path, by_env }) => {
                    keep_needed(draft, config, program, &path, Edge::Interpreter, with_libraries);
                    if let Some(name) = by_env {
                        keep_needed(draft, config, program, &name, Edge::Interpreter, with_libraries);
                    }
                }
                Err(error) => {
                    let path = escape(&draft.tree.path(program));
                    draft.notes.push(format!("what `{path}` needs to start is not known: {error}"));
                }
            }
        }
    }
}

/// What the kernel would look for first.
#[derive(Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Loader(Option<Vec<u8>>),
    /// `by_env`: the program that `env` will look for.
    Interpreter {
        path: Vec<u8>,
        by_env: Option<Vec<u8>>,
    },
}

fn first_needs(tree: &Tree, contents: &dyn Contents, program: EntryId, head: Vec<u8>) -> std::io::Result<Needs> {
    if let Some(line) = head.strip_prefix(b"#!") {
        return Ok(interpreter_of_script(line));
    }
    if !elf::is_elf(&head) {
        return Ok(Needs::Nothing);
    }
    let mut loader = elf::interpreter(&head);
    if loader.is_err() && tree.size(program) > head.len() as u64 {
        loader = elf::interpreter(&contents.read(program, WHOLE)?);
    }
    loader.map(Needs::Loader).map_err(std::io::Error::other)
}

#[cfg(fuzzing)]
pub(super) fn fuzz(script: &[u8]) {
    drop(interpreter_of_script(script));
}

/// Reads the first line of a script, from behind the `#!`.
fn interpreter_of_script(text: &[u8]) -> Needs {
    let text = &text[..text.len().min(FIRST_LINE - 2)];
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let (path, argument) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
    if !path.starts_with(b"/") {
        return Needs::Nothing;
    }
    let by_env = if path.ends_with(b"/env") { program_of_env(argument) } else { None };
    Needs::Interpreter { path: path.to_vec(), by_env }
}

/// The program in the argument of `#!/usr/bin/env`: behind options (`-S`, `-i`, `-u NAME`) and `NAME=value`.
fn program_of_env(argument: &[u8]) -> Option<Vec<u8>> {
    let mut words = argument.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    loop {
        let word = words.next()?;
        match word {
            b"-u" | b"-C" => drop(words.next()),
            _ if word.starts_with(b"-S") && word.len() > 2 => return Some(word[2..].to_vec()),
            _ if word.starts_with(b"--split-string=") => return word.strip_prefix(b"--split-string=").map(<[u8]>::to_vec),
            _ if word.starts_with(b"-") || word.contains(&b'=') => {}
            _ => return Some(word.to_vec()),
        }
    }
}

/// Keeps what `program` names, and has it looked at in turn.
fn keep_needed(draft: &mut Draft, config: &ConfigView, program: EntryId, name: &[u8], edge: Edge, with_libraries: bool) {
    let by = draft.tree.path(program);
    match config.find_program(draft.tree, name) {
        Some((path, resolution, id)) => {
            draft.keep_passed(&resolution, Spelling::absolute(&path));
            draft.keep(id, Reason::Needed { by, edge });
            draft.run(id, with_libraries);
        }
        // a loader need not have the executable bit to be one
        None => match draft.keep_path(name, Reason::Needed { by: by.clone(), edge }) {
            Some(id) => draft.run(id, with_libraries),
            None if with_libraries => {
                let (by, name) = (escape(&by), escape(name));
                draft.notes.push(format!("`{by}` is run by `{name}`, which is not in the image"));
            }
            None => {}
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tree::fixture;
    use crate::observe::observation::Access;
    use crate::plan::testing::{Case, elf, observation};

    #[test]
    fn first_lines_are_read_as_the_kernel_reads_them() {
        let long = format!("#!/bin/{}\n", "x".repeat(300));
        for (text, path, by_env) in [
            ("#!/bin/sh\nexit", "/bin/sh", ""),
            ("#! /bin/sh -e\n", "/bin/sh", ""),
            ("#!\t/bin/awk -f", "/bin/awk", ""),
            ("#!/usr/bin/env python3\n", "/usr/bin/env", "python3"),
            ("#!/usr/bin/env -S A=b node --flag\n", "/usr/bin/env", "node"),
            ("#!/usr/bin/env -Snode --flag\n", "/usr/bin/env", "node"),
            ("#!/usr/bin/env --split-string=node --flag\n", "/usr/bin/env", "node"),
            ("#!/usr/bin/env -u HOME -i perl\n", "/usr/bin/env", "perl"),
            ("#!/usr/bin/env\n", "/usr/bin/env", ""),
            ("#!/bin/sh\r\n", "/bin/sh", ""),
            (&long, &long[2..255], ""),
            ("#!sh\n", "", ""),
            ("#!\n/bin/sh", "", ""),
            ("#!", "", ""),
        ] {
            let by_env = (!by_env.is_empty()).then(|| by_env.as_bytes().to_vec());
            let expected =
                if path.is_empty() { Needs::Nothing } else { Needs::Interpreter { path: path.as_bytes().to_vec(), by_env } };
            assert_eq!(interpreter_of_script(&text.as_bytes()[2..]), expected, "{text}");
        }
    }

    #[test]
    fn loaders_and_interpreters_come_with_their_links() {
        let tree = fixture::tree(&[
            "/app/run mode=755",
            "/app/not-run",
            "/bin -> usr/bin",
            "/lib64 -> usr/lib64",
            "/usr/bin/env mode=755",
            "/usr/bin/python3 -> python3.11",
            "/usr/bin/python3.11 mode=755",
            "/usr/bin/wrapped mode=755",
            "/usr/lib64/ld-linux.so.2 -> ld-2.36.so",
            "/usr/lib64/ld-2.36.so",
        ]);
        let mut case = Case::new(&tree);
        case.contents = vec![
            ("/app/run", b"#!/bin/env wrapped\n".to_vec()),
            ("/app/not-run", b"#!/missing\n".to_vec()),
            ("/usr/bin/wrapped", b"#!/bin/python3 -I\n".to_vec()),
            ("/usr/bin/env", elf(None, &[], "", "")),
            ("/usr/bin/python3.11", elf(Some("/lib64/ld-linux.so.2"), &["libc.so.6"], "", "")),
        ];
        case.observations = vec![observation(&[(Access::Exec, "/app/run"), (Access::Open, "/app/not-run")])];
        let mut expected: Vec<String> = tree.walk(EntryId::ROOT).map(|id| escape(&tree.path(id))).collect();
        assert_eq!(case.kept(), expected.split_off(1));
        let plan = case.make().expect("plan");
        let why = |path: &[u8]| &plan.entries.iter().find(|entry| entry.path == path).expect("kept").reasons[0];
        let needed = |by: &[u8], edge| Reason::Needed { by: by.to_vec(), edge };
        assert_eq!(*why(b"/usr/bin/env"), needed(b"/app/run", Edge::Interpreter));
        assert_eq!(*why(b"/usr/lib64/ld-2.36.so"), needed(b"/usr/bin/python3.11", Edge::Loader));
        assert_eq!(*why(b"/lib64"), Reason::Link { to: b"/lib64/ld-linux.so.2".to_vec() });
        assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    }

    #[test]
    fn an_interpreter_that_is_itself_ends() {
        let tree = fixture::tree(&["/a mode=755", "/b mode=755"]);
        let mut case = Case::new(&tree);
        case.contents = vec![("/a", b"#!/b\n".to_vec()), ("/b", b"#!/a\n".to_vec())];
        case.config.entrypoint = vec!["/a".into()];
        assert_eq!(case.kept(), ["/a", "/b"]);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let tree = fixture::tree(&["/unreadable mode=755", "/damaged mode=755"]);
        let mut case = Case::new(&tree);
        case.contents = vec![("/damaged", b"\x7fELF\x02".to_vec())];
        case.observations = vec![observation(&[(Access::Exec, "/unreadable"), (Access::Open, "/damaged")])];
        let notes = case.make().expect("plan").notes;
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes.iter().any(|note| note.contains("`/unreadable`") && note.contains("it cannot be read")), "{notes:?}");
        assert!(notes.iter().any(|note| note.contains("`/damaged`")), "{notes:?}");
    }

    #[test]
    fn a_loader_far_from_the_beginning_is_found() {
        let mut bytes = elf(Some("/ld.so"), &[], "", "");
        // the name moves behind the head: segment 1 is PT_INTERP; its offset and sizes are 64-bit words
        let at = 20_u64 << 10;
        bytes.resize(at as usize, 0);
        bytes.extend(b"/far.so\0");
        bytes[64 + 56 + 8..][..8].copy_from_slice(&at.to_le_bytes());
        bytes[64 + 56 + 32..][..8].copy_from_slice(&8_u64.to_le_bytes());
        let tree = fixture::tree(&[&format!("/app mode=755 size={}", bytes.len()), "/far.so", "/ld.so"]);
        let mut case = Case::new(&tree);
        case.contents = vec![("/app", bytes)];
        case.observations = vec![observation(&[(Access::Exec, "/app")])];
        assert_eq!(case.kept(), ["/app", "/far.so"]);
    }
}
