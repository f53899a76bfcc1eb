//! Temporary.
use std::io::{self, Write};
use std::path::Path;
/// Temporary.
pub fn write_file_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut f = io::BufWriter::new(std::fs::File::create(path)?);
    write(&mut f)?;
    f.flush()
}
