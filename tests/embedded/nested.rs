//! Where less is allowed than on a plain machine: in Docker's containers, and on file systems that take no overlay.

use std::path::Path;
use std::process::Command;

use slim::engine::embedded::{Runner, Tier, TierReport, probe_tiers};
use slim_sensor::container::spec::{Network, Root};

use super::{Ground, PART, SLIM, block, part};
use crate::support::{NO_HTTP, busybox, docker_output, shell};

const IN_DOCKER: &str = "nested::in_dockers_containers_it_works_or_says_what_is_missing";

/// Runs the inner part of the test with these options of `docker run`; what it prints, a line for each tier.
fn in_docker(image: &str, options: &[&str]) -> Vec<String> {
    let executable = std::env::current_exe().unwrap();
    let test = format!("{}:/test:ro", executable.display());
    let slim = format!("{SLIM}:/slim:ro");
    let libraries = ["-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "-v", &test, "-v", &slim];
    let part = format!("{PART}=/slim");
    let name = format!("embedded::{IN_DOCKER}");
    let mut arguments = vec!["run", "--rm", "--network", "none", "-e", &part];
    arguments.extend(libraries.iter().chain(options));
    arguments.extend([image, "/test", &name, "--exact", "--nocapture", "--test-threads=1"]);
    let output = docker_output(&arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| line.split_once("tier ").map(|(_, report)| report.to_owned())).collect()
}

/// Prints what each tier gives, and runs a server and a command in the best one.
#[expect(clippy::print_stdout, reason = "the test that started this reads it")]
fn inside(slim: &str) {
    let ground = Ground::new();
    block(async {
        let reports = probe_tiers(Path::new(slim), ground.folder.path()).await;
        for TierReport { tier, outcome } in &reports {
            let said = outcome.as_ref().map_or_else(|reason| format!("no: {reason}"), |fallbacks| fallbacks.join("; "));
            println!("\ntier {tier}: {said}");
        }
        let Some(best) = reports.iter().find(|report| report.outcome.is_ok()) else {
            let error = Runner::choose(slim.into(), ground.folder.path(), false).await.unwrap_err().to_string();
            assert_eq!(error.lines().count(), 4, "{error}");
            return;
        };
        let mut spec = ground.spec(&["httpd", "-f", "-p", "8080", "-h", "/"]);
        spec.process.cwd = "/new".to_owned();
        let (running, _streams) = Runner::new(slim.into(), best.tier).start(&spec, &[]).await.unwrap();
        while running.listening().unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        running.connect_port(8080).await.unwrap();
        let command = running.command(["sh", "-c", "pwd; ls /; echo $$ >/tmp/x"].map(str::to_owned).to_vec());
        let (exec, streams) = running.exec(&command, &[]).await.unwrap();
        let (said, complaints) = super::all(streams).await;
        let wanted = "/new\nbin\ndev\netc\nnew\nproc\nroot\nsys\ntmp\n";
        assert_eq!((exec.wait().await.unwrap(), said.as_str()), (0, wanted), "{complaints}");
        running.kill(libc::SIGKILL).await.unwrap();
        assert_eq!(running.wait().await.unwrap(), 137);
    });
}

#[test]
fn in_dockers_containers_it_works_or_says_what_is_missing() {
    if let Some(slim) = part() {
        return inside(&slim);
    }
    let image = busybox().load();
    let refused_root = "as root: no: cannot make namespaces: operation not permitted; run as root, in a container with \
                        `--cap-add SYS_ADMIN`";
    let refused_namespace = "cannot make a user namespace: operation not permitted; a seccomp profile is around slim";
    let moved = "the root is moved over the old one (pivot_root: operation not permitted)";

    let plain = in_docker(&image.name, &[]);
    assert_eq!(plain[0], refused_root);
    assert!(plain[1].contains(refused_namespace) && plain[2].contains(refused_namespace), "{plain:?}");

    let admin = in_docker(&image.name, &["--cap-add", "SYS_ADMIN"]);
    for wanted in ["as root: the network is this machine's", "the writable layer is in memory", moved] {
        assert!(admin[0].contains(wanted), "{wanted}: {admin:?}");
    }
    let both = ["--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--security-opt", "systempaths=unconfined"];
    let both = in_docker(&image.name, &both);
    assert!(both[0].contains(moved) && !both[0].contains("network"), "{both:?}");

    let unconfined = in_docker(&image.name, &["--security-opt", "seccomp=unconfined"]);
    assert_eq!(unconfined[0], refused_root);
    for report in &unconfined[1..] {
        assert!(!report.contains(": no: "), "{unconfined:?}");
    }
    let user = in_docker(&image.name, &["--security-opt", "seccomp=unconfined", "--user", "1000", "--tmpfs", "/tmp:exec"]);
    assert!(!user[2].contains(": no: "), "{user:?}");
}

/// There it is an overlay, which takes no writable layer, with mounts below, which keep it from being a layer as a whole.
#[test]
fn in_dockers_containers_their_own_root_is_laid_together_in_memory() {
    let (outer, slim) = (busybox().load(), format!("{SLIM}:/slim:ro"));
    let script = "/slim run rootfs:/ sh -c 'echo x >/bin/in-here && cat /bin/in-here'; ls /bin/in-here /tmp";
    for user in ["0", "1000"] {
        let options = ["run", "--rm", "--network", "none", "-v", &slim, "-e", "XDG_CACHE_HOME=/tmp/cache", "--user", user];
        let output =
            docker_output(&[&options[..], &["--security-opt", "seccomp=unconfined", &outer.name, "sh", "-c", script]].concat());
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(said, "x\n/tmp:\ncache\n", "{told}");
        assert!(told.contains("the root is laid together of ") && told.contains(" parts in memory, as"), "{told}");
    }
}

#[test]
fn without_overlays_the_layers_are_copied() {
    const NAME: &str = "nested::without_overlays_the_layers_are_copied";
    let Some(folder) = part() else {
        let ground = Ground::new();
        // Overlays of overlays: there may be no third above them.
        let script = "mount --make-rprivate /; cd \"$1\"; mkdir empty once twice; \
                      mount -t overlay overlay -o lowerdir=empty:root once; \
                      mount -t overlay overlay -o lowerdir=empty:once twice; shift; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-ec", script, "sh"]).arg(ground.folder.path()).arg(std::env::current_exe().unwrap());
        command.args([&format!("embedded::{NAME}"), "--exact", "--nocapture", "--test-threads=1"]);
        assert!(command.env(PART, ground.folder.path()).status().unwrap().success());
        return;
    };
    let ground = Ground::new();
    let mut spec = ground.shell("id -u; echo x >/new; cat /new; stat -c %a /tmp /bin/busybox; readlink /bin/sh");
    spec.root = Root::Layers(vec![Path::new(&folder).join("twice")]);
    spec.network = Network::Host;
    block(async {
        let (running, streams) = Runner::new(SLIM.into(), Tier::Root).start(&spec, &[]).await.unwrap();
        assert!(
            running.fallbacks()[0].starts_with("the layers are copied (cannot mount the layers: "),
            "{:?}",
            running.fallbacks()
        );
        assert_eq!(super::all(streams).await, ("0\nx\n1777\n755\nbusybox\n".to_owned(), String::new()));
        assert_eq!(running.wait().await.unwrap(), 0);
    });
    assert_eq!(std::fs::read_dir(&spec.state).unwrap().count(), 0);
}

