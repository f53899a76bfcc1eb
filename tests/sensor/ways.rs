//! Every way to touch a file is seen, as what it is; and every system call that a program makes is in the report.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use slim::observe::observation::{Access, Observation, PathUse, Sense};

use crate::support::{Builder, Engine, Image, NO_HTTP, Slim, compile, compile_with, debian_tools, on_both_engines};

on_both_engines!(every_way_is_seen, what_is_loaded_is_seen);

/// Where a use leads in the image, as far as its text says.
fn joined(used: &PathUse) -> Vec<u8> {
    let from_root = |part: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(part.strip_prefix(b"/").unwrap_or(part)));
    let mut path = PathBuf::from("/").join(from_root(&used.root));
    if !used.path.starts_with(b"/") {
        path = path.join(from_root(&used.base));
    }
    path.join(from_root(&used.path)).into_os_string().as_encoded_bytes().to_vec()
}

/// The uses of a path of the image by one sense, as in a row of [`rows`].
fn seen_by(sense: Sense, seen: &Observation, path: &[u8]) -> String {
    let uses = seen.uses.iter().filter(|used| used.sense == sense && joined(used) == path);
    let accesses: BTreeSet<Access> = uses.map(|used| used.access).collect();
    let word = |access| serde_json::to_value(access).unwrap().as_str().unwrap().to_owned();
    let words: Vec<String> = accesses.into_iter().map(word).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(",") }
}

/// Compares what was seen of paths below `folder` with rows of three words: the path, what notify sees of it, what
/// fanotify sees.
#[track_caller]
pub fn assert_rows(seen: &Observation, folder: &str, rows: &str) {
    let rows: Vec<Vec<&str>> =
        rows.lines().map(|row| row.split_whitespace().collect()).filter(|row: &Vec<_>| !row.is_empty()).collect();
    let found = rows.iter().map(|row| {
        let path = [folder.as_bytes(), row[0].as_bytes()].concat();
        [row[0].to_owned(), seen_by(Sense::Notify, seen, &path), seen_by(Sense::Fanotify, seen, &path)]
    });
    let wrong: Vec<_> =
        found.zip(&rows).filter(|(found, row)| found != row.as_slice()).map(|(found, _)| found.join(" ")).collect();
    assert!(wrong.is_empty(), "seen otherwise:\n{}", wrong.join("\n"));
}

