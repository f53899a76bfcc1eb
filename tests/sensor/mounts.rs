//! Programs with the right to mount, to change their root and to open by handle reach files by other names: what is
//! opened is still found in the image.

use super::ways::assert_rows;
use crate::support::{Image, NO_HTTP, Run, Slim, compile, docker_output};

const CAPABILITIES: [&str; 4] = ["--cap-add", "SYS_ADMIN", "--cap-add", "DAC_READ_SEARCH"];

fn image() -> Image {
    let program = compile(include_str!("../programs/mounts.c"));
    let mut image = Image::scratch().file("/mounts", &program, 0o755).change(r#"CMD ["/mounts"]"#).change("VOLUME /data");
    for name in [
        "w/source/by-bind",
        "w/source/stat-by-bind",
        "w/source/relative-by-bind",
        "w/source/by-unshared-bind",
        "w/source/by-chroot-and-bind",
        "w/by-unshare",
        "w/by-handle",
        "w/by-the-old-root",
        "w/new-root/by-pivot",
        "w/new-root/later-by-pivot",
        "data/by-handle",
        "data/directory/by-volume",
        // By the names that they are opened by, other files of the image.
        "w/bound/by-bind",
        "by-pivot",
    ] {
        image = image.file(&format!("/{name}"), b"x", 0o644);
    }
    ["/w/bound", "/w/of-volume", "/w/new-root/old"].iter().fold(image, |image, path| image.directory(path, 0o755)).load()
}

/// Runs it plainly and observed: but for the ring, which is refused, the kernel's answers are the same.
fn observed(image: &Image, options: &[&str], pivoted: &str) -> Run {
    let plain = docker_output(&[&["run", "--rm"], &CAPABILITIES[..], options, &[&image.name]].concat());
    let words = [&CAPABILITIES[..], options, &[NO_HTTP, "--show-clogs", "--observation-out", "seen.jsonl"]].concat();
    let run = Slim::observe(image, &words).run().ok();
    let mut observed: Vec<String> = run.stderr().lines().filter_map(|line| line.strip_prefix("| ")).map(str::to_owned).collect();
    assert_eq!(observed.pop().as_deref(), Some("ring: 1"));
    let plain = String::from_utf8(plain.stdout).unwrap();
    assert_eq!(observed, plain.lines().filter(|line| !line.starts_with("ring")).collect::<Vec<_>>());
    assert!(observed.iter().any(|line| line == pivoted), "{observed:?}");
    assert!(observed.iter().any(|line| line == "open by handle: 0"), "{observed:?}");
    run
}

/// Volumes of an image are mounts in a daemon's containers only. What the program has mounted itself is told by notify by the name that was used, by fanotify as the file that it is.
#[test]
fn by_mounts_and_handles() {
    let run = observed(&image(), &[], "pivot: 1");
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.end.complete, seen.end.counters.lost), (true, 0));
    assert_rows(
        &seen,
        "/",
        "
        w/source                         lookup       -
        w/bound                          lookup,enter -
        w/bound/by-bind                  open         -
        w/source/by-bind                 -            open
        w/bound/stat-by-bind             lookup       -
        w/source/stat-by-bind            -            -
        w/bound/relative-by-bind         open         -
        w/source/relative-by-bind        -            open
        data/directory                   lookup       -
        w/of-volume                      lookup       -
        w/of-volume/by-volume            open         -
        data/directory/by-volume         -            -
        w/by-unshare                     open         open
        w/bound/by-unshared-bind         open         -
        w/source/by-unshared-bind        -            open
        w/bound/by-chroot-and-bind       open         -
        w/source/by-chroot-and-bind      -            open
        data/by-handle                   lookup       open
        data                             list         list
        w/by-handle                      lookup       -
        w                                enter        -
        ",
    );
}

/// Docker's own profile refuses pivot_root to everybody.
#[test]
fn by_another_root() {
    let run = observed(&image(), &["--security-opt", "seccomp=unconfined"], "pivot: 0");
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.end.complete, seen.end.counters.lost), (true, 0));
    assert_rows(
        &seen,
        "/",
        "
        w/new-root                       lookup,enter -
        w/new-root/old                   enter        -
        by-pivot                         open         -
        w/new-root/by-pivot              -            open
        old/w/by-the-old-root            open         -
        w/by-the-old-root                -            open
        later-by-pivot                   open         -
        w/new-root/later-by-pivot        -            open
        ",
    );
}
