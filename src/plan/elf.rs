//! What an ELF file says that it needs: its loader, its libraries and where to look for them.
//!
//! Only program headers are read, as the kernel and the loader do it: section headers can be stripped. Pure functions
//! over the bytes of a file (or its beginning, see [`interpreter`]); nothing is ever executed to find out.

use object::elf::{
    DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, DynamicTag, FileHeader32, FileHeader64, PT_INTERP,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadRef};

/// Longest loader, library or search path that is believed; the kernel's limit for paths.
const MAX_STRING: usize = 4096;
/// Most libraries that one file is believed to need; the largest known programs need some two hundred.
const MAX_NEEDED: usize = 1024;

/// Most entries of a dynamic section that are read; linkers write some thirty besides the libraries.
const MAX_DYNAMIC: usize = 4096;

/// The bytes are no ELF file that a loader would take.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("its ELF structures are damaged, or lie beyond what was read")]
pub(super) struct Damaged;

/// What an ELF file needs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Elf {
    /// Class and machine: a library must have the same.
    pub(super) target: Target,
    /// `PT_INTERP`.
    pub(super) interpreter: Option<Vec<u8>>,
    /// `DT_NEEDED`, in order.
    pub(super) needed: Vec<Vec<u8>>,
    /// `DT_RPATH`, unexpanded.
    pub(super) rpath: Vec<u8>,
    /// `DT_RUNPATH`, unexpanded.
    pub(super) runpath: Vec<u8>,
}

/// For which machine an ELF file is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    is_64: bool,
    machine: u16,
}

impl Target {
    /// What `$PLATFORM` stands for in a search path.
    pub(super) fn platform(self) -> &'static str {
        match self.machine {
            machine if machine == object::elf::EM_X86_64.0 => "x86_64",
            machine if machine == object::elf::EM_AARCH64.0 => "aarch64",
            machine if machine == object::elf::EM_386.0 => "i686",
            _ => "unknown",
        }
    }

    /// The directory that Debian's packages have for this machine.
    pub(super) fn multiarch(self) -> &'static str {
        match (self.machine, self.is_64) {
            (machine, true) if machine == object::elf::EM_X86_64.0 => "x86_64-linux-gnu",
            (machine, false) if machine == object::elf::EM_X86_64.0 => "x86_64-linux-gnux32",
            (machine, _) if machine == object::elf::EM_AARCH64.0 => "aarch64-linux-gnu",
            (machine, _) if machine == object::elf::EM_386.0 => "i386-linux-gnu",
            (machine, _) if machine == object::elf::EM_ARM.0 => "arm-linux-gnueabihf",
            _ => "unknown",
        }
    }
}

/// Whether the bytes begin as an ELF file does.
pub(super) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// The loader that the file asks for. The beginning of the file is enough where the loader's name lies in it.
pub(super) fn interpreter(bytes: &[u8]) -> Result<Option<Vec<u8>>, Damaged> {
    match bytes.get(4) {
        Some(1) => interpreter_of::<FileHeader32<Endianness>>(bytes),
        Some(2) => interpreter_of::<FileHeader64<Endianness>>(bytes),
        _ => Err(Damaged),
    }
}

/// Reads all that a loader would want to know. Needs the whole file.
pub(super) fn parse(bytes: &[u8]) -> Result<Elf, Damaged> {
    match bytes.get(4) {
        Some(1) => parse_class::<FileHeader32<Endianness>>(bytes),
        Some(2) => parse_class::<FileHeader64<Endianness>>(bytes),
        _ => Err(Damaged),
    }
}

fn interpreter_of<Header: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Option<Vec<u8>>, Damaged> {
    let header = Header::parse(bytes).map_err(|_| Damaged)?;
    let endian = header.endian().map_err(|_| Damaged)?;
    for segment in header.program_headers(endian, bytes).map_err(|_| Damaged)? {
        if segment.p_type(endian) == PT_INTERP {
            let data = segment.data(endian, bytes).map_err(|()| Damaged)?;
            return string_at(data, 0).map(Some);
        }
    }
    Ok(None)
}

