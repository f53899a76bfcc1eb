//! `slim cache`: what is kept of unpacked layers, and how much of it.
//!
//! Every command that used the store removes at its end what exceeds `--cache-size`, least recently used first; what
//! another slim uses stays until that one is done, and removes in its turn. So the bound holds whenever nothing runs.

use std::fmt::Write;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::failure::Failure;
use super::style::Messages;
use super::told::Told;
use super::words::parse_bytes;
use crate::exit::Exit;
use crate::image::location::ImageSource;
use crate::image::store::{Flavour, Held, Pruned, Store, StoreError};

/// How much is kept: `--cache-size`.
#[derive(Debug, Clone, Copy, Args)]
pub struct CacheSizeArgs {
    // Ten images of 2 GB, which is large: who works with a few images never unpacks one twice, and a forgotten cache does
    // not fill a disk.
    /// Keep at most so much of unpacked layers for the next time
    #[arg(long, value_name = "SIZE", env = "SLIM_CACHE_SIZE", hide_env_values = true, value_parser = parse_bytes, default_value = "20g")]
    pub cache_size: u64,
}

/// The flags of `slim cache`.
#[derive(Debug, Clone, Copy, Args)]
pub struct CacheArgs {
    /// What to do; without one: `list`.
    #[command(subcommand)]
    pub action: Option<CacheAction>,
}

/// The verbs of `slim cache`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum CacheAction {
    /// Say where the cache is, and what is in it
    List,
    /// Remove layers that nobody uses, those first that were not used for longest
    #[command(args_override_self = true)]
    Prune {
        /// Keep so much of them
        #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "0")]
        keep: u64,
    },
}

/// Does what was asked for.
///
/// # Errors
/// [`Failure`]: the store cannot be used.
pub fn cache(arguments: &CacheArgs) -> Result<Told, Failure> {
    let root = Store::default_path()?;
    // Who only looks makes nothing.
    let store = if root.exists() { Some(Store::open(&root)?) } else { None };
    let path = root.display().to_string();
    let json = |value: serde_json::Result<String>| value.map_err(|error| Failure::internal(error.to_string()));
    match arguments.action.unwrap_or(CacheAction::List) {
        CacheAction::List => {
            let layers = store.as_ref().map_or_else(|| Ok(vec![]), Store::layers)?;
            let listing = Listing::new(path, &layers);
            let quiet = layers.iter().map(|layer| layer.diff_id.clone() + "\n").collect();
            Ok(Told { text: listing.to_string(), json: json(serde_json::to_string(&listing))? + "\n", quiet, exit: Exit::Done })
        }
        CacheAction::Prune { keep } => {
            let pruned = store.as_ref().map_or_else(|| Ok(Pruned::default()), |store| store.prune(keep))?;
            let removal = Removal::new(path, pruned);
            let json = json(serde_json::to_string(&removal))? + "\n";
            Ok(Told { text: removal.to_string(), json, quiet: String::new(), exit: Exit::Done })
        }
    }
}

/// The bound of the cache, to be kept when a command is done with it.
#[derive(Debug, Clone, Copy)]
pub struct Trim {
    keep: Option<u64>,
}

impl Trim {
    /// For a command that works on `image`: only those that come out of layers use the cache.
    #[must_use]
    pub fn after(image: &ImageSource, keep: u64) -> Trim {
        // (A daemon's image does where slim itself runs it.)
        let has_layers = !matches!(image, ImageSource::Rootfs(_));
        Trim { keep: has_layers.then_some(keep) }
    }

    /// Removes what exceeds the bound. That it fails is no reason for the command to fail.
    pub fn run(self, messages: &Messages) {
        let Some(keep) = self.keep else { return };
        let prune = || -> Result<Pruned, StoreError> {
            let root = Store::default_path()?;
            if root.exists() { Store::open(&root)?.prune(keep) } else { Ok(Pruned::default()) }
        };
        match prune() {
            Ok(Pruned { layers: 0, .. }) => {}
            Ok(pruned) => messages.detail(format!(
                "removed from the cache of layers: {}, {}",
                counted(pruned.layers, "layer"),
                megabytes(pruned.bytes)
            )),
            Err(error) => messages.warn(format!("the cache of layers cannot be brought to its size: {error}")),
        }
    }
}

/// What is in the store, as it is told.
#[derive(Debug, Serialize)]
struct Listing {
    path: String,
    bytes: u64,
    layers: usize,
    flavours: Vec<FlavourListing>,
}

#[derive(Debug, Serialize)]
struct FlavourListing {
    flavour: &'static str,
    bytes: u64,
    layers: Vec<LayerListing>,
}

