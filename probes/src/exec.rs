//! The commands of `--exec`: when they need a shell, and what came of them.
//!
//! Many images have no shell, and none is needed to start a program: `redis-cli ping` is split into words as a POSIX shell
//! splits them, quotes and backslashes included, and executed directly. What only a shell can do is left, as it was
//! written, to the container's own `sh -c`. [`ExecCommand::parse`] tells one from the other by the text alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tally::Tally;

/// Unquoted, these mean something to a shell wherever they stand: pipes, lists, background, redirection, subshells,
/// expansion, command substitution, patterns, and the end of a line. `$` and `` ` `` do so within double quotes, too.
pub const SHELL_CHARACTERS: &str = "|&;<>()$`*?[\n";

/// Unquoted at the beginning of a word, these mean something to a shell: home directories and comments.
pub const SHELL_WORD_STARTS: &str = "~#";

/// As the first word, these are no programs but parts of the shell's grammar, or commands that act on the shell itself. An
/// assignment (`NAME=value`) as the first word needs a shell, too.
pub const SHELL_WORDS: &[&str] = &[
    "!", "{", "case", "for", "function", "if", "select", "time", "until", "while", // grammar
    ".", ":", "alias", "bg", "break", "builtin", "cd", "command", "continue", "declare", "eval", "exec", "exit", "export", "fg",
    "getopts", "hash", "jobs", "let", "local", "read", "readonly", "return", "set", "shift", "shopt", "source", "times", "trap",
    "type", "typeset", "ulimit", "umask", "unalias", "unset", "wait",
];

/// Most bytes of an output that are kept as text.
const MAX_OUTPUT: usize = 64 << 10;

/// How a command is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecCommand {
    /// These words, the first being the program.
    Direct(Vec<String>),
    /// This text, by the container's own `sh -c`.
    Shell(String),
    /// The file of this name, outside of the container, on standard input of the container's own `sh -s`.
    Script(String),
}

/// What is wrong with a command.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecError {
    /// No program.
    #[error("the command `{0}` names no program")]
    Empty(String),
    /// A quote without its partner, or a backslash with nothing behind it.
    #[error("the command `{text}` ends within {open}: close it, or quote it")]
    Unbalanced {
        /// The command.
        text: String,
        /// What is open.
        open: &'static str,
    },
    /// No argument of a program can hold it.
    #[error("the command `{0}` holds a NUL byte")]
    Nul(String),
}

impl ExecCommand {
    /// Decides how `text` is executed: by the container's shell where it has unquoted shell syntax ([`SHELL_CHARACTERS`],
    /// [`SHELL_WORD_STARTS`], [`SHELL_WORDS`], or an assignment in front), else directly.
    ///
    /// # Errors
    /// [`ExecError`]. What is wrong with a text for the shell is for the shell to say.
    pub fn parse(text: &str) -> Result<Self, ExecError> {
        if text.contains('\0') {
            return Err(ExecError::Nul(text.escape_debug().to_string()));
        }
        if needs_shell(text)? {
            return Ok(Self::Shell(text.into()));
        }
        let words: Vec<String> = shlex::Shlex::new(text).collect();
        if words.first().is_none_or(String::is_empty) {
            return Err(ExecError::Empty(text.into()));
        }
        Ok(Self::Direct(words))
    }
}

impl fmt::Display for ExecCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(words) => f.write_str(&words.join(" ")),
            Self::Shell(text) => f.write_str(text),
            Self::Script(file) => write!(f, "sh -s < {file}"),
        }
    }
}

