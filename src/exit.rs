//! How `slim` ends: the exit codes, all in one place.
//!
//! They are part of the interface: scripts tell by them what to do next, so a code never changes its meaning. All are
//! below 126, from where on shells have meanings of their own, but for the two that say "ended by a signal" as shells do.

use std::process::ExitCode;

/// Why `slim` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Done = 0,
    /// A fault of `slim` itself.
    Internal = 1,
    /// The command line, or a file that it names, can't be used: also an extra (`--include-path`) that matches nothing.
    Usage = 2,
    /// The engine can't be reached, or refuses.
    Engine = 3,
    /// The image isn't there, or can't be used: another architecture, already slim. Or its registry refuses it.
    Image = 4,
    /// The program didn't start, or ended before its probes were done.
    Target = 5,
    /// A probe got no answer, all answers were server errors, the health check failed, or a command couldn't be run.
    Probes = 6,
    /// Something of what the program did was lost: an image made of the rest could lack files.
    Evidence = 7,
    /// The slim image does something else than the original, or that could not be found out though it was demanded.
    Differs = 8,
    /// A policy forbids the result (reserved).
    Policy = 9,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// Every way to end, by code.
    pub const ALL: [Exit; 12] = [
        Exit::Done,
        Exit::Internal,
        Exit::Usage,
        Exit::Engine,
        Exit::Image,
        Exit::Target,
        Exit::Probes,
        Exit::Evidence,
        Exit::Differs,
        Exit::Policy,
        Exit::Interrupted,
        Exit::Terminated,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Internal => "internal error: a fault of `slim`",
            Exit::Usage => "usage: the command line, or a file that it names, can't be used; an extra that matches nothing",
            Exit::Engine => "the engine can't be reached, or refuses",
            Exit::Image => {
                "the image is not there, or can't be used (another architecture, already slim), or a registry refuses it"
            }
            Exit::Target => "the target failed to start, or ended before its probes were done",
            Exit::Probes => "probes failed: no answer, server errors alone, a failing health check, a command that can't be run",
            Exit::Evidence => "the evidence is incomplete: something of what the target did was lost",
            Exit::Differs => "the result differs from the original, or can't be verified",
            Exit::Policy => "a policy is broken (reserved)",
            Exit::Interrupted => "interrupted (Ctrl-C)",
            Exit::Terminated => "terminated (SIGTERM)",
        }
    }

    /// The table for the README.
    #[must_use]
    pub fn markdown_table() -> String {
        let mut table = String::from("| code | meaning |\n| ---: | --- |\n");
        for exit in Exit::ALL {
            table.push_str(&format!("| {} | {} |\n", exit.code(), exit.describe()));
        }
        table
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_clear_of_the_shell_and_never_change() {
        let codes: Vec<u8> = Exit::ALL.into_iter().map(Exit::code).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130, 143]);
    }

    #[test]
    fn the_table_has_a_row_for_each() {
        let table = Exit::markdown_table();
        assert_eq!(table.lines().count(), 2 + Exit::ALL.len());
        assert!(table.starts_with("| code | meaning |\n| ---: | --- |\n| 0 | done |\n"), "{table}");
        assert!(table.ends_with("| 143 | terminated (SIGTERM) |\n"), "{table}");
    }

    #[test]
    fn the_readme_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        match std::fs::read_to_string(path) {
            Ok(readme) => assert!(readme.contains(&Exit::markdown_table()), "README.md lacks:\n{}", Exit::markdown_table()),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
        }
    }
}
