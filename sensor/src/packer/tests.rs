//! The packer on real directories: what is sent is what is there.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkfifo;

use super::*;
use crate::wire::{Entry, Frame, Kind};

fn options(root: &Path) -> Options {
    Options {
        root: root.into(),
        own: vec![],
        container_created: (i64::MAX, 0),
        image_created: 0,
        volumes: vec![],
        unmount: false,
    }
}

/// A reply with the data that came before it.
type Answer = (Vec<u8>, PackerReply);

/// Runs the packer over requests, in a thread with a working directory (and, where asked for and allowed, mounts) of
/// its own.
fn try_answers(options: Options, requests: &[PackerRequest]) -> Result<Vec<Answer>, PackerError> {
    let mut input = vec![];
    requests.iter().for_each(|request| put_message(&mut input, request));
    let mut output = vec![];
    std::thread::scope(|scope| {
        let packer = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS).expect("a working directory of its own");
            run(options, &input[..], &mut output)
        });
        packer.join().expect("the packer does not panic")
    })?;
    let mut reader = FrameReader::default();
    reader.feed(&output);
    let (mut answers, mut data) = (vec![], vec![]);
    while let Some(frame) = reader.next_frame().expect("frame") {
        match frame {
            Frame::Data(bytes) => data.extend_from_slice(bytes),
            Frame::Message(_) => answers.push((std::mem::take(&mut data), frame.message().expect("reply"))),
        }
    }
    assert!(!reader.is_cut());
    Ok(answers)
}

fn answers(options: Options, requests: &[PackerRequest]) -> Vec<Answer> {
    try_answers(options, requests).expect("the packer succeeds")
}

#[derive(Default)]
struct Listing {
    entries: Vec<(Vec<u8>, Entry)>,
    skipped: Vec<(Vec<u8>, String)>,
}

impl Listing {
    fn paths(&self) -> Vec<String> {
        self.entries.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect()
    }

    fn get(&self, path: &[u8]) -> &Entry {
        &self.entries.iter().find(|(known, _)| known == path).unwrap_or_else(|| panic!("{path:?} is not listed")).1
    }
}

/// Lists, and puts the paths together as a controller does.
fn list(options: Options) -> Listing {
    let mut listing = Listing::default();
    let mut replies = answers(options, &[PackerRequest::List]).into_iter().map(|(_, reply)| reply);
    assert_eq!(replies.next(), Some(PackerReply::Hello { version: VERSION }));
    let mut end = None;
    for reply in replies {
        match reply {
            PackerReply::Entry(entry) => {
                let path = match listing.entries.get(entry.parent as usize) {
                    None => b"/".to_vec(),
                    Some((parent, _)) => [parent.strip_suffix(b"/").unwrap_or(parent), b"/", &entry.name[..]].concat(),
                };
                listing.entries.push((path, entry));
            }
            PackerReply::Skipped { path, reason } => listing.skipped.push((path, reason)),
            PackerReply::Listed { entries } => end = Some(entries as usize),
            other => panic!("{other:?} in a listing"),
        }
    }
    assert_eq!(end, Some(listing.entries.len()));
    listing
}

fn read(root: &Path, path: &[u8], limit: u64) -> Vec<Answer> {
    let request = PackerRequest::Read { paths: vec![path.to_vec()], limit };
    answers(options(root), &[request]).split_off(1)
}

/// The content that a controller puts together, and how many bytes of it came as data.
fn content(root: &Path, path: &[u8], limit: u64) -> (Vec<u8>, usize) {
    let (mut content, mut sent) = (vec![], 0);
    for (data, reply) in read(root, path, limit) {
        content.extend_from_slice(&data);
        sent += data.len();
        match reply {
            PackerReply::Hole { length } => content.resize(content.len() + length as usize, 0),
            end => assert_eq!(end, PackerReply::FileEnd { error: None }),
        }
    }
    (content, sent)
}

