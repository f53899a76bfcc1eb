//! Calls that are not trapped, and those that always are.

/// Calls that are never trapped. Those that only one ABI has are in their own lines.
pub(crate) const HOT: &[&str] = &[
    "read",
    "write",
    "close",
    "lseek",
    "mmap",
    "mprotect",
    "munmap",
    "brk",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "ioctl",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "sched_yield",
    "mremap",
    "madvise",
    "dup",
    "nanosleep",
    "getpid",
    "sendfile",
    "socket",
    "connect",
    "accept",
    "accept4",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "fcntl",
    "fsync",
    "gettimeofday",
    "getuid",
    "getgid",
    "geteuid",
    "getegid",
    "sigaltstack",
    "gettid",
    "futex",
    "epoll_ctl",
    "epoll_pwait",
    "clock_gettime",
    "clock_nanosleep",
    "set_robust_list",
    "rseq",
    "set_tid_address",
    "fstat",
    "wait4",
    "getrandom",
    "prlimit64",
    "pipe2",
    "getdents64",
    "ppoll",
    "timerfd_settime",
    "eventfd2",
    "restart_syscall",
    "tgkill",
    "rt_sigtimedwait",
    "getppid",
    "getrusage",
    "times",
    "getcwd",
    "ftruncate",
    "fallocate",
    "sched_getaffinity",
    "pselect6",
    // Not on the newer ARM.
    "poll",
    "dup2",
    "epoll_wait",
    "select",
    "fork",
    "vfork",
    // Only x86.
    "arch_prctl",
    // The same for 32-bit words.
    "_llseek",
    "_newselect",
    "clock_gettime64",
    "clock_nanosleep_time64",
    "fcntl64",
    "fstat64",
    "ftruncate64",
    "futex_time64",
    "getegid32",
    "geteuid32",
    "getgid32",
    "getuid32",
    "mmap2",
    "ppoll_time64",
    "pselect6_time64",
    "recv",
    "rt_sigtimedwait_time64",
    "send",
    "sendfile64",
    "sigaction",
    "sigprocmask",
    "sigreturn",
    "timerfd_settime64",
    "waitpid",
];

/// Calls that are hot with most arguments: unless they ask for new namespaces, or stand for `bind` or `listen`.
pub(crate) const HOT_BY_ARGUMENTS: &[&str] = &["clone", "clone3", "socketcall"];

/// The first argument of socketcall(2) that makes it bind(2), from linux/net.h.
pub(crate) const SOCKET_BIND: u32 = 2;
/// The same for listen(2).
pub(crate) const SOCKET_LISTEN: u32 = 4;

/// The trapped calls that programs make most often. No profile denies them.
pub(crate) const FREQUENT: &[&str] =
    &["openat", "newfstatat", "stat", "access", "readlink", "lstat", "open", "statx", "faccessat2", "execve", "exit_group"];

/// Calls that the monitor depends on, whatever else is seen: ends are held until all is told, a signal to everybody is sent
/// by the monitor, and who begins to listen may be ready.
pub(crate) const LIFE: &[&str] = &["exit", "exit_group", "kill", "listen"];