fn parse_class<Header: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Elf, Damaged> {
    let header = Header::parse(bytes).map_err(|_| Damaged)?;
    let endian = header.endian().map_err(|_| Damaged)?;
    let segments = header.program_headers(endian, bytes).map_err(|_| Damaged)?;
    let target = Target { is_64: header.is_class_64(), machine: header.e_machine(endian).0 };
    let mut elf = Elf { target, interpreter: interpreter_of::<Header>(bytes)?, ..Elf::default() };
    let mut entries: Vec<(DynamicTag, u64)> = vec![];
    for segment in segments {
        if let Some(dynamic) = segment.dynamic(endian, bytes).map_err(|_| Damaged)? {
            let told = dynamic.iter().map(|entry| (entry.tag(endian), entry.val(endian)));
            entries.extend(told.take_while(|&(tag, _)| tag != DT_NULL).take(MAX_DYNAMIC));
            break;
        }
    }
    let value = |wanted| entries.iter().find(|&&(tag, _)| tag == wanted).map(|&(_, value)| value);
    let Some(address) = value(DT_STRTAB) else { return Ok(elf) };
    let size = value(DT_STRSZ).unwrap_or_default();
    let loaded = segments.iter().find_map(|segment| segment.data_range(endian, bytes, address, size).ok().flatten());
    let strings = loaded.ok_or(Damaged)?;
    for (tag, value) in entries {
        match tag {
            DT_NEEDED if elf.needed.len() == MAX_NEEDED => return Err(Damaged),
            DT_NEEDED => elf.needed.push(string_at(strings, value)?),
            DT_RPATH => elf.rpath = string_at(strings, value)?,
            DT_RUNPATH => elf.runpath = string_at(strings, value)?,
            _ => {}
        }
    }
    Ok(elf)
}

/// The string that begins at `offset` and ends with a NUL.
fn string_at(bytes: &[u8], offset: u64) -> Result<Vec<u8>, Damaged> {
    let text = bytes.read_bytes_at_until(offset..bytes.len() as u64, 0).map_err(|()| Damaged)?;
    if text.is_empty() || text.len() > MAX_STRING { Err(Damaged) } else { Ok(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::elf;

    #[test]
    fn a_dynamic_program_tells_what_it_needs() {
        let bytes = elf(Some("/lib64/ld.so"), &["libc.so.6", "libm.so.6"], "$ORIGIN/../lib", "/opt/lib");
        let parsed = parse(&bytes).expect("elf");
        assert_eq!(parsed.interpreter.as_deref(), Some(&b"/lib64/ld.so"[..]));
        assert_eq!(parsed.needed, [b"libc.so.6".to_vec(), b"libm.so.6".to_vec()]);
        assert_eq!((&parsed.rpath[..], &parsed.runpath[..]), (&b"$ORIGIN/../lib"[..], &b"/opt/lib"[..]));
        assert_eq!((parsed.target.platform(), parsed.target.multiarch()), ("x86_64", "x86_64-linux-gnu"));
        assert_eq!(interpreter(&bytes), Ok(parsed.interpreter));
    }

    #[test]
    fn a_static_program_needs_nothing() {
        let parsed = parse(&elf(None, &[], "", "")).expect("elf");
        assert_eq!((parsed.interpreter, parsed.needed.len()), (None, 0));
    }

    #[test]
    fn this_very_program_can_be_read() {
        let bytes = std::fs::read("/proc/self/exe").expect("own executable");
        let parsed = parse(&bytes).expect("elf");
        assert_eq!(interpreter(&bytes[..16 << 10]), Ok(parsed.interpreter));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_survived() {
        let bytes = elf(Some("/lib64/ld.so"), &["libc.so.6"], "/a", "/b");
        for length in 0..bytes.len() {
            let _ = (parse(&bytes[..length]), interpreter(&bytes[..length]));
        }
        assert_eq!(parse(&bytes[..bytes.len() - 1]), Err(Damaged));
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = (parse(&damaged), interpreter(&damaged));
            }
        }
    }
}
