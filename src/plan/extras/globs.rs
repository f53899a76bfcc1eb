//! Patterns over the paths of an image: `*` and `?` stop at slashes, `**` does not.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::escape::escape;
use crate::plan::PlanError;

/// Whether a path is meant as a pattern.
pub(super) fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|byte| b"*?[{".contains(byte))
}

/// Patterns of one option.
#[derive(Debug)]
pub(super) struct Patterns {
    set: GlobSet,
    options: Vec<String>,
    matched: Vec<bool>,
}

impl Patterns {
    /// Compiles the values of `option`.
    pub(super) fn new<'a>(option: &str, patterns: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<Patterns, PlanError> {
        let mut set = GlobSetBuilder::new();
        let mut options = vec![];
        for pattern in patterns {
            let option = format!("{option} {}", escape(pattern));
            let unusable = |problem: String| PlanError::Option { option: option.clone(), problem };
            let text = std::str::from_utf8(pattern).map_err(|_| unusable("a pattern must be valid UTF-8".into()))?;
            if !text.starts_with('/') && !text.starts_with("**") {
                return Err(unusable("a pattern is for whole paths: begin it with `/` or `**/`".into()));
            }
            let glob = GlobBuilder::new(text).literal_separator(true).build();
            set.add(glob.map_err(|error| unusable(error.kind().to_string()))?);
            options.push(option);
        }
        let unusable = |error: globset::Error| PlanError::Option { option: option.into(), problem: error.to_string() };
        Ok(Patterns { set: set.build().map_err(unusable)?, matched: vec![false; options.len()], options })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// The option (with its value) whose pattern matches `path`, the first of them.
    pub(super) fn matching(&mut self, path: &[u8]) -> Option<&str> {
        let matches = self.set.matches_candidate(&Candidate::from_bytes(path));
        for &index in &matches {
            self.matched[index] = true;
        }
        matches.first().map(|&index| &self.options[index][..])
    }

    /// Fails where a pattern has matched nothing so far.
    pub(super) fn must_all_have_matched(&self) -> Result<(), PlanError> {
        match self.matched.iter().position(|matched| !matched) {
            Some(index) => Err(PlanError::Nothing { option: self.options[index].clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_for_whole_paths() {
        for (pattern, path, expected) in [
            ("/a/*.so", "/a/b.so", true),
            ("/a/*.so", "/a/b/c.so", false),
            ("/a/**", "/a/b/c.so", true),
            ("**/*.md", "/usr/share/x.md", true),
            ("**/*.md", "/x.md", true),
            ("/a/{b,c}/?[0-9]", "/a/c/x7", true),
            ("/a", "/a/b", false),
        ] {
            let mut patterns = Patterns::new("--x", [&pattern.as_bytes().to_vec()]).expect("pattern");
            assert_eq!(patterns.matching(path.as_bytes()).is_some(), expected, "{pattern} {path}");
            assert_eq!(patterns.must_all_have_matched().is_ok(), expected);
        }
        let mut patterns = Patterns::new("--x", [&b"/**".to_vec()]).expect("pattern");
        assert_eq!(patterns.matching(b"/not\xffutf-8\n"), Some("--x /**"));
    }

    #[test]
    fn unusable_patterns_are_named() {
        for bad in [&b"/a["[..], b"/{a", b"*.md", b"/\xff*"] {
            let error = Patterns::new("--exclude-pattern", [&bad.to_vec()]).expect_err("unusable").to_string();
            assert!(error.contains(&format!("`--exclude-pattern {}`", escape(bad))), "{error}");
        }
    }
}
