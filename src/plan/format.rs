//! The plan as a value and as a file: what is kept of an image, and why.
//!
//! The file is JSON with one kept entry a line, in the order of the tree (a directory, then what it holds, names in byte
//! order), so that two plans can be compared with `diff`. With the image it is all that a build needs: the same plan
//! gives the same image. `docs/plan.md` describes it for readers that are not this program.
//!
//! A plan that is read could come from anywhere, so everything that the packer relies on is checked once, here.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::PlanError;
use crate::escape;
use crate::image::tree::{EntryId, Tree};
use crate::observe::observation::{Access, PhaseKind};

/// What is kept of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this format: [`Plan::VERSION`], also where an older file was read.
    pub version: u32,
    /// The image's id, `sha256:...`.
    pub image: String,
    /// What the user should know, in words: sweeps, listed directories that were too heavy, unreadable files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Kept entries in the order of [`path_order`]; the first is `/`, and every parent of an entry is an entry.
    pub entries: Vec<Kept>,
}

/// A kept entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Absolute path in the image.
    #[serde(with = "escape::path")]
    pub path: Vec<u8>,
    /// Other permissions than the image's (`--path-perms`).
    #[serde(default, skip_serializing_if = "Option::is_none", with = "octal")]
    pub mode: Option<u16>,
    /// Another owner and group than the image's (`--path-perms`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
    /// Why; at least one, the strongest first, at most [`Kept::MAX_REASONS`].
    pub reasons: Vec<Reason>,
}

impl Kept {
    /// A library that a hundred programs opened needs no hundred reasons.
    pub const MAX_REASONS: usize = 8;
}

/// Why an entry is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reason {
    /// A process used it. A directory: or made, changed or removed something in it that is not in the image.
    Used {
        /// How.
        access: Access,
        /// The process's executable.
        #[serde(with = "escape::path")]
        by: Vec<u8>,
        /// In which kind of phase it was first seen.
        during: PhaseName,
    },
    /// The names in a directory that a process listed are part of what it saw.
    Listed {
        /// The process's executable.
        #[serde(with = "escape::path")]
        by: Vec<u8>,
        /// In which phase.
        during: PhaseName,
    },
    /// It is a directory on the way to a kept entry.
    Parent,
    /// It is a symbolic link on the way to this path, as it was written.
    Link {
        /// The path that leads through it.
        #[serde(with = "escape::path")]
        to: Vec<u8>,
    },
    /// Another file needs it.
    Needed {
        /// Which.
        #[serde(with = "escape::path")]
        by: Vec<u8>,
        /// For what.
        edge: Edge,
    },
    /// The image's configuration names it.
    Config {
        /// The field: `Entrypoint`, `Cmd`, `Healthcheck`, `WorkingDir`, `Volumes`.
        field: String,
    },
    /// A rule that holds for every image.
    Rule {
        /// Which, in words.
        rule: String,
    },
    /// The user asked for it.
    Asked {
        /// The option and its value.
        option: String,
    },
    /// A process of the slim image looked for it in vain.
    Repair {
        /// The process's executable.
        #[serde(with = "escape::path")]
        by: Vec<u8>,
        /// In which phase of the slim image's run.
        during: PhaseName,
    },
    /// The slim image answered differently without looking for anything in vain, and this rule brought more.
    Widened {
        /// Which rule.
        rule: Widening,
        /// What the rule started from: a folder, or a package and its version.
        #[serde(with = "escape::path")]
        from: Vec<u8>,
    },
}

impl Reason {
    /// The order in which reasons are told: what was seen to be used, or to be missed, what was asked for, what follows from
    /// those, what was merely looked at, what was tried, then what is kept for the sake of others.
    #[must_use]
    pub fn strongest_first(&self, other: &Reason) -> Ordering {
        let rank = |reason: &Reason| match reason {
            Reason::Used { access: Access::Exec, .. } => 0,
            Reason::Used { access: Access::Open, .. } => 1,
            Reason::Used { access: Access::Write, .. } => 2,
            Reason::Used { access: Access::Change | Access::List | Access::Enter, .. } => 3,
            Reason::Repair { .. } => 4,
            Reason::Asked { .. } => 5,
            Reason::Config { .. } => 6,
            Reason::Needed { .. } => 7,
            Reason::Used { access: Access::ReadLink, .. } => 8,
            Reason::Used { access: Access::Lookup, .. } => 9,
            Reason::Listed { .. } => 10,
            Reason::Widened { .. } => 11,
            Reason::Link { .. } => 12,
            Reason::Rule { .. } => 13,
            Reason::Parent => 14,
        };
        rank(self).cmp(&rank(other)).then_with(|| self.cmp(other))
    }
}

/// A phase, as a reason names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PhaseName(pub String);

impl PhaseName {
    /// The words for a phase: `start`, `stop`, or the probe's request or command.
    #[must_use]
    pub fn new(kind: PhaseKind, name: &str) -> PhaseName {
        PhaseName(match kind {
            PhaseKind::Start => "start".into(),
            PhaseKind::Ready => "ready".into(),
            PhaseKind::Http | PhaseKind::Exec => name.into(),
            PhaseKind::HealthCheck => "health check".into(),
            PhaseKind::Stop => "stop".into(),
        })
    }
}

