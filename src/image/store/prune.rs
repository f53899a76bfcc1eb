//! What is in the store, and removing what was not used for longest, until the rest fits.
//!
//! A layer is removed by whoever holds its lock exclusively: one that is in use, or in the making, is passed over. The lock
//! goes with the layer, so a lock that was waited for must be looked at again: it may have been removed meanwhile, and
//! another of the same name stand for a layer that somebody made since and uses.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use super::index::{HEAD_ROOM, Index};
use super::{Flavour, Place, Store, StoreError, failed};

/// What was removed, and what is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Layers that were removed.
    pub layers: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of what is left.
    pub left: u64,
    /// Layers that should have been removed, but somebody uses them.
    pub in_use: usize,
}

/// A layer that the store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What its files are like.
    pub flavour: Flavour,
    /// Digest of its archive.
    pub diff_id: String,
    /// Bytes of its files, as [`Index::bytes`].
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// Something in the store.
struct Candidate {
    place: Place,
    digits: String,
    /// When it was last used, and its bytes; `None` for what is no whole layer: a killed run left it, or it is in the
    /// making.
    whole: Option<(SystemTime, u64)>,
}

impl Store {
    /// The whole layers that are there, by flavour and digest.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn layers(&self) -> Result<Vec<Held>, StoreError> {
        let mut layers = vec![];
        for flavour in Flavour::ALL {
            let held = |Candidate { digits, whole, .. }| {
                let (used, bytes) = whole?;
                Some(Held { flavour, diff_id: format!("sha256:{digits}"), bytes, used })
            };
            layers.extend(candidates_in(&self.directory(flavour))?.into_iter().filter_map(held));
        }
        Ok(layers)
    }

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
        candidates.sort_by_key(|candidate| candidate.whole.map(|(used, _)| used));
        let all = candidates.iter().filter_map(|candidate| candidate.whole).map(|(_, bytes)| bytes);
        let mut pruned = Pruned { left: all.sum(), ..Pruned::default() };
        for Candidate { place, whole, .. } in candidates {
            if whole.is_some() && pruned.left <= keep_bytes {
                continue;
            }
            match (place.remove_unless_in_use(whole.is_some())?, whole) {
                (true, Some((_, bytes))) => {
                    pruned.left -= bytes;
                    pruned.bytes += bytes;
                    pruned.layers += 1;
                }
                (false, Some(_)) => pruned.in_use += 1,
                (_, None) => {}
            }
        }
        Ok(pruned)
    }
}

impl Place {
    /// Whether it could be removed. What was seen in the making may be whole by now: then it stays.
    fn remove_unless_in_use(&self, was_whole: bool) -> Result<bool, StoreError> {
        let lock = File::options().create(true).truncate(false).write(true).open(&self.lock).map_err(failed(&self.lock))?;
        self.remove_by(&lock, was_whole)
    }

    /// As above, with a file that was the lock when it was opened.
    pub(super) fn remove_by(&self, lock: &File, was_whole: bool) -> Result<bool, StoreError> {
        if lock.try_lock().is_err() || !self.is_the_lock(lock)? || (!was_whole && self.whole().is_some()) {
            return Ok(false);
        }
        self.clear()?;
        fs::remove_file(&self.lock).map_err(failed(&self.lock))?;
        Ok(true)
    }

    /// When the layer was last used, and its bytes. What another version of slim made is not whole for us.
    fn whole(&self) -> Option<(SystemTime, u64)> {
        let mut beginning = vec![];
        File::open(self.whole.join("index")).ok()?.take(HEAD_ROOM).read_to_end(&mut beginning).ok()?;
        let bytes = Index::bytes_of_beginning(&beginning).ok()?;
        let used = fs::metadata(self.whole.join("used")).and_then(|status| status.modified());
        Some((used.unwrap_or(SystemTime::UNIX_EPOCH), bytes))
    }
}

fn candidates_in(directory: &Path) -> Result<Vec<Candidate>, StoreError> {
    let mut names: Vec<String> = vec![];
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let name = entry.map_err(failed(directory))?.file_name();
        let digits = name.to_str().and_then(|name| name.split('.').next());
        names.extend(digits.map(str::to_owned));
    }
    names.sort_unstable();
    names.dedup();
    let candidate = |digits: String| {
        let place = Place::new(directory.to_owned(), &digits);
        let whole = place.whole();
        Candidate { place, digits, whole }
    };
    Ok(names.into_iter().map(candidate).collect())
}
