//! `--path-perms PATH:OCTAL[#UID[#GID]]`: permissions and owners that differ from the image's.

use crate::escape::escape;
use crate::image::tree::Tree;
use crate::plan::{Kept, PlanError};

/// Other permissions for one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPermissions {
    /// Absolute path in the image; symbolic links are followed.
    pub path: Vec<u8>,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u16,
    /// Another owner.
    pub uid: Option<u32>,
    /// Another group.
    pub gid: Option<u32>,
}

impl PathPermissions {
    /// Reads the option's value.
    ///
    /// # Errors
    /// [`PlanError::Option`] with the form that was expected.
    pub fn parse(value: &[u8]) -> Result<PathPermissions, PlanError> {
        let colon = value.iter().rposition(|&byte| byte == b':');
        let parsed = colon.and_then(|colon| {
            let mut parts = std::str::from_utf8(&value[colon + 1..]).ok()?.split('#');
            let digits = parts.next().filter(|digits| !digits.starts_with('+'))?;
            let mode = u16::from_str_radix(digits, 8).ok().filter(|&mode| mode <= 0o7777)?;
            let [uid, gid] = [parts.next(), parts.next()].map(|part| part.map(str::parse));
            let (uid, gid) = (uid.transpose().ok()?, gid.transpose().ok()?);
            let path = value[..colon].to_vec();
            (path.starts_with(b"/") && parts.next().is_none()).then_some(PathPermissions { path, mode, uid, gid })
        });
        parsed.ok_or_else(|| PlanError::Option {
            option: format!("--path-perms {}", escape(value)),
            problem: "write `PATH:MODE`, `PATH:MODE#UID` or `PATH:MODE#UID#GID` with an absolute path and an octal mode".into(),
        })
    }

    /// The option as it was given.
    pub(super) fn option(&self) -> String {
        let mut option = format!("--path-perms {}:{:04o}", escape(&self.path), self.mode);
        for id in [self.uid, self.gid].into_iter().flatten() {
            option.push_str(&format!("#{id}"));
        }
        option
    }

    /// Sets mode and owner of `kept`, the entry with the absolute path `path` or another name of the same file.
    pub(super) fn apply(&self, tree: &Tree, kept: &mut Kept) {
        kept.mode = Some(self.mode);
        if (self.uid, self.gid) != (None, None) {
            let (uid, gid) = tree.get(&kept.path).map(|id| tree.owner(id)).unwrap_or_default();
            kept.owner = Some((self.uid.unwrap_or(uid), self.gid.unwrap_or(gid)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        let read = |value: &[u8]| PathPermissions::parse(value).map(|it| (it.path, it.mode, it.uid, it.gid)).ok();
        assert_eq!(read(b"/a:0644"), Some((b"/a".to_vec(), 0o644, None, None)));
        assert_eq!(read(b"/a:b:4755#10"), Some((b"/a:b".to_vec(), 0o4755, Some(10), None)));
        assert_eq!(read(b"/a\xff:1777#0#4294967295"), Some((b"/a\xff".to_vec(), 0o1777, Some(0), Some(u32::MAX))));
        for bad in ["", "/a", "/a:", "/a:8", "/a:10000", "/a:644#", "/a:644#x", "/a:644#1#2#3", "a:644", ":644", "/a:-1", "/a:+7"]
        {
            let error = PathPermissions::parse(bad.as_bytes()).expect_err(bad).to_string();
            assert!(error.contains("--path-perms") && error.contains("PATH:MODE"), "{error}");
        }
        assert_eq!(PathPermissions::parse(b"/a:755#1#2").expect("value").option(), "--path-perms /a:0755#1#2");
    }
}
