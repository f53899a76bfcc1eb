//! A program of a directory as an image: the whole job on a machine that has no daemon at all.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{NO_HTTP, Slim};

#[test]
fn a_program_of_a_directory_becomes_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for directory in ["bin", "data", "dev", "proc"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    std::fs::set_permissions(root.join("bin/busybox"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["used", "unused"] {
        std::fs::write(root.join("data").join(name), name).unwrap();
    }
    let source = format!("rootfs:{}", root.display());
    let words = ["build", &source, NO_HTTP, "--cmd", "/bin/busybox cat /data/used", "--tag", "tool:slim"];
    let run = Slim::new(&words).env("DOCKER_HOST", "unix:///nonexistent/docker.sock").run().ok();
    assert!(run.keeps("/data/used") && !run.keeps("/data/unused"));
    let image = format!("docker-archive:{}", run.path("tool.tar").display());
    let output = Command::new(super::SLIM).args(["run", &image]).env("XDG_CACHE_HOME", folder.path().join("cache")).output();
    assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "used");
}
