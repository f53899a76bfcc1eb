//! How a build ends when it doesn't end well, what it says then, and what it leaves behind: nothing.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Builder, Image, Slim, busybox, docker, docker_output, unique};

/// A server on port 8080 with some pages, a declared volume, and a few megabytes to pack.
fn web() -> Builder {
    busybox()
        .file("/www/index.html", b"<a href=/large>large</a>", 0o644)
        .file("/www/large", &large(), 0o644)
        .file("/www/hidden", b"hidden", 0o644)
        .change("EXPOSE 8080")
        .change("VOLUME /data")
        .shell_cmd("httpd -f -p 8080 -h /www")
}

fn large() -> Vec<u8> {
    (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} takes more than a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A build that is watched while it runs.
struct Running {
    child: Child,
    /// Where it keeps its temporary files.
    temporary: PathBuf,
    folder: tempfile::TempDir,
    said: Arc<Mutex<String>>,
    listening: Option<JoinHandle<()>>,
}

impl Running {
    fn start(words: &[&str], variables: &[(&str, &str)]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
        command.args(words).current_dir(folder.path()).env("TMPDIR", &temporary).envs(variables.iter().copied());
        Running::spawn(command, temporary, folder)
    }

    fn spawn(mut command: Command, temporary: PathBuf, folder: tempfile::TempDir) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, heard) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&said));
        let listen = move || lines.map_while(Result::ok).for_each(|line| *heard.lock().unwrap() += &(line + "\n"));
        Running { child, temporary, folder, said, listening: Some(std::thread::spawn(listen)) }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    #[track_caller]
    fn until_it_says(&mut self, words: &str) {
        let (said, child) = (Arc::clone(&self.said), &mut self.child);
        until(&format!("saying {words:?}"), || {
            said.lock().unwrap().contains(words) || {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "it ended with {ended:?}:\n{}", said.lock().unwrap());
                false
            }
        });
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Its exit code.
    fn end(&mut self) -> i32 {
        let mut status = None;
        until("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // So all of its words are there.
        self.listening.take().into_iter().for_each(|listening| listening.join().unwrap());
        status.unwrap().code().unwrap_or(-1)
    }

    /// Its containers in the daemon.
    fn containers(&self) -> Vec<String> {
        let own = format!("{}@", self.child.id());
        let ids = docker(&["ps", "-aq", "--no-trunc", "--filter", "label=slim.run"]);
        let made_by = |id: &str| docker_output(&["inspect", "-f", "{{index .Config.Labels \"slim.process\"}}", id]).stdout;
        ids.lines().filter(|id| made_by(id).starts_with(own.as_bytes())).map(str::to_owned).collect()
    }

    /// The volumes that its containers have now.
    fn volumes(&self) -> BTreeSet<String> {
        let format = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}";
        let of = |id: &String| String::from_utf8(docker_output(&["inspect", "-f", format, id]).stdout).unwrap();
        self.containers().iter().flat_map(|id| of(id).split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    fn temporary_files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.temporary).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[track_caller]
    fn assert_nothing_is_left(&self, volumes: &BTreeSet<String>) {
        assert_eq!(self.containers(), [""; 0], "containers are left:\n{}", self.said());
        for volume in volumes {
            assert!(!docker_output(&["volume", "inspect", volume]).status.success(), "volume {volume} is left");
        }
        assert_eq!(self.temporary_files(), Vec::<PathBuf>::new(), "temporary files are left");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for id in self.containers() {
            docker_output(&["rm", "-f", "-v", &id]);
        }
    }
}

/// The id that an image's slim version has; the build is repeatable, so any other gets the same. It has no name then.
fn slim_id(image: &Image) -> String {
    let name = format!("{}:known", unique("slim"));
    Slim::build(image, &["--http-probe", "--tag", &name]).run().ok();
    let id = docker(&["image", "inspect", "-f", "{{.Id}}", &name]);
    docker(&["rmi", &name]);
    id
}

