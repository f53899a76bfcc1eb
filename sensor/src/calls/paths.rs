//! Where a call's paths are, and how it uses them.

use super::Abi;
use crate::wire::Access;

/// How a path argument is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Always this.
    As(Access),
    /// It depends on open(2)'s flags, in this argument.
    OpenFlags(u8),
    /// It depends on the flags that the `struct open_how` at this argument begins with.
    OpenHow(u8),
    /// It is in a socket's address, whose length is in this argument: a socket file is made.
    SocketAddress(u8),
}

/// A path among the arguments of a call. Numbers are positions of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathArgument {
    /// Where the pointer to the path is.
    pub(crate) path: u8,
    /// Where the directory descriptor for relative paths is; none: the working directory.
    pub(crate) directory: Option<u8>,
    /// How it is used.
    pub(crate) used: Use,
}

const fn plain(path: u8, access: Access) -> PathArgument {
    PathArgument { path, directory: None, used: Use::As(access) }
}

const fn at(directory: u8, path: u8, access: Access) -> PathArgument {
    PathArgument { path, directory: Some(directory), used: Use::As(access) }
}

/// The path arguments of the call with this name; empty where it takes none.
pub(crate) fn of(name: &str, abi: Abi) -> &'static [PathArgument] {
    use Access::{Change, Enter, Exec, Lookup, Open, ReadLink, Write};
    match name {
        "open" => const { &[PathArgument { path: 0, directory: None, used: Use::OpenFlags(1) }] },
        "openat" => const { &[PathArgument { path: 1, directory: Some(0), used: Use::OpenFlags(2) }] },
        "openat2" => const { &[PathArgument { path: 1, directory: Some(0), used: Use::OpenHow(2) }] },
        "creat" | "truncate" | "truncate64" => const { &[plain(0, Write)] },
        "uselib" => const { &[plain(0, Open)] },
        "stat" | "lstat" | "stat64" | "lstat64" | "oldstat" | "oldlstat" | "access" => const { &[plain(0, Lookup)] },
        "statfs" | "statfs64" | "getxattr" | "lgetxattr" | "listxattr" | "llistxattr" => const { &[plain(0, Lookup)] },
        "umount" | "umount2" | "swapon" | "swapoff" | "acct" => const { &[plain(0, Lookup)] },
        "newfstatat" | "fstatat64" | "faccessat" | "faccessat2" | "statx" | "name_to_handle_at" => const { &[at(0, 1, Lookup)] },
        "getxattrat" | "listxattrat" | "file_getattr" => const { &[at(0, 1, Lookup)] },
        "open_tree" | "open_tree_attr" | "fspick" | "mount_setattr" => const { &[at(0, 1, Lookup)] },
        "inotify_add_watch" | "quotactl" => const { &[plain(1, Lookup)] },
        // Its mask has 64 bits.
        "fanotify_mark" if abi.is_32_bit() => const { &[at(4, 5, Lookup)] },
        "fanotify_mark" => const { &[at(3, 4, Lookup)] },
        "mount" => const { &[plain(0, Lookup), plain(1, Lookup)] },
        "move_mount" => const { &[at(0, 1, Lookup), at(2, 3, Lookup)] },
        "readlink" => const { &[plain(0, ReadLink)] },
        "readlinkat" => const { &[at(0, 1, ReadLink)] },
        "chdir" | "chroot" => const { &[plain(0, Enter)] },
        "pivot_root" => const { &[plain(0, Enter), plain(1, Enter)] },
        "execve" => const { &[plain(0, Exec)] },
        "execveat" => const { &[at(0, 1, Exec)] },
        "mkdir" | "rmdir" | "unlink" | "chmod" | "chown" | "chown32" | "lchown" | "lchown32" | "mknod" | "utime" | "utimes" => {
            const { &[plain(0, Change)] }
        }
        "setxattr" | "lsetxattr" | "removexattr" | "lremovexattr" => const { &[plain(0, Change)] },
        "mkdirat" | "mknodat" | "unlinkat" | "fchownat" | "fchmodat" | "fchmodat2" => const { &[at(0, 1, Change)] },
        "utimensat" | "utimensat_time64" | "futimesat" => const { &[at(0, 1, Change)] },
        "setxattrat" | "removexattrat" | "file_setattr" => const { &[at(0, 1, Change)] },
        "rename" | "link" => const { &[plain(0, Change), plain(1, Change)] },
        "renameat" | "renameat2" | "linkat" => const { &[at(0, 1, Change), at(2, 3, Change)] },
        "symlink" => const { &[plain(1, Change)] },
        "symlinkat" => const { &[at(1, 2, Change)] },
        // connect(2) and sendto(2) are too hot to be trapped; who bound the socket has named its directory.
        "bind" => const { &[PathArgument { path: 1, directory: None, used: Use::SocketAddress(2) }] },
        _ => &[],
    }
}

/// What an open with these flags does with the path.
pub(crate) fn opened_as(flags: u64, abi: Abi) -> Access {
    // The one flag of these that isn't the same everywhere.
    let directory = match abi {
        Abi::X86_64 | Abi::I386 => 0o200_000,
        Abi::Aarch64 | Abi::Arm => 0o40_000,
    };
    let flags = flags as i32;
    if flags & libc::O_PATH != 0 {
        Access::Lookup
    } else if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & (libc::O_CREAT | libc::O_TRUNC) != 0 {
        Access::Write
    } else if flags & directory != 0 {
        Access::List
    } else {
        Access::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::HERE;

    #[test]
    fn open_flags() {
        let flags = |flags: i32| opened_as(flags as u64, HERE.native);
        assert_eq!(flags(libc::O_RDONLY | libc::O_CLOEXEC), Access::Open);
        assert_eq!(flags(libc::O_RDONLY | libc::O_DIRECTORY), Access::List);
        assert_eq!(flags(libc::O_RDWR), Access::Write);
        assert_eq!(flags(libc::O_RDONLY | libc::O_CREAT), Access::Write);
        assert_eq!(flags(libc::O_PATH | libc::O_DIRECTORY), Access::Lookup);
    }
}
