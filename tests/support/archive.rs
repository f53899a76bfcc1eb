//! What is in an image, entry by entry, as archives have it.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;

use super::{docker, docker_output};

/// All that an archive says of an entry but its path.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: tar::EntryType,
    pub mode: u32,
    pub owner: (u64, u64),
    /// Seconds since 1970, with a fraction where the archive has one.
    pub mtime: String,
    pub link: Vec<u8>,
    /// Major and minor number.
    pub device: (u32, u32),
    pub size: u64,
    /// Digest of the content.
    pub content: String,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Entry { kind, mode, owner, mtime, link, device, size, content, xattrs } = self;
        let (link, content) = (link.escape_ascii(), &content[..8]);
        write!(f, "{kind:?} {mode:o} {owner:?} {mtime} {link:?} {device:?} {size} {content} {xattrs:?}")
    }
}

/// Entries by path: without a slash at either end, so the root is empty.
pub type Entries = BTreeMap<Vec<u8>, Entry>;

/// The entries of an archive.
///
/// # Panics
/// Where a path is in it twice, as no image needs that.
pub fn entries(archive: impl Read) -> Entries {
    let (mut entries, mut extensions) = (Entries::new(), BTreeMap::new());
    for entry in tar::Archive::new(archive).entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_pax_local_extensions() {
            let mut bytes = vec![];
            entry.read_to_end(&mut bytes).unwrap();
            extensions = records(&bytes);
            continue;
        }
        let mut extensions = std::mem::take(&mut extensions);
        let xattrs = extensions
            .clone()
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("SCHILY.xattr.")?.to_owned(), value)));
        let xattrs = xattrs.collect();
        let path = extensions.remove("path").unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = path.strip_prefix(b"./").unwrap_or(&path);
        let path = path.strip_suffix(b"/").unwrap_or(path).to_vec();
        let link = extensions.remove("linkpath").or_else(|| Some(entry.link_name_bytes()?.into_owned()));
        let text = |name: &str| extensions.get(name).map(|value| String::from_utf8(value.clone()).unwrap());
        let number = |name: &str, header: u64| text(name).map_or(header, |value| value.parse().unwrap());
        let header = entry.header().clone();
        let mut content = Sha256::new();
        let size = std::io::copy(&mut entry, &mut Hashing(&mut content)).unwrap();
        let found = Entry {
            kind: header.entry_type(),
            mode: header.mode().unwrap() & 0o7777,
            owner: (number("uid", header.uid().unwrap()), number("gid", header.gid().unwrap())),
            mtime: text("mtime").unwrap_or_else(|| header.mtime().unwrap().to_string()),
            link: link.unwrap_or_default(),
            device: (header.device_major().unwrap().unwrap_or(0), header.device_minor().unwrap().unwrap_or(0)),
            size,
            content: hexadecimal(&content.finalize()),
            xattrs,
        };
        let before = entries.insert(path.clone(), found);
        assert!(before.is_none(), "{} is there twice", path.escape_ascii());
    }
    entries
}

/// The records of a PAX header, `LENGTH NAME=VALUE\n` each; values can hold line ends.
fn records(mut bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut records = BTreeMap::new();
    while let Some(space) = bytes.iter().position(|&byte| byte == b' ') {
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        let record = &bytes[space + 1..length - 1];
        let equals = record.iter().position(|&byte| byte == b'=').unwrap();
        records.insert(String::from_utf8(record[..equals].to_vec()).unwrap(), record[equals + 1..].to_vec());
        bytes = &bytes[length..];
    }
    records
}

/// Digits of a digest.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digits of the digest of bytes.
pub fn digits(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

struct Hashing<'a>(&'a mut Sha256);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The entries that a container of the image has before it runs (`docker export`: whole seconds, and of the extended
/// attributes only capabilities). Directories that an engine stamps have their time in there, too.
pub fn exported(image: &str) -> Entries {
    let id = docker(&["create", image, "/none"]);
    let archive = output(&["export", &id]);
    docker(&["rm", "-v", &id]);
    entries(&archive[..])
}

/// The one layer of an image as an archive, exactly as it was loaded.
pub fn layer(image: &str) -> Vec<u8> {
    only_layer(&output(&["save", image]))
}

/// The one layer of an image as `docker save` writes it, unpacked.
#[track_caller]
pub fn only_layer(archive: &[u8]) -> Vec<u8> {
    let (mut files, manifest) = saved(archive);
    let layers = manifest["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{layers:?}");
    uncompressed(files.remove(layers[0].as_str().unwrap()).unwrap())
}

/// A layer as Docker saves it, which is compressed where it is stored so.
pub fn uncompressed(layer: Vec<u8>) -> Vec<u8> {
    if !layer.starts_with(&[0x1f, 0x8b]) {
        return layer;
    }
    let mut unpacked = vec![];
    flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut unpacked).unwrap();
    unpacked
}

/// The configuration of an image as `docker save` writes it.
pub fn saved_config(archive: &[u8]) -> Vec<u8> {
    let (mut files, manifest) = saved(archive);
    files.remove(manifest["Config"].as_str().unwrap()).unwrap()
}

/// The digest of the configuration of an image in the machine's daemon. Where its images are in containerd, their ids are other
/// digests.
pub fn config_id(image: &str) -> String {
    format!("sha256:{}", digits(&saved_config(&output(&["save", image]))))
}

/// The files of such an archive, and what it says of its first image.
fn saved(archive: &[u8]) -> (BTreeMap<String, Vec<u8>>, serde_json::Value) {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = vec![];
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(String::from_utf8(entry.path_bytes().into_owned()).unwrap(), bytes);
    }
    let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    (files, manifest[0].clone())
}

/// What the docker client writes.
fn output(arguments: &[&str]) -> Vec<u8> {
    let output = docker_output(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