fn exists(id: &str) -> bool {
    docker_output(&["image", "inspect", id]).status.success()
}

#[test]
fn programs_that_do_not_start() {
    let image = |words: &[&str]| busybox().cmd(words).build();
    Slim::build(&image(&["nope", "-x"]), &[])
        .run()
        .fails(5, "the program could not be started: exec: \"nope\": executable file not found in $PATH");
    Slim::build(&image(&["/etc/passwd"]), &["--http-probe"])
        .run()
        .fails(5, "the program could not be started: exec: \"/etc/passwd\": permission denied");
    Slim::build(&image(&["sleep", "9"]), &["--user", "nobody-here"])
        .run()
        .fails(5, "the program could not be started: ")
        .fails(5, "nobody-here");
    Slim::build(&busybox().build(), &[]).run().fails(2, "say what to run with `--entrypoint` or `--cmd`");
}

#[test]
fn programs_that_fail_at_once() {
    let lines = "seq 30; echo 'could not connect to db:5432: Connection refused' >&2; exit 3";
    let image = busybox().cmd(&["sh", "-c", lines]).change("EXPOSE 80").build();
    let run = Slim::build(&image, &["--http-probe"]).run();
    let run = run.fails(5, "the program ended with exit code 3 before it could be probed\nit listened on no port\n");
    let run = run.fails(5, "\nits log ends with:\n  12\n  13\n");
    let run = run.fails(5, "\n  30\n  could not connect to db:5432: Connection refused\n").fails(5, "`--network`");
    let report = run.report();
    assert_eq!((&report["outcome"]["exit_code"], &report["evidence"]["exit_code"]), (&Value::from(5), &Value::from(3)));
    assert!(report["outcome"]["error"].as_str().unwrap().contains("exit code 3"));
    Slim::build(&image, &[]).run().fails(5, "the program ended with exit code 3 by itself");
    // It was exercised: how it ends without is worth a warning.
    let run = Slim::build(&image, &["--exec", "true"]).run().ok();
    assert_eq!(run.warnings(), ["the program ended by itself, with exit code 3"]);
    let quiet = busybox().cmd(&["false"]).build();
    let run = Slim::build(&quiet, &[]).run().fails(5, "its log is empty");
    assert!(!run.stderr().contains("--network"));
}

#[test]
fn programs_that_die_while_they_are_probed() {
    let dies = "#!/bin/sh\necho dying > /proc/1/fd/1\nkill -TERM 1\nsleep 1000\n";
    let image = busybox()
        .file("/www/index.html", b"<a href=/cgi-bin/die>die</a>", 0o644)
        .file("/www/cgi-bin/die", dies.as_bytes(), 0o755)
        .change("EXPOSE 8080")
        .cmd(&["sh", "-c", "trap 'exit 9' TERM; httpd -f -p 8080 -h /www & wait"])
        .build();
    Slim::build(&image, &[])
        .run()
        .fails(5, "the program ended with exit code 9 while it was probed over HTTP\n")
        .fails(5, "its log ends with:\n  dying\n");
    let kills = ["--http-probe=false", "--exec", "sh -c 'kill -TERM 1; sleep 1000'", "--exec", "true"];
    let run = Slim::build(&image, &kills).run();
    assert!(run.code() == 5 && run.stderr().contains("the program ended with exit code 9 "), "{}", run.stderr());
    // The last command may end it.
    let run = Slim::build(&image, &kills[..3]).run().ok();
    assert_eq!(run.warnings(), ["the program ended by itself, with exit code 9"]);
}

#[test]
fn the_log_is_shown_where_it_is_wanted() {
    let image = busybox().cmd(&["sh", "-c", "echo \"out $((6 * 7))\"; echo err >&2"]).build();
    let run = Slim::build(&image, &["--show-clogs"]).run().ok();
    let said = run.stderr();
    assert!(said.contains("| out 42\n") && said.contains("| err\n"), "{said}");
    assert!(!Slim::build(&image, &[]).run().ok().stderr().contains("out 42"));
}

