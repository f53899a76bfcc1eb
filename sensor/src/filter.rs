//! The seccomp filter of an observed process, as a classic BPF program.
//!
//! Default is "notify": the monitor sees every system call but the hot ones ([`crate::calls`]). A filter can only look at the
//! number and the six argument words of a call (no memory, no state), so everything finer is decided in the monitor.
//!
//! The container has capabilities that the target doesn't (they are the sensor's), and an engine's default seccomp profile
//! opens calls by capability. [`Denials`] closes again what those opened, with the error that the profile gives
//! otherwise, so that the target finds the calls allowed that it finds in a plain run. The lists are the difference that
//! `CAP_SYS_ADMIN` and `CAP_SYS_PTRACE` make in moby's `profiles/seccomp/default_linux.go`, which changes with its
//! versions (since some of them, some calls need no capability any more), and in Podman's
//! `/usr/share/containers/seccomp.json`, which leaves mounts and namespaces to the kernel.

use syscalls::Sysno;

use crate::calls::HOT;
use crate::kernel::Instruction;
use crate::stub::Engine;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The low half of argument `index` (both architectures are little endian).
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Numbers from here are x86-64's x32 calls, which no distribution's kernel has.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Every flag of clone(2) that makes a namespace and that Docker's profile looks at.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;
const SYSLOG: u32 = 34;

const BY_SYS_ADMIN: &[Sysno] = &[
    Sysno::fanotify_init,
    Sysno::fsconfig,
    Sysno::fsmount,
    Sysno::fsopen,
    Sysno::fspick,
    Sysno::lookup_dcookie,
    Sysno::mount,
    Sysno::mount_setattr,
    Sysno::move_mount,
    Sysno::open_tree,
    Sysno::quotactl,
    Sysno::quotactl_fd,
    Sysno::setdomainname,
    Sysno::sethostname,
    Sysno::setns,
    Sysno::umount2,
    Sysno::unshare,
];
const BY_SYS_PTRACE: &[Sysno] = &[Sysno::kcmp, Sysno::pidfd_getfd, Sysno::process_madvise];

const BY_SYS_ADMIN_IN_PODMAN: &[Sysno] = &[
    Sysno::bpf,
    Sysno::fanotify_init,
    Sysno::lookup_dcookie,
    Sysno::perf_event_open,
    Sysno::quotactl,
    Sysno::setdomainname,
    Sysno::sethostname,
];
const BY_SYS_PTRACE_IN_PODMAN: &[Sysno] = &[Sysno::kcmp, Sysno::process_madvise];

/// Versions of moby whose profile opened calls to everybody.
const ANY_HANDLE: Version = (20, 10, 26);
const ANY_PROCESS_MEMORY: Version = (23, 0, 0);

/// Major, minor and patch.
type Version = (u32, u32, u32);

/// Which calls the container's profile allows only because of the sensor's capabilities.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Denials<'a> {
    /// The target's own capabilities, by number.
    pub(crate) capabilities: u64,
    /// Whose default profile it is.
    pub(crate) engine: &'a Engine,
}

/// An engine's version as it is written, such as `20.10.24+dfsg1`. What is none counts as the newest.
fn parse_version(text: &str) -> Version {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok);
    next().map_or((u32::MAX, 0, 0), |major| (major, next().unwrap_or(0), next().unwrap_or(0)))
}

impl Denials<'_> {
    fn has(self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// The denied calls, with the error that they give.
    fn calls(self) -> Vec<(Sysno, i32)> {
        match self.engine {
            Engine::Docker(version) => self.calls_in_docker(parse_version(version)),
            Engine::Podman => self.calls_in_podman(),
        }
    }

    fn calls_in_docker(self, version: Version) -> Vec<(Sysno, i32)> {
        let mut calls = vec![];
        if !self.has(SYS_ADMIN) {
            calls.extend(BY_SYS_ADMIN.iter().map(|&call| (call, libc::EPERM)));
            // C libraries fall back to clone(2) at this error, whose flags a filter can see.
            calls.push((Sysno::clone3, libc::ENOSYS));
            calls.extend((!self.has(BPF)).then_some((Sysno::bpf, libc::EPERM)));
            calls.extend((!self.has(PERFMON)).then_some((Sysno::perf_event_open, libc::EPERM)));
            calls.extend((!self.has(SYSLOG)).then_some((Sysno::syslog, libc::EPERM)));
            calls.extend((version < ANY_HANDLE).then_some((Sysno::name_to_handle_at, libc::EPERM)));
        }
        if !self.has(SYS_PTRACE) {
            calls.extend(BY_SYS_PTRACE.iter().map(|&call| (call, libc::EPERM)));
            if version < ANY_PROCESS_MEMORY {
                calls.extend([Sysno::process_vm_readv, Sysno::process_vm_writev].map(|call| (call, libc::EPERM)));
            }
        }
        calls
    }

    fn calls_in_podman(self) -> Vec<(Sysno, i32)> {
        let by_admin = if self.has(SYS_ADMIN) { &[] } else { BY_SYS_ADMIN_IN_PODMAN };
        let by_ptrace = if self.has(SYS_PTRACE) { &[] } else { BY_SYS_PTRACE_IN_PODMAN };
        by_admin.iter().chain(by_ptrace).map(|&call| (call, libc::EPERM)).collect()
    }

    /// Whether clone(2) is refused where it would make a namespace.
    fn denies_namespaces(self) -> bool {
        matches!(self.engine, Engine::Docker(_)) && !self.has(SYS_ADMIN)
    }
}

