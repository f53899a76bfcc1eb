//! Every way to touch a file is seen, as what it is; and every system call that a program makes is in the report.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use slim::observe::observation::{Access, Observation, PathUse, Sense};

use crate::support::{Builder, Image, NO_HTTP, Slim, compile, compile_with};

/// Where a use leads in the image, as far as its text says.
fn joined(used: &PathUse) -> Vec<u8> {
    let from_root = |part: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(part.strip_prefix(b"/").unwrap_or(part)));
    let mut path = PathBuf::from("/").join(from_root(&used.root));
    if !used.path.starts_with(b"/") {
        path = path.join(from_root(&used.base));
    }
    path.join(from_root(&used.path)).into_os_string().as_encoded_bytes().to_vec()
}

fn used(seen: &Observation, path: &[u8], access: Access, sense: Sense) -> bool {
    seen.uses.iter().any(|used| joined(used) == path && (used.access, used.sense) == (access, sense))
}

pub fn image() -> Image {
    let program = compile(include_str!("../programs/ways.c"));
    let mut image = Image::scratch().file("/ways", &program, 0o755).change(r#"CMD ["/ways"]"#);
    for name in [
        "open",
        "openat",
        "openat2",
        "o-path",
        "creat",
        "write",
        "stat",
        "lstat",
        "newfstatat",
        "statx",
        "access",
        "faccessat",
        "faccessat2",
        "getxattr",
        "lgetxattr",
        "listxattr",
        "statfs",
        "inotify",
        "truncate",
        "chmod",
        "chown",
        "utimensat",
        "link",
        "rename",
        "unlink",
        "mmap",
        "sendfile",
        "copy-file-range",
        "splice",
        "from-nowhere",
        "upwards",
        "int-80",
        "opened-by-32",
        "openat-by-32",
        "stat64-by-32",
        "lstat64-by-32",
        "fstatat64-by-32",
        "access-by-32",
        "statfs64-by-32",
        "truncate64-by-32",
        "chown32-by-32",
        "utimensat-time64-by-32",
        "directory/relative-by-32",
        "longest",
        "unused",
        "newfstatat-empty",
        "directory/openat2-in-root",
        "directory/by-descriptor",
        "directory/by-directory",
        "directory/by-dots",
        "other/by-fchdir",
        "listed/entry",
        "chroot/in-chroot",
        "chroot/relative-in-chroot",
        "new\nline \\ \"quoted\"",
    ] {
        image = image.file(&format!("/w/{name}"), b"x", 0o644);
    }
    image = (0..64).fold(image, |image, number| image.file(&format!("/w/thread-{number}"), b"x", 0o644));
    for name in ["execve", "execveat", "fexecve", "posix-spawn", "vfork", "in-memory", "interpreter"] {
        image = image.file(&format!("/w/{name}"), &program, 0o755);
    }
    let mut odd = Builder::header(tar::EntryType::Regular, 0o644);
    odd.set_size(0);
    let name = std::ffi::OsStr::from_bytes(b"w/not-utf-8-\xff\xfe");
    image.archive().append_data(&mut odd, PathBuf::from(name), std::io::empty()).unwrap();
    if cfg!(target_arch = "x86_64") {
        let options = ["-m32", "-nostdlib", "-static", "-fno-pie", "-no-pie"];
        image = image.file("/w/program-32", &compile_with(include_str!("../programs/program32.c"), &options), 0o755);
    }
    image
        .file("/w/script", b"#!/w/interpreter child\n", 0o755)
        .file("/w/nested", b"#!/w/script\n", 0o755)
        .file(&format!("/w/{}", "n".repeat(255)), b"x", 0o644)
        .directory("/w/sockets", 0o755)
        .directory("/w/directory/nested", 0o755)
        .link("/w/readlink", "nowhere")
        .link("/w/readlinkat", "nowhere")
        .link("/w/readlink-by-32", "nowhere")
        .build()
}

#[test]
#[rustfmt::skip]
fn every_way_is_seen() {
    use Access::{Change, Enter, Exec, List, Lookup, Open, ReadLink, Write};
    let image = image();
    let run = Slim::build(&image, &[NO_HTTP, "--observation-out", "seen.jsonl"]).run().ok();
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.end.complete, seen.end.counters.lost), (true, 0));
    let longest = [b"/w".as_slice(), &b"/".repeat(4095 - 2 - "longest".len()), b"longest"].concat();
    let named = |name: &str| format!("/w/{name}").into_bytes();
    for (name, access) in [
        ("open", Open), ("openat", Open), ("openat2", Open), ("directory", List), ("o-path", Lookup), ("creat", Write),
        ("write", Write), ("stat", Lookup), ("lstat", Lookup), ("newfstatat", Lookup), ("statx", Lookup),
        ("access", Lookup), ("faccessat", Lookup), ("faccessat2", Lookup), ("readlink", ReadLink),
        ("readlinkat", ReadLink), ("getxattr", Lookup), ("lgetxattr", Lookup), ("listxattr", Lookup), ("statfs", Lookup),
        ("inotify", Lookup), ("truncate", Write), ("chmod", Change), ("chown", Change), ("utimensat", Change),
        ("link", Change), ("link-made", Change), ("symlink-made", Change), ("rename", Change), ("rename-made", Change),
        ("mkdir-made", Change), ("unlink", Change), ("directory/../openat2-in-root", Open),
        ("directory/by-descriptor", Open), ("directory", Enter), ("directory/by-directory", Open),
        ("directory/./nested/../by-dots", Open), ("directory/../upwards", Open), ("other", List),
        ("other/by-fchdir", Open), ("listed", List), ("mmap", Open), ("sendfile", Open),
        ("copy-file-range", Open), ("splice", Open), ("nested", Exec), ("in-memory", Open), ("short-lived", Enter),
        ("from-nowhere", Open), ("sockets/made", Change),
        ("sockets/relative", Change), ("execve", Exec), ("execveat", Exec), ("fexecve", Lookup), ("script", Exec),
        ("posix-spawn", Exec), ("vfork", Exec), ("chroot", Enter), ("chroot/in-chroot", Open),
        ("chroot/../../relative-in-chroot", Open), ("thread-0", Open), ("thread-63", Open),
        ("new\nline \\ \"quoted\"", Open), (&"n".repeat(255), Open),
    ] {
        assert!(used(&seen, &named(name), access, Sense::Notify), "{name} {access:?}");
    }
    assert!(used(&seen, b"/w/not-utf-8-\xff\xfe", Open, Sense::Notify));
    assert!(used(&seen, &longest, Open, Sense::Notify));
    if cfg!(target_arch = "x86_64") {
        for (name, access) in [
            ("int-80", Open), ("program-32", Exec), ("opened-by-32", Open), ("openat-by-32", Open),
            ("stat64-by-32", Lookup), ("lstat64-by-32", Lookup), ("fstatat64-by-32", Lookup), ("access-by-32", Lookup),
            ("readlink-by-32", ReadLink), ("statfs64-by-32", Lookup), ("truncate64-by-32", Write),
            ("chown32-by-32", Change), ("utimensat-time64-by-32", Change), ("directory/relative-by-32", Open),
            ("sockets/by-32", Change),
        ] {
            assert!(used(&seen, &named(name), access, Sense::Notify), "{name} {access:?}");
        }
    }
    // What no argument names.
    for (name, access) in [("interpreter", Exec), ("fexecve", Exec), ("longest", Open), ("script", Exec)] {
        assert!(used(&seen, &named(name), access, Sense::Fanotify), "{name} {access:?}");
    }
    assert!((0..64).all(|number| used(&seen, &named(&format!("thread-{number}")), Open, Sense::Notify)));
    // A file that is only in memory has a name, but not in the image.
    assert!(!seen.uses.iter().any(|used| used.path.starts_with(b"/memfd:")));
    assert!(!seen.uses.iter().any(|used| used.path.ends_with(b"unused") || used.path.contains(&0)));

    for kept in ["openat2", "directory/openat2-in-root", "directory/by-dots", "upwards", "other/by-fchdir", "sockets",
        "interpreter", "script", "nested", "chroot/in-chroot", "chroot/relative-in-chroot", "longest", "stat", "readlink", "mmap"] {
        assert!(run.keeps(&format!("/w/{kept}")), "{kept}");
    }
    assert!(!run.keeps("/w/unused"));
}