#[derive(Debug, Serialize)]
struct LayerListing {
    diff_id: String,
    bytes: u64,
    used: Option<String>,
}

impl Listing {
    fn new(path: String, layers: &[Held]) -> Listing {
        let bytes = |layers: &mut dyn Iterator<Item = &Held>| layers.map(|layer| layer.bytes).sum();
        let of_layer = |layer: &Held| LayerListing { diff_id: layer.diff_id.clone(), bytes: layer.bytes, used: text(layer.used) };
        let of_flavour = |flavour: Flavour| {
            let those = || layers.iter().filter(move |layer| layer.flavour == flavour);
            FlavourListing { flavour: flavour.name(), bytes: bytes(&mut those()), layers: those().map(of_layer).collect() }
        };
        let flavours = Flavour::ALL.into_iter().map(of_flavour).collect();
        Listing { path, bytes: bytes(&mut layers.iter()), layers: layers.len(), flavours }
    }
}

impl std::fmt::Display for Listing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for FlavourListing { flavour, bytes, layers } in &self.flavours {
            let count = counted(layers.len(), "layer");
            let whose = if *flavour == Flavour::Root.name() { "as in the image" } else { "all ours" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {flavour:<5} {count:>12} {:>12}  {whose}", megabytes(*bytes));
        }
        let (count, bytes) = (counted(self.layers, "layer"), megabytes(self.bytes));
        write!(formatter, "{}: {count}, {bytes}\n{text}", self.path)
    }
}

/// What was removed, as it is told.
#[derive(Debug, Serialize)]
struct Removal {
    path: String,
    removed_layers: usize,
    removed_bytes: u64,
    left_bytes: u64,
    in_use: usize,
}

impl Removal {
    fn new(path: String, Pruned { layers, bytes, left, in_use }: Pruned) -> Removal {
        Removal { path, removed_layers: layers, removed_bytes: bytes, left_bytes: left, in_use }
    }
}

impl std::fmt::Display for Removal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Removal { path, removed_layers, removed_bytes, left_bytes, in_use } = self;
        let (removed, left) = (counted(*removed_layers, "layer"), megabytes(*left_bytes));
        writeln!(formatter, "{path}: removed {removed}, {}; {left} left", megabytes(*removed_bytes))?;
        match in_use {
            0 => Ok(()),
            count => writeln!(formatter, "  {} in use, which cannot be removed now", counted(*count, "layer")),
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A time in whole seconds; `None` where a clock was far off.
fn text(time: SystemTime) -> Option<String> {
    OffsetDateTime::from(time).replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(flavour: Flavour, bytes: u64) -> Held {
        let used = SystemTime::UNIX_EPOCH + Duration::from_millis(1_600_000_000_500);
        Held { flavour, diff_id: "sha256:00".to_owned(), bytes, used }
    }

    #[test]
    fn a_listing_for_people_and_for_programs() {
        let layers = [held(Flavour::Root, 1_500_000_000), held(Flavour::Root, 8192), held(Flavour::User, 4096)];
        let listing = Listing::new("/cache".to_owned(), &layers);
        let text = "/cache: 3 layers, 1500.0 MB\n  root      2 layers    1500.0 MB  as in the image\n  \
                    user       1 layer       0.0 MB  all ours\n";
        assert_eq!(listing.to_string(), text);
        let json = serde_json::to_value(&listing).unwrap();
        assert_eq!((&json["bytes"], &json["layers"]), (&1_500_012_288_u64.into(), &3.into()));
        let layer = serde_json::json!({"diff_id": "sha256:00", "bytes": 4096, "used": "2020-09-13T12:26:40Z"});
        assert_eq!(json["flavours"][1], serde_json::json!({"flavour": "user", "bytes": 4096, "layers": [layer]}));
    }

    #[test]
    fn a_removal_says_what_could_not_be_removed() {
        let pruned = Pruned { layers: 1, bytes: 2_000_000, left: 4096, in_use: 2 };
        let said = Removal::new("/cache".to_owned(), pruned).to_string();
        assert_eq!(said, "/cache: removed 1 layer, 2.0 MB; 0.0 MB left\n  2 layers in use, which cannot be removed now\n");
    }

    #[test]
    fn only_images_of_layers_use_the_cache() {
        for (image, keep) in [("app", Some(7)), ("rootfs:/", None), ("docker-archive:a.tar", Some(7)), ("oci:a", Some(7))] {
            assert_eq!(Trim::after(&ImageSource::parse(image).unwrap(), 7).keep, keep, "{image}");
        }
    }
}