fn error(root: &Path, path: &[u8]) -> String {
    match &read(root, path, 10)[..] {
        [(data, PackerReply::FileEnd { error: Some(error) })] if data.is_empty() => error.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_with_its_metadata_in_order() {
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &[u8]| directory.path().join(std::ffi::OsStr::from_bytes(name));
    let long = [b'n'; 255];
    fs::write(at(b"z"), "12345").expect("file");
    fs::hard_link(at(b"z"), at(b"a\nb")).expect("link");
    fs::create_dir(at(b"dir")).expect("directory");
    fs::write(at(b"dir/x"), "").expect("file");
    fs::write(at(b"dir-"), "").expect("file");
    fs::write(at(b"\xff\xfe"), "").expect("file");
    fs::write(at(&long), "").expect("file");
    symlink("no/where", at(b"link")).expect("symlink");
    mkfifo(&at(b"pipe"), Mode::S_IRUSR).expect("pipe");
    let _socket = std::os::unix::net::UnixListener::bind(at(b"socket")).expect("socket");
    fs::set_permissions(at(b"dir"), fs::Permissions::from_mode(0o1777)).expect("mode");
    fs::set_permissions(at(b"z"), fs::Permissions::from_mode(0o4751)).expect("mode");
    let time = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    File::open(at(b"z")).expect("z").set_modified(time).expect("time");

    let listing = list(options(directory.path()));
    let long_path = format!("/{}", "n".repeat(255));
    assert_eq!(
        listing.paths(),
        ["/", "/a\nb", "/dir", "/dir/x", "/dir-", "/link", &long_path, "/pipe", "/z", "/\u{fffd}\u{fffd}"],
        "names sorted in each directory, a directory before what it holds"
    );
    let z = listing.get(b"/z");
    let meta = fs::metadata(at(b"z")).expect("z");
    assert_eq!((z.kind, z.mode, z.size, z.uid, z.gid), (Kind::File, 0o4751, 5, meta.uid(), meta.gid()));
    assert_eq!((z.mtime, z.mtime_nanoseconds), (-2, 500_000_000));
    assert!(z.link_group.is_some());
    assert_eq!(listing.get(b"/a\nb").link_group, z.link_group);
    assert_eq!(listing.get(b"/dir/x").link_group, None);
    assert_eq!((listing.get(b"/dir").kind, listing.get(b"/dir").mode, listing.get(b"/dir").size), (Kind::Directory, 0o1777, 0));
    assert_eq!((listing.get(b"/link").kind, &listing.get(b"/link").target[..]), (Kind::Symlink, &b"no/where"[..]));
    assert_eq!(listing.get(b"/pipe").kind, Kind::Fifo);
    assert_eq!(listing.get(b"/\xff\xfe").name, b"\xff\xfe");
    assert_eq!(listing.skipped, [(b"/socket".to_vec(), "a socket cannot be in an image".into())]);
}

#[test]
fn extended_attributes_also_of_a_directory() {
    // /tmp can be a tmpfs, which has none on older kernels
    let directory = tempfile::tempdir_in("/var/tmp").expect("directory");
    fs::create_dir(directory.path().join("d")).expect("directory");
    fs::write(directory.path().join("d/f"), "").expect("file");
    for (path, name, value) in [("d", c"user.z", "1"), ("d", c"user.a", "\0\n"), ("d/f", c"user.f", "")] {
        let path = std::ffi::CString::new(directory.path().join(path).into_os_string().into_encoded_bytes()).expect("path");
        #[allow(unsafe_code, reason = "neither std nor nix has extended attributes")]
        // SAFETY: the strings end in NUL, and the value has the length that is given.
        let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        assert_eq!(result, 0, "/var/tmp has extended attributes");
    }
    let listing = list(options(directory.path()));
    let pairs = |path: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        listing.get(path).xattrs.iter().map(|xattr| (xattr.name.clone(), xattr.value.clone())).collect()
    };
    assert_eq!(pairs(b"/d"), [(b"user.a".to_vec(), b"\0\n".to_vec()), (b"user.z".to_vec(), b"1".to_vec())]);
    assert_eq!(pairs(b"/d/f"), [(b"user.f".to_vec(), vec![])]);
}

#[test]
fn deep_trees_with_few_descriptors_and_paths_over_the_limit() {
    let directory = tempfile::tempdir().expect("directory");
    let mut path = vec![];
    let mut at = openat(nix::fcntl::AT_FDCWD, directory.path(), OFlag::O_RDONLY, Mode::empty()).expect("open");
    for depth in 0..400 {
        let name = format!("{depth:040}");
        for name in [&name[..], "zz"] {
            mkdirat(&at, name, Mode::S_IRWXU).expect("mkdir");
        }
        at = openat(&at, &name[..], OFlag::O_RDONLY, Mode::empty()).expect("open");
        path.extend_from_slice(format!("/{name}").as_bytes());
    }
    let file = openat(&at, "file", OFlag::O_CREAT | OFlag::O_RDWR, Mode::S_IRUSR).expect("file");
    File::from(file).write_all(b"deep").expect("write");
    path.extend_from_slice(b"/file");
    assert!(path.len() > 4 * 4096);
    let listing = list(options(directory.path()));
    assert_eq!((listing.entries.len(), listing.skipped.len()), (1 + 2 * 400 + 1, 0));
    assert_eq!(listing.get(&path).size, 4);
    assert_eq!(listing.entries.iter().filter(|(_, entry)| entry.name == b"zz").count(), 400);
    assert_eq!(content(directory.path(), &path, 3), (b"dee".to_vec(), 3));
}

#[test]
fn the_engine_and_slim_are_taken_off() {
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &str| directory.path().join(name);
    for path in ["etc", "data", "kept", "sys", ".slim-1", "dev/pts"] {
        fs::create_dir_all(at(path)).expect("directory");
    }
    for path in ["etc/passwd", "etc/hosts", ".slim-1/slim"] {
        fs::write(at(path), "").expect("file");
    }
    let before = std::time::SystemTime::UNIX_EPOCH;
    File::open(at("kept")).expect("kept").set_modified(before).expect("time");
    let mut options = options(directory.path());
    options.own = vec![b"/.slim-1".to_vec()];
    options.volumes = vec![b"/data".to_vec(), b"/kept/".to_vec()];
    options.container_created = (1, 0);
    options.image_created = 77;
    let listing = list(options);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(listing.paths(), ["/", "/etc", "/etc/passwd", "/kept"]);
    }
    assert_eq!((listing.get(b"/").mtime, listing.get(b"/").mtime_nanoseconds), (77, 0));
    assert_eq!((listing.get(b"/etc").mtime, listing.get(b"/etc").mtime_nanoseconds), (77, 0));
    assert_eq!(listing.get(b"/kept").mtime, 0);
}

