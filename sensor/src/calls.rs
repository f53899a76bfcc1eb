//! The system calls, as the sensor sorts them.
//!
//! * **Path calls** take a path: they are reported with it.
//! * **Hot calls** are made so often, and say so little, that trapping them would cost more than they tell; they are
//!   never trapped and always count as used.
//! * Every other call is trapped once it is made, so that the calls in use are known completely (hot + trapped).
//!
//! Numbers come from the `syscalls` crate for the architecture that this is built for; calls that only the older x86-64
//! has (`open`, `stat`, ...) are listed under a `cfg`.

use syscalls::Sysno;

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

/// The path arguments of a call; empty where it takes none.
pub(crate) fn path_arguments(number: u32) -> &'static [PathArgument] {
    use Access::{Change, Enter, Exec, Lookup, ReadLink, Write};
    let Some(call) = Sysno::new(number as usize) else { return &[] };
    #[cfg(target_arch = "x86_64")]
    match call {
        Sysno::open => return const { &[PathArgument { path: 0, directory: None, used: Use::OpenFlags(1) }] },
        Sysno::creat => return const { &[plain(0, Write)] },
        Sysno::stat | Sysno::lstat | Sysno::access => return const { &[plain(0, Lookup)] },
        Sysno::readlink => return const { &[plain(0, ReadLink)] },
        Sysno::rename | Sysno::link => return const { &[plain(0, Change), plain(1, Change)] },
        Sysno::symlink => return const { &[plain(1, Change)] },
        Sysno::mkdir | Sysno::rmdir | Sysno::unlink | Sysno::chmod | Sysno::chown | Sysno::lchown => {
            return const { &[plain(0, Change)] };
        }
        Sysno::utime | Sysno::utimes | Sysno::mknod => return const { &[plain(0, Change)] },
        Sysno::futimesat => return const { &[at(0, 1, Change)] },
        _ => {}
    }
    match call {
        Sysno::openat => const { &[PathArgument { path: 1, directory: Some(0), used: Use::OpenFlags(2) }] },
        Sysno::openat2 => const { &[PathArgument { path: 1, directory: Some(0), used: Use::OpenHow(2) }] },
        Sysno::newfstatat | Sysno::faccessat | Sysno::faccessat2 | Sysno::statx | Sysno::name_to_handle_at => {
            const { &[at(0, 1, Lookup)] }
        }
        Sysno::getxattrat | Sysno::listxattrat => const { &[at(0, 1, Lookup)] },
        Sysno::open_tree | Sysno::fspick => const { &[at(0, 1, Lookup)] },
        Sysno::statfs | Sysno::getxattr | Sysno::lgetxattr | Sysno::listxattr | Sysno::llistxattr => {
            const { &[plain(0, Lookup)] }
        }
        Sysno::inotify_add_watch => const { &[plain(1, Lookup)] },
        Sysno::fanotify_mark => const { &[at(3, 4, Lookup)] },
        Sysno::readlinkat => const { &[at(0, 1, ReadLink)] },
        Sysno::chdir | Sysno::chroot => const { &[plain(0, Enter)] },
        Sysno::pivot_root => const { &[plain(0, Enter), plain(1, Enter)] },
        Sysno::execve => const { &[plain(0, Exec)] },
        Sysno::execveat => const { &[at(0, 1, Exec)] },
        Sysno::truncate => const { &[plain(0, Write)] },
        Sysno::setxattr | Sysno::lsetxattr | Sysno::removexattr | Sysno::lremovexattr => const { &[plain(0, Change)] },
        Sysno::setxattrat | Sysno::removexattrat => const { &[at(0, 1, Change)] },
        Sysno::mkdirat | Sysno::mknodat | Sysno::unlinkat | Sysno::fchownat | Sysno::fchmodat | Sysno::fchmodat2 => {
            const { &[at(0, 1, Change)] }
        }
        Sysno::utimensat => const { &[at(0, 1, Change)] },
        Sysno::renameat | Sysno::renameat2 | Sysno::linkat => const { &[at(0, 1, Change), at(2, 3, Change)] },
        Sysno::symlinkat => const { &[at(1, 2, Change)] },
        Sysno::mount => const { &[plain(0, Lookup), plain(1, Lookup)] },
        Sysno::umount2 => const { &[plain(0, Lookup)] },
        Sysno::mount_setattr => const { &[at(0, 1, Lookup)] },
        // connect(2) and sendto(2) are too hot to be trapped; who bound the socket has named its directory.
        Sysno::bind => const { &[PathArgument { path: 1, directory: None, used: Use::SocketAddress(2) }] },
        Sysno::swapon | Sysno::acct => const { &[plain(0, Lookup)] },
        _ => &[],
    }
}

