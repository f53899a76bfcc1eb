//! Says what plain `cargo test` leaves out: it runs what needs nothing but Rust and a C compiler.

#![expect(clippy::print_stdout, reason = "that is its purpose")]

fn main() {
    let modules = include_str!("main.rs").lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let modules: Vec<&str> = modules.filter(|&name| name != "support").collect();
    println!(
        "\nnot run: the tests with containers ({}).\nThey need root, a Docker daemon and some packages: `tests/run` installs what is missing and \
         runs everything.\n`tests/run --without-docker` runs those of slim's own engine.",
        modules.join(", ")
    );
}