/// How one file needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// `PT_INTERP` of an ELF executable.
    Loader,
    /// The interpreter of a script's first line.
    Interpreter,
    /// `DT_NEEDED` of an ELF file.
    Library,
}

/// A rule by which more is kept when the slim image answers differently and looked for nothing in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Widening {
    /// All names in the folders that a process listed.
    ListedFolders,
    /// The rest of the language packages (or else the folders) of the files that were opened.
    PackageFolders,
    /// The rest of the distribution's packages that own the files that were opened.
    OwningPackages,
}

/// The order of paths in a plan: that of a walk through the tree, which is not that of the bytes (`/a/b` before `/a-b`).
#[must_use]
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }
    names(a).cmp(names(b))
}

impl Plan {
    /// The version of the format that this program writes. It reads all up to this one: version 1 had fewer words for
    /// `why`, and is otherwise the same.
    pub const VERSION: u32 = 2;

    /// The file: one entry a line, the same bytes for the same plan.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // neither strings, numbers nor lists of them can fail to be written to memory
        fn put<T: Serialize>(out: &mut Vec<u8>, value: &T) {
            serde_json::to_writer(out, value).expect("a plan is strings, numbers and lists");
        }
        let mut out = Vec::with_capacity(self.entries.len() * 128);
        out.extend_from_slice(b"{\"version\":");
        put(&mut out, &self.version);
        out.extend_from_slice(b",\n\"image\":");
        put(&mut out, &self.image);
        if !self.notes.is_empty() {
            out.extend_from_slice(b",\n\"notes\":");
            put(&mut out, &self.notes);
        }
        out.extend_from_slice(b",\n\"entries\":[");
        for (index, entry) in self.entries.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
            put(&mut out, entry);
        }
        out.extend_from_slice(b"\n]}\n");
        out
    }

    /// Reads a file that [`Plan::to_json`], or someone else, wrote.
    ///
    /// # Errors
    /// [`PlanError`] where it is not JSON, of another version, or its entries are not a tree in order.
    pub fn from_json(json: &[u8]) -> Result<Plan, PlanError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // first the version alone: a newer format may have any other fields
        let Versioned { version } = serde_json::from_slice(json).map_err(PlanError::Json)?;
        if !(1..=Plan::VERSION).contains(&version) {
            return Err(PlanError::Version(version));
        }
        let plan: Plan = serde_json::from_slice(json).map_err(PlanError::Json)?;
        plan.check()?;
        Ok(Plan { version: Plan::VERSION, ..plan })
    }

    fn check(&self) -> Result<(), PlanError> {
        let bad = |path: &[u8], problem| Err(PlanError::Entry { path: escape::escape(path), problem });
        if self.entries.first().is_none_or(|first| first.path != b"/") {
            return bad(self.entries.first().map_or(b"", |first| &first.path), "the first entry must be `/`");
        }
        let mut above: Vec<&[u8]> = vec![b""];
        for (index, entry) in self.entries.iter().enumerate() {
            let path = &entry.path[..];
            if entry.reasons.is_empty() {
                return bad(path, "it has no reason");
            }
            if entry.mode.is_some_and(|mode| mode > 0o7777) {
                return bad(path, "its mode has more than permission bits");
            }
            if index == 0 {
                continue;
            }
            if !is_absolute_and_plain(path) {
                return bad(path, "it must be absolute, without `.`, `..`, `//`, NUL or a slash at the end");
            }
            if path_order(&self.entries[index - 1].path, path) != Ordering::Less {
                return bad(path, "it is out of order, or there twice");
            }
            let parent = &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)];
            while above.last().is_some_and(|&top| top != parent) {
                above.pop();
            }
            if above.is_empty() {
                return bad(path, "the directory that it is in is no entry");
            }
            above.push(path);
        }
        Ok(())
    }

    /// The entries of the image that are kept, in the plan's order.
    ///
    /// # Errors
    /// [`PlanError::NotInImage`]: the plan was made of another image.
    pub fn ids(&self, tree: &Tree) -> Result<Vec<EntryId>, PlanError> {
        let find = |kept: &Kept| tree.get(&kept.path).ok_or_else(|| PlanError::NotInImage(escape::escape(&kept.path)));
        self.entries.iter().map(find).collect()
    }
}

/// Whether a path is one that a tree can have: absolute and exactly one spelling of it.
fn is_absolute_and_plain(path: &[u8]) -> bool {
    let plain = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && name.len() <= 255 && !name.contains(&0);
    path.strip_prefix(b"/").is_some_and(|rest| rest.split(|&byte| byte == b'/').all(plain))
}