#[test]
fn every_call_is_in_the_report() {
    let run = Slim::build(&image(), &[NO_HTTP]).run().ok();
    let report = run.report();
    let calls: Vec<&str> = report["syscalls"].as_array().unwrap().iter().map(|call| call.as_str().unwrap()).collect();
    for call in [
        // Trapped, with a path.
        "openat",
        "openat2",
        "statx",
        "faccessat2",
        "readlinkat",
        "truncate",
        "chdir",
        "chroot",
        "execve",
        "execveat",
        "bind",
        "getxattr",
        "statfs",
        "inotify_add_watch",
        // Trapped, without.
        "sysinfo",
        "mlock",
        "socketpair",
        "memfd_create",
        "getpriority",
        "membarrier",
        "inotify_init1",
        "fchdir",
        "exit_group",
        // Never trapped, always counted.
        "read",
        "write",
        "mmap",
        "futex",
        "clone",
        "getdents64",
    ] {
        assert!(calls.contains(&call), "{call} is not among {calls:?}");
    }
    if cfg!(target_arch = "x86_64") {
        // By their 32-bit names: trapped, hot, and the one that stands for others.
        for call in ["stat64", "fstatat64", "chown32", "_llseek", "socketcall"] {
            assert!(calls.contains(&call), "{call} is not among {calls:?}");
        }
    }
    // What nobody used: neither the program nor, with its stub, the sensor.
    for call in ["shmget", "swapon", "timer_create", "setresuid", "capset", "setgroups", "seccomp", "prctl"] {
        assert!(!calls.contains(&call), "{call}");
    }
}
