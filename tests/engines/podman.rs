//! Podman's service, which speaks Docker's API in its own way.

use crate::support::{Daemon, Slim, busybox, nightly};

/// Regression: Podman cut the monitor's stream where the container ended while an order was on its way to the monitor, and
/// with it what the monitor had told at last.
#[test]
fn a_program_that_ends_at_once_is_told_to_its_end() {
    let daemon = Daemon::podman();
    let image = busybox().cmd(&["true"]).load_in(&daemon.client);
    for _ in 0..nightly(3, 10) {
        let run = Slim::observe(&image, &["--http-probe=false"]).run().ok();
        let evidence = &run.report()["evidence"];
        assert!(evidence["complete"] == true && evidence["tail_unknown"] == false, "{evidence}");
    }
}