/// Whether a text has unquoted shell syntax.
fn needs_shell(text: &str) -> Result<bool, ExecError> {
    let first_word = text.split_ascii_whitespace().next().unwrap_or_default();
    if SHELL_WORDS.contains(&first_word) || is_assignment(first_word) {
        return Ok(true);
    }
    // A newline at the end is no second command.
    let mut characters = text.trim_matches('\n').chars();
    let mut at_word_start = true;
    while let Some(character) = characters.next() {
        let closed = match character {
            '\'' => characters.any(|character| character == '\''),
            '\\' => characters.next().is_some(),
            '"' => match skip_double_quoted(&mut characters) {
                Some(Quoted::Expands) => return Ok(true),
                quoted => quoted.is_some(),
            },
            character if SHELL_CHARACTERS.contains(character) => return Ok(true),
            character if at_word_start && SHELL_WORD_STARTS.contains(character) => return Ok(true),
            _ => true,
        };
        if !closed {
            let open = match character {
                '\'' => "single quotes",
                '"' => "double quotes",
                _ => "a backslash",
            };
            return Err(ExecError::Unbalanced { text: text.into(), open });
        }
        at_word_start = character.is_ascii_whitespace();
    }
    Ok(false)
}

/// What is between double quotes.
enum Quoted {
    Plain,
    /// A shell would replace something in it.
    Expands,
}

/// Goes behind the closing double quote, or to the first thing that is expanded; `None` where there is neither.
fn skip_double_quoted(characters: &mut std::str::Chars<'_>) -> Option<Quoted> {
    loop {
        match characters.next()? {
            '"' => return Some(Quoted::Plain),
            '$' | '`' => return Some(Quoted::Expands),
            '\\' => _ = characters.next(),
            _ => {}
        }
    }
}

/// Whether a word is `NAME=...`.
fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// A command and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    /// How it was executed.
    pub command: ExecCommand,
    /// `None`: it could not be started, or did not end.
    pub exit_code: Option<i64>,
    /// What it took.
    pub milliseconds: u64,
    /// Its standard output.
    pub stdout: Output,
    /// Its standard error.
    pub stderr: Output,
}

/// What a command has put out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// In bytes.
    pub size: u64,
    /// `sha256:...`.
    pub digest: String,
    /// The first 64 KiB, as text; bytes that aren't UTF-8 are replaced.
    pub text: String,
}

/// Makes an [`Output`] of the chunks in which it comes, of any length, in little memory.
#[derive(Debug, Clone)]
pub struct OutputCollector(Tally);

impl Default for OutputCollector {
    fn default() -> Self {
        Self(Tally::new(MAX_OUTPUT))
    }
}

