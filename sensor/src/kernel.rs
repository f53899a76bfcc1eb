//! The system calls that no crate offers safely: seccomp user notification, capability sets, shared memory, fork.
//!
//! This is the one module of the sensor with `unsafe`; what it exports is safe to call. Each function is one kernel
//! call (or one and its obvious companion) with the kernel's own error; decisions are made elsewhere.
#![allow(unsafe_code, reason = "raw system calls; each block says why it is sound")]

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::machine;

/// One instruction of a classic BPF program.
pub(crate) use libc::sock_filter as Instruction;

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    /// Names this call while it waits.
    pub(crate) id: u64,
    /// The calling thread, in our pid namespace.
    pub(crate) thread: i32,
    /// Whose number it is: the `AUDIT_ARCH_...` of its ABI.
    pub(crate) architecture: u32,
    /// Number of the call.
    pub(crate) number: u32,
    /// Its arguments.
    pub(crate) arguments: [u64; 6],
}

/// What a waiting call gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// The kernel executes it as if nothing had been.
    Continue,
    /// It returns this without being executed: a result, or a negated error number.
    Return(i64),
}

/// Installs a filter for this process and gives its listener. The process needs CAP_SYS_ADMIN or no_new_privs.
pub(crate) fn install_filter(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let with_killable = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mut result = Err(Errno::EINVAL);
    // Kernels before 5.19 do not know the second flag.
    for flags in [with_killable, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER] {
        // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies them.
        let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        result = Errno::result(fd);
        if result != Err(Errno::EINVAL) {
            break;
        }
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else knows it.
    result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Installs a filter that decides by itself. The process needs CAP_SYS_ADMIN or no_new_privs.
pub(crate) fn install_plain_filter(program: &[Instruction]) -> nix::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `program` points to `len` instructions that outlive the call; the kernel copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    Errno::result(result).map(drop)
}

/// Asks for wake-ups on the same CPU: three times faster on a busy machine. Fails before Linux 6.6.
pub(crate) fn set_synchronous_wake_up(listener: BorrowedFd<'_>) -> nix::Result<()> {
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: this request takes its argument by value.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) }).map(drop)
}

/// Asks that this thread's turns be short, and so come at once, and are not broken off for who is woken in one: since Linux 6.12
/// a length of turns can be asked for by anybody; kernels before it ignore that.
pub(crate) fn take_short_turns() -> nix::Result<()> {
    /// `struct sched_attr` in its first version.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    /// The shortest that there is, in nanoseconds.
    const TURN: u64 = 100_000;
    let size = size_of::<Attributes>() as u32;
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes at most `size` bytes to a structure that is so long.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    // Another policy has turns of its own, or none.
    if attributes.policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    (attributes.size, attributes.runtime) = (size, TURN);
    // SAFETY: the kernel reads as many bytes as the structure says that it has.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// Whether the call still waits: what was read from its process is then really that process's.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one u64 from a pointer to one.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Answers a waiting call. ENOENT: its process was killed meanwhile, which is normal.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> nix::Result<()> {
    let mut response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    match answer {
        Answer::Continue => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        Answer::Return(value) if value < 0 => response.error = value as i32,
        Answer::Return(value) => response.val = value,
    }
    // SAFETY: the kernel reads one response from a pointer to one.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) }).map(drop)
}

/// Memory shared between the worker and its guard: for each session the call that is being served. The kernel writes a
/// call right into it, so there is no moment in which a call was taken and the guard doesn't know it.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: &'static [Slot],
}

#[repr(transparent)]
#[derive(Debug)]
struct Slot(UnsafeCell<libc::seccomp_notif>);

// SAFETY: a slot is written by the one worker thread that serves its session, and read by the guard only after the
// worker process is dead.
unsafe impl Sync for Slot {}

impl Slots {
    /// Makes `count` slots; they live as long as the process and are shared with processes forked later.
    pub(crate) fn new(count: usize) -> nix::Result<Slots> {
        let length = count * size_of::<Slot>();
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping disturbs no memory that exists.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: page aligned, `count` slots long, zeroed (a valid seccomp_notif), never unmapped.
        Ok(Slots { slots: unsafe { std::slice::from_raw_parts(memory.cast::<Slot>(), count) } })
    }

