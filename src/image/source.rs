//! An image as the steps take it: what is known of it, and where its files are.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::config::ImageConfig;
use super::local::Place;

/// What is known of an image.
#[derive(Debug, Clone)]
pub struct SourceImage {
    /// `sha256:...`
    pub id: String,
    /// The name that the user gave.
    pub name: String,
    /// The names that it has where it is.
    pub tags: Vec<String>,
    /// Its configuration; from a daemon without the stop timeout, which only a container tells.
    pub config: ImageConfig,
    /// Bytes of its layers.
    pub size: u64,
    /// Permissions of its root directory, where the engine's containers have others.
    pub root_mode: Option<u16>,
    /// Where its files are.
    pub place: Place,
}

impl SourceImage {
    /// When it was created, in seconds since 1970; 0 where nobody says.
    #[must_use]
    pub fn created(&self) -> i64 {
        self.config.created.as_deref().and_then(moment).map_or(0, |(seconds, _)| seconds)
    }

    /// Directories that an engine makes where the image has none.
    pub(crate) fn made_by_engine(&self) -> Vec<Vec<u8>> {
        let Some(config) = &self.config.config else { return vec![] };
        let volumes = config.volumes.iter().flatten().map(|(path, _)| path);
        volumes.chain(&config.working_dir).map(|path| path.clone().into_bytes()).collect()
    }
}

/// A time as engines and configurations write it: seconds since 1970 and nanoseconds.
pub(crate) fn moment(text: &str) -> Option<(i64, u32)> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some((time.unix_timestamp(), time.nanosecond()))
}