impl OutputCollector {
    /// Adds the next chunk.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    /// All of it.
    #[must_use]
    pub fn finish(self) -> Output {
        let size = self.0.size();
        let (digest, head) = self.0.finish();
        Output { size, digest, text: String::from_utf8_lossy(&head).into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(words: &[&str]) -> Result<ExecCommand, ExecError> {
        Ok(ExecCommand::Direct(words.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (text, words) in [
            ("redis-cli ping", &["redis-cli", "ping"][..]),
            ("  a\tb  c \n", &["a", "b", "c"]),
            (r#"echo 'a  b' "c 'd'" e\ f g'h'"i" '' "#, &["echo", "a  b", "c 'd'", "e f", "ghi", ""]),
            (r#"echo "a\"b\\c\d" '\'"#, &["echo", r#"a"b\c\d"#, r"\"]),
            (
                r#"echo "\$HOME \`" \$HOME \* \; "*?|&;<>()#~" '$x `y`'"#,
                &["echo", "$HOME `", "$HOME", "*", ";", "*?|&;<>()#~", "$x `y`"],
            ),
            (
                "bash -c 'until [ -e /x ]; do sleep 1; done; echo $X > /y'",
                &["bash", "-c", "until [ -e /x ]; do sleep 1; done; echo $X > /y"],
            ),
            ("sh -c 'a\nb'", &["sh", "-c", "a\nb"]),
            ("a a~b a#b a=b --c={d,e} ]", &["a", "a~b", "a#b", "a=b", "--c={d,e}", "]"]),
            ("'a'#b", &["a#b"]),
            ("echo if cd", &["echo", "if", "cd"]),
            ("'if' x", &["if", "x"]),
            ("a-b=c", &["a-b=c"]),
            ("=x", &["=x"]),
            ("1a=c", &["1a=c"]),
            ("/bin/cd x", &["/bin/cd", "x"]),
            ("naïve 'ü'", &["naïve", "ü"]),
        ] {
            assert_eq!(ExecCommand::parse(text), direct(words), "{text}");
        }
    }

    #[test]
    fn shell_syntax_is_for_the_shell() {
        for text in [
            "a | b",
            "a && b",
            "a & ",
            "a;b",
            "a > /x",
            "a 2>&1",
            "a < x",
            "(a)",
            "echo $X",
            "echo \"$X\"",
            "echo `a`",
            "echo \"`a`\"",
            "ls *.c",
            "ls a?",
            "[ -e x ]",
            "ls ~",
            "ls ~root",
            "~/a",
            "a # b",
            "#",
            "a\nb",
            "A=b c",
            "_A1= c",
            "A=b",
            "if true",
            "! a",
            "{ a",
            "cd /",
            "export",
            "set -e",
            "source x",
            ". x",
            "exec a",
            "  cd /",
            "ulimit -n 1",
            "echo 'a' \"b\" c;d",
            "a; 'b",
        ] {
            assert_eq!(ExecCommand::parse(text), Ok(ExecCommand::Shell(text.into())), "{text}");
        }
        for word in SHELL_WORDS {
            assert_eq!(ExecCommand::parse(word), Ok(ExecCommand::Shell((*word).into())), "{word}");
        }
    }

    #[test]
    fn the_lists_are_documented() {
        let document = include_str!("../../docs/probes.md");
        let words: Vec<&str> = document.split_whitespace().collect();
        let has = |list: &[String]| words.windows(list.len()).any(|window| window == list);
        let each = |characters: &str| characters.chars().filter(|&it| it != '\n').map(String::from).collect::<Vec<_>>();
        assert!(has(&each(SHELL_CHARACTERS)), "docs/probes.md lacks: {SHELL_CHARACTERS}");
        assert!(has(&each(SHELL_WORD_STARTS)), "docs/probes.md lacks: {SHELL_WORD_STARTS}");
        assert!(has(&SHELL_WORDS.iter().map(ToString::to_string).collect::<Vec<_>>()), "docs/probes.md lacks: {SHELL_WORDS:?}");
    }

    #[test]
    fn what_cannot_be_executed() {
        for (text, message) in [
            ("", "the command `` names no program"),
            (" \n", "the command ` \n` names no program"),
            ("'' a", "the command `'' a` names no program"),
            ("echo 'a; b", "the command `echo 'a; b` ends within single quotes: close it, or quote it"),
            ("echo \"a", "the command `echo \"a` ends within double quotes: close it, or quote it"),
            ("echo \"a\\", "the command `echo \"a\\` ends within double quotes: close it, or quote it"),
            ("echo a\\", "the command `echo a\\` ends within a backslash: close it, or quote it"),
            ("a\0b", "the command `a\\0b` holds a NUL byte"),
        ] {
            assert_eq!(ExecCommand::parse(text).expect_err(text).to_string(), message);
        }
    }

    #[test]
    fn records_survive_json() {
        let mut stdout = OutputCollector::default();
        stdout.push(b"PONG\n\xff");
        stdout.push(&[b'x'; 2 * MAX_OUTPUT]);
        let record = ExecRecord {
            command: ExecCommand::parse("redis-cli ping").expect("command"),
            exit_code: Some(0),
            milliseconds: 7,
            stdout: stdout.finish(),
            stderr: OutputCollector::default().finish(),
        };
        assert_eq!(record.stdout.size, 6 + 2 * MAX_OUTPUT as u64);
        assert!(record.stdout.text.starts_with("PONG\n\u{fffd}xx") && record.stdout.text.len() < MAX_OUTPUT + 4);
        assert_eq!(record.stderr.digest, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let json = serde_json::to_string(&record).expect("json");
        assert!(json.starts_with(r#"{"command":{"direct":["redis-cli","ping"]},"exit_code":0,"#), "{json}");
        assert_eq!(serde_json::from_str::<ExecRecord>(&json).expect("record"), record);
        assert_eq!(record.command.to_string(), "redis-cli ping");
    }
}