    /// Waits for the next call of a session, and notes it in the session's slot.
    pub(crate) fn receive(&self, slot: usize, listener: BorrowedFd<'_>) -> nix::Result<Notification> {
        let memory = self.slots[slot].0.get();
        // SAFETY: the slot is ours alone (see `Sync`); the kernel demands zeroed memory and fills in one notification.
        let (result, call) = unsafe {
            std::ptr::write_bytes(memory, 0, 1);
            let result = Errno::result(libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, memory));
            (result, std::ptr::read(memory))
        };
        result.map(|_| Notification {
            id: call.id,
            thread: call.pid as i32,
            architecture: call.data.arch,
            number: call.data.nr as u32,
            arguments: call.data.args,
        })
    }

    /// Forgets the call that was being served.
    pub(crate) fn clear(&self, slot: usize) {
        // SAFETY: as in `receive`.
        unsafe { (*self.slots[slot].0.get()).id = 0 }
    }

    /// The call that was being served when the worker died.
    pub(crate) fn pending(&self, slot: usize) -> Option<u64> {
        // SAFETY: the worker is dead, nobody writes.
        let id = unsafe { std::ptr::read_volatile(&raw const (*self.slots[slot].0.get()).id) };
        (id != 0).then_some(id)
    }
}

/// Whether this is the first thread of a process: whether signal 0, which is none, finds it there. `false` also where we may not
/// signal it.
pub(crate) fn leads_process(thread: i32) -> bool {
    // SAFETY: tgkill with numbers only.
    unsafe { libc::syscall(libc::SYS_tgkill, thread, thread, 0) == 0 }
}

/// Forks. Only for a process with one thread, as both processes go on in arbitrary code.
pub(crate) fn fork_single_threaded() -> nix::Result<nix::unistd::ForkResult> {
    debug_assert_eq!(std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1), 1);
    // SAFETY: there is one thread (the callers fork before they start any), so no lock can be held by a lost one.
    unsafe { nix::unistd::fork() }
}

/// Drops every capability that is not in `keep` from the bounding set; what is left of it.
pub(crate) fn limit_bounding_set(keep: u64) -> nix::Result<u64> {
    let mut left = 0;
    for capability in 0..64 {
        // SAFETY: prctl with numbers only.
        let present = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) } == 1;
        if present && keep >> capability & 1 == 0 {
            // SAFETY: as above.
            Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })?;
        } else if present {
            left |= 1 << capability;
        }
    }
    Ok(left)
}

/// The version of the calls for capabilities: a header of two and data of six 32-bit words.
const CAPABILITIES_VERSION_3: u32 = 0x2008_0522;

/// Sets the permitted and effective capabilities, and clears the inheritable ones.
pub(crate) fn set_capabilities(set: u64) -> nix::Result<()> {
    set_capability_sets(set, set, 0)
}

/// Sets the capabilities of this process by set.
pub(crate) fn set_capability_sets(effective: u64, permitted: u64, inheritable: u64) -> nix::Result<()> {
    let header: [u32; 2] = [CAPABILITIES_VERSION_3, 0];
    let half = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let data: [[u32; 3]; 2] = [half(0), half(32)];
    // SAFETY: version 3 reads a header of two and data of six 32-bit words.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// The capabilities that this process may make effective.
pub(crate) fn permitted_capabilities() -> nix::Result<u64> {
    let mut header: [u32; 2] = [CAPABILITIES_VERSION_3, 0];
    let mut data: [[u32; 3]; 2] = [[0; 3]; 2];
    // SAFETY: version 3 reads a header of two 32-bit words (and may write its version) and writes data of six.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) })?;
    Ok(u64::from(data[0][1]) | u64::from(data[1][1]) << 32)
}

/// Makes capabilities stay when another program is executed; they have to be permitted and inheritable.
pub(crate) fn raise_ambient_capabilities(set: u64) -> nix::Result<()> {
    for capability in (0..64).filter(|capability| set >> capability & 1 == 1) {
        // SAFETY: prctl with numbers only.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) })?;
    }
    Ok(())
}

/// Closes every descriptor from a number on: those that whoever started us left open.
///
/// Only for the beginning of a process, which has opened nothing itself yet.
pub(crate) fn close_from(first: u32) -> nix::Result<()> {
    // SAFETY: the caller says that nothing here owns a descriptor from there on.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Takes over a descriptor that this program was started with; what it starts does not have it.
pub(crate) fn inherited(number: i32) -> nix::Result<OwnedFd> {
    // SAFETY: this request takes its argument by value.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    owned(number).ok_or(Errno::EBADF)
}

/// Gives the program that is executed next a descriptor under a number. What had the number before is closed.
///
/// Only for a process that is about to execute: nothing of it may use `number` any more.
pub(crate) fn hand_on(descriptor: BorrowedFd<'_>, number: i32) -> nix::Result<()> {
    // SAFETY: the caller says that nothing owns `number`; dup2 gives a descriptor that nobody here will close.
    Errno::result(unsafe { libc::dup2(descriptor.as_raw_fd(), number) }).map(drop)
}

/// Makes a terminal that of this session.
pub(crate) fn take_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: this request takes its argument by value.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Switches the loopback interface on, through any socket of the network.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads one ifreq from a pointer to one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request) };
    Errno::result(result).map(drop)
}