#[test]
fn standard_output_is_for_the_result() {
    let image = web().build();
    let tag = format!("{}:1", unique("tag"));
    let words = ["--tag", &tag, "--http-probe", "--exec", "true"];
    let run = |more: &[&str]| Slim::build(&image, &[&words[..], more].concat()).env("NO_COLOR", "1").run().ok();
    let quiet = run(&["--quiet"]);
    assert_eq!((quiet.stdout(), quiet.stderr()), (format!("{tag}\n"), String::new()));
    let json = run(&["--output-format", "json"]);
    let summary: Value = serde_json::from_str(&json.stdout()).unwrap();
    assert_eq!((&summary["tags"][0], &summary["lost"], &summary["commands"]), (&tag.clone().into(), &0.into(), &1.into()));
    assert_eq!(json.stdout().lines().count(), 1);
    let text = run(&[]);
    let said = text.stdout();
    assert!(said.starts_with(&format!("{} -> {tag}\n  size ", image.name)), "{said}");
    assert!(said.contains(", 0 lost\n") && said.ends_with(&format!("try it: docker run --rm {tag}\n")), "{said}");
    assert!(text.stderr().starts_with("starting `sh -c "), "plain lines where there is no terminal:\n{}", text.stderr());
    assert!(!(text.stderr() + &said).contains('\x1b'));
    assert!(run(&["--verbose"]).stderr().contains("engine: Docker "));
    docker(&["rmi", &tag]);

    let failed = Slim::build(&image, &["--quiet", "--http-probe-ports", "1", "--start-timeout", "1"]).run().fails(6, "error: ");
    assert_eq!(failed.stdout(), "");
}

