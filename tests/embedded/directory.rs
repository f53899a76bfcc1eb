//! A program of a directory as an image: the whole job on a machine that has no daemon at all.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::rootless::PlainUser;
use crate::support::{NO_HTTP, Slim};

#[test]
fn a_program_of_a_directory_becomes_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for directory in ["bin", "data", "dev", "proc", "tmp"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    std::fs::set_permissions(root.join("bin/busybox"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["used", "unused"] {
        std::fs::write(root.join("data").join(name), name).unwrap();
    }
    let source = format!("rootfs:{}", root.display());
    let words = ["build", &source, NO_HTTP, "--cmd", "/bin/busybox cat /data/used", "--tag", "tool:slim"];
    let slim = Slim::new(&words).env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    // Its own directories, empty ones among them, were taken for the image's.
    let run = slim.env("TMPDIR", &root.join("tmp").display().to_string()).run().ok();
    assert!(run.keeps("/data/used") && !run.keeps("/data/unused"));
    let report = run.report();
    let kept: Vec<&str> = report["kept"].as_array().unwrap().iter().filter_map(|entry| entry["path"].as_str()).collect();
    assert!(kept.contains(&"/tmp") && !kept.iter().any(|path| path.starts_with("/tmp/")), "{kept:?}");
    let image = format!("docker-archive:{}", run.path("tool.tar").display());
    let output = Command::new(super::SLIM).args(["run", &image]).env("XDG_CACHE_HOME", folder.path().join("cache")).output();
    assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "used");
}

/// The kernel gives no overlay of it to who isn't root, as /proc and others are mounted below it.
#[test]
fn the_root_of_the_machine_is_laid_together_for_who_is_not_root() {
    let script = "touch /usr/in-here /tmp/in-here && mv /usr/in-here /var/in-here && ls -d /var/in-here /tmp/in-here; \
                  stat -c %a /tmp; test -e /etc/passwd || echo nothing of what is mounted";
    for with_ids in [true, false] {
        let user = PlainUser::new(with_ids);
        let slim = user.copy(Path::new(super::SLIM), "slim");
        let output = user.command(&slim, &["run", "rootfs:/", "sh", "-c", script]).output().unwrap();
        let (said, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(said, "/tmp/in-here\n/var/in-here\n1777\nnothing of what is mounted\n", "{told}");
        assert!(told.contains("the root is laid together of "), "{told}");
        assert!(["/usr", "/tmp", "/var"].iter().all(|path| !Path::new(path).join("in-here").exists()));
        let left: Vec<_> = std::fs::read_dir(user.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["cache"]);
    }
}