/// The one byte that an extended attribute holds; `None` where there is none or it is longer.
pub(crate) fn extended_attribute(path: &std::ffi::CStr, name: &std::ffi::CStr) -> Option<u8> {
    let mut value = 0u8;
    // SAFETY: two strings that end in zero, and a buffer of the one byte that may be written.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), (&raw mut value).cast(), 1) };
    (length == 1).then_some(value)
}

/// Gives a signal back its default action. (Rust's runtime ignores SIGPIPE; an exec'd program would inherit that.)
pub(crate) fn default_signal(signal: i32) {
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Gives every signal back its default action, also the two that the C library keeps for itself and refuses to touch: they
/// too may be ignored by whoever started us.
pub(crate) fn default_signals() {
    /// Larger than the kernel's `struct sigaction` on any machine; zero is SIG_DFL, no flags and no mask.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads one action and is told the size of its signal set; SIG_DFL installs no handler.
        // Where the default cannot be changed (SIGKILL, SIGSTOP) it fails.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<u64>(), 8) };
    }
}

/// Ignores a signal.
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// kill(2) with any number that the kernel takes (real-time signals have no name in `nix`).
pub(crate) fn send_signal(process: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: kill with numbers only.
    Errno::result(unsafe { libc::kill(process, signal) }).map(drop)
}

/// A descriptor of a process; a child that was not waited for cannot have been replaced by another of its number.
pub(crate) fn open_process(process: i32) -> nix::Result<OwnedFd> {
    // SAFETY: numbers only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Kills the process of a descriptor. ESRCH: it has ended.
pub fn kill_process(process: BorrowedFd<'_>) -> nix::Result<()> {
    let no_details = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without details the kernel reads no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, no_details, 0) };
    Errno::result(result).map(drop)
}

/// Takes ownership of a descriptor that the kernel handed over as a number.
pub(crate) fn owned(fd: i32) -> Option<OwnedFd> {
    // SAFETY: callers pass numbers that they just got from the kernel and give to nobody else.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What an open file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) is_directory: bool,
    /// The mount that it was opened by, as in mountinfo; `None` before Linux 5.8.
    pub(crate) mount: Option<u64>,
}

/// Asks what an open file is.
pub(crate) fn opened(file: BorrowedFd<'_>) -> nix::Result<Opened> {
    let (flags, wanted) = (libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC, libc::STATX_TYPE | libc::STATX_MNT_ID);
    let mut told = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the kernel reads an empty text and fills in one `statx`, of which all zeros is a valid value.
    let told = unsafe {
        Errno::result(libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, wanted, told.as_mut_ptr()))?;
        told.assume_init()
    };
    let is_directory = u32::from(told.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
    Ok(Opened { is_directory, mount: (told.stx_mask & libc::STATX_MNT_ID != 0).then_some(told.stx_mnt_id) })
}

/// Reads from another process's memory; fewer bytes than asked for where its mapping ends.
pub(crate) fn read_memory(process: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let remote = [nix::sys::uio::RemoteIoVec { base: address as usize, len: buffer.len() }];
    let read = {
        let local = &mut [io::IoSliceMut::new(buffer)];
        nix::sys::uio::process_vm_readv(nix::unistd::Pid::from_raw(process), local, &remote)
    };
    match read {
        // Seccomp profiles refuse the call where they don't refuse the file, which asks for the same rights.
        Err(Errno::EPERM) => read_memory_file(process, address, buffer),
        other => Ok(other?),
    }
}

/// Why the memory of a process can't be read, whatever is asked for; `None` where it can.
pub(crate) fn memory_refusal(process: i32) -> Option<String> {
    // Whoever may read is told that nothing is at this address.
    let error = read_memory(process, 1, &mut [0]).err()?;
    let reason = || machine::memory().unwrap_or_else(|| format!("the kernel lets nobody read a program's memory here ({error})"));
    (error.kind() == io::ErrorKind::PermissionDenied).then(reason)
}

/// As [`read_memory`], with its errors.
fn read_memory_file(process: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let memory = std::fs::File::open(format!("/proc/{process}/mem")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Errno::ESRCH.into(),
        _ => error,
    })?;
    match std::os::unix::fs::FileExt::read_at(&memory, buffer, address) {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Err(Errno::EFAULT.into()),
        // Of a process that is gone, nothing.
        Ok(0) => Err(Errno::ESRCH.into()),
        other => other,
    }
}
