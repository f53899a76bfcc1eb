//! Owners and permissions of a root whose layers could not have them: who unpacked them is not root, so all of it is his.
//!
//! In a user namespace with a range of ids they can be set, in the container's writable layer.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};

use super::failure::{During, SetUpError};
use super::inside::Inside;
use super::spec::Owner;

/// Sets them.
pub(super) fn set(inside: &Inside, owners: &[Owner]) -> Result<(), SetUpError> {
    for Owner { path, uid, gid, mode } in owners {
        let path = Path::new(OsStr::from_bytes(path));
        let step = || format!("give `{}` its owner {uid}:{gid}", path.display());
        // What only an image can have (a device) may be missing.
        let Ok(place) = inside.find_plain(path) else { continue };
        let (user, group) = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
        fchownat(place.as_fd(), "", user, group, AtFlags::AT_EMPTY_PATH).during(step).map_err(|error| {
            error.advice("the image has ids outside of the ranges in /etc/subuid and /etc/subgid: grant more of them")
        })?;
        if !place.is_link() {
            fs::set_permissions(place.path(), fs::Permissions::from_mode(*mode)).during(step)?;
        }
    }
    Ok(())
}
