//! The seccomp filter of an observed process, as a classic BPF program.
//!
//! Default is "notify": the monitor sees every system call but the hot ones ([`crate::calls`]). A filter can only look at the
//! number and the six argument words of a call (no memory, no state), so everything finer is decided in the monitor.
//! Where the target is watched by fanotify alone, only those calls are trapped that the monitor itself depends on
//! ([`crate::calls::LIFE`]). 32-bit calls have numbers of their own: the filter has a section for each ABI.
//!
//! The container has capabilities that the target doesn't (they are the sensor's), and an engine's default seccomp profile
//! opens calls by capability. [`Denials`] closes again what those opened, with the error that the profile gives
//! otherwise, so that the target finds the calls allowed that it finds in a plain run. The lists are the difference that
//! `CAP_SYS_ADMIN` and `CAP_SYS_PTRACE` make in moby's `profiles/seccomp/default_linux.go` (since 2025 `seccomp/` of
//! moby/profiles), which changes with its versions (some calls need no capability any more since some of them, others were
//! unknown before), and in Podman's `/usr/share/containers/seccomp.json`, which leaves mounts and namespaces to the kernel.

use std::collections::HashMap;

use crate::calls::{Abi, FREQUENT, LIFE, Machine, SOCKET_BIND, SOCKET_LISTEN};
use crate::kernel::Instruction;
use crate::stub::Engine;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(crate) const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(crate) const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

pub(crate) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The low half of argument `index` (both machines are little endian). Of a 32-bit call it is the whole.
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// Numbers of x86-64 from here are x32 calls, which no distribution's kernel has.
const X32: u32 = 0x4000_0000;
/// Numbers of ARM from here are its own, such as the flushing of caches: no path, and often.
pub(crate) const ARM_PRIVATE: u32 = 0x000f_0000;

/// Every flag of clone(2) that makes a namespace and that Docker's profile looks at.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;
const SYSLOG: u32 = 34;

const BY_SYS_ADMIN: &[&str] = &[
    "fanotify_init",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "quotactl",
    "quotactl_fd",
    "setdomainname",
    "sethostname",
    "setns",
    "umount",
    "umount2",
    "unshare",
];
const BY_SYS_ADMIN_LATER: &[&str] = &["lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr"];
const BY_SYS_PTRACE: &[&str] = &["kcmp", "pidfd_getfd", "process_madvise"];

const BY_SYS_ADMIN_IN_PODMAN: &[&str] =
    &["bpf", "fanotify_init", "lookup_dcookie", "perf_event_open", "quotactl", "setdomainname", "sethostname"];
/// In the profile of Podman 5, besides.
const BY_SYS_ADMIN_IN_PODMAN_5: &[&str] = &["quotactl_fd"];
const BY_SYS_PTRACE_IN_PODMAN: &[&str] = &["kcmp", "process_madvise"];

/// Versions of moby whose profile opened calls to everybody.
const ANY_HANDLE: Version = (20, 10, 26);
const ANY_PROCESS_MEMORY: Version = (23, 0, 0);
/// The first version after [`BY_SYS_ADMIN_LATER`] came into the profile (May 2025); before, they are refused to everybody.
const LSM_CALLS: Version = (28, 3, 0);

const PODMAN_5: Version = (5, 0, 0);

/// Major, minor and patch.
pub(crate) type Version = (u32, u32, u32);

/// Which calls a container's profile allows only with certain capabilities, of which the sensor has more than the target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Denials<'a> {
    /// The target's own capabilities, by number.
    pub(crate) capabilities: u64,
    /// Whose default profile it is.
    pub(crate) engine: &'a Engine,
}

/// An engine's version as it is written, such as `20.10.24+dfsg1`. What is none counts as the newest.
pub(crate) fn parse_version(text: &str) -> Version {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok);
    next().map_or((u32::MAX, 0, 0), |major| (major, next().unwrap_or(0), next().unwrap_or(0)))
}

