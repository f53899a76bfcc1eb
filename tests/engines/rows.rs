//! The rows of the contract: what is promised, tried on one engine.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::check;
use super::contract::{Ground, loadable, server};
use crate::registry::to_index;
use crate::sensor::alike::{compare_facts, facts};
use crate::support::{
    Engine, Image, NO_HTTP, NOWHERE, Registry, Running, Slim, busybox, digits, docker_architecture, heavy_web, saved_config,
    shell, web,
};

fn report_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// By its own name, and after a trial of which nothing is left.
pub(super) fn doctor(ground: &Ground) {
    let before = ground.images();
    let run = Slim::with(ground.client(), &["doctor"]).run().ok();
    let kind = if ground.daemon.is_podman() { "Podman" } else { "Docker" };
    assert!(run.stdout().starts_with(&format!("yes   {kind} ")), "{}", run.stdout());
    let is_degraded = run.stdout().lines().nth(1).is_some_and(|note| note.contains("fanotify is refused"));
    assert_eq!(is_degraded, ground.daemon.is_rootless(), "{}", run.stdout());
    assert_eq!(ground.images(), before);
    // Regression: a trial that was interrupted left its container and its image.
    for milliseconds in [100, 300, 500] {
        let mut slim = ground.client().slim();
        let mut slim = slim.arg("doctor").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        kill(Pid::from_raw(slim.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        slim.wait().unwrap();
        assert_eq!(ground.images(), before, "{milliseconds} ms");
        ground.daemon.assert_nothing_is_left();
    }
}

pub(super) fn verified(ground: &Ground) {
    let run = check(&ground.web, Slim::build(&ground.web, &["--http-probe"]).run());
    let report = run.report();
    assert_eq!(report["verification"]["verdict"], "same");
    let degraded = report["evidence"]["fanotify"]["refused"].is_string();
    assert_eq!(degraded, ground.daemon.is_rootless(), "the kernel refuses fanotify to users: {}", report["evidence"]);
    let sizes = [&report["image"]["size"], &report["result"]["size"]].map(|size| size.as_u64().unwrap());
    assert!(sizes[0] > sizes[1] && sizes[1] > 1 << 20, "like for like: {sizes:?}");
}

pub(super) fn serves(ground: &Ground) {
    let client = ground.client();
    let container = client.docker(&["run", "-d", "-p", "127.0.0.1:18080:8080", &ground.web.slim_name()]);
    let fetch = ["curl", "--silent", "--fail", "--retry", "20", "--retry-delay", "1", "--retry-all-errors", "--max-time", "30"];
    let page = client.in_network(&[&fetch[..], &["http://127.0.0.1:18080/"]].concat()).output().unwrap();
    client.docker(&["rm", "-f", "-v", &container]);
    assert_eq!(String::from_utf8_lossy(&page.stdout), "<a href=/large>large</a>", "{page:?}");
}

/// Of whom the source is; the advice is to be typed as it is.
pub(super) fn name(ground: &Ground) {
    let run = Slim::keep(&ground.web, &["--http-probe"]).run().ok();
    let (prefix, command) = if ground.daemon.is_podman() { ("localhost/", "podman") } else { ("", "docker") };
    let name = format!("{prefix}{}", ground.web.slim_name());
    assert_eq!(run.report()["result"]["tags"], json!([name]));
    assert!(run.stdout().ends_with(&format!("try it: {command} run --rm {name}\n")), "{}", run.stdout());
    let run = ground.build("given/name", &["--verify=off", "--tag", "reg.example/name:2"]);
    assert_eq!(run.report()["result"]["tags"], json!([format!("{prefix}given/name:latest"), "reg.example/name:2"]));
    ["given/name:latest", "reg.example/name:2"].iter().for_each(|name| ground.client().remove_image(name));
}

/// The image that had the name before has none then, and is not ours to remove.
pub(super) fn again(ground: &Ground) {
    ground.build("again:1", &[]);
    let before = ground.images();
    let run = ground.build("again:1", &[]);
    assert_eq!(ground.images(), before, "the same bytes are the same image");
    assert_eq!(run.report()["verification"]["verdict"], "same");
    ground.client().remove_image("again:1");
}

pub(super) fn plan(ground: &Ground) {
    let first = ground.build("plan:1", &["--write-plan", "plan.json"]);
    let plan = first.path("plan.json");
    std::fs::set_permissions(plan.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let second = ground.build("plan:2", &["--plan", plan.to_str().unwrap(), "--check-reproducible"]);
    assert_eq!(first.report()["result"]["id"], second.report()["result"]["id"]);
    ["plan:1", "plan:2"].iter().for_each(|name| ground.client().remove_image(name));
}

/// What is written into an image doesn't depend on the store's ids.
pub(super) fn one_configuration(ground: &Ground) {
    let client = ground.client();
    let here = ground.build("one:1", &["--write-plan", "plan.json"]);
    let config = saved_config(&client.output(&["save", "one:1"]).stdout);
    let id = format!("sha256:{}", digits(&config));
    let report = here.report();
    assert_eq!(report["result"]["id"], id.as_str(), "the configuration's");
    let in_engine = client.get("/images/one:1/json")["Id"].as_str().unwrap().to_owned();
    let told = report["result"]["id_in_engine"].as_str().unwrap_or(&id);
    assert!(in_engine.ends_with(told.trim_start_matches("sha256:")), "{told}, not {in_engine}");
    let (plan, archive) = (here.path("plan.json"), here.path("app.tar"));
    client.docker(&["save", "-o", archive.to_str().unwrap(), &ground.web.name]);
    let source = format!("docker-archive:{}", archive.display());
    let words = ["build", &source, "--plan", plan.to_str().unwrap(), "--output", "oci:layout:1"];
    let of_file = Slim::new(&words).env("DOCKER_HOST", NOWHERE).run().ok();
    assert_eq!(of_file.report()["result"]["id"], id.as_str());
    client.remove_image("one:1");
}

/// Regression: Podman wrote root and its group into files of the container in which the image was listed.
pub(super) fn only_the_image(ground: &Ground) {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let image = Image::scratch().file("/busybox", &busybox, 0o755).change("VOLUME /data").cmd(&["/busybox", "true"]);
    let image = image.load_in(ground.client());
    for words in [&[][..], &["--user", "7:8"]] {
        let run = Slim::keep(&image, &[&[NO_HTTP, "--include-path", "/**"], words].concat()).run().ok();
        let report = run.report();
        let rows = report["kept"].as_array().unwrap();
        assert_eq!(rows.iter().map(|row| row["path"].as_str().unwrap()).collect::<Vec<_>>(), ["/", "/busybox"]);
    }
}

pub(super) fn verify(ground: &Ground) {
    let words = ["verify", &ground.web.slim_name(), "--against", &ground.web.name, "--http-probe"];
    let run = Slim::with(ground.client(), &words).run().ok();
    assert!(run.stdout().contains("does what the original does"), "{}", run.stdout());
}

pub(super) fn files(ground: &Ground) {
    let (archive, layout) = ("docker-archive:out.tar", "oci:layout:1");
    let run = ground.build("files:1", &["--output", archive, "--output", layout]);
    assert!(run.path("layout/index.json").exists());
    ground.client().docker(&["load", "-i", run.path("out.tar").to_str().unwrap()]);
    assert_eq!(ground.run(&["--entrypoint", "/bin/busybox", "files:1", "cat", "/www/index.html"]), "<a href=/large>large</a>");
    ground.client().remove_image("files:1");
}

/// Made by the engine itself.
pub(super) fn layers(ground: &Ground) {
    // Podman's builder goes by the history of the base.
    let config =
        json!({"architecture": docker_architecture(), "os": "linux", "config": {}, "history": [{"created_by": "by hand"}]});
    let base = shell("").file("/data/old", b"old", 0o600).file("/data/gone", b"gone", 0o644).config(config);
    let base = ground.load(base);
    let changes = "RUN rm /data/gone && mkdir /new && echo new >/new/file && busybox ln /data/old /new/linked && busybox chown 7:8 /data/old\n\
                   CMD [\"busybox\", \"stat\", \"-c\", \"%u:%g %h %a\", \"/new/linked\"]";
    let image = base.derived(changes);
    let run = Slim::build(&image, &[NO_HTTP, "--include-path", "/data"]).run().ok();
    assert!(run.keeps("/new/linked") && run.keeps("/data/old") && !run.keeps("/data/gone"), "{}", run.stdout());
    assert_eq!(ground.run(&[&image.slim_name()]), "7:8 2 600");
}

pub(super) fn zstd(ground: &Ground) {
    let run = ground.build("zstd:1", &["--compression", "zstd", "--output", "oci:layout:1", "--output", "docker-daemon:"]);
    assert_eq!(run.report()["verification"]["verdict"], "same");
    ground.client().remove_image("zstd:1");
}

pub(super) fn health_check(ground: &Ground) {
    let lines =
        "HEALTHCHECK --interval=7s --timeout=3s CMD test -e /www/hidden\nSTOPSIGNAL SIGINT\nONBUILD ENV later=1\nLABEL a=b";
    let image = ground.load(web().dockerfile(lines));
    let run = Slim::build(&image, &["--http-probe"]).run().ok();
    assert_eq!(run.report()["probes"]["health_check"]["exit_code"], 0);
    assert!(run.keeps("/www/hidden"), "{}", run.stdout());
    let config = |name: &str| -> Value {
        let config: Value = serde_json::from_slice(&saved_config(&ground.client().output(&["save", name]).stdout)).unwrap();
        config["config"].clone()
    };
    let (fat, slim) = (config(&image.name), config(&image.slim_name()));
    assert_eq!(fat["Healthcheck"]["Interval"], 7_000_000_000_u64);
    assert_eq!(slim, fat);
}

pub(super) fn no_history(ground: &Ground) {
    let config = json!({"architecture": docker_architecture(), "os": "linux", "config": {"Cmd": ["cat", "/etc/group"]}});
    let image = ground.load(shell("").config(config));
    let run = Slim::build(&image, &[NO_HTTP]).run().ok();
    assert!(run.keeps("/etc/group"));
}

pub(super) fn own_image(ground: &Ground) {
    let again = Image::named_in(ground.client(), ground.web.slim_name());
    Slim::build(&again, &["--http-probe"]).run().fails(4, "was made by slim already");
    std::mem::forget(again);
}

pub(super) fn volume(ground: &Ground) {
    let client = ground.client();
    let fill = ["--volume", "slim-data:/data", "--entrypoint", "/bin/busybox", &ground.web.name, "touch", "/data/seed"];
    ground.run(&fill);
    let words = ["--volume", "slim-data:/data", "--exec", "busybox rm /data/seed", "--exec", "test ! -e /data/seed"];
    let run = ground.build("volume:1", &words);
    assert_eq!(run.report()["verification"]["verdict"], "same", "{:?}", run.warnings());
    client.docker(&["volume", "rm", "slim-data"]);
    client.remove_image("volume:1");
}

/// Who isn't root must be able to write to the copy.
pub(super) fn volume_of_a_user(ground: &Ground) {
    let client = ground.client();
    let fill = ["--volume", "slim-own:/data", "--entrypoint", "/bin/busybox", &ground.web.name, "sh", "-c"];
    ground.run(&[&fill[..], &["busybox touch /data/seed; busybox chown -R 1000:1000 /data; busybox chmod 2750 /data"]].concat());
    let words =
        ["--volume", "slim-own:/data", "--user", "web", "--exec", "busybox rm /data/seed", "--exec", "stat -c %u:%g:%a /data"];
    let run = ground.build("volume:2", &words);
    assert_eq!(run.report()["verification"]["verdict"], "same", "{:?}", run.warnings());
    client.docker(&["volume", "rm", "slim-own"]);
    client.remove_image("volume:2");
}

pub(super) fn read_only(ground: &Ground) {
    let run = ground.build("read-only:1", &["--read-only", "--tmpfs", "/tmp", "--exec", "test ! -w /www"]);
    assert_eq!(run.report()["verification"]["verdict"], "same");
    ground.client().remove_image("read-only:1");
}

pub(super) fn user(ground: &Ground) {
    let image = ground.load(shell("id -u; cat /etc/group"));
    let run = Slim::build(&image, &[NO_HTTP, "--user", "web"]).run().ok();
    assert!(run.keeps("/etc/passwd") && run.keeps("/etc/group"));
    assert_eq!(ground.run(&["--user", "1000", &image.slim_name()]).lines().next(), Some("1000"));
}

pub(super) fn no_capabilities(ground: &Ground) {
    let image = ground.load(shell("busybox grep CapEff /proc/self/status; cat /etc/group"));
    let run = Slim::build(&image, &[NO_HTTP, "--cap-drop", "ALL", "--show-clogs"]).run().ok();
    assert!(run.keeps("/etc/group"));
}

/// Into a file, as Podman's logs break lines where the output came in parts. What a user's engine refuses a container, it refuses in
/// its own words.
pub(super) fn cannot_tell(ground: &Ground) {
    if ground.daemon.is_rootless() {
        return;
    }
    let image = busybox().file("/facts", facts(), 0o755).change("CMD exec /facts >/out/facts").load_in(ground.client());
    let folder = ground.daemon.folder().join("out");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
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
        ground.run(&[&["--volume", &volume], options, &[image.name.as_str()]].concat());
        let plain = written();
        Slim::observe(&image, &[&[NO_HTTP, "--volume", &volume], options].concat()).run().ok();
        compare_facts(Engine::Docker, options, &plain, &written(), ["mount ", "variable "]);
    }
}

/// A server of a user's can't have the low ports there; this one has a high one.
pub(super) fn host_network(ground: &Ground) {
    let run = ground.build("host:1", &["--network", "host"]);
    assert!(run.report()["verification"]["verdict"] == "same" && run.keeps("/www/large"), "{:?}", run.warnings());
    ground.client().remove_image("host:1");
}

pub(super) fn no_network(ground: &Ground) {
    let run = ground.build("none:1", &["--network", "none"]);
    assert!(run.report()["verification"]["verdict"] == "same" && run.keeps("/www/large"), "{:?}", run.warnings());
    ground.client().remove_image("none:1");
}

pub(super) fn exit_code(ground: &Ground) {
    let image = ground.load(shell("cat /etc/group >/dev/null; exit 3"));
    Slim::build(&image, &[NO_HTTP]).run().fails(5, "3");
    Slim::build(&image, &[NO_HTTP, "--exec", "true"]).run().ok();
}

/// Regression: with Podman a program was killed right after its stop signal.
pub(super) fn signals(ground: &Ground) {
    let script = "trap 'sleep 1; cat /etc/group; exit 0' USR1; echo $$; sleep 100 & wait";
    let image = ground.load(shell(script).change("STOPSIGNAL SIGUSR1"));
    let run = Slim::build(&image, &[NO_HTTP, "--exec", "true"]).run().ok();
    assert!(run.keeps("/etc/group"), "{}", run.stderr());
    assert!(!run.stderr().contains("it was killed"), "{}", run.stderr());
}

pub(super) fn own_engine(ground: &Ground) {
    let run = ground.build("own:1", &["--engine", "embedded"]);
    assert_eq!(run.report()["verification"]["verdict"], "same");
    assert!(ground.client().has_image("own:1"));
    ground.client().remove_image("own:1");
}

pub(super) fn elsewhere(ground: &Ground) {
    let slim = Slim::build_elsewhere(&ground.web, &["--http-probe", "--tag", "elsewhere:1", "--exec", "cat /www/hidden"]);
    let temporary = slim.folder().join("temporary");
    let run = slim.run().ok();
    assert!(run.keeps("/www/hidden") && run.report()["verification"]["verdict"] == "same");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "it would make what it is asked to mount");
    ground.client().remove_image("elsewhere:1");
}

pub(super) fn no_image(ground: &Ground) {
    let command = if ground.daemon.is_podman() { "podman" } else { "docker" };
    let words = ["build", "slim-test/nothing:1", "--pull=false"];
    let advice = format!("the daemon has no image `slim-test/nothing:1`: check the name with `{command} images`");
    Slim::with(ground.client(), &words).run().fails(4, &advice);
}

pub(super) fn no_program(ground: &Ground) {
    let before = ground.images();
    let run = Slim::build(&ground.web, &["--http-probe", "--cmd", "nosuch"]).run();
    let run = run.fails(5, "nosuch");
    assert_eq!(ground.images(), before);
    assert!(!run.stderr().contains("is left in the engine"), "{}", run.stderr());
}

pub(super) fn broken(ground: &Ground) {
    let before = ground.images();
    let words =
        ["--http-probe", "--exclude-pattern", "/www/large", "--repair-rounds", "0", "--verify=strict", "--tag", "broken:1"];
    let run = Slim::build(&ground.web, &words).run().fails(8, "/large");
    assert_eq!(ground.images(), before);
    assert!(!run.stderr().contains("is left in the engine"), "{}", run.stderr());
}

/// Starts a build, and waits until it says something.
fn until(ground: &Ground, image: &Image, moment: &str) -> Running {
    let client = ground.client();
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    [folder.path(), &temporary].iter().for_each(|directory| client.give(directory));
    let mut command = client.slim();
    command.args(["build", &image.name, "--http-probe"]).current_dir(folder.path()).env("TMPDIR", &temporary);
    let mut run = Running::spawn(command, temporary, folder);
    run.until_it_says(moment);
    run
}

pub(super) fn interrupted(ground: &Ground) {
    let image = ground.load(heavy_web());
    let before = ground.images();
    for moment in ["probing", "packing", "verifying, slim image: starting"] {
        let mut run = until(ground, &image, moment);
        run.send(Signal::SIGINT);
        assert_eq!(run.end(), 130, "{}", run.said());
        assert_eq!(ground.images(), before, "{moment}\n{}", run.said());
        assert!(!run.said().contains("is left in the engine"), "{}", run.said());
    }
}

pub(super) fn killed(ground: &Ground) {
    let image = ground.load(heavy_web());
    let before = ground.images();
    for moment in ["packing", "verifying, slim image: probing"] {
        let mut run = until(ground, &image, moment);
        run.send(Signal::SIGKILL);
        run.end();
        let temporary = run.temporary();
        let slim = Slim::build(&ground.web, &["--http-probe", "--verify=off", "--output", "docker-archive:x.tar"]);
        slim.env("TMPDIR", temporary.to_str().unwrap()).run().ok();
        assert_eq!(ground.images(), before, "{moment}");
        ground.daemon.assert_nothing_is_left();
    }
}

/// As BuildKit makes it, with what says how it was made, and a second platform.
pub(super) fn index(ground: &Ground) {
    // A user's engine has a loopback of its own.
    if ground.daemon.is_rootless() {
        return;
    }
    let registry = Registry::start_beside(ground.client());
    // A layer of its own: where another image has brought it, Docker doesn't fetch it, and lacks its blob.
    let (image, folder) = (loadable(web()).file("/own", b"", 0o644).build(), tempfile::tempdir().unwrap());
    let layout = folder.path().join("layout");
    to_index(&image.path("app.tar"), &layout);
    let name = registry.push_layout(&layout);
    let run = Slim::with(ground.client(), &["build", &name, "--http-probe", "--pull"]).run().ok();
    assert!(run.keeps("/www/large") && run.report()["verification"]["verdict"] == "same", "{}", run.stderr());
    let slim = name.replace(":1", ".slim:1");
    [&name, &slim].iter().for_each(|name| ground.client().remove_image(name));
    if ground.daemon.kind.ends_with("containerd") {
        let layout = folder.path().join("of another");
        to_index(&server().build().path("app.tar"), &layout);
        let name = registry.push_layout(&layout);
        // Docker 26 fetches the layer all the same.
        let run = Slim::with(ground.client(), &["build", &name, "--pull"]).run();
        let is_told = run.code() == 4 && run.stderr().contains(&format!("(`docker://{name}`)"));
        assert!(run.code() == 0 || is_told, "{}", run.stderr());
        [&name, &slim].iter().for_each(|name| ground.client().remove_image(name));
    }
}

pub(super) fn other_platforms(ground: &Ground) {
    if ground.daemon.is_rootless() {
        return;
    }
    let registry = Registry::start_beside(ground.client());
    let (image, folder) = (loadable(web()).build(), tempfile::tempdir().unwrap());
    let layout = folder.path().join("layout");
    to_index(&image.path("app.tar"), &layout);
    // Without ours.
    let index = layout.join("index.json");
    let mut top = report_of(&index);
    let digest = top["manifests"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    let mut inner = report_of(&layout.join("blobs/sha256").join(digest));
    inner["manifests"].as_array_mut().unwrap().retain(|manifest| manifest["platform"]["architecture"] == "s390x");
    let inner = inner.to_string();
    std::fs::write(layout.join("blobs/sha256").join(digits(inner.as_bytes())), &inner).unwrap();
    top["manifests"][0]["digest"] = format!("sha256:{}", digits(inner.as_bytes())).into();
    top["manifests"][0]["size"] = inner.len().into();
    std::fs::write(&index, top.to_string()).unwrap();
    let name = registry.push_layout(&layout);
    let run = Slim::with(ground.client(), &["build", &name, "--http-probe", "--pull"]).run();
    assert!(run.code() == 4 && run.stderr().contains(&name), "{}: {}", run.code(), run.stderr());
    ground.client().remove_image(&name);
}

pub(super) fn nothing_left(ground: &Ground) {
    ground.daemon.assert_nothing_is_left();
    let unnamed = ground.client().docker(&["images", "-q", "--filter", "dangling=true"]);
    assert_eq!(unnamed, "", "images without names are left");
}
