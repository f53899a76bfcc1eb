//! What a monitor tells the controller, and what it is told.

use serde::{Deserialize, Serialize};

/// How a path was used. The order is from the weakest use to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Looked up by name: the stat and access families, extended attributes, `O_PATH`, watches.
    Lookup,
    /// `readlink` and `readlinkat`.
    ReadLink,
    /// Made the working directory or the root.
    Enter,
    /// Opened as a directory (`O_DIRECTORY`), to be listed.
    List,
    /// Created, removed, renamed, or its metadata changed.
    Change,
    /// Opened for writing.
    Write,
    /// Opened for reading.
    Open,
    /// Executed.
    Exec,
}

/// Which of the two senses saw a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sense {
    /// The system call's arguments: the path as the process wrote it, existing or not.
    Notify,
    /// The kernel's open: the path as resolved, also where the kernel opened it by itself.
    Fanotify,
}

/// Which senses are to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Senses {
    /// The arguments of system calls. Without it only the few calls are trapped that the monitor itself depends on.
    pub notify: bool,
    /// The kernel's opens.
    pub fanotify: bool,
}

/// What fanotify can see in this container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fanotify {
    /// The whole file system of the root, in any mount namespace.
    Filesystem,
    /// Only the root's mount (its file system is shared with the host).
    Mount,
    /// Nothing, for this reason.
    Refused(String),
    /// Nothing, because it was not asked for.
    Off,
}

/// Monitor → controller, in the order in which things happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The first record.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// What the second sense sees.
        fanotify: Fanotify,
    },
    /// A program in a process that later records name by `id`.
    Process {
        /// Numbered from 1.
        id: u32,
        /// In the container's pid namespace.
        pid: i32,
        /// Parent process.
        parent: i32,
        /// The session (the stub) that it belongs to; 0 where unknown.
        session: u32,
        /// The executable, as the kernel names it.
        #[serde(with = "serde_bytes")]
        executable: Vec<u8>,
        /// The command line, cut to 4,096 bytes, words ended by NUL.
        #[serde(with = "serde_bytes")]
        command: Vec<u8>,
    },
    /// The first use of a path in this way by a program (uses are told once for each program, way and path).
    Path {
        /// The process that was seen first.
        process: u32,
        /// How.
        access: Access,
        /// By which sense.
        sense: Sense,
        /// The process's root directory where that is not `/`.
        #[serde(with = "serde_bytes")]
        root: Vec<u8>,
        /// The directory that `path` starts from where it is relative.
        #[serde(with = "serde_bytes")]
        base: Vec<u8>,
        /// As the process wrote it.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
    },
    /// The controller's phase with this number begins here.
    Phase(u32),
    /// The sockets on which processes of the container listen have changed; all of them.
    Listening(Vec<Listener>),
    /// A stub has connected and is now observed.
    Session {
        /// Numbered from 1.
        session: u32,
        /// The name that the controller gave it.
        name: String,
        /// In the container's pid namespace.
        pid: i32,
    },
    /// The first process of a session ends; all that it did has been told.
    SessionEnd {
        /// Which.
        session: u32,
        /// Its exit status, where it ended by itself; `None`: its listener was closed (a signal, or the last thread's exit).
        status: Option<i32>,
        /// The stub itself ended: it could not start the program.
        start_failed: bool,
    },
    /// Nothing can be seen, for this reason.
    Blind(String),
    /// Something about this kernel or container that is no loss; in words.
    Note(String),
    /// Signals that would have an effect on the container's first process now: those that it catches, has blocked, or
    /// waits for. The kernel drops all others (but SIGKILL and SIGSTOP from outside) before a pid namespace's first process.
    /// Bit 0 is signal 1.
    Signals(u64),
    /// A program was executed so often, where that was several times; told at the end.
    Executed {
        /// As it was written.
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        /// How often.
        times: u64,
    },
    /// The first time that this system call was trapped; those of the hot set never are.
    Call {
        /// Its number.
        number: u32,
        /// It is one of the 32-bit calls, whose numbers are others.
        is_compat: bool,
    },
    /// Evidence was lost; in words.
    Lost(String),
    /// The last record. What comes later than this was not asked for.
    End {
        /// Why it ends.
        reason: EndReason,
        /// What went through.
        counters: Counters,
    },
}

/// Why the observation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The target ended by itself.
    TargetExit,
    /// The controller asked for it.
    Asked,
}

/// What the monitor counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// System calls that were trapped.
    pub received: u64,
    /// Those whose arguments were read (also where the process passed a bad pointer).
    pub resolved: u64,
    /// Events of fanotify.
    pub opens: u64,
    /// Events of either sense that could not be told.
    pub lost: u64,
}

/// A socket on which a process of the container listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// TCP port.
    pub port: u16,
    /// The address it is bound to.
    pub address: std::net::IpAddr,
    /// Process that holds it, in the container's pid namespace.
    pub pid: i32,
}

/// Controller → monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// A new phase begins; answered by [`Record::Phase`] in the stream.
    Phase(u32),
    /// Drain, say [`Record::End`], go on watching until killed.
    End,
    /// Answer [`Record::Signals`].
    Signals,
    /// [`Record::End`] has arrived: the target may end now.
    EndArrived,
}