#[test]
fn holes_are_told_not_sent() {
    const MIB: u64 = 1 << 20;
    let directory = tempfile::tempdir().expect("directory");
    let file = File::create(directory.path().join("sparse")).expect("file");
    file.set_len(64 * MIB).expect("length");
    file.write_all_at(b"first", 0).expect("write");
    file.write_all_at(&[7; 600_000], 32 * MIB + 5).expect("write");
    let mut expected = vec![0; 64 << 20];
    expected[..5].copy_from_slice(b"first");
    expected[(32 << 20) + 5..][..600_000].fill(7);
    let (whole, sent) = content(directory.path(), b"/sparse", u64::MAX);
    assert!(whole == expected);
    assert!((600_005..2_000_000).contains(&sent), "{sent} bytes were sent");
    for limit in [0, 1, 5000, 10 * MIB, 32 * MIB + 7] {
        let (part, _) = content(directory.path(), b"/sparse", limit);
        assert!(part == expected[..limit as usize], "limit {limit}");
    }
    file.set_len(0).expect("length");
    file.set_len(MIB).expect("length");
    assert_eq!(content(directory.path(), b"/sparse", u64::MAX), (vec![0; 1 << 20], 0));
}

#[test]
fn several_files_in_one_request() {
    let directory = tempfile::tempdir().expect("directory");
    fs::create_dir_all(directory.path().join("a/b")).expect("directory");
    fs::write(directory.path().join("a/b/1"), "one").expect("file");
    fs::write(directory.path().join("a/b/2"), "").expect("file");
    fs::write(directory.path().join("a/3"), vec![3; 700_000]).expect("file");
    let paths = [&b"/a/3"[..], b"/a/b/1", b"/a/b/2", b"/a/nothing"].map(<[u8]>::to_vec).to_vec();
    let answers = answers(options(directory.path()), &[PackerRequest::Read { paths, limit: u64::MAX }]);
    let end = |error: Option<&str>| PackerReply::FileEnd { error: error.map(Into::into) };
    assert_eq!(
        answers[1..],
        [
            (vec![3; 700_000], end(None)),
            (b"one".to_vec(), end(None)),
            (vec![], end(None)),
            (vec![], end(Some("No such file or directory"))),
        ]
    );
}

