//! `/etc/ld.so.cache`: where glibc's loader finds libraries outside of the default directories.
//!
//! The format is glibc's "new" one (`glibc-ld.so.cache1.1`), alone or after the table of the old one (`ld.so-1.7.0`),
//! little-endian as all machines that images are made for: a header of 48 bytes, entries of 24 (flags, key, value, OS
//! version, hardware capabilities), then strings, to which key (the name) and value (the path) are offsets from the
//! header. Entries for particular hardware are passed over: the plain library is what every machine can load.

use std::collections::HashMap;

/// More than this is not read of the file; one of a desktop with thousands of libraries has 300 KiB.
pub(super) const MAX_BYTES: u64 = 4 << 20;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// The paths of each library name, in the order of the file. What isn't a cache, or is damaged, gives what can be read.
pub(super) fn parse(file: &[u8]) -> HashMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut paths: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    let Some(cache) = new_part(file).filter(|cache| cache.starts_with(NEW_MAGIC)) else { return paths };
    // honest strings hardly overlap; in a hostile file each entry could name one huge string
    let mut budget = file.len().saturating_mul(4);
    let entries =
        (0..u32_at(cache, 20).unwrap_or(0) as usize).map_while(|index| cache.get(HEADER + index * ENTRY..)?.get(..ENTRY));
    for entry in entries {
        let for_any_hardware = entry[16..24] == [0; 8];
        let text = |at| u32_at(entry, at).and_then(|offset| string_at(cache, offset as usize));
        let (Some(name), Some(path)) = (text(4), text(8)) else { continue };
        if !for_any_hardware || !path.starts_with(b"/") {
            continue;
        }
        let Some(rest) = budget.checked_sub(name.len() + path.len()) else { break };
        budget = rest;
        paths.entry(name.to_vec()).or_default().push(path.to_vec());
    }
    paths
}

/// The new format's header and what follows it.
fn new_part(file: &[u8]) -> Option<&[u8]> {
    if !file.starts_with(OLD_MAGIC) {
        return Some(file);
    }
    let old_entries = u32_at(file, 12)? as usize;
    file.get(old_entries.checked_mul(12)?.checked_add(16)?.checked_next_multiple_of(8)?..)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn string_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let text = bytes.get(at..)?;
    let text = &text[..text.len().min(4096)];
    Some(&text[..text.iter().position(|&byte| byte == 0)?])
}

/// A cache file of name, path and hardware capabilities, for tests.
#[cfg(test)]
pub(super) fn fixture(entries: &[(&str, &str, u64)]) -> Vec<u8> {
    let mut file = NEW_MAGIC.to_vec();
    file.extend((entries.len() as u32).to_le_bytes());
    file.resize(HEADER, 0);
    let mut strings = vec![];
    let strings_at = HEADER + entries.len() * ENTRY;
    for (name, path, hardware) in entries {
        let mut offset = |text: &str| {
            let at = (strings_at + strings.len()) as u32;
            strings.extend([text.as_bytes(), b"\0"].concat());
            at.to_le_bytes()
        };
        let (name, path) = (offset(name), offset(path));
        file.extend([&[3, 3, 0, 0][..], &name, &path, &[0; 4], &hardware.to_le_bytes()].concat());
    }
    file.extend(strings);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: [(&str, &str, u64); 3] =
        [("libx.so.1", "/opt/v3/libx.so.1", 1 << 62), ("libx.so.1", "/opt/libx.so.1", 0), ("liby.so", "/opt/liby.so", 0)];

    #[test]
    fn names_lead_to_paths_for_any_hardware() {
        let file = fixture(&ENTRIES);
        let mut with_old = OLD_MAGIC.to_vec();
        with_old.extend([&[0_u8][..], &1_u32.to_le_bytes(), &[0; 12]].concat());
        with_old.resize(32, 0);
        with_old.extend(&file);
        for file in [file, with_old] {
            let paths = parse(&file);
            assert_eq!(paths.len(), 2);
            assert_eq!(paths[&b"libx.so.1".to_vec()], [b"/opt/libx.so.1".to_vec()]);
            assert_eq!(paths[&b"liby.so".to_vec()], [b"/opt/liby.so".to_vec()]);
        }
    }

    #[test]
    fn damage_is_survived() {
        let file = fixture(&ENTRIES);
        for length in 0..file.len() {
            parse(&file[..length]);
        }
        for at in 0..file.len() {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = value;
                parse(&damaged);
            }
        }
        assert!(parse(b"ld.so-1.7.0\0\xff\xff\xff\xff").is_empty());
        // one long string that every entry names is not copied for each
        let mut greedy = fixture(&[("n", "/p", 0); 1000]);
        let long_at = (greedy.len() as u32).to_le_bytes();
        greedy.extend([&b"/"[..], &[b'x'; 4000], b"\0"].concat());
        for index in 0..1000 {
            greedy[HEADER + index * ENTRY + 8..][..4].copy_from_slice(&long_at);
        }
        let copied: usize = parse(&greedy).values().flatten().map(Vec::len).sum();
        assert!(copied <= greedy.len() * 4, "{copied}");
    }
}
