//! The system calls, as the sensor sorts them.
//!
//! * **Path calls** take a path: they are reported with it ([`paths`]).
//! * **Hot calls** are made so often, and say so little, that trapping them would cost more than they tell; they are
//!   never trapped and always count as used ([`hot`]).
//! * Every other call is trapped once it is made, so that the calls in use are known completely (hot + trapped).
//!
//! A kernel has two sets of calls, one for programs of its own word size and one for 32-bit programs: two [`Abi`]s, with
//! other numbers and some other names, but the same meaning of a name. So calls are sorted by name here, and the numbers come
//! from the `syscalls` crate. Everything takes the ABI as a value; that of the machine that this is built for is [`HERE`].

mod hot;
pub(crate) mod paths;

use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) use self::hot::{FREQUENT, LIFE, SOCKET_BIND, SOCKET_LISTEN};
use self::hot::{HOT, HOT_BY_ARGUMENTS};
use self::paths::PathArgument;

/// A set of system calls with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abi {
    /// 64-bit programs on x86-64.
    X86_64,
    /// 32-bit programs on it, and `int 0x80` in any.
    I386,
    /// 64-bit programs on ARM.
    Aarch64,
    /// 32-bit programs on it.
    Arm,
}

/// The ABIs of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// That of its own word size.
    pub native: Abi,
    /// That of 32-bit programs.
    pub compat: Abi,
}

/// An x86-64 machine.
#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) const X86_64: Machine = Machine { native: Abi::X86_64, compat: Abi::I386 };
/// A 64-bit ARM machine.
#[cfg(any(test, target_arch = "aarch64"))]
pub(crate) const AARCH64: Machine = Machine { native: Abi::Aarch64, compat: Abi::Arm };

/// The machine that this is built for.
#[cfg(target_arch = "x86_64")]
pub const HERE: Machine = X86_64;
/// The machine that this is built for.
#[cfg(target_arch = "aarch64")]
pub const HERE: Machine = AARCH64;

/// What the monitor does about a call besides telling its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Ends a thread.
    Exit,
    /// Ends a process.
    ExitGroup,
    /// Makes the process another program.
    Exec,
    /// Sends a signal.
    Kill,
    /// Begins to listen.
    Listen,
    /// May give the process another root.
    NewRoot,
    /// Changes what is mounted where.
    Mount,
    /// Stands for one of the socket calls, by its first argument.
    SocketCall,
    /// Nothing.
    Other,
}

/// What is known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// Empty where it takes none.
    pub(crate) paths: &'static [PathArgument],
}

/// The calls of each ABI by number, sorted out when first asked for.
static TABLES: [LazyLock<foldhash::HashMap<u32, Call>>; 4] = [
    LazyLock::new(|| table(Abi::X86_64)),
    LazyLock::new(|| table(Abi::I386)),
    LazyLock::new(|| table(Abi::Aarch64)),
    LazyLock::new(|| table(Abi::Arm)),
];

fn table(abi: Abi) -> foldhash::HashMap<u32, Call> {
    let call = |name| Call { name, role: role(name), paths: paths::of(name, abi) };
    abi.numbered().into_iter().map(|(number, name)| (number, call(name))).collect()
}

fn role(name: &str) -> Role {
    match name {
        "exit" => Role::Exit,
        "exit_group" => Role::ExitGroup,
        "execve" | "execveat" => Role::Exec,
        "kill" => Role::Kill,
        "listen" => Role::Listen,
        "chroot" | "pivot_root" | "setns" | "unshare" => Role::NewRoot,
        "mount" | "move_mount" | "umount" | "umount2" => Role::Mount,
        "socketcall" => Role::SocketCall,
        _ => Role::Other,
    }
}

impl Machine {
    /// The ABI of a call by the `AUDIT_ARCH_...` that the kernel tells of it.
    pub(crate) fn abi(self, architecture: u32) -> Abi {
        if architecture == self.compat.architecture() { self.compat } else { self.native }
    }
}

