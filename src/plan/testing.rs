//! What the tests of the plan share: contents from a table, observations from a few words, small ELF files.

use std::collections::BTreeSet;

use super::{ConfigView, Extras, KeepLookedAt, Kept, Plan, PlanError, PlanInput, make};
use crate::escape::escape;
use crate::image::read_files::Contents;
use crate::image::tree::{EntryId, Tree};
use crate::observe::observation::{
    Access, Counters, End, Fanotify, Header, Mount, Observation, PathUse, Phase, PhaseKind, Process, Sense,
};

/// The image of all tests.
pub(super) const IMAGE: &str = "sha256:feed";

/// Contents of files by path; every other file is empty, and `/unreadable` cannot be read.
pub(super) struct Files<'a> {
    pub(super) tree: &'a Tree,
    pub(super) contents: Vec<(&'static str, Vec<u8>)>,
}

impl Contents for Files<'_> {
    fn read(&self, file: EntryId, limit: u64) -> std::io::Result<Vec<u8>> {
        let path = self.tree.path(file);
        if path == b"/unreadable" {
            return Err(std::io::Error::other("it cannot be read"));
        }
        let found = self.contents.iter().find(|(name, _)| name.as_bytes() == path);
        Ok(found.map(|(_, bytes)| bytes[..bytes.len().min(limit as usize)].to_vec()).unwrap_or_default())
    }
}

/// An observation in which `/bin/app` makes `uses`; process 1 is `/bin/other`, process 2 slim's own program.
pub(super) fn observation(uses: &[(Access, &str)]) -> Observation {
    let process = |executable: &str| Process { pid: 1, parent: 0, executable: executable.into(), command: vec![] };
    Observation {
        header: Header {
            tool: "slim".into(),
            image: IMAGE.into(),
            name: "app".into(),
            architecture: "amd64".into(),
            options: vec![],
            notify: true,
            fanotify: Fanotify::Off,
        },
        phases: vec![Phase { kind: PhaseKind::Start, name: String::new() }],
        processes: vec![process("/bin/app"), process("/bin/other"), process("/slim-own/slim")],
        uses: uses.iter().map(|&(access, path)| path_use(access, path)).collect(),
        mounts: Vec::<Mount>::new(),
        answers: vec![],
        syscalls: BTreeSet::new(),
        end: End {
            complete: true,
            tail_unknown: false,
            counters: Counters::default(),
            losses: vec![],
            notes: vec![],
            exit_code: None,
        },
    }
}

/// A use by the first process.
pub(super) fn path_use(access: Access, path: &str) -> PathUse {
    PathUse { path: path.into(), base: vec![], root: vec![], access, sense: Sense::Notify, process: 0, phase: 0 }
}

/// A plan in the making: its parts can be set, the rest is empty.
pub(super) struct Case<'a> {
    pub(super) tree: &'a Tree,
    pub(super) is_machine: bool,
    pub(super) config: ConfigView,
    pub(super) observations: Vec<Observation>,
    pub(super) extras: Extras,
    pub(super) keep_looked_at: KeepLookedAt,
    pub(super) contents: Vec<(&'static str, Vec<u8>)>,
}

impl<'a> Case<'a> {
    pub(super) fn new(tree: &'a Tree) -> Case<'a> {
        let (config, extras) = (ConfigView::default(), Extras::default());
        let (is_machine, keep_looked_at) = (false, KeepLookedAt::default());
        Case { tree, is_machine, config, observations: vec![], extras, keep_looked_at, contents: vec![] }
    }

    pub(super) fn make(&self) -> Result<Plan, PlanError> {
        make(&PlanInput {
            image: IMAGE,
            tree: self.tree,
            is_machine: self.is_machine,
            config: &self.config,
            observations: &self.observations,
            extras: &self.extras,
            keep_looked_at: self.keep_looked_at,
            contents: &Files { tree: self.tree, contents: self.contents.clone() },
            own_prefix: b"/slim-own",
        })
    }

    /// The kept paths, without `/`.
    pub(super) fn kept(&self) -> Vec<String> {
        paths(&self.make().expect("plan").entries).split_off(1)
    }
}

/// The paths of entries, as text.
pub(super) fn paths(entries: &[Kept]) -> Vec<String> {
    entries.iter().map(|entry| escape(&entry.path)).collect()
}

/// A 64-bit x86 ELF file with only what a loader reads; empty texts are left out.
pub(super) fn elf(interpreter: Option<&str>, needed: &[&str], rpath: &str, runpath: &str) -> Vec<u8> {
    let mut strings = vec![0];
    let mut string = |text: &str| {
        let at = strings.len() as u64;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let mut dynamic: Vec<[u64; 2]> = needed.iter().map(|name| [1, string(name)]).collect();
    for (tag, text) in [(15, rpath), (29, runpath)] {
        if !text.is_empty() {
            dynamic.push([tag, string(text)]);
        }
    }
    let is_dynamic = !dynamic.is_empty();
    let segments: u64 = 1 + u64::from(interpreter.is_some()) + u64::from(is_dynamic);
    let interpreter_at = 64 + 56 * segments;
    let name = interpreter.map(|name| [name.as_bytes(), b"\0"].concat()).unwrap_or_default();
    let dynamic_at = (interpreter_at + name.len() as u64).next_multiple_of(8);
    let strings_at = dynamic_at + 16 * (dynamic.len() as u64 + 3);
    dynamic.extend([[5, strings_at], [10, strings.len() as u64], [0, 0]]);
    let end = strings_at + strings.len() as u64;

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [3_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [0_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, segments as u16, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut segment = |kind: u32, at: u64, size: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(4_u32.to_le_bytes());
        for word in [at, at, at, size, size, 8] {
            file.extend(word.to_le_bytes());
        }
    };
    segment(1, 0, end);
    if interpreter.is_some() {
        segment(3, interpreter_at, name.len() as u64);
    }
    if is_dynamic {
        segment(2, dynamic_at, 16 * dynamic.len() as u64);
    }
    file.extend(&name);
    file.resize(dynamic_at as usize, 0);
    for [tag, value] in dynamic {
        file.extend(tag.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend(&strings);
    file
}
