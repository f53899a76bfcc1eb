//! The command `slim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // Inside a container this program is the stub, the monitor, the packer or the relay, and beside one its helper.
    if let Some(status) = slim::hidden::run(arguments.clone()) {
        std::process::exit(status);
    }
    slim::cli::run(arguments)
}
