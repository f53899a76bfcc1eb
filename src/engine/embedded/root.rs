//! The files of an image, ready to be the root of containers.

use std::path::PathBuf;
use std::sync::Arc;

use slim_sensor::container::spec::Owner;

use crate::image::local::{LocalError, Place};
use crate::image::source::SourceImage;
use crate::image::store::merge::merge;
use crate::image::store::read::LayerFiles;
use crate::image::store::{Flavour, Store, StoredLayer};
use crate::image::tree::Tree;

/// See the module.
#[derive(Debug)]
pub struct ImageRoot {
    /// The topmost first, as overlayfs wants them.
    pub directories: Vec<PathBuf>,
    /// What the directories do not say of owners and modes, but a user namespace can.
    pub owners: Vec<Owner>,
    /// Stay in the store for as long.
    _layers: Vec<StoredLayer>,
}

impl ImageRoot {
    /// Unpacks what `store` lacks. `has_ids`: containers have other ids than ours. `patch`: an empty directory, for what
    /// overlayfs does not show of the layers.
    pub(super) fn unpack(
        image: &SourceImage,
        store: &Store,
        flavour: Flavour,
        has_ids: bool,
        max_unpacked_size: u64,
        patch: PathBuf,
        tell: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<ImageRoot, LocalError> {
        let layered = match &image.place {
            Place::Layers(layered) => layered,
            Place::Directory(path) => {
                let path = path.canonicalize().map_err(|reason| LocalError::Root { path: path.clone(), reason })?;
                return Ok(ImageRoot { directories: vec![path], owners: vec![], _layers: vec![] });
            }
            Place::Daemon => return Ok(ImageRoot { directories: vec![], owners: vec![], _layers: vec![] }),
        };
        let layers = store.unpack(layered, flavour, max_unpacked_size, tell)?;
        let merged = merge(layers.iter().map(|layer| &*layer.index), image.created(), &[])?;
        let owners = if has_ids { owners(&merged.tree) } else { vec![] };
        let is_patched = LayerFiles::new(layers.clone(), Arc::new(merged)).patch(flavour, &patch)?;
        let directories = is_patched.then_some(patch).into_iter();
        let directories = directories.chain(layers.iter().rev().map(|layer| layer.files.clone())).collect();
        Ok(ImageRoot { directories, owners, _layers: layers })
    }
}

/// Entries that are somebody else's than root's, or of a mode that a file of ours has not: see [`Flavour::User`].
fn owners(tree: &Tree) -> Vec<Owner> {
    let differs = |id: &_| {
        let mode = tree.mode(*id);
        tree.owner(*id) != (0, 0) || mode != Flavour::User.permissions(tree.kind(*id), mode)
    };
    let owner = |id| {
        let (uid, gid) = tree.owner(id);
        Owner { path: tree.path(id), uid, gid, mode: u32::from(tree.mode(id)) }
    };
    tree.ids().filter(differs).map(owner).collect()
}