/// The program. `denials`: `None` where the user chose the container's profile, which is then left alone.
pub(crate) fn program(denials: Option<Denials<'_>>) -> Vec<Instruction> {
    let mut program = Program::default();
    program.load(ARCHITECTURE);
    // 32-bit programs: not trapped (fanotify sees what they open).
    program.unless_equal(NATIVE, libc::SECCOMP_RET_ALLOW);
    program.load(NUMBER);
    #[cfg(target_arch = "x86_64")]
    program.when(JUMP_AT_LEAST, X32, errno(libc::ENOSYS));
    for call in HOT {
        program.when_call(*call, libc::SECCOMP_RET_ALLOW);
    }
    // An open through io_uring is seen by fanotify, but a look-up by nobody: programs fall back at this error.
    program.when_call(Sysno::io_uring_setup, errno(libc::EPERM));
    for (call, error) in denials.map(Denials::calls).unwrap_or_default() {
        program.when_call(call, errno(error));
    }
    if denials.is_some_and(Denials::denies_namespaces) {
        program.when_argument_has(Sysno::clone, 0, NEW_NAMESPACES, errno(libc::EPERM));
    }
    program.when_call(Sysno::clone, libc::SECCOMP_RET_ALLOW);
    program.when_call(Sysno::clone3, libc::SECCOMP_RET_ALLOW);
    // glibc's fstat(2): a descriptor and an empty path.
    program.when_argument_has(Sysno::newfstatat, 3, libc::AT_EMPTY_PATH as u32, libc::SECCOMP_RET_ALLOW);
    // kill(-1): would hit the monitor, so the monitor does it. Any other kill is trapped as a cold call.
    program.give(libc::SECCOMP_RET_USER_NOTIF);
    program.0
}

fn errno(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | error as u32
}

#[derive(Default)]
struct Program(Vec<Instruction>);

impl Program {
    fn push(&mut self, code: u16, jump_true: u8, jump_false: u8, k: u32) {
        self.0.push(Instruction { code, jt: jump_true, jf: jump_false, k });
    }

    fn load(&mut self, offset: u32) {
        self.push(LOAD_WORD, 0, 0, offset);
    }

    fn give(&mut self, action: u32) {
        self.push(RETURN, 0, 0, action);
    }

    /// If the loaded word compares so with `k`: `action`.
    fn when(&mut self, comparison: u16, k: u32, action: u32) {
        self.push(comparison, 0, 1, k);
        self.give(action);
    }

    fn unless_equal(&mut self, k: u32, action: u32) {
        self.push(JUMP_EQUAL, 1, 0, k);
        self.give(action);
    }

    fn when_call(&mut self, call: Sysno, action: u32) {
        self.when(JUMP_EQUAL, call.id() as u32, action);
    }

