//! Makes `slim` one self-contained static executable with plain stable cargo on the gnu target.
//!
//! `-C target-feature=+crt-static` cannot be given without also naming a target (it would break procedural macros),
//! and `.cargo/config.toml` depends on the directory cargo is started in. So the linker is told instead: linker scripts
//! with the names of glibc's shared libraries stand first on its search path, and each says "take the archive".

use std::path::Path;
use std::{env, fs};

/// What the linker script `lib<name>.so` stands for.
const SCRIPTS: [(&str, &str); 7] = [
    ("c", "-l:libc.a -l:libgcc.a -l:libgcc_eh.a"),
    ("gcc_s", "-l:libgcc_eh.a -l:libgcc.a -l:libc.a"),
    ("m", "-l:libm.a"),
    ("dl", "-l:libdl.a"),
    ("pthread", "-l:libpthread.a"),
    ("rt", "-l:librt.a"),
    ("util", "-l:libutil.a"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let set = |name| env::var(name).unwrap_or_default();
    let already_static = set("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if set("CARGO_CFG_TARGET_OS") != "linux" || set("CARGO_CFG_TARGET_ENV") != "gnu" || already_static {
        return;
    }
    let out = set("OUT_DIR");
    for (name, archives) in SCRIPTS {
        let script = Path::new(&out).join(format!("lib{name}.so"));
        fs::write(&script, format!("GROUP({archives})\n")).expect("OUT_DIR can be written");
    }
    println!("cargo::rustc-link-arg-bins=-static-pie");
    println!("cargo::rustc-link-arg-bins=-L{out}");
}