/// The whole job in a container that lets us do more or less; what it must say.
#[test]
fn in_dockers_containers_images_are_built_or_it_is_said_what_is_missing() {
    let saved = shell("cat /etc/group; id -u").build().for_all();
    let outer = busybox().load();
    let (slim, files) = (format!("{SLIM}:/slim:ro"), format!("{}:/files:ro", saved.path("").display()));
    let build = |options: &[&str]| {
        let mounts = ["run", "--rm", "--network", "none", "-v", &slim, "-v", &files, "-e", "XDG_CACHE_HOME=/tmp/cache"];
        let words = ["/slim", "build", "docker-archive:/files/app.tar", NO_HTTP, "--output", "docker-archive:/tmp/app.tar"];
        let more = ["--report", "/tmp/report.json"];
        let output = docker_output(&[&mounts[..], options, &[&outer.name], &words, &more].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = build(&[]);
    assert_eq!(code, Some(3), "{said}");
    for what in ["this machine lets nobody make containers", "`--cap-add SYS_ADMIN`", "`--security-opt seccomp=unconfined`"] {
        assert!(said.contains(what), "{said}");
    }
    for options in [
        &["--cap-add", "SYS_ADMIN"][..],
        &["--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE"],
        &["--security-opt", "seccomp=unconfined"],
        &["--security-opt", "seccomp=unconfined", "--user", "1000", "--workdir", "/tmp"],
    ] {
        let (code, said) = build(options);
        assert_eq!(code, Some(0), "{options:?}: {said}");
        assert_eq!(said.contains("degraded"), options[0] == "--security-opt", "{options:?}: {said}");
    }
}
