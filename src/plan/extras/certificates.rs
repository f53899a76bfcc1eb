//! Certificates of authorities (`--include-cert-all`, on by default): bundles and folders, never private keys.
//!
//! A program that was observed without a TLS connection would fail at its first one, with an error that nobody connects
//! with a slim image; so they are kept by default, where the image has any. The places are those of the distributions,
//! what the image's environment names, and bundles that come with a runtime (`certifi`, Java's `cacerts`), the latter
//! only where something beside them is used.

use std::collections::BTreeSet;

use crate::escape::escape;
use crate::image::read_files::Contents;
use crate::image::tree::{EntryId, Kind};
use crate::observe::observation::Spelling;
use crate::plan::Reason;
use crate::plan::config::ConfigView;
use crate::plan::draft::Draft;
use crate::plan::resolve::{Resolution, View};

/// Folders and bundles, by distribution: Debian and Alpine, Red Hat, SUSE, Arch; and where OpenSSL was told to look.
const PLACES: [&str; 13] = [
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/usr/local/share/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/var/lib/ca-certificates",
    "/etc/ca-certificates/extracted",
    "/usr/lib/ssl/certs",
    "/usr/lib/ssl/cert.pem",
    "/usr/local/ssl/certs",
    "/usr/local/ssl/cert.pem",
];
/// Environment variables that name a bundle or folders.
const VARIABLES: [&str; 6] =
    ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE"];
/// Names of bundles that come with a runtime or a library.
const BUNDLES: [&str; 6] = ["cacert.pem", "cacerts", "cacerts.pem", "ca-bundle.crt", "ca-bundle.pem", "roots.pem"];
/// Files are searched for a private key as far as this; a bundle of all public authorities has 250 KiB.
const SEARCHED: u64 = 1 << 20;
/// So many files are asked for at once.
const BATCH: usize = 64;

/// Keeps them.
pub(super) fn keep(draft: &mut Draft, config: &ConfigView, contents: &dyn Contents) {
    let tree = draft.tree;
    let view = View::of(tree);
    let mut found: Vec<(Vec<u8>, Resolution)> = vec![];
    let named = VARIABLES.iter().filter_map(|name| config.variable(name.as_bytes()));
    let named = named.flat_map(|value| value.split(|&byte| byte == b':')).filter(|path| path.starts_with(b"/"));
    for place in PLACES.iter().map(|place| place.as_bytes()).chain(named) {
        let resolution = view.resolve(Spelling::absolute(place), true);
        let Some(place_id) = resolution.found().filter(|&id| id != EntryId::ROOT) else { continue };
        found.push((place.to_vec(), resolution));
        for id in tree.walk(place_id).filter(|&id| tree.kind(id) != Kind::Directory) {
            let path = tree.path(id);
            let resolution = view.resolve(Spelling::absolute(&path), true);
            found.push((path, resolution));
        }
    }
    for id in tree.ids().filter(|&id| BUNDLES.iter().any(|name| name.as_bytes() == tree.name(id))) {
        if tree.children(tree.parent(id)).iter().any(|&beside| draft.is_kept(beside)) {
            let path = tree.path(id);
            let resolution = view.resolve(Spelling::absolute(&path), true);
            found.push((path, resolution));
        }
    }
    let files: BTreeSet<EntryId> =
        found.iter().filter_map(|(_, resolution)| resolution.found()).filter(|&id| tree.kind(id) == Kind::File).collect();
    let public = without_private_keys(draft, contents, files);
    for (path, resolution) in found {
        match resolution.found() {
            // a folder comes by what is in it, but the way to it may be the one that programs take
            Some(id) if tree.kind(id) == Kind::Directory => draft.keep_passed(&resolution, Spelling::absolute(&path)),
            Some(id) if public.contains(&id) => {
                draft.keep_passed(&resolution, Spelling::absolute(&path));
                draft.keep(id, Reason::Rule { rule: "certificates of authorities".into() });
            }
            _ => {}
        }
    }
}

