//! Volumes, binds and tmpfs, written as the docker command line takes them.
//!
//! `--volume` becomes a bind string or an anonymous volume, `--mount` an object of the mounts API, `--tmpfs` a path with
//! options: the three ways differ (a missing host path is made for a bind string, refused for a mount object), so what
//! the user chose is kept. docker-slim's `--mount SRC:DST[:ro]` is a bind string.

use std::collections::HashMap;

use bollard::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig,
};

use super::limits::{SizeError, parse_size};

/// What is wrong with a volume, a mount or a tmpfs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not of the form.
    #[error("a volume is written `HOST_PATH_OR_NAME:PATH[:OPTIONS]`, or `PATH` alone for a fresh one")]
    Volume,
    /// A path on this host that starts nowhere.
    #[error("the host path `{0}` is relative: write it in full, such as `\"{full}\"`", full = in_full(.0))]
    RelativeSource(String),
    /// A name that an engine refuses for a volume.
    #[error("`{0}` is neither an absolute path nor the name of a volume (letters, digits, `_`, `.`, `-`; at least two)")]
    VolumeName(String),
    /// A path in the container that starts nowhere.
    #[error("the path `{0}` in the container is not absolute")]
    RelativeTarget(String),
    /// The root itself.
    #[error("nothing can be mounted on the container's `/`")]
    Root,
    /// Not an option of a volume.
    #[error("there is no volume option `{0}`; known are {known}", known = VOLUME_OPTIONS.join(", "))]
    VolumeOption(String),
    /// A quote that isn't closed.
    #[error("a `\"` is not closed")]
    Quote,
    /// A field without a value.
    #[error("`{0}` needs a value: `{0}=...`")]
    NoValue(String),
    /// A field that takes true or false.
    #[error("`{key}={value}`: the value must be `true` or `false`")]
    Boolean {
        /// The field.
        key: String,
        /// What was given.
        value: String,
    },
    /// A value that the field doesn't take.
    #[error("`{key}={value}` is not known: {allowed}")]
    FieldValue {
        /// The field.
        key: &'static str,
        /// What was given.
        value: String,
        /// What could have been.
        allowed: &'static str,
    },
    /// No such field.
    #[error(
        "there is no field `{0}`; the fields are type, source, target, readonly, consistency, bind-propagation, \
         bind-nonrecursive, volume-nocopy, volume-label, volume-driver, volume-opt, volume-subpath, tmpfs-size, tmpfs-mode"
    )]
    Field(String),
    /// Without a target.
    #[error("the target is missing: add `target=PATH`")]
    NoTarget,
    /// A bind without a source.
    #[error("a mount of `type=bind` needs `source=PATH`")]
    NoSource,
    /// A tmpfs with a source.
    #[error("a mount of `type=tmpfs` takes no source")]
    TmpfsSource,
    /// A field of another type.
    #[error("`{field}` does not go with `type={kind}`")]
    Mixed {
        /// Such as `tmpfs-size`.
        field: String,
        /// Such as `bind`.
        kind: &'static str,
    },
    /// `tmpfs-size`.
    #[error("`tmpfs-size`: {0}")]
    Size(#[from] SizeError),
}

/// How a shell writes the path that was probably meant.
fn in_full(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => format!("$HOME/{rest}"),
        None => format!("$PWD/{}", path.strip_prefix("./").unwrap_or(path)),
    }
}

/// What one `--volume`, or one `--mount`, asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum MountRequest {
    /// A bind string of the API: a host path or a named volume.
    Bind(String),
    /// An anonymous volume on this path.
    Anonymous(String),
    /// A mount object of the API.
    Mount(Box<Mount>),
}

const VOLUME_OPTIONS: [&str; 14] = [
    "ro",
    "rw",
    "z",
    "Z",
    "nocopy",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "cached",
    "consistent",
    "delegated",
];

/// What a [`MountRequest::Bind`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// A path of the host, or the name of a volume.
    pub source: &'a str,
    /// Where it is mounted.
    pub target: &'a str,
    /// The container cannot change it.
    pub read_only: bool,
}