pub fn image() -> Builder {
    let program = compile(include_str!("../programs/ways.c"));
    let mut image = Image::scratch().file("/ways", &program, 0o755).change(r#"CMD ["/ways"]"#);
    for name in [
        "open",
        "openat",
        "openat2",
        "openat2-no-links",
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
        "llistxattr",
        "setxattr",
        "removexattr",
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
        "directory/openat2-beneath",
        "directory/by-descriptor",
        "directory/by-directory",
        "directory/by-dots",
        "other/by-fchdir",
        "other/by-link",
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
        .directory("/w/other/nested", 0o755)
        .link("/w/linked", "other/nested")
        .link("/w/readlink", "nowhere")
        .link("/w/readlinkat", "nowhere")
        .link("/w/readlink-by-32", "nowhere")
}

/// Each way to touch a file, with how each of the senses sees it.
const ROWS: &str = "
    open                                 open         open
    openat                               open         open
    openat2                              open         open
    openat2-no-links                     open         open
    directory/openat2-beneath            open         open
    directory/../openat2-in-root         open         -
    directory/openat2-in-root            -            open
    o-path                               lookup       -
    creat                                write        open
    write                                write        open
    stat                                 lookup       -
    lstat                                lookup       -
    newfstatat                           lookup       -
    newfstatat-empty                     -            -
    statx                                lookup       -
    access                               lookup       -
    faccessat                            lookup       -
    faccessat2                           lookup       -
    readlink                             read_link    -
    readlinkat                           read_link    -
    getxattr                             lookup       -
    lgetxattr                            lookup       -
    listxattr                            lookup       -
    llistxattr                           lookup       -
    setxattr                             change       -
    removexattr                          change       -
    statfs                               lookup       -
    inotify                              lookup       -
    truncate                             write        -
    chmod                                change       -
    chown                                change       -
    utimensat                            change       -
    link                                 change       -
    link-made                            change       -
    symlink-made                         change       -
    rename                               change       -
    rename-made                          change       -
    mkdir-made                           change       -
    unlink                               change       -
    directory                            enter,list   list
    directory/by-descriptor              open         open
    directory/by-directory               open         open
    directory/./nested/../by-dots        open         -
    directory/by-dots                    -            open
    directory/../upwards                 open         -
    upwards                              -            open
    linked/../by-link                    open         -
    other/by-link                        -            open
    other                                list         list
    other/by-fchdir                      open         open
    listed                               list         list
    listed/entry                         -            -
    mmap                                 open         open
    sendfile                             open         open
    copy-file-range                      open         open
    splice                               open         open
    sockets                              enter        -
    sockets/made                         change       -
    sockets/relative                     change       -
    execve                               exec         exec
    execveat                             exec         exec
    fexecve                              lookup       exec
    posix-spawn                          exec         exec
    vfork                                exec         exec
    script                               exec         exec
    interpreter                          -            exec
    nested                               exec         exec
    in-memory                            open         open
    short-lived                          enter,change -
    short-lived/relative                 -            -
    from-nowhere                         open         open
    chroot                               enter        -
    chroot/in-chroot                     open         open
    chroot/../../relative-in-chroot      open         -
    chroot/relative-in-chroot            -            open
    thread-0                             open         open
    thread-63                            open         open
    rename-nowhere                       change       -
    rename-from-nowhere                  change       -
    unused                               -            -
";

/// The same of 32-bit calls.
const ROWS_OF_32_BITS: &str = "
    int-80                               open         open
    program-32                           exec         exec
    opened-by-32                         open         open
    openat-by-32                         open         open
    stat64-by-32                         lookup       -
    lstat64-by-32                        lookup       -
    fstatat64-by-32                      lookup       -
    access-by-32                         lookup       -
    readlink-by-32                       read_link    -
    statfs64-by-32                       lookup       -
    truncate64-by-32                     write        -
    chown32-by-32                        change       -
    utimensat-time64-by-32               change       -
    directory/relative-by-32             open         open
    sockets/by-32                        change       -
";

fn every_way_is_seen(engine: Engine) {
    let image = image().build_for(engine);
    let plain = image.run(&[], &[]);
    let run = Slim::observe(&image, &[NO_HTTP, "--show-clogs", "--observation-out", "seen.jsonl"]).run().ok();
    let seen = run.observation("seen.jsonl");
    assert_eq!((seen.end.complete, seen.end.counters.lost), (true, 0));
    // Whatever is wrong with a path, the kernel's answer is the same.
    let observed: Vec<String> = run.stderr().lines().filter_map(|line| line.strip_prefix("| ")).map(str::to_owned).collect();
    assert_eq!(observed, String::from_utf8(plain.stdout).unwrap().lines().collect::<Vec<_>>());
    assert!(observed.contains(&"too long 4096: error 36".to_owned()) && observed.contains(&"beneath: 0".to_owned()));

    assert_rows(&seen, "/w/", ROWS);
    if cfg!(target_arch = "x86_64") {
        assert_rows(&seen, "/w/", ROWS_OF_32_BITS);
    }
    // Names that are no word of a row, or too long for one.
    let longest = [b"/w".as_slice(), &b"/".repeat(4095 - 2 - "longest".len()), b"longest"].concat();
    let long = [b"/w/".as_slice(), &b"n".repeat(255)].concat();
    for path in [&b"/w/not-utf-8-\xff\xfe"[..], b"/w/new\nline \\ \"quoted\"", &long] {
        assert_eq!([Sense::Notify, Sense::Fanotify].map(|sense| seen_by(sense, &seen, path)), ["open", "open"], "{path:?}");
    }
    assert_eq!(
        (seen_by(Sense::Notify, &seen, &longest), seen_by(Sense::Fanotify, &seen, b"/w/longest")),
        ("open".into(), "open".into())
    );
    let threads: String = (0..64).map(|number| format!("thread-{number} open open\n")).collect();
    assert_rows(&seen, "/w/", &threads);
    // A file that is only in memory has a name, but not in the image.
    assert!(!seen.uses.iter().any(|used| used.path.starts_with(b"/memfd:")));
    assert!(!seen.uses.iter().any(|used| used.path.contains(&0)));

    for kept in [
        "openat2",
        "directory/openat2-in-root",
        "directory/by-dots",
        "upwards",
        "linked",
        "other/by-link",
        "other/by-fchdir",
        "sockets",
        "interpreter",
        "script",
        "nested",
        "chroot/in-chroot",
        "chroot/relative-in-chroot",
        "longest",
        "stat",
        "readlink",
        "mmap",
    ] {
        assert!(run.keeps(&format!("/w/{kept}")), "{kept}");
    }
    assert!(!run.keeps("/w/unused"));
}

/// What a program loads by itself: its loader, a library by dlopen(3), the interpreter that `env -S` finds.
fn what_is_loaded_is_seen(engine: Engine) {
    let library = compile_with("int answer(void) { return 42; }", &["-shared", "-fPIC", "-nostdlib"]);
    let script = "#!/usr/bin/env -S python3 -B -u\nimport ctypes; print(ctypes.CDLL('/opt/library.so').answer())\n";
    let image = debian_tools(&[("script", script.as_bytes()), ("library.so", &library)], "CMD [\"/opt/script\"]");
    let saved = (engine == Engine::Embedded).then(|| image.in_file());
    let run =
        Slim::observe(saved.as_ref().unwrap_or(&image), &[NO_HTTP, "--show-clogs", "--observation-out", "seen.jsonl"]).run().ok();
    assert!(run.stderr().contains("| 42\n"), "{}", run.stderr());
    let seen = run.observation("seen.jsonl");
    let (architecture, loader) = match cfg!(target_arch = "x86_64") {
        true => ("x86_64", "ld-linux-x86-64.so.2"),
        false => ("aarch64", "ld-linux-aarch64.so.1"),
    };
    assert_rows(
        &seen,
        "/",
        &format!(
            "
            usr/bin/env                                -                          exec
            usr/bin/python3                            lookup,read_link,exec      -
            opt/library.so                             open                       open
            usr/lib/{architecture}-linux-gnu/{loader}  -                          exec
            "
        ),
    );
    assert_eq!(seen_by(Sense::Notify, &seen, b"/opt/script"), "lookup,read_link,open,exec");
    // The kernel joins an event to one of the same process and file that was not read yet.
    let joined = seen_by(Sense::Fanotify, &seen, b"/opt/script");
    assert!(["open,exec", "exec"].contains(&joined.as_str()), "{joined}");
    let python = seen.uses.iter().filter(|used| used.path.starts_with(b"/usr/bin/python3.") && used.access == Access::Exec);
    assert_eq!(python.map(|used| used.sense).collect::<Vec<_>>(), [Sense::Fanotify], "where the link leads");
    for kept in ["/opt/script", "/usr/bin/env", "/usr/bin/python3", "/opt/library.so"] {
        assert!(run.keeps(kept), "{kept}");
    }
}

#[test]
fn every_call_is_in_the_report() {
    let run = Slim::observe(&image().build(), &[NO_HTTP]).run().ok();
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
