//! Tells by a look at its memory that a thread still runs the program that is known already.
//!
//! The kernel gives each program that it executes 16 random bytes on the stack (`AT_RANDOM` of getauxval(3)). fork(2) copies them with
//! the rest of the memory, and the next execve(2) drops them. So who has the same bytes at the same place descends from
//! the same execution, and runs the same file. To read them costs a tenth of the first look into a process's folder in
//! /proc, for which the kernel makes that folder, and unmakes it when the process ends.

use std::collections::VecDeque;

use super::process;
use super::telling::Program;
use crate::kernel::read_memory;

/// So many executions are known by their bytes at once: the shells, servers or builders that start the others just now.
const KNOWN: usize = 2;
/// After bytes that were of no use, the next are learnt at each second, then at each fourth fork, and so on up to this.
const MOST_PASSED_OVER: u32 = 64;
/// `AT_RANDOM` of linux/auxvec.h.
const RANDOM: u64 = 25;

/// The random bytes of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    address: u64,
    bytes: [u8; 16],
}

impl Mark {
    /// That of what a process runs.
    fn of(process: i32) -> Option<Mark> {
        let vector = process::contents(&format!("/proc/{process}/auxv"), 4096)?;
        let address = random_address(&vector)?;
        let bytes = read(process, address)?;
        // A program may have wiped them, and then they say nothing.
        let is_random = bytes.as_chunks::<4>().0.iter().all(|part| part != &[0; 4]);
        is_random.then_some(Mark { address, bytes })
    }

    /// Whether a thread has it: `Some(false)` too where it has no such memory; `None` where that can't be seen.
    pub(super) fn is_in(self, thread: i32) -> Option<bool> {
        let mut bytes = [0; 16];
        match read_memory(thread, self.address, &mut bytes) {
            Ok(length) => Some(length == bytes.len() && bytes == self.bytes),
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Some(false),
            Err(_) => None,
        }
    }
}

fn read(thread: i32, address: u64) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    (read_memory(thread, address, &mut bytes).ok()? == bytes.len()).then_some(bytes)
}

/// Where the random bytes are, by an auxiliary vector: pairs of a type and a value. (That of a 32-bit program has narrower
/// ones, among which no such pair is found.)
fn random_address(vector: &[u8]) -> Option<u64> {
    let mut pairs = vector.as_chunks::<16>().0.iter().map(|pair| pair.as_chunks::<8>().0);
    pairs.find_map(|pair| (u64::from_ne_bytes(pair[0]) == RANDOM).then_some(u64::from_ne_bytes(pair[1])))
}

/// The executions whose bytes are known.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// The last that was of use is the first.
    known: VecDeque<Origin>,
    passed_over: u32,
    /// So many forks are passed over before bytes are learnt again.
    pause: u32,
}

#[derive(Debug)]
struct Origin {
    mark: Mark,
    program: Program,
    is_useful: bool,
}

impl Origins {
    /// What a thread runs that was never seen before, where it descends from a known execution.
    pub(super) fn find(&mut self, thread: i32) -> Option<(Program, Mark)> {
        let at = self.known.iter().position(|origin| origin.mark.is_in(thread) == Some(true))?;
        self.known.swap(0, at);
        self.pause = 0;
        let origin = &mut self.known[0];
        origin.is_useful = true;
        Some((origin.program.clone(), origin.mark))
    }

    /// A process that was never seen before runs this program, as its parent did. Remembers by what to know the next of its
    /// kind, unless that was done in vain too often.
    pub(super) fn learn(&mut self, process: i32, program: &Program) -> Option<Mark> {
        if self.passed_over < self.pause {
            self.passed_over += 1;
            return None;
        }
        self.passed_over = 0;
        let mark = Mark::of(process)?;
        self.known.push_front(Origin { mark, program: program.clone(), is_useful: false });
        if self.known.len() > KNOWN && self.known.pop_back().is_some_and(|last| !last.is_useful) {
            self.pause = (self.pause * 2 + 1).min(MOST_PASSED_OVER);
        }
        Some(mark)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::telling::Telling;
    use super::*;

    #[test]
    fn a_fork_has_the_mark_and_another_program_has_not() {
        let own = Mark::of(std::process::id() as i32).expect("mark");
        assert_eq!(own.is_in(std::process::id() as i32), Some(true));
        let mut other = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cat");
        assert_eq!(own.is_in(other.id() as i32), Some(false));
        drop(other.stdin.take());
        other.wait().expect("end");
        assert_eq!(own.is_in(i32::MAX), None);
    }

    #[test]
    fn learning_in_vain_becomes_rare() {
        let (mut origins, own) = (Origins::default(), std::process::id() as i32);
        let program = Telling::default().program(b"/bin/a");
        let learnt = (0..100).filter(|_| origins.learn(own, &program).is_some()).count();
        assert!((4..16).contains(&learnt), "{learnt}");
        let (found, _) = origins.find(own).expect("known");
        assert_eq!(found.executable(), b"/bin/a");
        assert!(origins.learn(own, &program).is_some());
    }

    #[test]
    fn the_vector_is_pairs() {
        let words = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        assert_eq!(random_address(&words(&[25, 6, 0, 0])), Some(6));
        assert_eq!(random_address(&words(&[6, 25, 25, 7])), Some(7));
        assert_eq!(random_address(&words(&[6, 25])), None);
        assert_eq!(random_address(&words(&[25, 6])[..15]), None);
    }
}
