//! What is said on standard error, and how it looks.
//!
//! Standard output is for the result alone. Colour only helps: every message can be read without it, and it is used on a
//! terminal only, never where `NO_COLOR` is set. Texts can hold names from an image, so control characters are written
//! out before they could move the cursor.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Warnings and errors.
    Quiet,
    /// Also what is being done, and what came of it.
    #[default]
    Normal,
    /// Also how.
    Verbose,
}

/// Where messages go. One for the whole program, shared by all that have something to say.
pub struct Messages {
    level: Level,
    colour: bool,
    output: Mutex<Box<dyn Write + Send>>,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("level", &self.level).field("colour", &self.colour).finish_non_exhaustive()
    }
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const GREEN: &str = "\x1b[1;32m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

impl Messages {
    /// Messages to standard error.
    #[must_use]
    pub fn to_standard_error(level: Level) -> Messages {
        Messages::new(level, wants_colour(), Box::new(io::stderr()))
    }

    /// Messages to somewhere else, such as above a progress bar.
    #[must_use]
    pub fn new(level: Level, colour: bool, output: Box<dyn Write + Send>) -> Messages {
        Messages { level, colour, output: Mutex::new(output) }
    }

    /// How much is said.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// What went wrong: the program is about to end.
    pub fn error(&self, text: impl fmt::Display) {
        self.say(Level::Quiet, RED, "error: ", &text);
    }

    /// What the user should look at.
    pub fn warn(&self, text: impl fmt::Display) {
        self.say(Level::Quiet, YELLOW, "warning: ", &text);
    }

    /// A step of the pipeline that begins, or its outcome.
    pub fn step(&self, name: &str, text: impl fmt::Display) {
        self.say(Level::Normal, GREEN, &format!("{name}: "), &text);
    }

    /// Something of interest.
    pub fn info(&self, text: impl fmt::Display) {
        self.say(Level::Normal, "", "", &text);
    }

    /// Something that explains.
    pub fn detail(&self, text: impl fmt::Display) {
        self.say(Level::Verbose, DIM, "", &text);
    }

    fn say(&self, at: Level, colour: &str, prefix: &str, text: &dyn fmt::Display) {
        if self.level < at {
            return;
        }
        let text = harmless(&text.to_string());
        let line = match (self.colour && !colour.is_empty(), prefix) {
            (false, _) => format!("{prefix}{text}\n"),
            (true, "") => format!("{colour}{text}{PLAIN}\n"),
            (true, _) => format!("{colour}{prefix}{PLAIN}{text}\n"),
        };
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        // Who closed our standard error doesn't want to be told.
        let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
    }
}

/// Whether to use colours on standard error.
#[must_use]
pub fn wants_colour() -> bool {
    colours(io::stderr().is_terminal(), std::env::var_os("NO_COLOR"), std::env::var_os("TERM"))
}

/// `NO_COLOR` counts where it isn't empty, as no-color.org has it.
fn colours(terminal: bool, no_color: Option<OsString>, term: Option<OsString>) -> bool {
    terminal && no_color.is_none_or(|value| value.is_empty()) && term.is_none_or(|value| value != "dumb")
}

/// The text with control characters but for line ends and tabs written out.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' && character != '\t' {
            // Writing to a string never fails.
            let _ = write!(out, "\\x{:02x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(level: Level, colour: bool) -> String {
        let shared = Shared::default();
        let messages = Messages::new(level, colour, Box::new(shared.clone()));
        messages.error("no image `app`");
        messages.warn("odd");
        messages.step("plan", "12 entries");
        messages.info("done");
        messages.detail("how");
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn each_level_says_more() {
        assert_eq!(said(Level::Quiet, false), "error: no image `app`\nwarning: odd\n");
        assert_eq!(said(Level::Normal, false), "error: no image `app`\nwarning: odd\nplan: 12 entries\ndone\n");
        assert_eq!(said(Level::Verbose, false), "error: no image `app`\nwarning: odd\nplan: 12 entries\ndone\nhow\n");
    }

    #[test]
    fn colour_only_adds() {
        assert_eq!(
            said(Level::Verbose, true),
            "\x1b[1;31merror: \x1b[0mno image `app`\n\x1b[1;33mwarning: \x1b[0modd\n\x1b[1;32mplan: \x1b[0m12 entries\n\
             done\n\x1b[2mhow\x1b[0m\n"
        );
        let set = |text: &str| Some(OsString::from(text));
        assert!(colours(true, None, None));
        assert!(colours(true, set(""), set("xterm")));
        assert!(!colours(false, None, None));
        assert!(!colours(true, set("1"), None));
        assert!(!colours(true, None, set("dumb")));
    }

    #[test]
    fn names_from_images_cannot_move_the_cursor() {
        assert_eq!(harmless("a\x1b[2J\u{9b}\r\u{7f}\n\tü"), "a\\x1b[2J\\x9b\\x0d\\x7f\n\tü");
    }
}
