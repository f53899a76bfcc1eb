//! Reads the memory of threads that make calls.
//!
//! A read from an open /proc/ID/mem costs three quarters of process_vm_readv(2), which asks each time whether we may. To open it
//! pays only for a thread that makes one call after the other. It is kept while no other thread makes a call: it stays the
//! memory that it was, so a program that is executed, or a later thread with the same number, must not be looked for in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::kernel::read_memory;

/// From so many reads in a row on the file is used.
const MANY: u32 = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    thread: i32,
    /// How many reads in a row were from this thread.
    reads: u32,
    open: Option<File>,
}

impl Memory {
    /// As [`read_memory`].
    pub(super) fn read(&mut self, thread: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.thread != thread {
            *self = Memory { thread, ..Memory::default() };
        }
        self.reads = self.reads.saturating_add(1);
        if self.reads == MANY {
            self.open = File::open(format!("/proc/{thread}/mem")).ok();
        }
        let read = self.open.as_ref().and_then(|memory| memory.read_at(buffer, address).ok());
        match read.filter(|&length| length > 0) {
            Some(length) => Ok(length),
            // The other way says why.
            None => read_memory(thread, address, buffer),
        }
    }

    /// The thread ends or becomes another program.
    pub(super) fn forget(&mut self) {
        *self = Memory::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_alike_with_and_without_the_file() {
        let own = std::process::id() as i32;
        let (text, mut memory) = (*b"/etc/passwd\0", Memory::default());
        for reads in 1..3 * MANY {
            let mut buffer = [0; 12];
            assert_eq!(memory.read(own, text.as_ptr() as u64, &mut buffer).expect("read"), text.len());
            assert_eq!((buffer, memory.open.is_some()), (text, reads >= MANY));
        }
        for bad in [1, u64::MAX - 4096] {
            let error = memory.read(own, bad, &mut [0; 12]).expect_err("no such address");
            assert_eq!(error.raw_os_error(), Some(nix::libc::EFAULT));
        }
        assert!(memory.read(i32::MAX, text.as_ptr() as u64, &mut [0; 12]).is_err());
        assert!(memory.open.is_none());
    }
}