/// What an open with these flags does with the path.
pub(crate) fn opened_as(flags: u64) -> Access {
    let flags = flags as i32;
    if flags & libc::O_PATH != 0 {
        Access::Lookup
    } else if flags & libc::O_ACCMODE != libc::O_RDONLY || flags & (libc::O_CREAT | libc::O_TRUNC) != 0 {
        Access::Write
    } else if flags & libc::O_DIRECTORY != 0 {
        Access::List
    } else {
        Access::Open
    }
}

/// Calls that are never trapped.
pub(crate) const HOT: &[Sysno] = &[
    Sysno::read,
    Sysno::write,
    Sysno::close,
    Sysno::lseek,
    Sysno::mmap,
    Sysno::mprotect,
    Sysno::munmap,
    Sysno::brk,
    Sysno::rt_sigaction,
    Sysno::rt_sigprocmask,
    Sysno::rt_sigreturn,
    Sysno::ioctl,
    Sysno::pread64,
    Sysno::pwrite64,
    Sysno::readv,
    Sysno::writev,
    Sysno::sched_yield,
    Sysno::mremap,
    Sysno::madvise,
    Sysno::dup,
    Sysno::nanosleep,
    Sysno::getpid,
    Sysno::sendfile,
    Sysno::socket,
    Sysno::connect,
    Sysno::accept,
    Sysno::accept4,
    Sysno::sendto,
    Sysno::recvfrom,
    Sysno::sendmsg,
    Sysno::recvmsg,
    Sysno::fcntl,
    Sysno::fsync,
    Sysno::gettimeofday,
    Sysno::getuid,
    Sysno::getgid,
    Sysno::geteuid,
    Sysno::getegid,
    Sysno::sigaltstack,
    Sysno::gettid,
    Sysno::futex,
    Sysno::epoll_ctl,
    Sysno::epoll_pwait,
    Sysno::clock_gettime,
    Sysno::clock_nanosleep,
    Sysno::set_robust_list,
    Sysno::rseq,
    Sysno::set_tid_address,
    Sysno::fstat,
    Sysno::wait4,
    Sysno::getrandom,
    Sysno::prlimit64,
    Sysno::pipe2,
    Sysno::getdents64,
    Sysno::ppoll,
    Sysno::timerfd_settime,
    Sysno::eventfd2,
    Sysno::restart_syscall,
    Sysno::tgkill,
    Sysno::rt_sigtimedwait,
    Sysno::getppid,
    Sysno::getrusage,
    Sysno::times,
    Sysno::getcwd,
    Sysno::ftruncate,
    Sysno::fallocate,
    Sysno::sched_getaffinity,
    Sysno::pselect6,
    #[cfg(target_arch = "x86_64")]
    Sysno::poll,
    #[cfg(target_arch = "x86_64")]
    Sysno::dup2,
    #[cfg(target_arch = "x86_64")]
    Sysno::epoll_wait,
    #[cfg(target_arch = "x86_64")]
    Sysno::arch_prctl,
    #[cfg(target_arch = "x86_64")]
    Sysno::select,
];

/// Calls that the monitor depends on, whatever else is seen: ends are held until all is told, a signal to everybody is sent
/// by the monitor, and who begins to listen may be ready.
pub(crate) const LIFE: &[Sysno] = &[Sysno::exit, Sysno::exit_group, Sysno::kill, Sysno::listen];

/// The calls that are hot unless their arguments ask for new namespaces.
pub(crate) const PROCESS_CREATION: &[Sysno] = &[Sysno::clone, Sysno::clone3];

/// The name of a call for profiles and reports; `None` for a number that this build does not know.
#[must_use]
pub fn name(number: u32) -> Option<&'static str> {
    Sysno::new(number as usize).map(|call| call.name())
}

/// Names of the calls that are never trapped and may therefore always have been used.
pub fn hot_names() -> impl Iterator<Item = &'static str> {
    HOT.iter().chain(PROCESS_CREATION).map(Sysno::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hot_call_takes_a_path() {
        for call in HOT {
            assert_eq!(path_arguments(call.id() as u32), [], "{call}");
        }
    }

    #[test]
    fn arguments_are_within_the_six() {
        for number in 0..600 {
            for argument in path_arguments(number) {
                assert!(argument.path < 6 && argument.directory.is_none_or(|directory| directory < 6), "{number}");
            }
        }
    }

    #[test]
    fn open_flags() {
        let flags = |flags: i32| opened_as(flags as u64);
        assert_eq!(flags(libc::O_RDONLY | libc::O_CLOEXEC), Access::Open);
        assert_eq!(flags(libc::O_RDONLY | libc::O_DIRECTORY), Access::List);
        assert_eq!(flags(libc::O_RDWR), Access::Write);
        assert_eq!(flags(libc::O_RDONLY | libc::O_CREAT), Access::Write);
        assert_eq!(flags(libc::O_PATH | libc::O_DIRECTORY), Access::Lookup);
    }
}