#[test]
fn colours_are_for_terminals() {
    let missing = format!("{}:1", unique("missing"));
    let on_terminal = |no_color: &str| {
        let line = format!("'{}' build --pull=false --report off {missing}", env!("CARGO_BIN_EXE_slim"));
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("NO_COLOR", no_color).stdin(Stdio::null());
        let output = script.output().expect("`script` is installed (`tests/run` does that)");
        assert_eq!(output.status.code(), Some(4));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(on_terminal("").contains("\x1b[1;31merror: \x1b[0m"), "{:?}", on_terminal(""));
    assert!(on_terminal("1").contains("error: ") && !on_terminal("1").contains("\x1b[1;31m"), "{:?}", on_terminal("1"));
}

#[test]
fn nothing_is_left_of_a_success_and_of_each_failure() {
    let failing = busybox().change("VOLUME /data").cmd(&["sh", "-c", "exit 3"]).build();
    let good = web().build();
    for (image, words, code) in [
        (&good, &["--http-probe"][..], 0),
        (&good, &["--exec", "nope"], 6),
        (&good, &["--include-path", "/nope"], 2),
        (&failing, &[], 5),
        (&failing, &["--exec", "true"], 0),
        (&failing, &["--cmd", "nope"], 5),
        (&failing, &["--http-probe", "--cmd", "sleep 1000", "--start-timeout", "1"], 6),
    ] {
        let mut run = Running::start(&[&["build", &image.name], words].concat(), &[]);
        let mut volumes = BTreeSet::new();
        until("its end", || {
            volumes.append(&mut run.volumes());
            run.child.try_wait().unwrap().is_some()
        });
        assert_eq!(run.end(), code, "{words:?}\n{}", run.said());
        run.assert_nothing_is_left(&volumes);
    }
}

#[test]
fn nothing_is_left_of_an_interrupted_build() {
    // Every step takes its time, so that it can be met.
    let image = web()
        .file("/www/cgi-bin/slow", b"#!/bin/sh\nsleep 3\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n", 0o755)
        .cmd(&["sh", "-c", "trap 'sleep 3; exit 0' TERM; (sleep 2; exec httpd -f -p 8080 -h /www) & wait"])
        .build();
    // What an older build made stays.
    let older = busybox().build();
    docker(&["tag", &older.name, &image.slim_name()]);
    let older_id = docker(&["image", "inspect", "-f", "{{.Id}}", &older.name]);
    let moments = ["", "starting", "waiting until", "probing HTTP", "running `sleep 3`", "stopping it"];
    let words = ["build", &image.name, "--http-probe-cmd", "/cgi-bin/slow", "--exec", "sleep 3"];
    let told = [(Signal::SIGINT, 130, "interrupted (Ctrl-C)"), (Signal::SIGTERM, 143, "terminated (SIGTERM)")];
    for (number, moment) in moments.into_iter().enumerate() {
        for &(signal, code, words_of_it) in if number == 4 { &told[..] } else { &told[number % 2..][..1] } {
            let mut run = Running::start(&words, &[]);
            match moment {
                "" => until("its directory", || !run.temporary_files().is_empty()),
                moment => run.until_it_says(moment),
            }
            let volumes = run.volumes();
            run.send(signal);
            assert_eq!(run.end(), code, "{signal} at {moment:?}\n{}", run.said());
            assert!(run.said().ends_with(&format!("cleaning up\nerror: {words_of_it}\n")), "{}", run.said());
            run.assert_nothing_is_left(&volumes);
            let report: Value =
                serde_json::from_slice(&std::fs::read(run.folder.path().join("slim.report.json")).unwrap()).unwrap();
            assert_eq!(report["outcome"]["exit_code"], code);
        }
    }
    assert_eq!(docker(&["image", "inspect", "-f", "{{.Id}}", &image.slim_name()]), older_id);
}

#[test]
fn nothing_is_left_of_an_interrupted_load() {
    // The moments in which the daemon has all of the image or part of it, and no name yet.
    let image = web().build();
    let id = slim_id(&image);
    for milliseconds in (0..200).step_by(20) {
        let mut run = Running::start(&["build", &image.name, "--http-probe"], &[]);
        run.until_it_says("packing");
        std::thread::sleep(Duration::from_millis(milliseconds));
        run.send(Signal::SIGINT);
        let code = run.end();
        assert_eq!(exists(&id), code == 0, "{milliseconds} ms after it began to pack, exit code {code}");
        assert!(code == 0 || code == 130, "{}", run.said());
        run.assert_nothing_is_left(&BTreeSet::new());
        docker_output(&["rmi", &image.slim_name()]);
    }
}

#[test]
fn what_a_killed_build_left_is_removed_by_the_next_and_no_more() {
    let image = web().build();
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().to_str().unwrap();
    let start = || Running::start(&["build", &image.name, "--http-probe", "--exec", "sleep 1000"], &[("TMPDIR", temporary)]);
    let directories = || std::fs::read_dir(folder.path()).unwrap().count();
    let (mut killed, mut living) = (start(), start());
    killed.until_it_says("running `sleep 1000`");
    living.until_it_says("running `sleep 1000`");
    let volumes = killed.volumes();
    killed.send(Signal::SIGKILL);
    killed.end();
    assert!(!volumes.is_empty() && directories() == 2, "otherwise nothing is tested");

    let mut next = Running::start(&["build", &image.name, "--http-probe"], &[("TMPDIR", temporary)]);
    assert_eq!(next.end(), 0, "{}", next.said());
    assert!(next.said().contains("directories for temporary files: 1\n"), "{}", next.said());
    // A build of another test may have been the first to find them, and be at it.
    until("the removal of its containers", || killed.containers().is_empty());
    killed.assert_nothing_is_left(&volumes);
    assert_eq!(directories(), 1);
    assert_eq!(living.containers().len(), 2, "the other run lives");
    living.send(Signal::SIGINT);
    assert_eq!(living.end(), 130);
    living.assert_nothing_is_left(&BTreeSet::new());
    assert_eq!(directories(), 0);
}

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
        // In a mount namespace of its own, so that the directory is another one for the daemon.
        let line = "mount -t tmpfs none \"$TMPDIR\" && exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", line, env!("CARGO_BIN_EXE_slim"), "build", &image.name]);
        command.args(["--http-probe", "--exec", "test -e /www/hidden"]).args(options);
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
        let report: Value = serde_json::from_slice(&std::fs::read(run.folder.path().join("slim.report.json")).unwrap()).unwrap();
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