impl Denials<'_> {
    fn has(self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// The denied calls, with the error that they give.
    fn calls(self) -> Vec<(&'static str, i32)> {
        match self.engine {
            Engine::Docker(version) => self.calls_in_docker(parse_version(version)),
            Engine::Podman(version) => self.calls_in_podman(parse_version(version)),
        }
    }

    fn calls_in_docker(self, version: Version) -> Vec<(&'static str, i32)> {
        let mut calls = vec![];
        let mut deny = |names: &[&'static str]| calls.extend(names.iter().map(|&name| (name, libc::EPERM)));
        if !self.has(SYS_ADMIN) {
            deny(BY_SYS_ADMIN);
            for (capability, name) in [(BPF, "bpf"), (PERFMON, "perf_event_open"), (SYSLOG, "syslog")] {
                if !self.has(capability) {
                    deny(&[name]);
                }
            }
            if version < ANY_HANDLE {
                deny(&["name_to_handle_at"]);
            }
            if version >= LSM_CALLS {
                deny(BY_SYS_ADMIN_LATER);
            }
        }
        if !self.has(SYS_PTRACE) {
            deny(BY_SYS_PTRACE);
            if version < ANY_PROCESS_MEMORY {
                deny(&["process_vm_readv", "process_vm_writev"]);
            }
        }
        if !self.has(SYS_ADMIN) {
            // C libraries fall back to clone(2) at this error, whose flags a filter can see.
            calls.push(("clone3", libc::ENOSYS));
        }
        calls
    }

    fn calls_in_podman(self, version: Version) -> Vec<(&'static str, i32)> {
        let by_admin = if self.has(SYS_ADMIN) { &[] } else { BY_SYS_ADMIN_IN_PODMAN };
        let later = if self.has(SYS_ADMIN) || version < PODMAN_5 { &[] } else { BY_SYS_ADMIN_IN_PODMAN_5 };
        let by_ptrace = if self.has(SYS_PTRACE) { &[] } else { BY_SYS_PTRACE_IN_PODMAN };
        by_admin.iter().chain(later).chain(by_ptrace).map(|&call| (call, libc::EPERM)).collect()
    }

    /// Whether clone(2) is refused where it would make a namespace.
    fn denies_namespaces(self) -> bool {
        matches!(self.engine, Engine::Docker(_)) && !self.has(SYS_ADMIN)
    }

    /// Denies them in a section.
    pub(crate) fn add_to(self, program: &mut Program) {
        for (name, error) in self.calls() {
            program.when_call(name, errno(error));
        }
        if self.denies_namespaces() {
            program.when_argument("clone", 0, JUMP_ANY_BIT, NEW_NAMESPACES, errno(libc::EPERM));
        }
    }
}

/// The program for a machine. `denials`: `None` where the user chose the container's profile, which is then left alone.
/// `notify`: the arguments of calls are to be seen.
pub(crate) fn program(machine: Machine, denials: Option<Denials<'_>>, notify: bool) -> Vec<Instruction> {
    assemble(machine, |abi| section(abi, denials, notify))
}

/// A program with a section for each ABI of a machine, which decides about the calls of that ABI.
pub(crate) fn assemble(machine: Machine, section: impl Fn(Abi) -> Program) -> Vec<Instruction> {
    let mut program = Program::default();
    program.load(ARCHITECTURE);
    for abi in [machine.native, machine.compat] {
        let section = section(abi).instructions;
        program.push(JUMP_EQUAL, 1, 0, abi.architecture());
        program.push(JUMP, 0, 0, section.len() as u32);
        program.instructions.extend(section);
    }
    // The kernel has no others.
    program.give(ALLOW);
    program.instructions
}

/// What is done about the calls of one ABI; it always ends in a decision.
fn section(abi: Abi, denials: Option<Denials<'_>>, notify: bool) -> Program {
    let mut program = Program::of(abi);
    match abi {
        Abi::X86_64 => program.when(JUMP_AT_LEAST, X32, errno(libc::ENOSYS)),
        Abi::Arm => program.when(JUMP_AT_LEAST, ARM_PRIVATE, ALLOW),
        Abi::I386 | Abi::Aarch64 => {}
    }
    // The C library's fstat(2): a descriptor and an empty path.
    let is_fstat = |program: &mut Program, name| {
        program.when_argument(name, 3, JUMP_ANY_BIT, libc::AT_EMPTY_PATH as u32, ALLOW);
    };
    if notify {
        // What is trapped most often is decided first, as of what is never trapped the kernel keeps the decision.
        is_fstat(&mut program, "newfstatat");
        for name in FREQUENT {
            program.when_call(name, NOTIFY);
        }
    }
    for name in abi.always_hot() {
        program.when_call(name, ALLOW);
    }
    // An open through io_uring is seen by fanotify, but a look-up by nobody: programs fall back at this error.
    program.when_call("io_uring_setup", errno(libc::EPERM));
    if let Some(denials) = denials {
        denials.add_to(&mut program);
    }
    // Of the calls that it stands for, these two are trapped.
    program.when_argument("socketcall", 0, JUMP_EQUAL, SOCKET_LISTEN, NOTIFY);
    if notify {
        program.when_argument("socketcall", 0, JUMP_EQUAL, SOCKET_BIND, NOTIFY);
        for name in ["socketcall", "clone", "clone3"] {
            program.when_call(name, ALLOW);
        }
        is_fstat(&mut program, "fstatat64");
        program.give(NOTIFY);
    } else {
        for name in LIFE {
            program.when_call(name, NOTIFY);
        }
        program.give(ALLOW);
    }
    program
}

pub(crate) const fn errno(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | error as u32
}

/// Decisions in their order, as instructions.
#[derive(Debug, Default)]
pub(crate) struct Program {
    instructions: Vec<Instruction>,
    /// Of the calls of its ABI. What isn't among them has no need of a decision.
    numbers: HashMap<&'static str, u32>,
}

impl Program {
    /// A section about the calls of an ABI; the number of the call is loaded.
    pub(crate) fn of(abi: Abi) -> Program {
        let mut program = Program { instructions: vec![], numbers: abi.numbers() };
        program.load(NUMBER);
        program
    }

    fn push(&mut self, code: u16, jump_true: u8, jump_false: u8, k: u32) {
        self.instructions.push(Instruction { code, jt: jump_true, jf: jump_false, k });
    }

    fn load(&mut self, offset: u32) {
        self.push(LOAD_WORD, 0, 0, offset);
    }

    pub(crate) fn give(&mut self, action: u32) {
        self.push(RETURN, 0, 0, action);
    }

    /// If the loaded word compares so with `k`: `action`.
    pub(crate) fn when(&mut self, comparison: u16, k: u32, action: u32) {
        self.push(comparison, 0, 1, k);
        self.give(action);
    }

    pub(crate) fn when_call(&mut self, name: &str, action: u32) {
        if let Some(&number) = self.numbers.get(name) {
            self.when(JUMP_EQUAL, number, action);
        }
    }

    /// If it is this call and its argument needs more than 32 bits: `action`. The number is loaded again after.
    pub(crate) fn when_wide(&mut self, name: &str, index: u32, action: u32) {
        if let Some(&number) = self.numbers.get(name) {
            self.push(JUMP_EQUAL, 0, 4, number);
            self.load(argument(index) + 4);
            self.when(JUMP_AT_LEAST, 1, action);
            self.load(NUMBER);
        }
    }

    /// If it is this call and its argument compares so with `k`: `action`. The number is loaded again after.
    pub(crate) fn when_argument(&mut self, name: &str, index: u32, comparison: u16, k: u32, action: u32) {
        if let Some(&number) = self.numbers.get(name) {
            self.push(JUMP_EQUAL, 0, 4, number);
            self.load(argument(index));
            self.when(comparison, k, action);
            self.load(NUMBER);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::calls::{AARCH64, X86_64};

    /// What the kernel would do with a call: interprets the program.
    pub(crate) fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
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
                JUMP => {
                    at += k as usize;
                    continue;
                }
                JUMP_EQUAL => word == k,
                JUMP_AT_LEAST => word >= k,
                JUMP_ANY_BIT => word & k != 0,
                other => panic!("unknown instruction {other}"),
            };
            at += usize::from(if jump { jt } else { jf });
        }
    }

    /// The answer to a call by its name.
    pub(crate) fn answer(program: &[Instruction], abi: Abi, name: &str, arguments: [u64; 6]) -> u32 {
        run(program, abi.architecture(), abi.numbers()[name], arguments)
    }

    fn docker(version: &str) -> Engine {
        Engine::Docker(version.to_owned())
    }

    fn plain(engine: &Engine) -> Denials<'_> {
        Denials { capabilities: 0, engine }
    }

    #[test]
    fn decides_by_call_and_argument_in_every_abi() {
        let new = &docker("28.2.2");
        let capable = Denials { capabilities: 1 << SYS_ADMIN | 1 << SYS_PTRACE, ..plain(new) };
        let eperm = errno(libc::EPERM);
        let empty = libc::AT_EMPTY_PATH as u64;
        for machine in [X86_64, AARCH64] {
            let programs = [Some(plain(new)), Some(capable), None].map(|denials| program(machine, denials, true));
            for abi in [machine.native, machine.compat] {
                let look_up = if abi.is_32_bit() { "fstatat64" } else { "newfstatat" };
                for (name, arguments, wanted) in [
                    ("read", [0; 6], [ALLOW; 3]),
                    ("openat", [0; 6], [NOTIFY; 3]),
                    ("statx", [0; 6], [NOTIFY; 3]),
                    ("execve", [0; 6], [NOTIFY; 3]),
                    ("exit_group", [0; 6], [NOTIFY; 3]),
                    ("exit", [0; 6], [NOTIFY; 3]),
                    ("bind", [0; 6], [NOTIFY; 3]),
                    (look_up, [0, 0, 0, empty, 0, 0], [ALLOW; 3]),
                    (look_up, [0; 6], [NOTIFY; 3]),
                    ("io_uring_setup", [0; 6], [eperm; 3]),
                    ("unshare", [0; 6], [eperm, NOTIFY, NOTIFY]),
                    ("kcmp", [0; 6], [eperm, NOTIFY, NOTIFY]),
                    ("clone3", [0; 6], [errno(libc::ENOSYS), ALLOW, ALLOW]),
                    ("clone", [0x0100_0011, 0, 0, 0, 0, 0], [ALLOW; 3]),
                    ("clone", [0x1000_0011, 0, 0, 0, 0, 0], [eperm, ALLOW, ALLOW]),
                ] {
                    let got = [0, 1, 2].map(|at| answer(&programs[at], abi, name, arguments));
                    assert_eq!(got, wanted, "{abi:?} {name} {arguments:x?}");
                }
                assert_eq!(run(&programs[0], abi.architecture(), 9999, [0; 6]), NOTIFY, "a call of the future");
            }
            assert_eq!(run(&programs[0], 0x1234, 5, [0; 6]), ALLOW);
        }
    }

    #[test]
    fn each_abi_has_its_own() {
        let x86 = program(X86_64, Some(plain(&docker("28.2.2"))), true);
        assert_eq!(run(&x86, Abi::X86_64.architecture(), X32 | 2, [0; 6]), errno(libc::ENOSYS));
        for (name, wanted) in [("stat64", NOTIFY), ("open", NOTIFY), ("_llseek", ALLOW), ("umount", errno(libc::EPERM))] {
            assert_eq!(answer(&x86, Abi::I386, name, [0; 6]), wanted, "{name}");
        }
        for (call, wanted) in [(1, ALLOW), (SOCKET_BIND, NOTIFY), (3, ALLOW), (SOCKET_LISTEN, NOTIFY), (5, ALLOW)] {
            assert_eq!(answer(&x86, Abi::I386, "socketcall", [u64::from(call), 0, 0, 0, 0, 0]), wanted, "{call}");
        }
        let arm = program(AARCH64, Some(plain(&docker("28.2.2"))), true);
        assert_eq!(run(&arm, Abi::Arm.architecture(), 0xf_0002, [0; 6]), ALLOW);
    }

    #[test]
    fn without_the_first_sense_only_what_the_monitor_needs_is_trapped() {
        for machine in [X86_64, AARCH64] {
            let filter = program(machine, Some(plain(&docker("28.2.2"))), false);
            for abi in [machine.native, machine.compat] {
                let answer = |name, first| answer(&filter, abi, name, [first, 0, 0, 0, 0, 0]);
                for name in ["exit", "exit_group", "kill", "listen"] {
                    assert_eq!(answer(name, 0), NOTIFY, "{name}");
                }
                for name in ["openat", "execve", "statx", "chdir", "bind", "read", "sysinfo"] {
                    assert_eq!(answer(name, 0), ALLOW, "{name}");
                }
                // What it denies, it denies all the same.
                assert_eq!(answer("io_uring_setup", 0), errno(libc::EPERM));
                assert_eq!(answer("unshare", 0), errno(libc::EPERM));
                assert_eq!(answer("clone", 0x1000_0011), errno(libc::EPERM));
                assert_eq!(answer("clone3", 0), errno(libc::ENOSYS));
            }
        }
        let x86 = program(X86_64, Some(plain(&docker("28.2.2"))), false);
        let socket_call = |call| answer(&x86, Abi::I386, "socketcall", [call, 0, 0, 0, 0, 0]);
        assert_eq!((socket_call(2), socket_call(4)), (ALLOW, NOTIFY));
    }

    #[test]
    fn is_short_enough_for_the_kernel() {
        for machine in [X86_64, AARCH64] {
            let engine = &docker("0");
            assert!(program(machine, Some(plain(engine)), true).len() < 4096);
        }
    }

    #[test]
    fn names_in_the_lists_are_names_of_calls() {
        let numbers = [Abi::X86_64, Abi::I386].map(Abi::numbers);
        for name in [BY_SYS_ADMIN, BY_SYS_ADMIN_LATER, BY_SYS_PTRACE, BY_SYS_ADMIN_IN_PODMAN, BY_SYS_PTRACE_IN_PODMAN].concat() {
            assert!(numbers.iter().any(|numbers| numbers.contains_key(name)), "{name}");
        }
    }

    #[test]
    fn what_a_profile_does_depends_on_its_version() {
        let denied = errno(libc::EPERM);
        for (version, handle, memory, attribute) in [
            ("20.10.24+dfsg1", denied, denied, NOTIFY),
            ("20.10.26", NOTIFY, denied, NOTIFY),
            ("23.0.0-rc.1", NOTIFY, NOTIFY, NOTIFY),
            ("28.2.2", NOTIFY, NOTIFY, NOTIFY),
            ("28.3.0", NOTIFY, NOTIFY, denied),
            ("dev", NOTIFY, NOTIFY, denied),
            ("", NOTIFY, NOTIFY, denied),
        ] {
            let filter = program(X86_64, Some(plain(&docker(version))), true);
            let answers = ["name_to_handle_at", "process_vm_readv", "process_vm_writev", "lsm_get_self_attr"]
                .map(|name| answer(&filter, Abi::X86_64, name, [0; 6]));
            assert_eq!(answers, [handle, memory, memory, attribute], "{version}");
        }
    }

    #[test]
    fn podman_leaves_namespaces_to_the_kernel() {
        let engine = &Engine::Podman("4.3.1".to_owned());
        let capable = Denials { capabilities: 1 << SYS_ADMIN | 1 << SYS_PTRACE, engine };
        let programs = [plain(engine), capable].map(|denials| program(X86_64, Some(denials), true));
        let eperm = errno(libc::EPERM);
        for (name, arguments, wanted) in [
            ("unshare", [0; 6], [NOTIFY; 2]),
            ("mount", [0; 6], [NOTIFY; 2]),
            ("process_vm_readv", [0; 6], [NOTIFY; 2]),
            ("clone3", [0; 6], [ALLOW; 2]),
            ("clone", [0x1000_0011, 0, 0, 0, 0, 0], [ALLOW; 2]),
            ("bpf", [0; 6], [eperm, NOTIFY]),
            ("kcmp", [0; 6], [eperm, NOTIFY]),
        ] {
            let got = [0, 1].map(|at| answer(&programs[at], Abi::X86_64, name, arguments));
            assert_eq!(got, wanted, "{name} {arguments:x?}");
        }
    }
}