#[test]
fn nothing_but_a_regular_file_by_its_own_path_is_read() {
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("d")).expect("directory");
    fs::write(at("d/f"), "secret").expect("file");
    symlink("d", at("through")).expect("symlink");
    symlink("d/f", at("link")).expect("symlink");
    mkfifo(&at("pipe"), Mode::S_IRUSR).expect("pipe");
    for path in [
        &b"/link"[..],
        b"/through/f",
        b"/pipe",
        b"/d",
        b"/d/../d/f",
        b"/d/.",
        b"/d/f/",
        b"/",
        b"",
        b"relative",
        b"/d/f\0",
        b"/d/f/f",
    ] {
        assert!(!error(directory.path(), path).is_empty(), "{path:?}");
    }
    assert_eq!(error(directory.path(), b"/pipe"), "it is not a regular file");
    assert_eq!(content(directory.path(), b"/d/f", 100).0, b"secret");
}

#[test]
fn damaged_requests_are_errors() {
    let directory = tempfile::tempdir().expect("directory");
    let run = |input: &[u8]| run(options(directory.path()), input, io::sink());
    assert!(matches!(run(b""), Ok(())));
    assert!(matches!(run(&[9, 0, 0, 0, 0]), Err(PackerError::Cut)));
    assert!(matches!(run(&[2, 0, 0, 0, 0, 99]), Err(PackerError::Request(_))));
    assert!(matches!(run(&[2, 0, 0, 0, 1, 0]), Err(PackerError::Request(WireError::Kind(_)))));
    assert!(matches!(run(&[255, 255, 255, 255, 0]), Err(PackerError::Request(WireError::Length(_)))));
    let absent = try_answers(options(&directory.path().join("absent")), &[]);
    assert!(absent.is_err_and(|error| error.to_string().contains("absent")));
}

/// Every machine and every container has a file system at `/dev/pts`.
#[test]
fn of_what_is_mounted_below_only_the_place_is_listed() {
    let listing = list(options(Path::new("/dev")));
    assert_eq!(listing.get(b"/pts").kind, Kind::Directory);
    assert!(!listing.paths().iter().any(|path| path.starts_with("/pts/")));
    let reason = "listed without what is in it: another file system is mounted here";
    assert!(listing.skipped.contains(&(b"/pts".to_vec(), reason.to_owned())), "{:?}", listing.skipped);
}

/// Needs the right to mount; where that is missing the tests with real containers still cover it.
#[test]
fn what_mounts_hide_is_seen() {
    use nix::mount::{MsFlags, mount};
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("v/w")).expect("directory");
    fs::create_dir(at("point")).expect("directory");
    fs::write(at("v/w/hidden"), "hidden").expect("file");
    fs::write(at("hosts"), "image").expect("file");
    fs::write(at("other"), "engine").expect("file");
    let mut with_unmount = options(directory.path());
    with_unmount.unmount = true;
    with_unmount.container_created = (0, 0);
    let mut input = vec![];
    put_message(&mut input, &PackerRequest::List);
    put_message(&mut input, &PackerRequest::Read { paths: vec![b"/v/w/hidden".to_vec(), b"/hosts".to_vec()], limit: 99 });
    let output = std::thread::scope(|scope| {
        let packer = scope.spawn(|| {
            let none = None::<&Path>;
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).ok()?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).ok()?;
            for point in ["v", "v", "point"] {
                mount(Some("none"), &at(point), Some("tmpfs"), MsFlags::empty(), none).ok()?;
            }
            fs::create_dir(at("v/w")).expect("directory");
            mount(Some("none"), &at("v/w"), Some("tmpfs"), MsFlags::empty(), none).ok()?;
            mount(Some(&at("other")), &at("hosts"), none, MsFlags::MS_BIND, none).ok()?;
            let mut output = vec![];
            run(with_unmount, &input[..], &mut output).expect("the packer succeeds");
            Some(output)
        });
        packer.join().expect("the packer does not panic")
    });
    let Some(output) = output else { return };
    let mut reader = FrameReader::default();
    reader.feed(&output);
    let (mut names, mut data) = (vec![], vec![]);
    while let Some(frame) = reader.next_frame().expect("frame") {
        match frame {
            Frame::Data(bytes) => data.push(bytes.to_vec()),
            Frame::Message(_) => match frame.message().expect("reply") {
                PackerReply::Entry(entry) => names.push(String::from_utf8(entry.name).expect("name")),
                PackerReply::FileEnd { error } => assert_eq!(error, None),
                PackerReply::Skipped { path, reason } => panic!("{path:?}: {reason}"),
                _ => {}
            },
        }
    }
    assert_eq!(names, ["", "hosts", "other", "v", "w", "hidden"], "`point` is empty and new: the engine's");
    assert_eq!(data, [b"hidden".to_vec(), b"image".to_vec()]);
}