/// A registry on loopback, which takes one account where it has one.
struct Registry {
    server: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start(account: Option<(&str, &str)>) -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let data = folder.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: {address}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n",
            data.display()
        );
        if let Some((name, secret)) = account {
            let made = Command::new("htpasswd").args(["-nbB", name, secret]).output();
            let made = made.expect("apache2-utils is installed (`tests/run` does that)");
            std::fs::write(folder.path().join("accounts"), made.stdout).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", folder.path().join("accounts").display());
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let server = Command::new("docker-registry").arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = server.expect("docker-registry is installed (`tests/run` does that)");
        until("the start of the registry", || std::net::TcpStream::connect(&address).is_ok());
        Registry { server, address, _folder: folder }
    }

    /// Pushes an image under a name of this registry, and removes it from the daemon.
    fn push(&self, image: &Image, docker_config: Option<&Path>) -> String {
        let name = format!("{}/team/app:1", self.address);
        docker(&["tag", &image.name, &name]);
        let config = docker_config.map_or(String::from("/nonexistent"), |path| path.display().to_string());
        docker(&["--config", &config, "push", "-q", &name]);
        docker(&["rmi", &name]);
        docker(&["rmi", &image.name]);
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn remove_both(name: &str) {
    let (path, tag) = name.rsplit_once(':').unwrap();
    docker_output(&["rmi", name, &format!("{path}.slim:{tag}")]);
}

#[test]
fn images_are_pulled_where_they_are_missing() {
    let registry = Registry::start(None);
    let name = registry.push(&web().build(), None);
    Slim::new(&["build", &name, "--pull=false"]).run().fails(4, &format!("the daemon has no image `{name}`"));
    let run = Slim::new(&["build", &name, "--http-probe", "--pull"]).run().ok();
    assert!(run.keeps("/www/large") && run.stderr().contains(&format!("pulling `{name}`")), "{}", run.stderr());
    remove_both(&name);
    // It is the default.
    Slim::new(&["build", "--target", &name]).run().ok();
    remove_both(&name);
    let missing = format!("{}/team/missing:1", registry.address);
    Slim::new(&["build", &missing]).run().fails(4, &format!("cannot pull `{missing}`: ")).fails(4, "not found");
}

#[test]
fn pulls_use_the_users_account() {
    let registry = Registry::start(Some(("me", "secret")));
    let config = tempfile::tempdir().unwrap();
    // "me:secret" in base64.
    let auths = format!(r#"{{"auths": {{"{}": {{"auth": "bWU6c2VjcmV0"}}}}}}"#, registry.address);
    std::fs::write(config.path().join("config.json"), auths).unwrap();
    let name = registry.push(&web().build(), Some(config.path()));
    let build = |words: &[&str], config: &str| {
        let run = Slim::new(&[&["build", &name, "--http-probe"], words].concat()).env("DOCKER_CONFIG", config).run();
        remove_both(&name);
        run
    };
    let nobody = "/nonexistent";
    build(&[], nobody).fails(4, &format!("cannot pull `{name}`: ")).fails(4, "no basic auth credentials");
    build(&[], config.path().to_str().unwrap()).ok();
    build(&["--registry-account", "me", "--registry-secret", "secret"], nobody).ok();
    let wrong = build(&["--registry-account", "me", "--registry-secret", "wrong-secret"], config.path().to_str().unwrap());
    let wrong = wrong.fails(4, "unauthorized");
    assert!(!wrong.stderr().contains("wrong-secret"));
    let run = Slim::new(&["build", &name, "--report", "off"]).env("DOCKER_CONFIG", nobody);
    let run = run.env("SLIM_REGISTRY_ACCOUNT", "me").env("SLIM_REGISTRY_SECRET", "secret").run();
    remove_both(&name);
    run.ok();
}
