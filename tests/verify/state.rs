//! Programs that keep something: each run finds what the first one found, and the user's own volumes see one run only.

use std::os::unix::fs::PermissionsExt;

use super::{Tag, tagged, verification};
use crate::support::{Builder, Engine, Image, Slim, busybox, docker, docker_output, on_both_engines, unique};

on_both_engines!(each_run_finds_the_state_of_the_first, what_cannot_be_copied_is_told);

/// Counts its starts in `/data/starts`, and tells the number; nothing of its answer is noise, also not its time.
fn counter() -> Builder {
    let script = "n=$(cat /data/starts 2>/dev/null); echo $((n + 1)) > /data/starts; \
        mkdir /tmp/www; echo \"start number $((n + 1))\" > /tmp/www/index.html; \
        touch -d '2020-01-01 00:00:00' /tmp/www/index.html; httpd -f -p 8080 -h /tmp/www";
    busybox().link("/bin/touch", "busybox").directory("/data", 0o755).shell_cmd(&format!("({script})")).change("EXPOSE 8080")
}

/// Builds with a mount; each run answered the same.
#[track_caller]
fn assert_verified(image: &Image, volume: &str) {
    let run = Slim::build(image, &["--verify=strict", "--volume", volume]).run().ok();
    let verification = verification(&run);
    assert_eq!((&verification["verdict"], &verification["noise"]), (&"same".into(), &0.into()), "{verification:#}");
    assert_eq!(verification["rounds"].as_array().map(Vec::len), Some(1), "{verification:#}");
}

fn each_run_finds_the_state_of_the_first(engine: Engine) {
    let image = counter().build_for(engine);
    // Names of volumes are a daemon's.
    if engine == Engine::Docker {
        let volume = unique("volume");
        docker(&["volume", "create", &volume]);
        let mount = format!("{volume}:/data");
        let verified = std::panic::catch_unwind(|| assert_verified(&image, &mount));
        let starts = docker_output(&["run", "--rm", "-v", &mount, &image.name, "cat", "/data/starts"]);
        docker(&["volume", "rm", &volume]);
        verified.unwrap();
        assert_eq!(starts.stdout, b"1\n", "the volume is the user's: one run changes it");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("starts");
    std::fs::write(&file, "41\n").unwrap();
    assert_verified(&image, &format!("{}:/data", folder.path().display()));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "42\n");
}

/// Regression: the copy of a volume was root's alone, whoever the directory belongs to.
#[test]
fn the_copy_of_a_directory_has_its_owner_and_mode() {
    let image = busybox().cmd(&["sh", "-c", "echo started >> /out/starts && cat /out/starts"]).build();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    std::fs::create_dir(&output).unwrap();
    std::fs::set_permissions(&output, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&output, Some(1000), Some(1000)).unwrap();
    let volume = format!("{}:/out", output.display());
    let run = Slim::build(&image, &["--http-probe=false", "--user", "web", "--volume", &volume]).run().ok();
    assert_eq!(verification(&run)["verdict"], "same");
}

fn what_cannot_be_copied_is_told(engine: Engine) {
    let image = counter().build_for(engine);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("starts");
    std::fs::write(&file, "").unwrap();
    let mount = format!("{}:/data/starts", file.display());
    let reason = "the program writes to `/data/starts`, which cannot be copied for a second run";

    let tag = Tag::of(&image);
    let strict = ["--volume", &mount, "--verify=strict"];
    let demanded = format!("the image cannot be verified: {reason}");
    tagged(&image, &tag, &strict).run().fails(8, &demanded);
    assert!(!tag.is_there());
    tagged(&image, &tag, &[&strict[..], &["--keep-unverified"]].concat()).run().fails(8, &demanded);
    assert_eq!(tag.config().1["config"]["Labels"]["unverified"], "cannot be verified");

    let run = tagged(&image, &tag, &["--volume", &mount]).run().ok();
    assert!(run.warnings().iter().any(|warning| warning.starts_with(&format!("the result is unverified: {reason}"))));
    assert_eq!(verification(&run)["verdict"], "unverified");
    assert!(tag.is_there());
}
