//! Which TCP ports the container's processes listen on: how the controller knows that the target is ready.
//!
//! /proc/net/tcp lists the sockets of the network namespace, which may be the host's or hold the engine's own (its DNS
//! server); so a socket counts only where a process that we can see holds it. It is looked at right after somebody
//! called listen(2), which the filter traps, and in case that was missed now and then after it, ever more rarely: a look
//! takes long with the host's network or thousands of open files, and a millisecond everywhere, as after the listening
//! sockets the kernel walks through its whole table of connections, of all containers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::place;
use super::telling::Telling;
use crate::wire::{Listener, Record};

/// How long after listen(2) was trapped the socket may take to appear: looked at this often, ...
const PROMPT_LOOKS: u32 = 25;
/// ... this far apart.
const PROMPT_PAUSE: Duration = Duration::from_millis(2);
/// How far apart it is looked at when nothing was trapped: at first, ...
const SHORTEST_IDLE_PAUSE: Duration = Duration::from_millis(100);
/// ... and in the end, as each pause is twice the one before.
const LONGEST_IDLE_PAUSE: Duration = Duration::from_millis(1600);
/// Most bytes that are read of a table.
const MAX_TABLE: u64 = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listening {
    prompt_looks: Mutex<u32>,
    called: Condvar,
}

impl Listening {
    /// Somebody is about to listen.
    pub(super) fn expect(&self) {
        *self.prompt_looks.lock().unwrap_or_else(PoisonError::into_inner) = PROMPT_LOOKS;
        self.called.notify_one();
    }

    /// Tells each change, for ever.
    pub(super) fn follow(&self, telling: &Telling) {
        let (mut told, mut idle_pause) = (BTreeSet::new(), SHORTEST_IDLE_PAUSE);
        loop {
            let now = listeners();
            if now != told {
                telling.tell(&Record::Listening(now.iter().cloned().collect()));
                told = now;
            }
            let mut looks = self.prompt_looks.lock().unwrap_or_else(PoisonError::into_inner);
            if *looks > 0 {
                *looks -= 1;
                drop(looks);
                std::thread::sleep(PROMPT_PAUSE);
                idle_pause = SHORTEST_IDLE_PAUSE;
            } else {
                drop(self.called.wait_timeout(looks, idle_pause));
                idle_pause = (idle_pause * 2).min(LONGEST_IDLE_PAUSE);
            }
        }
    }
}

/// The listening sockets that some process here holds.
fn listeners() -> BTreeSet<Listener> {
    let mut sockets = HashMap::new();
    for (file, is_six) in [("tcp", false), ("tcp6", true)] {
        let Ok(table) = File::open(format!("/proc/{}/net/{file}", place::inhabitant())) else { continue };
        let table = Table { file: table, is_at_end: false };
        let listening = read_table(BufReader::new(table.take(MAX_TABLE)), is_six);
        sockets.extend(listening.into_iter().map(|(inode, address, port)| (inode, (address, port))));
    }
    if sockets.is_empty() {
        return BTreeSet::new();
    }
    // There all are the container's. (Who is no root could not see who holds them, either.)
    if place::has_own_network() {
        let pid = place::number_inside(place::first());
        return sockets.into_values().map(|(address, port)| Listener { port, address, pid }).collect();
    }
    let mut listeners = BTreeSet::new();
    let own = std::process::id() as i32;
    for pid in place::processes().into_iter().filter(|&pid| pid != own) {
        for inode in held_sockets(pid) {
            if let Some(&(address, port)) = sockets.get(&inode) {
                listeners.insert(Listener { port, address, pid: place::number_inside(pid) });
                // Workers that share their parent's socket say nothing new.
                sockets.remove(&inode);
            }
        }
    }
    listeners
}

/// A table in /proc/net. A read of it ends with a page or with the table; only to be told that nothing follows, the kernel would
/// walk through all connections again. So what leaves much of a page empty is the end.
struct Table {
    file: File,
    is_at_end: bool,
}

impl Read for Table {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        /// The smallest page, less more than the longest line.
        const FULL: usize = 4096 - 512;
        if self.is_at_end {
            return Ok(0);
        }
        let length = self.file.read(buffer)?;
        self.is_at_end = length < FULL.min(buffer.len());
        Ok(length)
    }
}

/// Inodes of the sockets that a process has open.
fn held_sockets(pid: i32) -> HashSet<u64> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// The listening sockets of /proc/net/tcp or tcp6: inode, address, port. The kernel lists them before all others, so of a
/// table of a hundred thousand connections only the beginning is read.
pub fn read_table(table: impl BufRead, is_six: bool) -> Vec<(u64, IpAddr, u16)> {
    /// `TCP_LISTEN` of net/tcp_states.h.
    const LISTEN: u8 = 0x0a;
    let mut sockets = vec![];
    for line in table.split(b'\n').map_while(Result::ok) {
        match parse_line(&line, is_six) {
            Some((LISTEN, socket)) => sockets.push(socket),
            Some(_) => break,
            // The heading.
            None => {}
        }
    }
    sockets
}

/// A line's state and socket.
fn parse_line(line: &[u8], is_six: bool) -> Option<(u8, (u64, IpAddr, u16))> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    Some((state, (inode, parse_address(address, is_six)?, u16::from_str_radix(port, 16).ok()?)))
}

#[cfg(fuzzing)]
pub(super) fn fuzz(table: &[u8]) {
    let _ = read_table(table, false).len() + read_table(table, true).len();
}

/// An address as the kernel prints it: 32-bit words in the machine's order.
fn parse_address(text: &str, is_six: bool) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    if !is_six {
        return (text.len() == 8).then(|| word(0)).flatten().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    }
    let mut bytes = [0; 16];
    for part in 0..4 {
        bytes[part * 4..part * 4 + 4].copy_from_slice(&word(part * 8)?);
    }
    Some(IpAddr::V6(Ipv6Addr::from(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_listener_is_in_the_table() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = std::net::TcpListener::bind(address) else { continue };
            let wanted = socket.local_addr().expect("address");
            let file = if wanted.is_ipv6() { "/proc/net/tcp6" } else { "/proc/net/tcp" };
            // A connection, which is listed after it.
            let _connection = std::net::TcpStream::connect(wanted).expect("connection");
            let table = Table { file: File::open(file).expect("table"), is_at_end: false };
            let table = read_table(BufReader::new(table), wanted.is_ipv6());
            let found = table.iter().find(|&&(_, ip, port)| (ip, port) == (wanted.ip(), wanted.port()));
            let &(inode, ..) = found.expect("listed");
            assert!(held_sockets(std::process::id() as i32).contains(&inode));
        }
    }

    #[test]
    fn damage_is_passed_over_and_another_state_is_the_end() {
        let table = b"  sl  local_address rem_address   st\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4242 1 x\n\
            1: 0100:1F91 x 0A a b c d e 7\n\xff\xfe\n2: 0100007F:zz x 0A a b c d e 7\n\
            3: 0100007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4243 1 x\n\
            4: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000 0 4244 1 x\n\
            5: 0100007F:1F93 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4245 1 x\n";
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(read_table(&table[..], false), [(4242, local, 8080), (4243, local, 8082)]);
        assert_eq!(parse_address("00000000000000000000000001000000", true), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(parse_address("0000000000000000000000000100000\u{e9}", true), None);
    }
}
