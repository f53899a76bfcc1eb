//! Removing what was not used for longest, until the rest fits.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use super::index::Index;
use super::{Flavour, Place, Store, StoreError, failed, remove_all};

/// What was removed, and what is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers that were removed.
    pub layers: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of what is left.
    pub left: u64,
}

struct Candidate {
    place: Place,
    used: SystemTime,
    bytes: u64,
}

impl Store {
    /// Removes layers until at most `keep_bytes` are left, those first that were not used for longest. What is in use
    /// stays, and what killed runs left goes.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn prune(&self, keep_bytes: u64) -> Result<Pruned, StoreError> {
        let mut candidates = vec![];
        for flavour in Flavour::ALL {
            candidates.extend(candidates_in(&self.directory(flavour))?);
        }
        candidates.sort_by_key(|candidate| candidate.used);
        let mut pruned = Pruned { left: candidates.iter().map(|candidate| candidate.bytes).sum(), ..Pruned::default() };
        for Candidate { place, bytes, .. } in candidates {
            // Nothing has its name: it is left over.
            let is_whole = place.whole.exists();
            if (is_whole && pruned.left <= keep_bytes) || !place.remove_unless_in_use()? {
                continue;
            }
            pruned.left -= bytes;
            pruned.bytes += bytes;
            pruned.layers += usize::from(is_whole);
        }
        Ok(pruned)
    }
}

impl Place {
    /// Whether it could be removed.
    fn remove_unless_in_use(&self) -> Result<bool, StoreError> {
        let lock = File::options().create(true).truncate(false).write(true).open(&self.lock).map_err(failed(&self.lock))?;
        if lock.try_lock().is_err() {
            return Ok(false);
        }
        // From here on nobody takes it for whole.
        remove_all(&self.partial)?;
        match fs::rename(&self.whole, &self.partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&self.whole)(error)),
            _ => remove_all(&self.partial)?,
        }
        fs::remove_file(&self.lock).map_err(failed(&self.lock))?;
        Ok(true)
    }
}

fn candidates_in(directory: &Path) -> Result<Vec<Candidate>, StoreError> {
    let mut candidates: Vec<Candidate> = vec![];
    let mut names: Vec<String> = vec![];
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let name = entry.map_err(failed(directory))?.file_name();
        let digits = name.to_str().and_then(|name| name.split('.').next());
        names.extend(digits.map(str::to_owned));
    }
    names.sort_unstable();
    names.dedup();
    for digits in names {
        let place = Place::new(directory.to_owned(), &digits);
        let used = fs::metadata(place.whole.join("used")).and_then(|status| status.modified());
        let index = fs::read(place.whole.join("index")).ok().and_then(|bytes| Index::from_bytes(&bytes).ok());
        let bytes = index.map_or(0, |index| index.bytes);
        candidates.push(Candidate { place, used: used.unwrap_or(SystemTime::UNIX_EPOCH), bytes });
    }
    Ok(candidates)
}
