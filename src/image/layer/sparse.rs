//! Sparse files: where their data lies. GNU tar has written that in four ways; all give a list of stretches, in order.

use std::io::Read;

use super::numbers;
use super::tar::{BLOCK, TarError, read_block};

/// The most stretches of one file.
const MAX_STRETCHES: usize = 1 << 16;
/// The most blocks in front of the content that hold a map (1.0).
const MAX_MAP_BLOCKS: usize = 2 * MAX_STRETCHES * 21 / BLOCK;

/// A stretch of data: where it is in the file, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Stretches of numbers that come in pairs, seen to be in order, within a file of `real_size` bytes, and to hold the
/// `stored` bytes that follow. Go and GNU tar end a map with an empty stretch.
pub(super) fn stretches(numbers: &[u64], real_size: u64, stored: u64) -> Result<Vec<Stretch>, TarError> {
    let (pairs, []) = numbers.as_chunks::<2>() else { return Err(TarError::Sparse) };
    if pairs.len() > MAX_STRETCHES {
        return Err(TarError::Sparse);
    }
    let (mut end, mut data) = (0_u64, 0_u64);
    for &[offset, length] in pairs {
        let stop = offset.checked_add(length).filter(|&stop| offset >= end && stop <= real_size).ok_or(TarError::Sparse)?;
        (end, data) = (stop, data + length);
    }
    if data != stored {
        return Err(TarError::Sparse);
    }
    let stretches = pairs.iter().map(|&[offset, length]| Stretch { offset, length });
    Ok(stretches.filter(|stretch| stretch.length > 0).collect())
}

/// The numbers in the header of an old sparse file, and in the blocks that follow it; with how many bytes these have.
pub(super) fn old_map(header: &[u8; BLOCK], source: &mut impl Read) -> Result<(Vec<u64>, u64), TarError> {
    let mut numbers = vec![];
    let mut is_continued = header[482] != 0;
    push_pairs(&header[386..482], &mut numbers)?;
    let mut bytes = 0;
    while is_continued {
        let block = read_block(source)?;
        bytes += BLOCK as u64;
        push_pairs(&block[..504], &mut numbers)?;
        is_continued = block[504] != 0;
        if numbers.len() > 2 * MAX_STRETCHES {
            return Err(TarError::Sparse);
        }
    }
    Ok((numbers, bytes))
}

fn push_pairs(bytes: &[u8], numbers: &mut Vec<u64>) -> Result<(), TarError> {
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        for field in [&pair[..12], &pair[12..]] {
            let number = numbers::field(field).and_then(|number| u64::try_from(number).ok());
            numbers.push(number.ok_or(TarError::Sparse)?);
        }
    }
    Ok(())
}

/// The numbers in front of the content (1.0): how many pairs, then each number on its line; and how many bytes they
/// fill, whole blocks. At most `stored` bytes are there.
pub(super) fn leading_map(stored: u64, source: &mut impl Read) -> Result<(Vec<u64>, u64), TarError> {
    let (mut numbers, mut line, mut wanted) = (vec![], vec![], 1);
    for read in 1..=MAX_MAP_BLOCKS as u64 {
        if read * BLOCK as u64 > stored.next_multiple_of(BLOCK as u64) {
            break;
        }
        let block = read_block(source)?;
        for &byte in &block {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(TarError::Sparse);
                }
                continue;
            }
            numbers.push(numbers::decimal(&line).ok_or(TarError::Sparse)?);
            line.clear();
            if let [pairs] = numbers[..] {
                let pairs = usize::try_from(pairs).ok().filter(|&pairs| pairs <= MAX_STRETCHES).ok_or(TarError::Sparse)?;
                wanted += 2 * pairs;
            }
            if numbers.len() == wanted {
                numbers.remove(0);
                return Ok((numbers, read * BLOCK as u64));
            }
        }
    }
    Err(TarError::Sparse)
}
