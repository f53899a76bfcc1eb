//! Who a container's process is: what an engine makes of `USER`, by the image's own passwd and group files.
//!
//! The engine would do this itself, but the stub has to start as root. So the rules are the engine's (moby's
//! `user.GetExecUser`): a number is always an id, and one without an entry is taken as it is; an unknown
//! name is an error; supplementary groups are those that list the user's name, unless a group was given. The
//! primary group is among them, in Podman only where a user is named at all. Pure functions on the files' bytes.

use crate::stub::Engine;

/// Who to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home directory by the passwd file; `/` where it has none.
    pub home: Vec<u8>,
}

/// A `USER` that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
}

/// Resolves `user[:group]` (empty: root) with the contents of /etc/passwd and /etc/group, empty where there is none.
///
/// # Errors
/// [`IdentityError`] for a name that isn't in its file.
pub fn resolve(engine: &Engine, user: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, IdentityError> {
    let (user, given_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let is_unnamed = user.is_empty();
    let user = if is_unnamed { "0" } else { user };
    let number = id(user.as_bytes());
    let entry = lines(passwd).filter(|fields| fields.len() >= 4).find(|fields| match number {
        Some(number) => id(fields[2]) == Some(number),
        None => fields[0] == user.as_bytes(),
    });
    let (name, uid, own_gid, home) = match (&entry, number) {
        (Some(fields), _) => (
            Some(fields[0]),
            id(fields[2]).unwrap_or(0),
            id(fields[3]).unwrap_or(0),
            fields.get(5).copied().filter(|home| !home.is_empty()).unwrap_or(b"/"),
        ),
        (None, Some(uid)) => (None, uid, 0, &b"/"[..]),
        (None, None) => return Err(IdentityError::User(user.to_owned())),
    };
    let Some(wanted) = given_group else {
        let mut groups = if is_unnamed && matches!(engine, Engine::Podman(_)) { vec![] } else { vec![own_gid] };
        for fields in lines(group).filter(|fields| fields.len() >= 4) {
            let lists_user = name.is_some_and(|name| fields[3].split(|&byte| byte == b',').any(|member| member == name));
            if let (true, Some(gid)) = (lists_user, id(fields[2]))
                && !groups.contains(&gid)
            {
                groups.push(gid);
            }
        }
        return Ok(Identity { uid, gid: own_gid, groups, home: home.to_vec() });
    };
    let by_name =
        || lines(group).find(|fields| fields.len() >= 3 && fields[0] == wanted.as_bytes()).and_then(|fields| id(fields[2]));
    let gid = id(wanted.as_bytes()).or_else(by_name).ok_or_else(|| IdentityError::Group(wanted.to_owned()))?;
    Ok(Identity { uid, gid, groups: vec![gid], home: home.to_vec() })
}

/// The lines of a passwd or group file, split at colons.
fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.splitn(8, |&byte| byte == b':').collect())
}

/// A user or group id; the kernel reserves the largest number.
fn id(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|&id| id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/bash\n# comment\n\nweb:x:33:33:www:/var/www:/sbin/nologin\nbroken\n1000:x:7:8::/odd:\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:web,root\nweb:x:33:\nextra:x:900:other,web\nweb2:x:901:webby\n";

    fn docker() -> Engine {
        Engine::Docker("20.10.24".to_owned())
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<Identity, IdentityError> {
        Ok(Identity { uid, gid, groups: groups.to_vec(), home: home.as_bytes().to_vec() })
    }

    #[test]
    fn follows_the_engines_rules() {
        for (user, wanted) in [
            ("", identity(0, 0, &[0, 4], "/root")),
            ("root", identity(0, 0, &[0, 4], "/root")),
            ("web", identity(33, 33, &[33, 4, 900], "/var/www")),
            ("33", identity(33, 33, &[33, 4, 900], "/var/www")),
            ("web:adm", identity(33, 4, &[4], "/var/www")),
            ("web:12", identity(33, 12, &[12], "/var/www")),
            ("web:", identity(33, 33, &[33, 4, 900], "/var/www")),
            ("5000", identity(5000, 0, &[0], "/")),
            ("5000:900", identity(5000, 900, &[900], "/")),
            ("1000", identity(1000, 0, &[0], "/")),
            ("nobody", Err(IdentityError::User("nobody".into()))),
            ("web:nogroup", Err(IdentityError::Group("nogroup".into()))),
            ("4294967295", Err(IdentityError::User("4294967295".into()))),
        ] {
            assert_eq!(resolve(&docker(), user, PASSWD, GROUP), wanted, "{user}");
        }
        assert_eq!(resolve(&docker(), "", b"", b""), identity(0, 0, &[0], "/"));
        assert_eq!(resolve(&docker(), "3:4", b"\xff:\xff", b":::::::"), identity(3, 4, &[4], "/"));
    }
    #[test]
    fn podman_adds_the_primary_group_of_a_named_user() {
        let group = b"root:x:0:\nadm:x:4:root,web\n";
        let groups = |user| resolve(&Engine::Podman("4.3.1".to_owned()), user, PASSWD, group).map(|identity| identity.groups);
        assert_eq!(
            [groups(""), groups("0"), groups("web"), groups("web:9")],
            [vec![4], vec![0, 4], vec![33, 4], vec![9]].map(Ok)
        );
    }
}
