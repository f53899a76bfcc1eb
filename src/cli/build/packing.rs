//! From a plan to an image in the engine, and whether the same comes of it twice.

use std::sync::Arc;
use std::time::Instant;

use super::{Build, Files, Made, Product, Source};
use crate::cli::failure::Failure;
use crate::engine::kind::ImageStore;
use crate::exit::Exit;
use crate::image::config::{ImageConfig, slim_config};
use crate::image::local;
use crate::image::location::FileSource;
use crate::image::source::SourceImage;
use crate::image::transport::platform::Platform;
use crate::pack::PackError;
use crate::pack::archive::Packed;
use crate::pack::compression::Compression;
use crate::pack::differ::first_difference;
use crate::pack::digest_of;
use crate::pack::load::{LoadError, load, load_compressed, write};
use crate::pack::store::{self, Blob, Cancel, Stored};
use crate::plan::Plan;

/// An image in the engine that runs it.
pub(super) struct Loaded {
    pub(super) packed: Packed,
    /// What the engine calls it.
    pub(super) id: String,
}

/// The label of what is tagged though it could not be verified.
const UNVERIFIED: &str = "unverified";

/// How the configuration of the result is made.
#[derive(Clone)]
pub(super) struct Configuration {
    source: ImageConfig,
    created: Option<String>,
    /// Why it is not verified, for its label.
    unverified: Option<String>,
}

impl Configuration {
    pub(super) fn new(source: &Source, unverified: Option<String>) -> Configuration {
        let Source { image, created, .. } = source;
        Configuration { source: image.config.clone(), created: created.clone(), unverified }
    }

    pub(super) fn make(&self, layer: &oci_spec::image::Digest) -> ImageConfig {
        let mut config = slim_config(&self.source, layer, self.created.clone());
        if let Some(reason) = &self.unverified {
            let labels = &mut config.config.get_or_insert_default().labels;
            labels.get_or_insert_default().insert(UNVERIFIED.to_owned(), reason.clone());
        }
        config
    }
}

