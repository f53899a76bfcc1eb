//! Variables for the container: `--env` and the files of `--env-file`, by Docker's rules.
//!
//! In a file each line is `NAME=VALUE`, taken as it is: no quotes, no expansion, blanks in front of the name alone are
//! dropped; `#` begins a comment line. A name alone takes the value from our own environment; where there is none, a file
//! skips it, while `--env` takes it out of what the image sets. Values are secrets: no message and no debug output
//! shows one.

use std::fmt;

/// Our own environment: the value of a name.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of the container.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Never empty.
    pub name: String,
    /// `None`: what the image sets is taken out.
    pub value: Option<String>,
}

impl Variable {
    /// As the API takes it.
    #[must_use]
    pub fn to_api(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.name),
            None => self.name.clone(),
        }
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, if self.value.is_some() { "***" } else { "" })
    }
}

/// What is wrong with a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// `=VALUE`.
    #[error("there is no name before the `=`")]
    NoName,
    /// A NUL can't be in an environment.
    #[error("a variable can't hold a NUL byte")]
    Nul,
    /// In a file.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// One `--env`: `NAME=VALUE` or `NAME`.
///
/// # Errors
/// [`VariableError`].
pub fn parse_variable(text: &str, lookup: Lookup<'_>) -> Result<Variable, VariableError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err(VariableError::NoName);
    }
    if text.contains('\0') {
        return Err(VariableError::Nul);
    }
    Ok(Variable { name: name.to_owned(), value: value.or_else(|| lookup(name)) })
}

/// The variables of an `--env-file`.
///
/// # Errors
/// [`VariableError::Line`].
pub fn parse_environment_file(bytes: &[u8], lookup: Lookup<'_>) -> Result<Vec<Variable>, VariableError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut variables = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let wrong = |what| VariableError::Line { line: index + 1, what };
        let line = std::str::from_utf8(line).map_err(|_| wrong("not UTF-8"))?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            return Err(wrong("a variable can't hold a NUL byte"));
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line, lookup(line)),
        };
        if name.is_empty() {
            return Err(wrong("there is no name before the `=`"));
        }
        if name.contains([' ', '\t']) {
            return Err(wrong("the name holds a blank: a line is `NAME=VALUE` with nothing around the `=`"));
        }
        if value.is_some() {
            variables.push(Variable { name: name.to_owned(), value });
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn single_variables() {
        for (text, api) in
            [("A=1", "A=1"), ("A=", "A="), ("A=b=c ", "A=b=c "), ("HOME", "HOME=/root"), ("HOME=x", "HOME=x"), ("UNSET", "UNSET")]
        {
            assert_eq!(parse_variable(text, &lookup).unwrap().to_api(), api, "{text}");
        }
        assert_eq!(parse_variable("=secret", &lookup).unwrap_err().to_string(), "there is no name before the `=`");
        assert_eq!(parse_variable("", &lookup).unwrap_err().to_string(), "there is no name before the `=`");
        assert_eq!(parse_variable("A=\0", &lookup).unwrap_err().to_string(), "a variable can't hold a NUL byte");
    }

    #[test]
    fn values_are_not_shown() {
        let variables = [parse_variable("A=secret", &lookup).unwrap(), parse_variable("B", &lookup).unwrap()];
        assert_eq!(format!("{variables:?}"), "[A=***, B=]");
    }

    #[test]
    fn files() {
        let file =
            b"\xef\xbb\xbf# comment\n\nA=1\r\n  B=\"quoted\" # not a comment \n\t#also a comment\nC=\nHOME\nUNSET\nD=$HOME";
        let got: Vec<String> = parse_environment_file(file, &lookup).unwrap().iter().map(Variable::to_api).collect();
        assert_eq!(got, ["A=1", "B=\"quoted\" # not a comment ", "C=", "HOME=/root", "D=$HOME"]);
        assert_eq!(parse_environment_file(b"", &lookup), Ok(vec![]));
        let blank = "the name holds a blank: a line is `NAME=VALUE` with nothing around the `=`";
        for (file, message) in [
            (&b"A=1\n=secret"[..], "line 2: there is no name before the `=`"),
            (b"A =secret", &format!("line 1: {blank}")),
            (b"export A=secret", &format!("line 1: {blank}")),
            (b"\n\nA=\xff", "line 3: not UTF-8"),
            (b"A=\0", "line 1: a variable can't hold a NUL byte"),
        ] {
            assert_eq!(parse_environment_file(file, &lookup).unwrap_err().to_string(), message);
        }
    }
}
