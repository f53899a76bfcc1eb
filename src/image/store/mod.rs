//! The store of unpacked layers: each layer is unpacked once, by whichever slim needs it first, and found by the digest of
//! its archive.
//!
//! ```text
//! layers/FLAVOUR/sha256/DIGITS/fs       the files: a lower directory for overlayfs
//!                             /index    what the layer says of them (see `index`)
//!                             /used     when it was last used (its time), and in which boot (its content)
//! layers/FLAVOUR/sha256/DIGITS.lock     held exclusively to make or remove it, shared to use it
//!                       DIGITS.partial  in the making
//! ```
//!
//! A layer is made under another name and then renamed, so what has its name is whole; what a killed run left under the other
//! name is removed by the next one that has the lock. Nothing is forced to the disk, which would cost more than unpacking
//! again: after a loss of power files can be shorter than they were, so in the first use after a boot all sizes are
//! compared with the index, and a layer that fell short is unpacked again.
//!
//! The store is readable by its owner only: images hold set-user-id programs.

mod disk;
mod draft;
mod engine_view;
pub mod index;
pub mod merge;
mod patch;
mod prune;
pub mod read;
#[cfg(test)]
mod tests;
mod unpack;

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use self::index::{Effect, Index, Record};
pub use self::prune::{Held, Pruned};
pub use self::unpack::UnpackError;
use super::layer::compression::{Budget, LayerStream};
use super::transport::{LayerBlob, LayeredImage};
use crate::image::read_files::ReadError;
use crate::image::tree::Kind;

/// What the files of a layer are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavour {
    /// As in the image: owners, modes, attributes, devices. Needs root.
    Root,
    /// All ours, and readable and writable for us: what anybody can make.
    User,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Flavour; 2] = [Flavour::Root, Flavour::User];

    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Flavour::Root => "root",
            Flavour::User => "user",
        }
    }

    /// The permission bits of a file on disk that has `mode` in the image.
    #[must_use]
    pub fn permissions(self, kind: Kind, mode: u16) -> u16 {
        match (self, kind) {
            (Flavour::Root, _) | (_, Kind::Symlink) => mode,
            (Flavour::User, Kind::Directory) => mode & 0o1777 | 0o700,
            // No program of an image becomes one that gives away our own rights.
            (Flavour::User, _) => mode & 0o777 | 0o600,
        }
    }
}

/// What goes wrong with the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file of it.
    #[error("`{}` of the layer store cannot be used: {reason}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// A layer.
    #[error("the layer `{diff_id}` cannot be unpacked: {reason}")]
    Layer {
        /// Digest of its archive.
        diff_id: String,
        /// Why.
        reason: UnpackError,
    },
    /// What is to lie above the layers.
    #[error("the layers cannot be put together: {0}")]
    Patch(UnpackError),
    /// A file of that.
    #[error("the layers cannot be put together: {0}")]
    Copy(ReadError),
    /// Nobody says where it is.
    #[error("there is no place for the layer store: set `XDG_CACHE_HOME` or `HOME`")]
    NoHome,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A layer in the store; it stays there as long as this is held.
#[derive(Debug, Clone)]
pub struct StoredLayer {
    /// Digest of its archive.
    pub diff_id: String,
    /// Its files.
    pub files: PathBuf,
    /// What it says of them.
    pub index: Arc<Index>,
    _lock: Arc<File>,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |reason| StoreError::Io { path, reason }
}

