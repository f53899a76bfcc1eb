//! The rooms of this crate, from the top down, and a test that each imports only what lies below it.
//!
//! Code that imports upwards can't be understood, tested or used without what is above it.

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. Files beside these folders are for all.
const ROOMS: [&str; 9] = ["cli", "report", "verify", "pack", "plan", "observe", "engine", "image", "hidden"];

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The imports of a file that lead up: its room, the other one, and the line.
fn upward(room: &str, text: &str) -> Vec<String> {
    let floor = |room: &str| ROOMS.iter().position(|known| *known == room);
    let Some(own) = floor(room) else { return vec![] };
    let mut found = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        for import in line.split("crate::").skip(1) {
            // One room, or several in braces.
            let names: Vec<&str> = match import.strip_prefix('{') {
                Some(several) => several.split(',').collect(),
                None => vec![import],
            };
            for name in names {
                let other = name.trim().split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
                if floor(other).is_some_and(|other| other < own) {
                    found.push(format!("{room} imports {other} in line {number}: {}", line.trim()));
                }
            }
        }
    }
    found
}

#[test]
fn imports_point_down() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![];
    for path in files(&source) {
        let room = path.strip_prefix(&source).unwrap().components().next().unwrap();
        let room = Path::new(&room).file_stem().unwrap().to_str().unwrap();
        let upward = upward(room, &fs::read_to_string(&path).unwrap());
        found.extend(upward.into_iter().map(|words| format!("{}: {words}", path.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_the_command_line_knows_its_parser() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let knows = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(concat!("cl", "ap::"));
    let found: Vec<PathBuf> = files(&source).into_iter().filter(knows).collect();
    let strange: Vec<_> = found.iter().filter(|path| !path.starts_with(source.join("cli"))).collect();
    assert!(strange.is_empty() && !found.is_empty(), "{strange:?}");
}

#[test]
fn an_upward_import_is_found() {
    for (room, line, is_upward) in [
        ("image", "use crate::engine::docker::Engine;", true),
        ("engine", "    image: crate::image::source::SourceImage,", false),
        ("plan", "use crate::{escape::escape, observe};", false),
        ("observe", "fn f() -> crate::plan::Plan {", true),
        ("image", "use crate::{escape::escape, engine};", true),
        ("image", "fn f(id: crate::hidden::Id, engine: u8)", false),
        ("files", "use crate::cli::Progress;", false),
        ("image", "// of the crate", false),
    ] {
        assert_eq!(upward(room, line).len(), usize::from(is_upward), "{line}");
    }
}