/// The files in which no private key is, neither by name nor by content.
fn without_private_keys(draft: &mut Draft, contents: &dyn Contents, files: BTreeSet<EntryId>) -> BTreeSet<EntryId> {
    let tree = draft.tree;
    let is_secret_by_name = |id| {
        let path = tree.path(id);
        path.ends_with(b".key") || path.split(|&byte| byte == b'/').any(|name| name == b"private")
    };
    let files: Vec<EntryId> = files.into_iter().filter(|&id| !is_secret_by_name(id)).collect();
    let mut public = BTreeSet::new();
    for batch in files.chunks(BATCH) {
        for (&id, bytes) in batch.iter().zip(contents.read_each(batch, SEARCHED)) {
            match bytes {
                Ok(bytes) if contains(&bytes, b"PRIVATE KEY") => {}
                Ok(_) => drop(public.insert(id)),
                Err(error) => {
                    let path = escape(&tree.path(id));
                    draft.notes.push(format!("`{path}` may be a certificate, but is not kept, as it cannot be read: {error}"));
                }
            }
        }
    }
    public
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use crate::image::tree::fixture;
    use crate::observe::observation::Access;
    use crate::plan::testing::{Case, observation};

    #[test]
    fn bundles_and_folders_are_kept_without_private_keys() {
        let tree = fixture::tree(&[
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/ssl/certs/0123.0 -> Authority.pem",
            "/etc/ssl/certs/Authority.pem -> /usr/share/ca-certificates/mozilla/Authority.crt",
            "/etc/ssl/certs/dangling.pem -> /nowhere",
            "/etc/ssl/certs/server.key",
            "/etc/ssl/certs/server.pem",
            "/etc/ssl/certs/link.pem -> server.pem",
            "/etc/ssl/private/snakeoil.pem",
            "/etc/ssl/certs/private.pem -> ../private/snakeoil.pem",
            "/usr/share/ca-certificates/mozilla/Authority.crt",
            "/usr/share/ca-certificates/mozilla/Unused.crt",
            "/usr/lib/ssl/certs -> /etc/ssl/certs",
            "/opt/ca.pem",
            "/usr/lib/python/certifi/core.py",
            "/usr/lib/python/certifi/cacert.pem",
            "/usr/lib/ruby/unused/cacert.pem",
            "/usr/lib/ruby/unused/code.rb",
        ]);
        let mut case = Case::new(&tree);
        case.contents = vec![("/etc/ssl/certs/server.pem", b"-----BEGIN EC PRIVATE KEY-----".to_vec())];
        case.config.env = vec![(b"SSL_CERT_FILE".to_vec(), b"/opt/ca.pem".to_vec())];
        case.observations = vec![observation(&[(Access::Open, "/usr/lib/python/certifi/core.py")])];
        case.extras.include_certificates = true;
        let is_file = |path: &String| tree.get(path.as_bytes()).is_some_and(|id| tree.children(id).is_empty());
        let files: Vec<String> = case.kept().into_iter().filter(is_file).collect();
        let expected = [
            "/etc/ssl/certs/0123.0",
            "/etc/ssl/certs/Authority.pem",
            "/etc/ssl/certs/ca-certificates.crt",
            "/opt/ca.pem",
            "/usr/lib/python/certifi/cacert.pem",
            "/usr/lib/python/certifi/core.py",
            "/usr/lib/ssl/certs",
            "/usr/share/ca-certificates/mozilla/Authority.crt",
        ];
        assert_eq!(files, expected);
        case.extras.include_certificates = false;
        assert_eq!(case.kept().into_iter().filter(is_file).collect::<Vec<_>>(), ["/usr/lib/python/certifi/core.py"]);
    }

    #[test]
    fn an_image_without_certificates_is_fine() {
        let tree = fixture::tree(&["/app"]);
        let mut case = Case::new(&tree);
        case.extras.include_certificates = true;
        assert!(case.kept().is_empty());
    }
}