/// The number of this boot, empty where it is not told.
fn boot() -> Vec<u8> {
    fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

impl Store {
    /// The store in `root`, which is made where it is missing.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for flavour in Flavour::ALL {
            let path = root.join("layers").join(flavour.name()).join("sha256");
            builder.create(&path).map_err(failed(&path))?;
        }
        // The directory may have been there before, and open to all.
        let layers = root.join("layers");
        let mode = fs::metadata(&layers).map_err(failed(&layers))?.permissions().mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(&layers, Permissions::from_mode(0o700)).map_err(failed(&layers))?;
        }
        let root = root.canonicalize().map_err(failed(root))?;
        Ok(Store { root })
    }

    /// Where the user's store is: `slim` in `XDG_CACHE_HOME`, else in `.cache` at home.
    ///
    /// # Errors
    /// [`StoreError::NoHome`]
    pub fn default_path() -> Result<PathBuf, StoreError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let cache = cache.or_else(|| set("HOME").map(|home| home.join(".cache")));
        cache.map(|cache| cache.join("slim")).ok_or(StoreError::NoHome)
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layers of an image, the lowest first; those that are not there are unpacked, several at a time. `tell` hears
    /// how many of them are done.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn unpack(
        &self,
        image: &LayeredImage,
        flavour: Flavour,
        max_unpacked_size: u64,
        tell: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Vec<StoredLayer>, StoreError> {
        let budget = Arc::new(Budget::new(max_unpacked_size));
        // The same layer can be there twice.
        let mut blobs: Vec<&LayerBlob> = image.layers.iter().collect();
        blobs.sort_by(|one, other| one.diff_id.cmp(&other.diff_id));
        blobs.dedup_by(|one, other| one.diff_id == other.diff_id);
        // The largest takes longest.
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size()));
        // What has to be fetched is fetched while others are unpacked.
        let place = |blob: &LayerBlob| Place::of(self.directory(flavour), blob);
        blobs.iter().filter(|blob| !place(blob).whole.exists()).for_each(|blob| blob.begin());
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let results = Mutex::new(HashMap::new());
        let work = || {
            while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let layer = self.layer(blob, flavour, &budget);
                if layer.is_err() {
                    // The others need not begin.
                    next.store(blobs.len(), Ordering::Relaxed);
                }
                tell(done.fetch_add(1, Ordering::Relaxed) + 1, blobs.len());
                results.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.diff_id.clone(), layer);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(blobs.len());
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let layers: HashMap<String, StoredLayer> =
            results.into_iter().map(|(id, layer)| layer.map(|layer| (id, layer))).collect::<Result<_, _>>()?;
        Ok(image.layers.iter().filter_map(|blob| layers.get(&blob.diff_id).cloned()).collect())
    }

    fn directory(&self, flavour: Flavour) -> PathBuf {
        self.root.join("layers").join(flavour.name()).join("sha256")
    }

    /// A layer, unpacked if it is not there.
    fn layer(&self, blob: &LayerBlob, flavour: Flavour, budget: &Arc<Budget>) -> Result<StoredLayer, StoreError> {
        let place = Place::of(self.directory(flavour), blob);
        loop {
            let lock = place.lock(File::lock_shared)?;
            if let Some(index) = place.load() {
                let layer = StoredLayer {
                    diff_id: blob.diff_id.clone(),
                    files: place.whole.join("fs"),
                    index: Arc::new(index),
                    _lock: Arc::new(lock),
                };
                return Ok(layer);
            }
            drop(lock);
            let lock = place.lock(File::lock)?;
            // Another one may have made it meanwhile.
            if place.load().is_none() {
                place.make(blob, flavour, budget)?;
            }
            // From exclusive to shared there is a moment without: who removes it then makes us begin again.
            drop(lock);
        }
    }
}

/// Where a layer is, or will be.
struct Place {
    whole: PathBuf,
    partial: PathBuf,
    lock: PathBuf,
}

impl Place {
    fn new(directory: PathBuf, digits: &str) -> Place {
        let named = |end: &str| directory.join(format!("{digits}{end}"));
        Place { whole: named(""), partial: named(".partial"), lock: named(".lock") }
    }

    fn of(directory: PathBuf, blob: &LayerBlob) -> Place {
        Place::new(directory, blob.diff_id.strip_prefix("sha256:").unwrap_or(&blob.diff_id))
    }

