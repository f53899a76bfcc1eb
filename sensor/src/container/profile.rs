//! Seccomp filters of a container: the equal of Docker's default profile, and the one that fakes changes of ids.
//!
//! Docker's profile lists what is allowed, about 400 calls; what it refuses is short, so that is what is written here: it
//! answers EPERM to a call that nobody may use, or nobody without a certain capability, and ENOSYS to calls that
//! came after it, so that programs fall back. It is the profile of Docker 28.3 ([`ENGINE`]); the part that depends on
//! CAP_SYS_ADMIN and CAP_SYS_PTRACE is what [`Denials`] knows anyway.

use crate::calls::{Abi, Machine};
use crate::filter::{ALLOW, Denials, JUMP_AT_LEAST, JUMP_EQUAL, Program, assemble, errno};
use crate::kernel::Instruction;
use crate::stub::Engine;

/// The version of Docker whose profile this is.
pub const ENGINE: &str = "28.3.0";

/// The first call that the profile does not know. (Numbers from 424 on are the same for every ABI.)
const UNKNOWN: u32 = 467;

/// What nobody may use. Some exist only on old or 32-bit machines.
const NEVER: &[&str] = &[
    "_sysctl",
    "add_key",
    "afs_syscall",
    "bdflush",
    "create_module",
    "ftime",
    "get_kernel_syms",
    "getpmsg",
    "gtty",
    "idle",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lock",
    "migrate_pages",
    "move_pages",
    "mpx",
    "nfsservctl",
    "nice",
    "oldfstat",
    "oldlstat",
    "oldolduname",
    "oldstat",
    "olduname",
    "pciconfig_iobase",
    "pciconfig_read",
    "pciconfig_write",
    "pivot_root",
    "prof",
    "profil",
    "putpmsg",
    "query_module",
    "readdir",
    "request_key",
    "security",
    "sgetmask",
    "sigaction",
    "signal",
    "sigpending",
    "sigsuspend",
    "ssetmask",
    "stty",
    "swapoff",
    "swapon",
    "sysfs",
    "tuxcall",
    "ulimit",
    "uprobe",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
    "vserver",
];