impl Abi {
    /// Its `AUDIT_ARCH_...` (linux/audit.h).
    pub(crate) fn architecture(self) -> u32 {
        match self {
            Abi::X86_64 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether words are 32 bits, so that a 64-bit argument takes two.
    pub(crate) fn is_32_bit(self) -> bool {
        matches!(self, Abi::I386 | Abi::Arm)
    }

    /// Numbers and names of its calls.
    fn numbered(self) -> Vec<(u32, &'static str)> {
        match self {
            Abi::X86_64 => syscalls::x86_64::Sysno::iter().map(|call| (call.id() as u32, call.name())).collect(),
            Abi::I386 => syscalls::x86::Sysno::iter().map(|call| (call.id() as u32, call.name())).collect(),
            // The crate calls it as the C library does; in the kernel, and in profiles, it is as on x86-64.
            Abi::Aarch64 => syscalls::aarch64::Sysno::iter()
                .map(|call| (call.id() as u32, if call.name() == "fstatat" { "newfstatat" } else { call.name() }))
                .collect(),
            Abi::Arm => syscalls::arm::Sysno::iter().map(|call| (call.id() as u32, call.name())).collect(),
        }
    }

    /// The number of each call by its name.
    pub(crate) fn numbers(self) -> HashMap<&'static str, u32> {
        self.numbered().into_iter().map(|(number, name)| (name, number)).collect()
    }

    /// A call by its number; `None` for one that this build does not know.
    pub(crate) fn call(self, number: u32) -> Option<&'static Call> {
        TABLES[self as usize].get(&number)
    }

    /// The name of a call for profiles and reports; `None` for a number that this build does not know.
    #[must_use]
    pub fn name(self, number: u32) -> Option<&'static str> {
        self.call(number).map(|call| call.name)
    }

    /// Names of the calls that are never trapped and may therefore always have been used.
    pub fn hot_names(self) -> impl Iterator<Item = &'static str> {
        let numbers = self.numbers();
        HOT.iter().chain(HOT_BY_ARGUMENTS).copied().filter(move |name| numbers.contains_key(name))
    }

    /// Names of the calls that are never trapped whatever their arguments.
    pub(crate) fn always_hot(self) -> impl Iterator<Item = &'static str> {
        let numbers = self.numbers();
        HOT.iter().copied().filter(move |name| numbers.contains_key(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Abi; 4] = [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm];

    #[test]
    fn tables_are_of_the_right_abi() {
        for (abi, open, kill, look_up) in [
            (Abi::X86_64, 257, 62, "newfstatat"),
            (Abi::I386, 295, 37, "fstatat64"),
            (Abi::Aarch64, 56, 129, "newfstatat"),
            (Abi::Arm, 322, 37, "fstatat64"),
        ] {
            let numbers = abi.numbers();
            assert_eq!((numbers["openat"], numbers["kill"]), (open, kill), "{abi:?}");
            assert_eq!(abi.call(kill).expect("kill").role, Role::Kill);
            assert_eq!(abi.call(numbers[look_up]).expect("look-up").paths[0].path, 1);
            assert_eq!(abi.call(9999), None);
        }
        assert_eq!(X86_64.abi(0x4000_0003), Abi::I386);
        assert_eq!(AARCH64.abi(0xc000_00b7), Abi::Aarch64);
    }

    #[test]
    fn names_in_the_lists_are_names_of_calls() {
        let known: Vec<_> = ALL.iter().map(|abi| abi.numbers()).collect();
        for name in HOT.iter().chain(HOT_BY_ARGUMENTS).chain(LIFE).chain(FREQUENT) {
            assert!(known.iter().any(|numbers| numbers.contains_key(name)), "{name}");
        }
        for numbers in known {
            assert!(LIFE.iter().all(|name| numbers.contains_key(name)));
        }
    }

    #[test]
    fn no_hot_call_takes_a_path() {
        for abi in ALL {
            let numbers = abi.numbers();
            for name in abi.hot_names() {
                assert_eq!(abi.call(numbers[name]).expect("known").paths, [], "{name}");
            }
        }
    }

    #[test]
    fn arguments_are_within_the_six() {
        for call in TABLES.iter().flat_map(|table| table.values()) {
            for argument in call.paths {
                assert!(argument.path < 6 && argument.directory.is_none_or(|directory| directory < 6), "{}", call.name);
            }
        }
    }

    /// The calls of the newer ABI are a part of the older one's, but for what 32-bit words need.
    #[test]
    fn a_call_is_sorted_alike_in_each_abi() {
        for abi in ALL {
            for (name, number) in abi.numbers() {
                let call = abi.call(number).expect("known");
                let native = Abi::X86_64.numbers().get(name).and_then(|&number| Abi::X86_64.call(number));
                if let Some(native) = native.filter(|_| name != "fanotify_mark") {
                    assert_eq!(call, native, "{abi:?}");
                }
            }
        }
        let mark = |abi: Abi| abi.call(abi.numbers()["fanotify_mark"]).expect("known").paths[0];
        assert_eq!((mark(Abi::Aarch64).path, mark(Abi::Arm).path), (4, 5));
    }
}