    /// Takes the lock by `take`. Who removes a layer removes its lock too, so a lock that has no name any more is none.
    fn lock(&self, take: impl Fn(&File) -> io::Result<()>) -> Result<File, StoreError> {
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&self.lock).map_err(failed(&self.lock))?;
            take(&file).map_err(failed(&self.lock))?;
            if self.is_the_lock(&file)? {
                return Ok(file);
            }
        }
    }

    /// Whether a file that is held is the lock still: whoever held it before may have removed it, and others have made
    /// and taken a new one since.
    fn is_the_lock(&self, held: &File) -> Result<bool, StoreError> {
        let held = held.metadata().map_err(failed(&self.lock))?;
        match fs::metadata(&self.lock) {
            Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(&self.lock)(error)),
        }
    }

    /// The index of a layer that is there and whole; it is marked as used now.
    fn load(&self) -> Option<Index> {
        let index = Index::from_bytes(&fs::read(self.whole.join("index")).ok()?).ok()?;
        let (used, boot) = (self.whole.join("used"), boot());
        let is_known = !boot.is_empty() && fs::read(&used).is_ok_and(|known| known == boot);
        if !is_known && !has_all_sizes(&self.whole.join("fs"), &index) {
            return None;
        }
        // Only the order of removals hangs on it.
        let _ = fs::write(&used, boot);
        Some(index)
    }

    /// Removes all that is there, with the lock held.
    fn clear(&self) -> Result<(), StoreError> {
        remove_all(&self.partial)?;
        // From here on nobody takes it for whole, also if we are killed: of half a layer the index could still be there.
        match fs::rename(&self.whole, &self.partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&self.whole)(error)),
            _ => remove_all(&self.partial),
        }
    }

    /// Unpacks the layer, with the lock held.
    fn make(&self, blob: &LayerBlob, flavour: Flavour, budget: &Arc<Budget>) -> Result<(), StoreError> {
        self.clear()?;
        let wrong = |reason| StoreError::Layer { diff_id: blob.diff_id.clone(), reason };
        let fs = self.partial.join("fs");
        DirBuilder::new().recursive(true).mode(0o700).create(&fs).map_err(failed(&fs))?;
        let unpacked = LayerStream::open(blob.open(), blob.expected(), Arc::clone(budget))
            .map_err(|error| UnpackError::Tar(error.into()))
            .and_then(|stream| unpack::unpack(stream, &fs, flavour, budget));
        let index = match unpacked {
            Ok(index) => index,
            Err(reason) => {
                // What is left of it, the next one removes.
                let _ = remove_all(&self.partial);
                return Err(wrong(reason));
            }
        };
        let path = self.partial.join("index");
        std::fs::write(&path, index.to_bytes()).map_err(failed(&path))?;
        let path = self.partial.join("used");
        std::fs::write(&path, boot()).map_err(failed(&path))?;
        std::fs::rename(&self.partial, &self.whole).map_err(failed(&self.whole))
    }
}

/// Removes a directory of the store. It may hold directories that even we may not write to, where a run was killed while
/// it set their modes; as root that does not matter, and as a user we always may.
fn remove_all(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

/// Whether all files are as long as the index says.
fn has_all_sizes(files: &Path, index: &Index) -> bool {
    let Ok(root) = File::open(files) else { return false };
    let mut last: Option<(u32, std::os::fd::OwnedFd)> = None;
    for Record { entry, .. } in index.records.iter().filter(|record| record.effect == Effect::Put) {
        if entry.kind != Kind::File {
            continue;
        }
        if last.as_ref().is_none_or(|(parent, _)| *parent != entry.parent) {
            let Ok(directory) = disk::open_below(root.as_fd(), &index.path(entry.parent)) else { return false };
            last = Some((entry.parent, directory));
        }
        let status = last.as_ref().map(|(_, fd)| fstatat(fd, &entry.name[..], AtFlags::AT_SYMLINK_NOFOLLOW));
        if !status.is_some_and(|status| status.is_ok_and(|status| status.st_size.unsigned_abs() == entry.size)) {
            return false;
        }
    }
    true
}