impl<'a> Bind<'a> {
    /// Takes apart what [`parse_volume`] has checked.
    #[must_use]
    pub fn of(text: &'a str) -> Bind<'a> {
        let mut parts = text.split(':');
        let mut next = || parts.next().unwrap_or_default();
        let (source, target, options) = (next(), next(), next());
        Bind { source, target, read_only: options.split(',').any(|option| option == "ro") }
    }
}

/// `PATH`, or `SOURCE:PATH[:OPTIONS]`.
///
/// # Errors
/// [`MountError`].
pub fn parse_volume(text: &str) -> Result<MountRequest, MountError> {
    let mut parts = text.split(':');
    let (source, target, options) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(target), None, None, None) => {
            check_target(target)?;
            return Ok(MountRequest::Anonymous(target.to_owned()));
        }
        (Some(source), Some(target), options, None) => (source, target, options),
        _ => return Err(MountError::Volume),
    };
    check_target(target)?;
    if source.is_empty() {
        return Err(MountError::Volume);
    }
    if !source.starts_with('/') {
        check_volume_name(source)?;
    }
    for option in options.iter().flat_map(|options| options.split(',')) {
        if !VOLUME_OPTIONS.contains(&option) {
            return Err(MountError::VolumeOption(option.to_owned()));
        }
    }
    Ok(MountRequest::Bind(text.to_owned()))
}

/// Docker's `type=bind,source=...,target=...`, or docker-slim's `SRC:DST[:ro]`.
///
/// # Errors
/// [`MountError`].
pub fn parse_mount(text: &str) -> Result<MountRequest, MountError> {
    if text.starts_with(['/', '.', '~']) || !text.contains('=') {
        if text.contains(':') {
            return parse_volume(text);
        }
        if text.starts_with('/') {
            return Err(MountError::Volume);
        }
    }
    let mut fields = Fields::default();
    for field in split_fields(text)? {
        fields.take(&field)?;
    }
    fields.finish().map(|mount| MountRequest::Mount(Box::new(mount)))
}

/// `PATH[:OPTIONS]`; the options are left to the engine.
///
/// # Errors
/// [`MountError`].
pub fn parse_tmpfs(text: &str) -> Result<(String, String), MountError> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    check_target(path)?;
    Ok((path.to_owned(), options.to_owned()))
}

fn check_target(path: &str) -> Result<(), MountError> {
    if !path.starts_with('/') {
        return Err(MountError::RelativeTarget(path.to_owned()));
    }
    if path.split('/').all(|name| name.is_empty() || name == ".") { Err(MountError::Root) } else { Ok(()) }
}

fn check_volume_name(name: &str) -> Result<(), MountError> {
    if name.contains('/') || name.starts_with('.') || name.starts_with('~') {
        return Err(MountError::RelativeSource(name.to_owned()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.len() >= 2 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(MountError::VolumeName(name.to_owned()))
    }
}

/// Splits at commas; a field in double quotes may hold some, and `""` for a quote (one record of CSV).
fn split_fields(text: &str) -> Result<Vec<String>, MountError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (before, after) = quoted.split_once('"').ok_or(MountError::Quote)?;
                field.push_str(before);
                match after.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        quoted = after;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(MountError::Quote);
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// The fields of a mount, as far as they were read.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<MountType>,
    mount: Mount,
    bind: Option<MountBindOptions>,
    volume: Option<MountVolumeOptions>,
    tmpfs: Option<MountTmpfsOptions>,
    /// Fields with a type in their name.
    typed: Vec<String>,
}

impl Fields {
    fn take(&mut self, field: &str) -> Result<(), MountError> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        if ["bind-", "volume-", "tmpfs-"].iter().any(|kind| key.starts_with(kind)) {
            self.typed.push(key.clone());
        }
        match key.as_str() {
            "readonly" | "ro" => {
                self.mount.read_only = Some(boolean(&key, value)?);
                return Ok(());
            }
            "bind-nonrecursive" => {
                self.bind.get_or_insert_default().non_recursive = Some(boolean(&key, value)?);
                return Ok(());
            }
            "volume-nocopy" => {
                self.volume.get_or_insert_default().no_copy = Some(boolean(&key, value)?);
                return Ok(());
            }
            _ => {}
        }
        if !FIELDS_WITH_VALUE.contains(&key.as_str()) {
            return Err(MountError::Field(key));
        }
        let value = value.filter(|value| !value.is_empty()).ok_or_else(|| MountError::NoValue(key.clone()))?;
        match key.as_str() {
            "type" => self.kind = Some(parse_kind(value)?),
            "source" | "src" => self.mount.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => {
                check_target(value)?;
                self.mount.target = Some(value.to_owned());
            }
            "consistency" => self.mount.consistency = Some(value.to_ascii_lowercase()),
            "bind-propagation" => self.bind.get_or_insert_default().propagation = Some(parse_propagation(value)?),
            "volume-subpath" => self.volume.get_or_insert_default().subpath = Some(value.to_owned()),
            "volume-label" => put(&mut self.volume.get_or_insert_default().labels, value),
            "volume-driver" => self.driver().name = Some(value.to_owned()),
            "volume-opt" => put(&mut self.driver().options, value),
            "tmpfs-size" => self.tmpfs.get_or_insert_default().size_bytes = Some(parse_size(value)?),
            _ => self.tmpfs.get_or_insert_default().mode = Some(parse_mode(value)?),
        }
        Ok(())
    }

    fn driver(&mut self) -> &mut MountVolumeOptionsDriverConfig {
        self.volume.get_or_insert_default().driver_config.get_or_insert_default()
    }

    fn finish(self) -> Result<Mount, MountError> {
        let kind = self.kind.unwrap_or(MountType::VOLUME);
        let name = match kind {
            MountType::BIND => "bind",
            MountType::TMPFS => "tmpfs",
            _ => "volume",
        };
        if let Some(field) = self.typed.into_iter().find(|field| !field.starts_with(name)) {
            return Err(MountError::Mixed { field, kind: name });
        }
        if self.mount.target.is_none() {
            return Err(MountError::NoTarget);
        }
        match (kind, self.mount.source.as_deref()) {
            (MountType::BIND, None) => return Err(MountError::NoSource),
            (MountType::BIND, Some(path)) if !path.starts_with('/') => {
                return Err(MountError::RelativeSource(path.to_owned()));
            }
            (MountType::VOLUME, Some(name)) => check_volume_name(name)?,
            (MountType::TMPFS, Some(_)) => return Err(MountError::TmpfsSource),
            _ => {}
        }
        Ok(Mount {
            typ: Some(kind),
            bind_options: self.bind,
            volume_options: self.volume,
            tmpfs_options: self.tmpfs,
            ..self.mount
        })
    }
}