    /// If it is this call and its argument has any of these bits: `action`. The number is loaded again after.
    fn when_argument_has(&mut self, call: Sysno, index: u32, bits: u32, action: u32) {
        self.push(JUMP_EQUAL, 0, 4, call.id() as u32);
        self.load(argument(index));
        self.push(JUMP_ANY_BIT, 0, 1, bits);
        self.give(action);
        self.load(NUMBER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with a call: interprets the program.
    fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut at, mut word) = (0, 0u32);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let jump = match code {
                LOAD_WORD => {
                    word = u32::from_le_bytes(data[k as usize..k as usize + 4].try_into().expect("4 bytes"));
                    continue;
                }
                RETURN => return k,
                JUMP_EQUAL => word == k,
                JUMP_AT_LEAST => word >= k,
                JUMP_ANY_BIT => word & k != 0,
                other => panic!("unknown instruction {other}"),
            };
            at += usize::from(if jump { jt } else { jf });
        }
    }

    const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn decides_by_call_and_argument() {
        let engine = &Engine::Docker("28.2.2".to_owned());
        let plain = program(Some(Denials { capabilities: 0, engine }));
        let admin = program(Some(Denials { capabilities: 1 << SYS_ADMIN | 1 << SYS_PTRACE, engine }));
        let untouched = program(None);
        let eperm = errno(libc::EPERM);
        let empty = libc::AT_EMPTY_PATH as u64;
        for (call, arguments, wanted) in [
            (Sysno::read, [0; 6], [ALLOW; 3]),
            (Sysno::openat, [0; 6], [NOTIFY; 3]),
            (Sysno::execve, [0; 6], [NOTIFY; 3]),
            (Sysno::exit_group, [0; 6], [NOTIFY; 3]),
            (Sysno::exit, [0; 6], [NOTIFY; 3]),
            (Sysno::newfstatat, [0, 0, 0, empty, 0, 0], [ALLOW; 3]),
            (Sysno::newfstatat, [0; 6], [NOTIFY; 3]),
            (Sysno::io_uring_setup, [0; 6], [eperm; 3]),
            (Sysno::unshare, [0; 6], [eperm, NOTIFY, NOTIFY]),
            (Sysno::kcmp, [0; 6], [eperm, NOTIFY, NOTIFY]),
            (Sysno::clone3, [0; 6], [errno(libc::ENOSYS), ALLOW, ALLOW]),
            (Sysno::clone, [0x0100_0011, 0, 0, 0, 0, 0], [ALLOW; 3]),
            (Sysno::clone, [0x1000_0011, 0, 0, 0, 0, 0], [eperm, ALLOW, ALLOW]),
        ] {
            let got = [&plain, &admin, &untouched].map(|program| run(program, NATIVE, call.id() as u32, arguments));
            assert_eq!(got, wanted, "{call} {arguments:x?}");
        }
        assert_eq!(run(&plain, 0x4000_0003, 5, [0; 6]), ALLOW);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(run(&plain, NATIVE, X32 | 2, [0; 6]), errno(libc::ENOSYS));
    }

    #[test]
    fn is_short_enough_for_the_kernel() {
        let engine = &Engine::Docker("0".to_owned());
        assert!(program(Some(Denials { capabilities: 0, engine })).len() < 4096);
    }

    #[test]
    fn what_an_engine_opened_to_everybody_is_left_open() {
        let denied = errno(libc::EPERM);
        for (version, handle, memory) in [
            ("20.10.24+dfsg1", denied, denied),
            ("20.10.26", NOTIFY, denied),
            ("23.0.0-rc.1", NOTIFY, NOTIFY),
            ("28.2.2", NOTIFY, NOTIFY),
            ("dev", NOTIFY, NOTIFY),
            ("", NOTIFY, NOTIFY),
        ] {
            let engine = &Engine::Docker(version.to_owned());
            let filter = program(Some(Denials { capabilities: 0, engine }));
            let answers = [Sysno::name_to_handle_at, Sysno::process_vm_readv, Sysno::process_vm_writev]
                .map(|call| run(&filter, NATIVE, call.id() as u32, [0; 6]));
            assert_eq!(answers, [handle, memory, memory], "{version}");
        }
    }
    #[test]
    fn podman_leaves_namespaces_to_the_kernel() {
        let engine = &Engine::Podman;
        let plain = program(Some(Denials { capabilities: 0, engine }));
        let admin = program(Some(Denials { capabilities: 1 << SYS_ADMIN | 1 << SYS_PTRACE, engine }));
        let eperm = errno(libc::EPERM);
        for (call, arguments, wanted) in [
            (Sysno::unshare, [0; 6], [NOTIFY; 2]),
            (Sysno::mount, [0; 6], [NOTIFY; 2]),
            (Sysno::process_vm_readv, [0; 6], [NOTIFY; 2]),
            (Sysno::clone3, [0; 6], [ALLOW; 2]),
            (Sysno::clone, [0x1000_0011, 0, 0, 0, 0, 0], [ALLOW; 2]),
            (Sysno::bpf, [0; 6], [eperm, NOTIFY]),
            (Sysno::kcmp, [0; 6], [eperm, NOTIFY]),
        ] {
            let got = [&plain, &admin].map(|program| run(program, NATIVE, call.id() as u32, arguments));
            assert_eq!(got, wanted, "{call} {arguments:x?}");
        }
    }
}
