//! Whether a daemon lets slim do what a build does: an image of nothing is loaded into it, slim's own program runs in a container of it,
//! observed, and both are removed. What a document says of a kernel, a security module or an engine is no proof.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use slim_sensor::wire::Fanotify;

use crate::engine::docker::Engine;
use crate::engine::inject::Program;
use crate::engine::options::RunOptions;
use crate::engine::runtime::Runtime;
use crate::exit::Exit;
use crate::image::config::RunConfig;
use crate::image::digest::digest_of;
use crate::image::source::SourceImage;
use crate::observe::recorder::Recorder;
use crate::observe::sensor::Sensor;
use crate::observe::target::TargetSpec;

/// How long the daemon may take for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An empty archive: two blocks of zeros.
const EMPTY: [u8; 1024] = [0; 1024];

/// Ends with a signal that ends the program.
pub(super) type Interruption = Pin<Box<dyn Future<Output = Exit> + Send>>;

/// What is done otherwise than intended; else why a build cannot work with the daemon, and what to do.
pub(super) type Tried = Result<Vec<String>, String>;

/// Tries a daemon, and leaves nothing in it.
///
/// # Errors
/// The interruption.
pub(super) async fn try_daemon(engine: &Engine, executable: &Path, interruption: &mut Interruption) -> Result<Tried, Exit> {
    // Not interrupted: a daemon goes on with a load that is cut off, and nobody would know what to remove.
    let image = match tokio::time::timeout(PATIENCE, load(engine)).await {
        Ok(Ok(image)) => image,
        Ok(Err(reason)) => return Ok(Err(reason)),
        Err(_) => return Ok(Err(format!("it did not load an image in {} s", PATIENCE.as_secs()))),
    };
    let tried = tokio::select! {
        tried = tokio::time::timeout(PATIENCE, observe(engine, executable, &image)) => Ok(tried),
        exit = interruption => Err(exit),
    };
    let cleaned = engine.clean_up().await;
    engine.discard(&image, Duration::from_secs(1)).await;
    let tried = tried?.unwrap_or_else(|_| Err(format!("a container did not end in {} s", PATIENCE.as_secs())));
    Ok(tried.and_then(|notes| cleaned.map(|()| notes).map_err(|error| error.to_string())))
}

/// Loads an image of nothing; its id.
async fn load(engine: &Engine) -> Result<String, String> {
    let Archive { bytes, id } = image_of_nothing(&engine.architecture).map_err(|error| error.to_string())?;
    let loaded = engine.load(futures_util::stream::iter([Ok(bytes.into())])).await;
    Ok(loaded.map_err(|error| error.to_string())?.unwrap_or(id))
}

/// Runs `slim --version` in a container of the image, observed.
async fn observe(engine: &Engine, executable: &Path, id: &str) -> Tried {
    let program = &Program::prepare(executable, engine.run(), &engine.architecture).map_err(|error| error.to_string())?;
    let inspected = engine.image(id).await.map_err(|error| error.to_string())?;
    let mut image = SourceImage::new(id, inspected).map_err(|error| error.to_string())?;
    let command = vec![program.path(), "--version".to_owned()];
    image.config.config = Some(RunConfig { cmd: Some(command), ..RunConfig::default() });
    let runtime = Runtime::Docker(engine, program);
    let spec = TargetSpec::new(runtime, &image, &RunOptions::default(), &[], Sensor::Auto).map_err(|error| error.to_string())?;
    let recorder = Recorder::default();
    let target = spec.start(runtime, None, "trial", recorder.feed(0)).await.map_err(|error| error.to_string())?;
    let status = target.monitor.wait_for(|status| status.is_over()).await;
    let exit_code = target.ended(&recorder).await.map_err(|error| error.to_string())?;
    if exit_code != 0 || status.damage.is_some() {
        let damage = status.damage.unwrap_or_else(|| format!("exit code {exit_code}"));
        return Err(format!("slim's own program fails in a container: {damage}"));
    }
    Ok(match status.fanotify {
        Some(Fanotify::Refused(reason)) => {
            vec![format!("fanotify is refused ({reason}): what only the kernel opens is not seen")]
        }
        _ => vec![],
    })
}

struct Archive {
    bytes: Vec<u8>,
    /// The image's, where ids are digests of configurations.
    id: String,
}

/// An image with one empty layer, as `docker save` writes it.
fn image_of_nothing(architecture: &str) -> std::io::Result<Archive> {
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(&EMPTY)]}
    });
    let config = config.to_string();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"]}]).to_string();
    let mut archive = tar::Builder::new(vec![]);
    for (path, content) in [("layer.tar", &EMPTY[..]), ("config.json", config.as_bytes()), ("manifest.json", manifest.as_bytes())]
    {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content)?;
    }
    Ok(Archive { bytes: archive.into_inner()?, id: digest_of(config.as_bytes()) })
}
