//! Podman's service, which speaks Docker's API in its own way.

use serde_json::Value;

use super::{built, check};
use crate::sensor::alike::{compare_facts, facts};
use crate::support::{Client, Daemon, Engine, Image, Slim, busybox, nightly, web};

/// The configuration of an image as it is stored: `inspect` leaves out some of it.
fn stored_config(client: &Client, image: &str) -> Value {
    let archive = client.output(&["save", image]).stdout;
    let mut archive = tar::Archive::new(&archive[..]);
    let is_config = |path: &[u8]| path.len() == 69 && path.ends_with(b".json");
    let config = archive.entries().unwrap().map(Result::unwrap).find(|entry| is_config(&entry.path_bytes())).unwrap();
    serde_json::from_reader(config).unwrap()
}

#[test]
fn everything_works_as_with_docker() {
    let daemon = Daemon::podman();
    let dockerfile = "HEALTHCHECK --interval=7s --timeout=3s CMD test -e /www/hidden\nSTOPSIGNAL SIGINT\n\
        SHELL [\"/bin/sh\", \"-x\", \"-c\"]\nONBUILD ENV later=1\nLABEL a=b";
    let image = web().file("/data/seed", b"seed", 0o644).dockerfile(dockerfile).load_in(&daemon.client);
    let run = built(&image, &["--exec", "cat /data/seed"]);
    let report = run.report();
    assert_eq!(report["evidence"]["fanotify"], "filesystem");
    assert_eq!(report["probes"]["health_check"]["exit_code"], 0, "{report}");
    assert!(run.keeps("/data/seed") && run.keeps("/www/hidden"), "of the volume, and of the health check");
    let (fat, slim) = (stored_config(&daemon.client, &image.name), stored_config(&daemon.client, &image.slim_name()));
    assert!(fat["config"]["Healthcheck"]["Interval"] == 7_000_000_000_u64 && fat["config"]["OnBuild"].is_array());
    assert_eq!(slim["config"], fat["config"]);
    let slim_again = Image::named_in(&daemon.client, image.slim_name());
    Slim::build(&slim_again, &["--http-probe"]).run().fails(4, "was made by slim already");

    let elsewhere = Slim::build_elsewhere(&image, &["--http-probe", "--exec", "cat /data/seed"]);
    let temporary = elsewhere.folder().join("temporary");
    let run = check(&image, elsewhere.run());
    assert!(run.keeps("/data/seed"));
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "it would make what it is asked to mount");
    daemon.assert_nothing_is_left();
}

/// Into files, as Podman's logs break lines where the output came in parts.
#[test]
fn the_target_cannot_tell_in_podman_either() {
    let daemon = Daemon::podman();
    let image = busybox().file("/facts", facts(), 0o755).change("CMD exec /facts >/out/facts").load_in(&daemon.client);
    let folder = daemon.folder().join("out");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let volume = format!("{}:/out", folder.display());
    let written = || {
        let path = folder.join("facts");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        text
    };
    for options in [
        &[][..],
        &["--user", "web"],
        &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
        &["--cap-add", "SYS_PTRACE", "--cap-drop", "KILL"],
        &["--security-opt", "seccomp=unconfined"],
        &["--read-only", "--tmpfs", "/scratch"],
    ] {
        daemon.client.docker(&[&["run", "--rm", "--volume", &volume], options, &[image.name.as_str()]].concat());
        let plain = written();
        Slim::observe(&image, &[&["--http-probe=false", "--volume", &volume], options].concat()).run().ok();
        compare_facts(Engine::Docker, options, &plain, &written(), ["mount ", "variable "]);
    }
}

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