impl Build<'_> {
    /// Packs without running the result.
    pub(super) async fn packed(&mut self, source: &Source, files: Files, plan: Arc<Plan>) -> Made {
        let tree = Arc::clone(&files.tree);
        let (product, failure) = match self.produced(source, files, &plan).await {
            Ok(product) => (Some(product), None),
            Err(failure) => (None, Some(failure)),
        };
        Made { tree: Some(tree), plan: Some(plan), product, failure }
    }

    /// The result of a plan, twice where that was asked for.
    pub(super) async fn produced(&mut self, source: &Source, files: Files, plan: &Arc<Plan>) -> Result<Product, Failure> {
        let (product, files) = self.produce(source, files, plan, Configuration::new(source, None)).await?;
        self.check_reproducible(source, files, plan, &product).await?;
        Ok(product)
    }

    /// Packs the result for the engine that is to try it, without a name; as an image to be run like the original.
    pub(super) async fn pack(
        &mut self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
    ) -> Result<(Loaded, SourceImage, Files), Failure> {
        let configuration = Configuration::new(source, None);
        let slim = |packed: &Packed, id: &str| SourceImage {
            id: id.to_owned(),
            config: configuration.make(&packed.diff_id),
            tags: vec![],
            ..source.image.clone()
        };
        if !source.chosen.is_embedded {
            let (loaded, files) = self.load(files, plan, configuration.clone()).await?;
            let image = slim(&loaded.packed, &loaded.id);
            return Ok((loaded, image, files));
        }
        let begun = Instant::now();
        self.progress.step("packing");
        let engine = self.engines.embedded(self.request.max_unpacked_size).await?;
        let path = engine.directory().join("tried.tar");
        let (made, plan) = (configuration.clone(), Arc::clone(plan));
        let packing = tokio::task::spawn_blocking(move || {
            let Files { mut reader, tree } = files;
            let failed = |error: std::io::Error| Failure {
                exit: Exit::Engine,
                message: format!("the slim image cannot be written to `{}`: {error}", path.display()),
            };
            let file = std::io::BufWriter::with_capacity(256 << 10, std::fs::File::create(&path).map_err(failed)?);
            let packed = write(&tree, &plan, &mut *reader, file, |layer| made.make(layer))?;
            // The very file that would be shipped is what is tried.
            let archive = FileSource::DockerArchive { path: path.clone(), reference: None };
            let opened = local::open_file(&archive, &Platform::of_host(), u64::MAX)?;
            // What is open can be read on.
            std::fs::remove_file(&path).map_err(failed)?;
            Ok::<_, Failure>((packed, opened.place, Files { reader, tree }))
        });
        let (packed, place, files) = packing.await.map_err(|error| Failure::internal(error.to_string()))??;
        let id = packed.id.to_string();
        let image = SourceImage { place, ..slim(&packed, &id) };
        engine.admit(&image).await?;
        self.report.took("pack", begun.elapsed().as_secs_f64());
        Ok((Loaded { packed, id }, image, files))
    }

    /// Packs, and loads the result into the daemon without a name.
    pub(super) async fn load(
        &mut self,
        files: Files,
        plan: &Arc<Plan>,
        configuration: Configuration,
    ) -> Result<(Loaded, Files), Failure> {
        let begun = Instant::now();
        self.progress.step("packing");
        let loaded = match self.engines.docker().await?.store {
            ImageStore::Driver => self.load_plain(files, plan, configuration).await?,
            ImageStore::Containerd => self.load_compressed(files, plan, configuration).await?,
        };
        self.report.took("pack", begun.elapsed().as_secs_f64());
        Ok(loaded)
    }

    /// Streams the layer as it is: a storage driver unpacks it.
    async fn load_plain(&self, files: Files, plan: &Arc<Plan>, configuration: Configuration) -> Result<(Loaded, Files), Failure> {
        let leftover = self.engines.leftover.clone();
        let config = move |layer: &oci_spec::image::Digest| {
            let config = configuration.make(layer);
            // From here on the daemon may have the image, also if we are cut off.
            leftover.add(digest_of(&config.to_json()).to_string());
            config
        };
        let Files { reader, tree } = files;
        let engine = self.engines.docker().await?;
        let (packed, id, reader) = load(engine, Arc::clone(&tree), Arc::clone(plan), reader, config).await?;
        Ok((Loaded { packed, id }, Files { reader, tree }))
    }

    /// Compresses the layer first, as it stays in containerd as it is sent, and is pushed so.
    async fn load_compressed(
        &self,
        files: Files,
        plan: &Arc<Plan>,
        configuration: Configuration,
    ) -> Result<(Loaded, Files), Failure> {
        let (plan, cancel) = (Arc::clone(plan), Cancel::default());
        let _guard = cancel.guard();
        let storing = tokio::task::spawn_blocking(move || {
            let Files { mut reader, tree } = files;
            let folder = std::env::temp_dir();
            let config = |layer: &oci_spec::image::Digest| configuration.make(layer);
            let stored = Stored::make(&tree, &plan, &mut *reader, Compression::default(), &folder, &cancel, config)?;
            let manifest = stored.manifest_digest().map_err(PackError::from)?;
            Ok::<_, LoadError>((stored, manifest, Files { reader, tree }))
        });
        let (stored, manifest, files) = storing.await.map_err(|error| Failure::internal(error.to_string()))??;
        // From here on the daemon may have the image, also if we are cut off.
        self.engines.leftover.add(manifest.to_string());
        let packed = stored.packed.clone();
        let id = load_compressed(self.engines.docker().await?, Arc::new(stored)).await?;
        Ok((Loaded { packed, id }, files))
    }

    /// Where it was asked for: packs again, and fails where that makes another image.
    pub(super) async fn check_reproducible(
        &mut self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
        product: &Product,
    ) -> Result<(), Failure> {
        if !self.request.verification.check_reproducible {
            return Ok(());
        }
        let begun = Instant::now();
        self.progress.step("packing again, to compare");
        let (plan, configuration, packed) = (Arc::clone(plan), Configuration::new(source, None), product.packed.clone());
        let blob = product.stored.as_ref().map(|stored| stored.blob.clone());
        let compared = tokio::task::spawn_blocking(move || compare(files, &plan, &configuration, &packed, blob.as_ref())).await;
        compared.map_err(|error| Failure::internal(error.to_string()))??;
        self.report.took("check reproducible", begun.elapsed().as_secs_f64());
        self.report.reproducible = Some(true);
        Ok(())
    }
}

/// Packs a second time, and compresses where the first time did.
fn compare(
    files: Files,
    plan: &Plan,
    configuration: &Configuration,
    packed: &Packed,
    blob: Option<&Blob>,
) -> Result<(), Failure> {
    let Files { mut reader, tree } = files;
    let config = |layer: &oci_spec::image::Digest| configuration.make(layer);
    let again = match blob {
        None => write(&tree, plan, &mut *reader, std::io::sink(), config)?,
        Some(blob) => {
            let (again, other, _) = store::write(&tree, plan, &mut *reader, blob.compression, std::io::sink(), config)?;
            if again == *packed && other != *blob {
                let message =
                    format!("the files are not reproducible: one layer is compressed to {} and {}", blob.digest, other.digest);
                return Err(Failure { exit: Exit::Differs, message });
            }
            again
        }
    };
    if again == *packed {
        return Ok(());
    }
    let mut to_file = || -> Result<std::fs::File, Failure> {
        let failed = |error: std::io::Error| Failure::internal(format!("cannot write a temporary file: {error}"));
        let file = tempfile::tempfile().map_err(failed)?;
        write(&tree, plan, &mut *reader, std::io::BufWriter::new(&file), |layer| configuration.make(layer))?;
        Ok(file)
    };
    let difference = first_difference(to_file()?, to_file()?);
    let difference = difference.map_err(|error| Failure::from(LoadError::from(crate::pack::PackError::from(error))))?;
    let what = difference.unwrap_or_else(|| "two more are alike: a content changed while it was read".to_owned());
    let message =
        format!("the image is not reproducible: packed twice from one plan it is {} and {}; {what}", packed.id, again.id);
    Err(Failure { exit: Exit::Differs, message })
}
