//! What a container is to be: everything resolved by the controller, so that the helper only does what it is told.
//!
//! There is no image here, no name of a user and no search: ids are numbers, directories are paths of this machine,
//! and what an engine does by default is written out. [`ContainerSpec::new`] gives what Docker does when nothing is said.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container: its root, what is mounted, and its first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Where its files are.
    pub root: Root,
    /// An existing empty directory of its own, on this machine: the writable layer and the files of /etc go there. The
    /// helper empties it at the end, also when the controller was killed; who made the directory removes it.
    pub state: PathBuf,
    /// Nothing can be written into the root; mounts are not affected.
    pub read_only: bool,
    /// What the root's files do not show of owners and permissions, where ids are mapped.
    pub owners: Vec<Owner>,
    /// Binds, volumes and tmpfs, mounted in the order of their targets' depth as Docker does it.
    pub mounts: Vec<Mount>,
    /// Bytes of /dev/shm.
    pub shared_memory: u64,
    /// Paths below /proc and /sys that show nothing.
    pub masked_paths: Vec<String>,
    /// Paths below /proc that cannot be written.
    pub read_only_paths: Vec<String>,
    /// The name of the machine, inside.
    pub hostname: String,
    /// More lines of /etc/hosts: address and names.
    pub hosts: Vec<(String, String)>,
    /// What is in /etc/resolv.conf; `None`: what is in this machine's.
    pub resolv_conf: Option<String>,
    /// Whose network it has.
    pub network: Network,
    /// How ids inside are told from ids outside.
    pub ids: Ids,
    /// Process number 1.
    pub process: ProcessSpec,
}

/// Where the files of a container are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// Layers, the topmost first, as overlayfs knows them (whiteouts and opaque directories included). They are only
    /// read; what is written goes into the container's state directory.
    Layers(Vec<PathBuf>),
    /// A directory that is used as it is: what is written stays in it, and mount points that it lacks are made.
    Directory(PathBuf),
}

/// Whose an entry of the root is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its path; no link is followed on the way.
    pub path: Vec<u8>,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

/// Something that is mounted below the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, as a path inside. What is missing on the way is made; links are followed inside the root.
    pub target: String,
    /// What.
    pub what: Mounted,
    /// It cannot be written.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mounted {
    /// A file or directory of this machine.
    Bind(PathBuf),
    /// A new directory with what is in this directory of this machine; `None`: with what the root has at the target.
    Volume(Option<PathBuf>),
    /// Memory, with options as mount(8) takes them; Docker's `noexec,nosuid,nodev` come first.
    Tmpfs(Vec<String>),
}

/// Whose network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Its own, with nothing but the loopback interface.
    Loopback,
    /// This machine's.
    Host,
}

/// How ids inside are told from ids outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ids {
    /// They are the same: for root.
    Same,
    /// In a user namespace with ranges of ids, which the controller writes.
    Mapped,
    /// In a user namespace with one id, that of the first process, which is whoever started the controller. Calls that
    /// change ids or owners pretend to succeed.
    Single,
}

/// A process of a container: the first one, or a command beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The command; the first word is looked up in the environment's `PATH` unless it has a slash. Empty: all is set up,
    /// nothing is executed, and the exit code is 0.
    pub argv: Vec<String>,
    /// The environment, `NAME=value`, and nothing else.
    pub env: Vec<String>,
    /// Working directory; made where it is missing, for the first process.
    pub cwd: String,
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities by set.
    pub capabilities: CapabilitySets,
    /// No program that it executes gains rights.
    pub no_new_privileges: bool,
    /// Docker's default seccomp profile for the bounding set.
    pub seccomp: bool,
    /// Limits other than this machine's.
    pub limits: Vec<ResourceLimit>,
    /// Given to the kernel's choice of a victim, from -1000 to 1000; `None`: as the controller's.
    pub oom_score_adjustment: Option<i32>,
    /// It has a terminal of its own as its standard streams.
    pub terminal: bool,
    /// Its standard input can be written; else it is empty.
    pub input: bool,
    /// A program of ours that is executed in its place with the command as its last arguments, as root and with
    /// `stub_capabilities`: it takes the identity itself, later. Empty: none. With [`OWN_EXECUTABLE`] as its first word it is
    /// the helper's own executable, which need not be in the container.
    pub stub: Vec<String>,
    /// Capabilities of the stub, by number: what it needs and what it hands on.
    pub stub_capabilities: u64,
    /// Numbers, from 3 on, under which the process has the further descriptors that were given with it.
    pub descriptors: Vec<i32>,
}

/// Names the helper's own executable as a stub.
pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// The five sets of a process, each with bit N for capability N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// What counts.
    pub effective: u64,
    /// What it can make effective.
    pub permitted: u64,
    /// What programs can take over.
    pub inheritable: u64,
    /// What any program below can ever get.
    pub bounding: u64,
    /// What programs do take over; kept by a user other than root.
    pub ambient: u64,
}

impl CapabilitySets {
    /// As Docker gives them to a container: no program inherits any, so who isn't root has none once it is executed.
    #[must_use]
    pub fn docker(capabilities: u64) -> CapabilitySets {
        CapabilitySets { effective: capabilities, permitted: capabilities, inheritable: 0, bounding: capabilities, ambient: 0 }
    }
}

/// One limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Such as `nofile`.
    pub name: String,
    /// What counts; `u64::MAX` is none.
    pub soft: u64,
    /// What it can be raised to.
    pub hard: u64,
}

/// What Docker hides of /proc and /sys.
pub const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// What Docker protects of /proc.
pub const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl ContainerSpec {
    /// What Docker runs when nothing else is said: root, with `capabilities`, in a network of its own.
    #[must_use]
    pub fn new(root: Root, state: PathBuf, capabilities: u64, argv: Vec<String>) -> ContainerSpec {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        ContainerSpec {
            root,
            state,
            read_only: false,
            owners: vec![],
            mounts: vec![],
            shared_memory: 64 << 20,
            masked_paths: words(&MASKED_PATHS),
            read_only_paths: words(&READ_ONLY_PATHS),
            hostname: "slim".to_owned(),
            hosts: vec![],
            resolv_conf: None,
            network: Network::Loopback,
            ids: Ids::Same,
            process: ProcessSpec {
                argv,
                env: words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
                cwd: "/".to_owned(),
                uid: 0,
                gid: 0,
                groups: vec![0],
                capabilities: CapabilitySets::docker(capabilities),
                no_new_privileges: false,
                seccomp: true,
                limits: vec![],
                oom_score_adjustment: None,
                terminal: false,
                input: false,
                stub: vec![],
                stub_capabilities: 0,
                descriptors: vec![],
            },
        }
    }
}
