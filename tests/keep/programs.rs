//! What programs need to start: interpreters, loaders, libraries.

use serde_json::json;

use super::{keeps, slim, slim_says};
use crate::support::{Builder, Image, busybox, compile, compile_with, same_behaviour};

#[test]
fn scripts_come_with_their_interpreters() {
    let image = busybox()
        .cmd(&["/app/start"])
        .file("/app/start", b"#!/bin/sh\n/app/second; /app/third\n", 0o755)
        .file("/app/second", b"#! /links/ash -e\necho second\n", 0o755)
        .file("/app/third", b"#!/usr/bin/env ash\necho third\n", 0o755)
        .link("/links/ash", "../bin/ash")
        .link("/bin/ash", "busybox")
        .link("/usr/bin/env", "/bin/env")
        .link("/usr/local/bin/ash", "/links/ash")
        .file("/usr/bin/unused", b"#!/bin/sh\n", 0o755)
        .build();
    let run = slim(&image, &[]);
    same_behaviour(&image);
    keeps(&run, &["/links/ash", "/usr/bin/env", "/usr/local/bin/ash", "/bin/ash"], &["/usr/bin/unused", "/bin/httpd"]);
    let needed = json!({"why": "needed", "by": "/app/third", "edge": "interpreter"});
    assert!(run.reasons("/bin/busybox").contains(&needed), "{:?}", run.reasons("/bin/busybox"));
}

/// Bytes of a library of this machine.
fn library(name: &str) -> Vec<u8> {
    let output = std::process::Command::new("cc").arg(format!("-print-file-name={name}")).output().unwrap();
    std::fs::read(String::from_utf8(output.stdout).unwrap().trim()).unwrap()
}

/// The loader of this machine's C library.
fn loader() -> Vec<u8> {
    library(if std::env::consts::ARCH == "aarch64" { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" })
}

/// A C library as distributions have it: `/lib64/ld.so` leads to the loader over links.
fn with_libc(image: Builder) -> Builder {
    image
        .link("/lib", "usr/lib")
        .link("/lib64", "usr/lib64")
        .link("/usr/lib64/ld.so", "../../lib/ld-1.so")
        .file("/usr/lib/ld-1.so", &loader(), 0o755)
        .file("/usr/lib/libc.so.6", &library("libc.so.6"), 0o755)
        .file("/usr/lib/libunused.so", b"\x7fELF", 0o644)
}

/// Compiles against it.
fn dynamic(source: &str, options: &[&str]) -> Vec<u8> {
    compile_with(source, &[&["-Wl,--dynamic-linker=/lib64/ld.so", "-ldl"], options].concat())
}

#[test]
fn a_dynamic_program_comes_with_loader_and_libraries() {
    let main = r#"
        #include <dlfcn.h>
        #include <stdio.h>
        int main(void) {
            for (int i = 0; i < 2; i++) {
                void *plugin = dlopen(i ? "/opt/plugins/b.so" : "liba.so", RTLD_NOW);
                if (!plugin) { puts(dlerror()); return 1; }
                puts(((const char *(*)(void)) dlsym(plugin, "name"))());
            }
            return 0;
        }"#;
    let plugin = |name: &str| dynamic(&format!("const char *name(void) {{ return \"{name}\"; }}"), &["-shared", "-fPIC"]);
    let image = with_libc(Image::scratch().cmd(&["/usr/bin/app"]))
        .file("/usr/bin/app", &dynamic(main, &[]), 0o755)
        .link("/usr/lib/liba.so", "liba.so.1")
        .link("/usr/lib/liba.so.1", "liba.so.1.2.3")
        .file("/usr/lib/liba.so.1.2.3", &plugin("a"), 0o644)
        .file("/opt/plugins/b.so", &plugin("b"), 0o644)
        .file("/opt/plugins/c.so", &plugin("c"), 0o644)
        .build();
    let run = slim(&image, &[]);
    same_behaviour(&image);
    let kept = [
        "/lib",
        "/lib64",
        "/usr/lib64/ld.so",
        "/usr/lib/ld-1.so",
        "/usr/lib/libc.so.6",
        "/usr/lib/liba.so",
        "/usr/lib/liba.so.1",
        "/usr/lib/liba.so.1.2.3",
        "/opt/plugins/b.so",
    ];
    keeps(&run, &kept, &["/usr/lib/libunused.so", "/opt/plugins/c.so"]);
    let needed = json!({"why": "needed", "by": "/usr/bin/app", "edge": "loader"});
    assert!(run.reasons("/usr/lib/ld-1.so").contains(&needed), "{:?}", run.reasons("/usr/lib/ld-1.so"));
    let opened = json!({"why": "used", "access": "open", "by": "/usr/bin/app", "during": "start"});
    assert!(run.reasons("/opt/plugins/b.so").contains(&opened));
}

#[test]
fn programs_that_are_asked_for_work_though_nobody_ran_them() {
    let library = |name: &str, options: &[&str]| {
        dynamic(&format!("const char *{name}(void) {{ return \"{name}\"; }}"), &[&["-shared", "-fPIC"], options].concat())
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libown.so"), library("own", &["-Wl,-soname,libown.so"])).unwrap();
    let search = format!("-L{}", folder.path().display());
    let main = "#include <stdio.h>\nconst char *own(void);\nint main(void) { puts(own()); return 0; }";
    let tool = dynamic(main, &["-Wl,--no-as-needed", &search, "-lown", "-Wl,-rpath,$ORIGIN/../lib"]);
    let image = with_libc(Image::scratch().file("/true", &compile("int main(void) { return 0; }"), 0o755).cmd(&["/true"]))
        .file("/opt/bin/tool", &tool, 0o755)
        .link("/opt/bin/alias", "tool")
        .link("/opt/lib/libown.so", "libown.so.1")
        .file("/opt/lib/libown.so.1", &library("own", &[]), 0o644)
        .file("/opt/bin/script", b"#!/opt/bin/tool\n", 0o755)
        .change("ENV PATH=/opt/bin")
        .build();
    let everything = [
        "/opt/bin/tool",
        "/opt/lib/libown.so",
        "/opt/lib/libown.so.1",
        "/usr/lib/libc.so.6",
        "/lib64",
        "/usr/lib64/ld.so",
        "/usr/lib/ld-1.so",
    ];
    keeps(&slim(&image, &[]), &[], &everything);
    for words in [["--include-bin", "/opt/bin/alias"], ["--include-exe", "alias"], ["--include-exe", "script"]] {
        let run = slim(&image, &words);
        keeps(&run, &everything, &["/usr/lib/libunused.so"]);
        let program = if words[1] == "script" { "/opt/bin/script" } else { "/opt/bin/alias" };
        assert_eq!(slim_says(&image, &[program]), "own", "{words:?}");
        let needed = json!({"why": "needed", "by": "/opt/bin/tool", "edge": "library"});
        assert!(run.reasons("/opt/lib/libown.so.1").contains(&needed), "{:?}", run.reasons("/opt/lib/libown.so.1"));
    }
}
