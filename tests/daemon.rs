//! Daemons that don't answer, go away, come back, or are somewhere else.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{Running, Slim, docker, docker_output, large, until, web};

/// A way to the daemon that can be cut.
struct Proxy {
    folder: tempfile::TempDir,
    is_cut: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<UnixStream>>>,
}

impl Proxy {
    fn new() -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let (is_cut, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])));
        let (cut, open) = (Arc::clone(&is_cut), Arc::clone(&connections));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                let daemon = UnixStream::connect("/var/run/docker.sock").unwrap();
                open.lock().unwrap().extend([client.try_clone().unwrap(), daemon.try_clone().unwrap()]);
                for (from, to) in [(&client, &daemon), (&daemon, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        Proxy { folder, is_cut, connections }
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// The daemon is gone, or back.
    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
        if is_cut {
            for connection in self.connections.lock().unwrap().drain(..) {
                let _ = connection.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

#[test]
fn a_daemon_that_goes_away_and_comes_back() {
    let image = web().build();
    for moment in ["waiting until", "running `sleep 1000`"] {
        let proxy = Proxy::new();
        let words = ["build", &image.name, "--http-probe", "--exec", "sleep 1000"];
        let mut run = Running::start(&words, &[("DOCKER_HOST", &proxy.host())]);
        run.until_it_says(moment);
        let volumes = run.volumes();
        proxy.cut(true);
        run.until_it_says("waiting for the engine to come back");
        assert_eq!(run.temporary_files(), Vec::<PathBuf>::new());
        proxy.cut(false);
        assert_eq!(run.end(), 3, "{}", run.said());
        assert!(run.said().contains("error: the connection to the engine broke while it was to "), "{}", run.said());
        run.assert_nothing_is_left(&volumes);
    }
}

#[test]
fn a_daemon_that_goes_away_for_good() {
    let image = web().build();
    let proxy = Proxy::new();
    let mut run =
        Running::start(&["build", &image.name, "--http-probe", "--exec", "sleep 1000"], &[("DOCKER_HOST", &proxy.host())]);
    run.until_it_says("running `sleep 1000`");
    let volumes = run.volumes();
    proxy.cut(true);
    assert_eq!(run.end(), 3, "{}", run.said());
    assert!(run.said().contains("warning: something is left in the engine, the next run removes it"), "{}", run.said());
    Slim::build(&image, &["--http-probe"]).run().ok();
    until("the removal of its containers", || run.containers().is_empty());
    run.assert_nothing_is_left(&volumes);
}

#[test]
fn daemons_that_do_not_answer() {
    let refused = "no Docker daemon answers at `";
    for host in ["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:1", "nonsense://x"] {
        let run = Slim::new(&["build", "app"]).env("DOCKER_HOST", host).run().fails(3, &format!("{refused}{host}`: "));
        run.fails(3, "name another with DOCKER_HOST");
        Slim::new(&["build", "app", "--host", host]).run().fails(3, refused);
    }
    let closes = Proxy::new();
    closes.cut(true);
    Slim::new(&["build", "app"]).env("DOCKER_HOST", &closes.host()).run().fails(3, refused);
}

#[test]
fn a_daemon_that_does_not_see_our_files_gets_them_sent() {
    let image = web().build();
    for options in [&[][..], &["--read-only", "--tmpfs", "/tmp"]] {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let mut command = image.client.slim_elsewhere();
        command.args(["build", &image.name, "--http-probe", "--exec", "test -e /www/hidden"]).args(options);
        command.current_dir(folder.path()).env("TMPDIR", &temporary);
        let mut run = Running::spawn(command, temporary, folder);
        let mut volumes = BTreeSet::new();
        until("its end", || {
            volumes.append(&mut run.volumes());
            run.child.try_wait().unwrap().is_some()
        });
        assert_eq!(run.end(), 0, "{}", run.said());
        assert!(volumes.len() >= 2, "the program was in volumes: {volumes:?}");
        run.assert_nothing_is_left(&volumes);
        let report = run.report();
        let kept = report["kept"].as_array().unwrap();
        assert!(kept.iter().any(|row| row["path"] == "/www/large") && report["evidence"]["complete"] == true);
        let slim = docker(&["create", &image.slim_name()]);
        let copied = docker_output(&["cp", &format!("{slim}:/www/large"), "-"]);
        docker(&["rm", "-v", &slim]);
        let mut content = vec![];
        let mut archive = tar::Archive::new(copied.stdout.as_slice());
        archive.entries().unwrap().next().unwrap().unwrap().read_to_end(&mut content).unwrap();
        assert!(content == large());
    }
}