/// Modes as the octal text that everyone knows them by.
mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(super) fn serialize<S: Serializer>(mode: &Option<u16>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:04o}", mode.unwrap_or_default()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u16::from_str_radix(&text, 8).map(Some).map_err(|_| D::Error::custom(format!("`{text}` is no octal mode")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(path: &[u8], reasons: Vec<Reason>) -> Kept {
        Kept { path: path.to_vec(), mode: None, owner: None, reasons }
    }

    /// A plan with every reason and every oddity of a path.
    fn sample() -> Plan {
        let by = b"/usr/bin/server".to_vec();
        let during = PhaseName::new(PhaseKind::Http, "GET /docs");
        Plan {
            version: Plan::VERSION,
            image: "sha256:0123".into(),
            notes: vec!["a note".into()],
            entries: vec![
                kept(b"/", vec![Reason::Parent]),
                kept(b"/a", vec![Reason::Used { access: Access::Open, by: by.clone(), during: during.clone() }, Reason::Parent]),
                kept(b"/a/b", vec![Reason::Listed { by: by.clone(), during }]),
                kept(b"/a-b", vec![Reason::Link { to: b"/a-b/c".to_vec() }]),
                Kept {
                    mode: Some(0o4750),
                    owner: Some((1, 2)),
                    ..kept(b"/bad\xff\nname", vec![Reason::Needed { by, edge: Edge::Loader }])
                },
                kept(
                    b"/opt",
                    vec![
                        Reason::Repair { by: b"/bin/\xff".to_vec(), during: PhaseName::new(PhaseKind::Start, "") },
                        Reason::Widened { rule: Widening::OwningPackages, from: b"libc6:amd64".to_vec() },
                    ],
                ),
                kept(b"/srv", vec![Reason::Config { field: "WorkingDir".into() }]),
                kept(b"/tmp", vec![Reason::Asked { option: "--include-path /tmp".into() }, Reason::Rule { rule: "x".into() }]),
            ],
        }
    }

    #[test]
    fn the_file_is_as_it_always_was_and_is_read_back() {
        let json = sample().to_json();
        assert_eq!(String::from_utf8_lossy(&json), include_str!("testdata/plan-2.json"));
        assert_eq!(Plan::from_json(&json).expect("plan"), sample());
    }

    #[test]
    fn a_file_of_the_first_version_is_read() {
        let mut plan = sample();
        plan.entries.retain(|entry| entry.path != b"/opt");
        assert_eq!(Plan::from_json(include_bytes!("testdata/plan-1.json")).expect("plan"), plan);
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        let read = |edit: fn(&mut Plan)| {
            let mut plan = sample();
            edit(&mut plan);
            Plan::from_json(&plan.to_json()).expect_err("refused").to_string()
        };
        assert!(read(|plan| plan.version = 3).contains("version 3 of its format, this program reads versions 1 to 2"));
        assert!(read(|plan| plan.version = 0).contains("version 0"));
        assert!(read(|plan| plan.entries.clear()).contains("first entry"));
        assert!(read(|plan| drop(plan.entries.remove(0))).contains("first entry"));
        assert!(read(|plan| drop(plan.entries.remove(1))).contains("is no entry"));
        assert!(read(|plan| plan.entries.swap(2, 3)).contains("out of order"));
        assert!(read(|plan| plan.entries[2] = plan.entries[1].clone()).contains("twice"));
        assert!(read(|plan| plan.entries[1].reasons.clear()).contains("no reason"));
        assert!(read(|plan| plan.entries[4].mode = Some(0o10000)).contains("permission bits"));
        for path in [&b"tmp"[..], b"/tmp/", b"//tmp", b"/tmp/.", b"/tmp/..", b"", b"/t\0p", &[b'a'; 300]] {
            let mut plan = sample();
            plan.entries[7].path = path.to_vec();
            assert!(Plan::from_json(&plan.to_json()).is_err(), "{}", escape::escape(path));
        }
        for json in ["", "{}", "[]", "{\"version\":1}", "{\"version\":1,\"image\":\"\",\"entries\":[],\"more\":1}"] {
            assert!(matches!(Plan::from_json(json.as_bytes()), Err(PlanError::Json(_))), "{json}");
        }
        // a newer format is named as such, whatever else it has
        assert!(matches!(Plan::from_json(b"{\"version\":3,\"files\":[]}"), Err(PlanError::Version(3))));
    }

    #[test]
    fn a_plan_of_another_image_is_noticed() {
        let tree = crate::image::tree::fixture::tree(&["/a/b", "/tmp/"]);
        let mut plan = sample();
        assert!(matches!(plan.ids(&tree), Err(PlanError::NotInImage(path)) if path == "/a-b"));
        plan.entries.retain(|entry| tree.get(&entry.path).is_some());
        assert_eq!(plan.ids(&tree).expect("ids").len(), 4);
    }

    #[test]
    fn use_is_stronger_than_rules() {
        let used = |access| Reason::Used { access, by: vec![], during: PhaseName("start".into()) };
        let asked = Reason::Asked { option: String::new() };
        let repair = Reason::Repair { by: vec![], during: PhaseName("start".into()) };
        let widened = Reason::Widened { rule: Widening::ListedFolders, from: b"/".to_vec() };
        let told = [used(Access::Exec), used(Access::Open), repair, asked, used(Access::Lookup), widened, Reason::Parent];
        let mut reasons = told.to_vec();
        reasons.rotate_left(3);
        reasons.sort_by(Reason::strongest_first);
        assert_eq!(reasons, told);
    }
}
