//! The whole of `slim build` and `slim verify` without a daemon: from files, by slim's own containers.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::rootless::PlainUser;
use crate::support::{Builder, Image, NO_HTTP, NOWHERE, Running, Slim, busybox, compile, docker, shell, until, web};

fn kept(report: &Value) -> Vec<String> {
    report["kept"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_archive_becomes_a_slim_one_beside_it_as_in_docker() {
    let saved = web().build();
    let run = Slim::build(&saved, &["--http-probe"]).run().ok();
    let report = run.report();
    assert_eq!(report["verification"]["verdict"], "same");
    assert_eq!(report["engine"]["name"], "embedded");
    assert_eq!((&report["evidence"]["fanotify"], &report["evidence"]["counters"]["lost"]), (&"filesystem".into(), &0.into()));
    let result = saved.path("app.slim.tar");
    assert!(run.stdout().contains(&format!("try it: slim run docker-archive:{}", result.display())), "{}", run.stdout());

    // The daemon's containers showed the same.
    let docker = Slim::build(&saved.in_docker(), &["--engine", "docker", "--http-probe"]).run().ok();
    assert_eq!(kept(&report), kept(&docker.report()));
    assert!(docker.report()["engine"]["name"].as_str().unwrap().starts_with("Docker "));

    // It can be checked again, and what was taken from it is missed.
    let (result, fat) = (format!("docker-archive:{}", result.display()), saved.source());
    Slim::new(&["verify", &result, "--against", &fat, "--http-probe"]).env("DOCKER_HOST", NOWHERE).run().ok();
    Slim::build(&saved, &["--http-probe", "--exclude-pattern", "/www/large"]).run().fails(8, "/large");
}

#[test]
fn an_image_of_the_daemon_is_saved_for_slims_own_containers() {
    let image = shell("cat /etc/group").load();
    let run = Slim::build(&image, &[NO_HTTP, "--engine", "embedded"]).run().ok();
    assert_eq!(run.report()["engine"]["reason"], "`--engine embedded`");
    assert_eq!(run.report()["result"]["tags"][0], image.slim_name());
    assert_eq!(docker(&["run", "--rm", &image.slim_name()]), docker(&["run", "--rm", &image.name]));
}

/// Files that are opened, and then an end that gives no time to tell of them.
fn sudden_end(end: &str) -> Builder {
    let program = format!(
        "#include <fcntl.h>\n#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int main() {{ char path[64]; for (int i = 0; i < 2000; i++) {{ sprintf(path, \"/files/%d\", i); \
         close(open(path, O_RDONLY)); }} {end}; return 0; }}"
    );
    let image = Image::scratch().file("/program", &compile(&program), 0o755).cmd(&["/program"]);
    (0..2000).fold(image, |image, number| image.file(&format!("/files/{number}"), b"x", 0o644))
}

/// The monitor is outside of the container, so nothing that happened before an end is unknown.
#[test]
fn nothing_is_lost_however_the_target_ends() {
    for end in ["kill(0, SIGKILL)", "syscall(SYS_exit, 0)", "_exit(0)", "*(volatile int *)0 = 1"] {
        let saved = sudden_end(end).build();
        // What ends by a signal of its own is no success, but was seen to the last.
        let words = [NO_HTTP, "--continue-after", "app-exit", "--observation-out", "seen.jsonl"];
        let run = Slim::observe(&saved, &words).run();
        let observation = run.observation("seen.jsonl");
        assert!(observation.end.complete && !observation.end.tail_unknown, "{end}: {}", run.stderr());
        let opened = observation.uses.iter().filter(|path_use| path_use.path.starts_with(b"/files/"));
        let opened = opened.filter(|path_use| path_use.sense == slim_sensor::wire::Sense::Fanotify).count();
        assert_eq!(opened, 2000, "{end}");
    }
}

/// A second run finds in a volume what the first found, and what it writes there stays in the copy.
#[test]
fn directories_that_are_mounted_are_copied_for_later_runs() {
    let saved = shell("read n </data/starts; echo $((n + 1)) >/data/starts; cat /data/starts").build();
    let data = saved.path("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("starts"), "41\n").unwrap();
    let run = Slim::build(&saved, &[NO_HTTP, "--volume", &format!("{}:/data", data.display())]).run().ok();
    assert_eq!(run.report()["verification"]["verdict"], "same");
    assert_eq!(std::fs::read_to_string(data.join("starts")).unwrap(), "42\n");
}

/// A volume of the image can be written where the root can't, and shows the image's files.
#[test]
fn volumes_are_writable_below_a_read_only_root() {
    let image = shell("cat /data/given; echo x >/data/new; ! echo y >/data/../new").file("/data/given", b"given", 0o644);
    let saved = image.change("VOLUME /data").build();
    let run = Slim::build(&saved, &[NO_HTTP, "--read-only"]).run().ok();
    assert!(run.keeps("/data/given") && !run.keeps("/data/new"));
}

#[test]
fn options_of_other_engines_are_refused() {
    let saved = shell("true").build();
    for (option, value) in [("--network", "bridge"), ("--runtime", "runc"), ("--publish-port", "80"), ("--volume", "name:/data")]
    {
        Slim::build(&saved, &[NO_HTTP, option, value]).run().fails(2, "slim's own containers have no");
    }
}

/// Processes whose command line names a word.
fn processes_with(word: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has_word = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(word)
    };
    all.filter(has_word).collect()
}

/// However slim ends, nothing of the container is left: no process, no mount, and after the next run no file.
#[test]
fn nothing_is_left_of_a_build_that_is_killed() {
    let mark = format!("{}", 100_000 + std::process::id());
    let saved = shell(&format!("sleep {mark}")).build();
    let (source, cache) = (saved.source(), saved.cache());
    let variables = [("DOCKER_HOST", NOWHERE), ("XDG_CACHE_HOME", cache.to_str().unwrap())];
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let mut running = Running::start(&["build", &source, NO_HTTP, "--continue-after", "600"], &variables);
        until("the program's start", || !processes_with(&format!("sleep\0{mark}")).is_empty());
        running.send(signal);
        running.end();
        until("the program's end", || processes_with(&format!("sleep\0{mark}")).is_empty());
        if signal == Signal::SIGKILL {
            assert_eq!(running.temporary_files().len(), 1, "its directory, which it could not remove");
            let temporary = running.temporary_files()[0].parent().unwrap().to_owned();
            let run = Slim::build(&saved, &[NO_HTTP, "--cmd", "true"]).env("TMPDIR", temporary.to_str().unwrap()).run().ok();
            assert!(run.stderr().contains("removed what killed runs left"), "{}", run.stderr());
        }
        assert_eq!(running.temporary_files(), Vec::<PathBuf>::new());
    }
}

/// Builds as somebody without any rights; with a range of ids or with one.
fn builds_as_user(with_ids: bool) {
    // Owners and permissions that only a range of ids can show; a program that isn't root's.
    let owned = |kind, mode| {
        let mut header = Builder::header(kind, mode);
        header.set_uid(1000);
        header.set_gid(1000);
        header
    };
    let image = busybox().entry("/data/", owned(tar::EntryType::Directory, 0o750), b"");
    let image = image.entry("/data/mine", owned(tar::EntryType::Regular, 0o600), b"mine");
    let image = image.change("USER web").cmd(&["sh", "-c", "cat /data/mine; echo x >/data/new; id -u; stat -c %u /data"]).build();
    let saved = image.for_all();
    let user = PlainUser::new(with_ids);
    let slim = user.copy(Path::new(super::SLIM), "slim");
    let source = saved.source();
    let words = ["build", &source, NO_HTTP, "--output", "docker-archive:app.slim.tar", "--report", "report.json", "--show-clogs"];
    let run = user.command(&slim, &words).env("DOCKER_HOST", NOWHERE).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{said}");
    for line in ["| mine", "| 1000"] {
        assert!(said.contains(line), "{said}");
    }
    let report: Value = serde_json::from_slice(&std::fs::read(user.home().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["verification"]["verdict"], "same");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("degraded"), "fanotify is for root: {warnings}");
    assert_eq!(warnings.contains("there is only one user id"), !with_ids, "{warnings}");
    let paths = kept(&report);
    assert!(paths.iter().any(|path| path == "/data/mine") && !paths.iter().any(|path| path == "/data/new"));
    // Owners come from the image, whoever the files are.
    let built = user.home().join("app.slim.tar");
    let loaded = docker(&["load", "-q", "-i", built.to_str().unwrap()]);
    let name = saved.slim_name();
    assert!(loaded.contains(&name), "{loaded}");
    assert_eq!(docker(&["run", "--rm", &name]), "mine1000\n1000");
    docker(&["rmi", "-f", &name]);
}

#[test]
fn a_user_with_subordinate_ids_builds_too() {
    builds_as_user(true);
}

#[test]
fn a_user_with_one_id_builds_too() {
    builds_as_user(false);
}

/// Regression: the ports of a server with another id than that of who started slim were not seen, as its descriptors are hidden.
#[test]
fn a_user_probes_a_server_of_another_id() {
    let saved = web().change("USER web").build().for_all();
    let user = PlainUser::new(true);
    let slim = user.copy(Path::new(super::SLIM), "slim");
    let source = saved.source();
    let words = ["build", &source, "--http-probe", "--output", "docker-archive:app.slim.tar", "--report", "report.json"];
    let run = user.command(&slim, &words).env("DOCKER_HOST", NOWHERE).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(user.home().join("report.json")).unwrap()).unwrap();
    assert!(kept(&report).iter().any(|path| path == "/www/large"), "the crawl goes there");
}