/// What needs a capability, by its number.
const WITH_CAPABILITY: &[(u32, &[&str])] = &[
    (2, &["open_by_handle_at"]),
    (16, &["delete_module", "finit_module", "init_module"]),
    (17, &["ioperm", "iopl"]),
    (18, &["chroot"]),
    (20, &["acct"]),
    (22, &["reboot"]),
    (23, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (25, &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (26, &["vhangup"]),
];

/// Personalities that anybody may have: Linux, 32-bit Linux, each with or without `UNAME26`, and "which is it".
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];

/// Calls that change ids or owners; some only with 32-bit words.
const IDS: &[&str] = &[
    "chown",
    "chown32",
    "fchown",
    "fchown32",
    "fchownat",
    "lchown",
    "lchown32",
    "setfsgid",
    "setfsgid32",
    "setfsuid",
    "setfsuid32",
    "setgid",
    "setgid32",
    "setgroups",
    "setgroups32",
    "setregid",
    "setregid32",
    "setresgid",
    "setresgid32",
    "setresuid",
    "setresuid32",
    "setreuid",
    "setreuid32",
    "setuid",
    "setuid32",
];

/// What Docker's default profile does for a container with these capabilities in its bounding set.
pub(super) fn default(machine: Machine, capabilities: u64) -> Vec<Instruction> {
    assemble(machine, |abi| {
        let mut program = Program::of(abi);
        match abi {
            Abi::Arm => program.when(JUMP_AT_LEAST, crate::filter::ARM_PRIVATE, ALLOW),
            // Those of x32 are among them.
            Abi::X86_64 | Abi::I386 | Abi::Aarch64 => {}
        }
        program.when(JUMP_AT_LEAST, UNKNOWN, errno(libc::ENOSYS));
        Denials { capabilities, engine: &Engine::Docker(ENGINE.to_owned()) }.add_to(&mut program);
        let has = |capability: u32| capabilities >> capability & 1 == 1;
        let lacking = WITH_CAPABILITY.iter().filter(|(capability, _)| !has(*capability)).flat_map(|(_, names)| *names);
        for name in NEVER.iter().chain(lacking) {
            program.when_call(name, errno(libc::EPERM));
        }
        program.when_argument("socket", 0, JUMP_EQUAL, libc::AF_VSOCK as u32, errno(libc::EPERM));
        program.when_wide("personality", 0, errno(libc::EPERM));
        for personality in PERSONALITIES {
            program.when_argument("personality", 0, JUMP_EQUAL, personality, ALLOW);
        }
        program.when_call("personality", errno(libc::EPERM));
        program.give(ALLOW);
        program
    })
}

/// Calls that change ids succeed and do nothing: in a namespace of one id there is nothing to change to.
pub(super) fn fake_ids(machine: Machine) -> Vec<Instruction> {
    assemble(machine, |abi| {
        let mut program = Program::of(abi);
        for name in IDS {
            program.when_call(name, errno(0));
        }
        program.give(ALLOW);
        program
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{AARCH64, X86_64};
    use crate::filter::tests::{answer, run};

    const DOCKER: u64 = 0xa804_25fb;
    const EPERM: u32 = errno(libc::EPERM);
    const ENOSYS: u32 = errno(libc::ENOSYS);

    #[test]
    fn decides_as_dockers_profile() {
        let bit = |capability: u32| 1u64 << capability;
        for machine in [X86_64, AARCH64] {
            for (capabilities, name, arguments, wanted) in [
                (DOCKER, "read", [0; 6], ALLOW),
                (DOCKER, "openat", [0; 6], ALLOW),
                (DOCKER, "ptrace", [0; 6], ALLOW),
                (DOCKER, "chroot", [0; 6], ALLOW),
                (0, "chroot", [0; 6], EPERM),
                (DOCKER, "mount", [0; 6], EPERM),
                (DOCKER | bit(21), "mount", [0; 6], ALLOW),
                (DOCKER, "unshare", [0; 6], EPERM),
                (DOCKER, "bpf", [0; 6], EPERM),
                (DOCKER | bit(39), "bpf", [0; 6], ALLOW),
                (DOCKER, "kcmp", [0; 6], EPERM),
                (DOCKER | bit(19), "kcmp", [0; 6], ALLOW),
                (DOCKER, "process_vm_readv", [0; 6], ALLOW),
                (DOCKER, "reboot", [0; 6], EPERM),
                (DOCKER | bit(22), "reboot", [0; 6], ALLOW),
                (DOCKER, "clone3", [0; 6], ENOSYS),
                (DOCKER | bit(21), "clone3", [0; 6], ALLOW),
                (DOCKER, "clone", [0x0100_0011, 0, 0, 0, 0, 0], ALLOW),
                (DOCKER, "clone", [0x1000_0011, 0, 0, 0, 0, 0], EPERM),
                (DOCKER, "keyctl", [0; 6], EPERM),
                (u64::MAX, "keyctl", [0; 6], EPERM),
                (DOCKER, "io_uring_setup", [0; 6], EPERM),
                (DOCKER, "socket", [2, 0, 0, 0, 0, 0], ALLOW),
                (DOCKER, "socket", [40, 0, 0, 0, 0, 0], EPERM),
                (DOCKER, "personality", [0xffff_ffff, 0, 0, 0, 0, 0], ALLOW),
                (DOCKER, "personality", [0x4_0000, 0, 0, 0, 0, 0], EPERM),
                (DOCKER, "personality", [u64::MAX, 0, 0, 0, 0, 0], EPERM),
                (DOCKER, "mseal", [0; 6], ALLOW),
            ] {
                let program = default(machine, capabilities);
                for abi in [machine.native, machine.compat] {
                    assert_eq!(answer(&program, abi, name, arguments), wanted, "{abi:?} {capabilities:x} {name} {arguments:x?}");
                }
            }
            let program = default(machine, DOCKER);
            for abi in [machine.native, machine.compat] {
                assert_eq!(run(&program, abi.architecture(), 467, [0; 6]), ENOSYS, "after the profile");
                assert_eq!(run(&program, abi.architecture(), 9999, [0; 6]), ENOSYS, "of the future");
            }
        }
        let x86 = default(X86_64, DOCKER);
        assert_eq!(run(&x86, Abi::X86_64.architecture(), 0x4000_0002, [0; 6]), ENOSYS, "x32");
        let arm = default(AARCH64, DOCKER);
        assert_eq!(run(&arm, Abi::Arm.architecture(), 0xf_0002, [0; 6]), ALLOW);
    }

    #[test]
    fn names_in_the_lists_are_names_of_calls() {
        let numbers = [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm].map(Abi::numbers);
        let names = NEVER.iter().chain(IDS).chain(WITH_CAPABILITY.iter().flat_map(|(_, names)| *names));
        for name in names {
            assert!(numbers.iter().any(|numbers| numbers.contains_key(name)), "{name}");
        }
    }

    #[test]
    fn changes_of_ids_are_faked_and_nothing_else() {
        for machine in [X86_64, AARCH64] {
            let program = fake_ids(machine);
            for abi in [machine.native, machine.compat] {
                for (name, wanted) in [("setuid", errno(0)), ("fchownat", errno(0)), ("setgroups", errno(0)), ("getuid", ALLOW)] {
                    assert_eq!(answer(&program, abi, name, [0; 6]), wanted, "{abi:?} {name}");
                }
            }
        }
    }
}
