//! The files and registries that the result goes to (`--output`): whether they can be written, and their writing.
//!
//! They are written when all else is well: the layer once more from the packer into a compressor, as what the engine took is
//! not compressed, and most images that are tried go nowhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::packing::{Configuration, Loaded};
use super::{Build, Files, Product, Source};
use crate::cli::failure::Failure;
use crate::cli::meaning;
use crate::engine::kind::Kind;
use crate::exit::Exit;
use crate::image::location::{FileSource, ImageSource};
use crate::image::output::{FileOutput, Output, Shape};
use crate::image::reference::Reference;
use crate::image::transport::registry::Access;
use crate::pack::PackError;
use crate::pack::compression::Compression;
use crate::pack::files::{self, FileError};
use crate::pack::load::LoadError;
use crate::pack::push;
use crate::pack::store::{Cancel, Stored};
use crate::plan::Plan;
use crate::report::OutputFacts;

impl From<FileError> for Failure {
    fn from(error: FileError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl Build<'_> {
    /// Refuses what cannot be written before anything is started. A folder for the compressed layer, where there is to be one.
    pub(super) async fn check_outputs(&mut self) -> Result<Option<PathBuf>, Failure> {
        let output_flags = self.output.clone();
        let mut folder = None;
        for output in output_flags.files() {
            let beside = files::check(output)?;
            folder.get_or_insert(beside);
            if matches!((&output.shape, output_flags.compression), (Shape::DockerArchive(_), Compression::Zstd(_))) {
                self.warn(format!("Docker before version 23 cannot load `{output}`: it does not know zstd"));
            }
        }
        for name in output_flags.registries() {
            self.progress.step(format!("asking whether `docker://{name}` can be pushed"));
            push::check(name, &self.access()).await?;
            folder.get_or_insert_with(std::env::temp_dir);
        }
        Ok(folder)
    }

    /// How registries may be spoken to.
    pub(super) fn access(&self) -> Access {
        meaning::access(&self.request.registries, &self.request.image, &self.request.output.outputs)
    }

    /// Makes the image wherever it has to be: in the daemon without a name, and compressed for files.
    pub(super) async fn produce(
        &mut self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
        configuration: Configuration,
    ) -> Result<(Product, Files), Failure> {
        if !self.output.is_for_daemon() {
            return self.store(source, files, plan, configuration, None).await;
        }
        let (loaded, files) = self.load(files, plan, configuration.clone()).await?;
        self.store(source, files, plan, configuration, Some(loaded)).await
    }

    /// Compresses the layer, where there are files to be written. `loaded` is the image where it is in the engine already.
    pub(super) async fn store(
        &mut self,
        source: &Source,
        files: Files,
        plan: &Arc<Plan>,
        configuration: Configuration,
        loaded: Option<Loaded>,
    ) -> Result<(Product, Files), Failure> {
        let Some(folder) = source.temporary.clone() else {
            let Loaded { packed, id } = loaded.ok_or_else(|| Failure::internal("the image goes nowhere".to_owned()))?;
            return Ok((Product { packed, stored: None, id: Some(id) }, files));
        };
        let begun = Instant::now();
        self.progress.step("compressing");
        let (compression, plan, cancel) = (self.output.compression, Arc::clone(plan), Cancel::default());
        let _guard = cancel.guard();
        let storing = tokio::task::spawn_blocking(move || {
            let Files { mut reader, tree } = files;
            let config = |layer: &oci_spec::image::Digest| configuration.make(layer);
            let stored = Stored::make(&tree, &plan, &mut *reader, compression, &folder, &cancel, config);
            let stored = stored.map_err(|error| match error {
                LoadError::Pack(PackError::Write(error)) => {
                    Failure::usage(format!("the layer cannot be written to `{}`: {error}", folder.display()))
                }
                other => other.into(),
            })?;
            Ok::<_, Failure>((stored, Files { reader, tree }))
        });
        let (stored, files) = storing.await.map_err(|error| Failure::internal(error.to_string()))??;
        if let Some(loaded) = loaded.as_ref().filter(|loaded| loaded.packed != stored.packed) {
            let message = format!(
                "the image is not reproducible: packed twice from one plan it is {} and {}; a content changed while it was read",
                loaded.packed.id, stored.packed.id
            );
            return Err(Failure { exit: Exit::Differs, message });
        }
        self.report.took("compress", begun.elapsed().as_secs_f64());
        Ok((Product { packed: stored.packed.clone(), stored: Some(stored), id: loaded.map(|loaded| loaded.id) }, files))
    }

    /// Writes the files, then the registries, which others see; what is to be told of them.
    pub(super) async fn write(&mut self, stored: Stored, names: &[Reference]) -> Result<Vec<OutputFacts>, Failure> {
        let stored = Arc::new(stored);
        let mut facts = self.write_files(&stored, names).await?;
        facts.extend(self.push(&stored).await?);
        Ok(facts)
    }

    async fn push(&mut self, stored: &Stored) -> Result<Vec<OutputFacts>, Failure> {
        let begun = Instant::now();
        let access = self.access();
        // A registry may have some of it in other repositories.
        let mut known: Vec<Reference> = match &self.request.image {
            ImageSource::Registry(reference) => vec![reference.clone()],
            _ => vec![],
        };
        let mut facts = vec![];
        for name in self.output.clone().registries() {
            self.progress.step(format!("pushing `docker://{name}`"));
            let progress = Arc::clone(self.progress);
            let tell = move |done: u64, all: u64| {
                progress.tick(format!("pushing: {} of {} MB", done / 1_000_000, all / 1_000_000));
            };
            let manifest = push::push(stored, name, &known, &access, Arc::new(tell)).await?;
            known.push(name.clone());
            facts.push(OutputFacts {
                transport: "docker",
                path: None,
                names: vec![name.to_string()],
                manifest: Some(manifest.to_string()),
                compression: Some(stored.blob.compression.to_string()),
                size: Some(stored.blob.size),
            });
        }
        if !facts.is_empty() {
            self.report.took("push", begun.elapsed().as_secs_f64());
        }
        Ok(facts)
    }

    async fn write_files(&mut self, stored: &Arc<Stored>, names: &[Reference]) -> Result<Vec<OutputFacts>, Failure> {
        let outputs: Vec<_> = self.output.files().cloned().collect();
        if outputs.is_empty() {
            return Ok(vec![]);
        }
        let begun = Instant::now();
        self.progress.step("writing files");
        let (stored, names, cancel) = (Arc::clone(stored), names.to_vec(), Cancel::default());
        let _guard = cancel.guard();
        let writing = tokio::task::spawn_blocking(move || {
            let mut facts = vec![];
            for output in outputs {
                let written = files::write(&stored, &output, &names, &cancel)?;
                facts.push(OutputFacts {
                    transport: output.shape.transport(),
                    path: Some(output.path.display().to_string()),
                    names: written.names,
                    manifest: written.manifest.map(|digest| digest.to_string()),
                    compression: Some(stored.blob.compression.to_string()),
                    size: Some(stored.blob.size),
                });
            }
            Ok::<_, FileError>(facts)
        });
        let facts = writing.await.map_err(|error| Failure::internal(error.to_string()))??;
        self.report.took("write", begun.elapsed().as_secs_f64());
        Ok(facts)
    }

    /// The names that the result gets in the engine.
    pub(super) fn daemon_names(&self, names: &[Reference]) -> Vec<Reference> {
        let mut in_daemon: Vec<Reference> = vec![];
        for output in &self.output.outputs {
            match output {
                Output::Daemon(Some(name)) => in_daemon.push(name.clone()),
                Output::Daemon(None) => in_daemon.extend_from_slice(names),
                Output::File(_) | Output::Registry(_) => {}
            }
        }
        if self.engines.connected().is_some_and(|engine| engine.kind == Kind::Podman) {
            // As Podman's own commands do; its API would take them for names of Docker Hub.
            in_daemon = in_daemon.into_iter().map(|name| name.or_in("localhost")).collect();
        }
        in_daemon
    }
}

/// Where the result goes when nothing is said: back to where the image came from, into the daemon; beside the file, as
/// `app.slim.tar` for `app.tar`; for a directory, which is no image, as a file here.
pub(super) fn default_outputs(source: &ImageSource, tags: &[Reference], is_in_daemon: bool) -> Result<Vec<Output>, Failure> {
    let (path, shape) = match source {
        // Not back into a registry, where others see it: who gives it a name only, means the daemon.
        ImageSource::Named(_) if !is_in_daemon => {
            let hint = "the image is its registry's, as no daemon answers: say where the result goes, such as `--output oci-archive:FILE`";
            return Err(Failure::usage(hint.to_owned()));
        }
        ImageSource::Named(_) | ImageSource::Daemon(_) | ImageSource::Registry(_) => return Ok(vec![Output::Daemon(None)]),
        ImageSource::File(FileSource::DockerArchive { path, .. }) => (beside(path, ".tar"), Shape::DockerArchive(None)),
        ImageSource::File(FileSource::OciArchive { path, .. }) => (beside(path, ".tar"), Shape::OciArchive(None)),
        ImageSource::File(FileSource::Oci { path, .. }) => (beside(path, ""), Shape::OciDirectory(None)),
        ImageSource::Rootfs(_) => {
            let name = tags.first().and_then(|tag| tag.name.rsplit('/').next()).unwrap_or("slim");
            (PathBuf::from(format!("{name}.tar")), Shape::DockerArchive(None))
        }
    };
    Ok(vec![Output::File(FileOutput { path, shape })])
}

/// The name of the result beside a file: without the endings of archives and compressions.
fn beside(path: &Path, end: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut stem = name.as_str();
    for ending in [".gz", ".zst", ".zstd", ".tgz", ".tzst", ".tar"] {
        stem = stem.strip_suffix(ending).filter(|rest| !rest.is_empty() && !end.is_empty()).unwrap_or(stem);
    }
    path.with_file_name(format!("{stem}.slim{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_goes_where_the_image_came_from() {
        let tags = [Reference::parse("team/app.slim:1").unwrap()];
        for (source, output) in [
            ("app:1", "docker-daemon:"),
            ("docker-archive:/d/app.tar:app:1", "docker-archive:/d/app.slim.tar"),
            ("docker-archive:app.tar.gz", "docker-archive:app.slim.tar"),
            ("docker-archive:app.tgz", "docker-archive:app.slim.tar"),
            ("docker-archive:saved", "docker-archive:saved.slim.tar"),
            ("oci-archive:.tar", "oci-archive:.tar.slim.tar"),
            ("oci:/d/layout.d:1", "oci:/d/layout.d.slim"),
            ("rootfs:/", "docker-archive:app.slim.tar"),
        ] {
            let outputs = default_outputs(&ImageSource::parse(source).unwrap(), &tags, true).unwrap();
            assert_eq!(outputs, [Output::parse(output).unwrap()], "{source}");
        }
    }
}