const FIELDS_WITH_VALUE: [&str; 14] = [
    "type",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "consistency",
    "bind-propagation",
    "volume-subpath",
    "volume-label",
    "volume-driver",
    "volume-opt",
    "tmpfs-size",
    "tmpfs-mode",
];

/// A field without a value is true.
fn boolean(key: &str, value: Option<&str>) -> Result<bool, MountError> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(value) => Err(MountError::Boolean { key: key.to_owned(), value: value.to_owned() }),
    }
}

/// `KEY=VALUE`, or `KEY` with an empty value.
fn put(map: &mut Option<HashMap<String, String>>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    map.get_or_insert_default().insert(key.to_owned(), value.to_owned());
}

fn parse_kind(value: &str) -> Result<MountType, MountError> {
    match value {
        "bind" => Ok(MountType::BIND),
        "volume" => Ok(MountType::VOLUME),
        "tmpfs" => Ok(MountType::TMPFS),
        _ => Err(MountError::FieldValue {
            key: "type",
            value: value.to_owned(),
            allowed: "it must be `bind`, `volume` or `tmpfs`",
        }),
    }
}

fn parse_propagation(value: &str) -> Result<MountBindOptionsPropagationEnum, MountError> {
    match value {
        "private" => Ok(MountBindOptionsPropagationEnum::PRIVATE),
        "rprivate" => Ok(MountBindOptionsPropagationEnum::RPRIVATE),
        "shared" => Ok(MountBindOptionsPropagationEnum::SHARED),
        "rshared" => Ok(MountBindOptionsPropagationEnum::RSHARED),
        "slave" => Ok(MountBindOptionsPropagationEnum::SLAVE),
        "rslave" => Ok(MountBindOptionsPropagationEnum::RSLAVE),
        _ => Err(MountError::FieldValue {
            key: "bind-propagation",
            value: value.to_owned(),
            allowed: "it must be `private`, `rprivate`, `shared`, `rshared`, `slave` or `rslave`",
        }),
    }
}

fn parse_mode(value: &str) -> Result<i64, MountError> {
    let octal = value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    i64::from_str_radix(value, 8).ok().filter(|&mode| octal && mode <= 0o7777).ok_or_else(|| MountError::FieldValue {
        key: "tmpfs-mode",
        value: value.to_owned(),
        allowed: "it must be an octal number, such as `1777`",
    })
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
