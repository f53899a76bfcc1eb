//! The configuration of the original, and the same image for the same plan.

use serde_json::{Value, json};

use super::{architecture, inspect, name, rows};
use crate::support::{Image, NO_HTTP, Slim, busybox, docker, entries, same_behaviour, shell};

/// What the daemon says of an image, but for what must differ.
pub(super) fn facts(image: &str) -> Value {
    let mut facts: Value = serde_json::from_str(&docker(&["image", "inspect", "-f", "{{json .}}", image])).unwrap();
    let fields = ["Config", "Architecture", "Variant", "Os", "OsVersion", "Author", "Created"];
    fields.iter().map(|&field| (field.to_owned(), facts[field].take())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn the_configuration_is_kept_field_by_field() {
    let full = json!({
        "architecture": architecture(), "os": "linux", "author": "Someone <a@b>", "created": "2001-02-03T04:05:06.123456789Z",
        "config": {
            "User": "1000:2000", "ExposedPorts": {"8080/tcp": {}, "53/udp": {}}, "Env": ["PATH=/bin", "EMPTY=", "A=b=c d"],
            "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["cat /etc/group", "x y", ""], "Volumes": {"/data": {}}, "WorkingDir": "/work",
            "Labels": {"z": "1", "a": "", "quote\"": "<&>\u{1f980}"}, "StopSignal": "SIGQUIT", "StopTimeout": 3,
            "Healthcheck": {"Test": ["CMD-SHELL", "cat /etc/passwd"], "Interval": 30_000_000_000_i64, "Timeout": 5_000_000_000_i64, "StartPeriod": 1_000_000_000, "Retries": 7},
            "Shell": ["/bin/sh", "-ec"], "OnBuild": ["RUN a", "COPY b /c"]
        },
        "history": [{"created": "2001-02-03T04:05:06Z", "created_by": "by hand"}, {"created_by": "ENV", "empty_layer": true}],
    });
    let minimal = json!({"architecture": architecture(), "os": "linux", "config": {"Cmd": ["/bin/true"]}});
    let entrypoint =
        json!({"architecture": architecture(), "os": "linux", "config": {"Entrypoint": ["/bin/true"], "Cmd": [], "Labels": {}}});
    for config in [full, minimal, entrypoint] {
        let image = busybox().directory("/work", 0o755).directory("/data", 0o755).config(config.clone()).load();
        Slim::keep(&image, &[NO_HTTP]).run().ok();
        let slim = image.slim_name();
        assert_eq!(facts(&slim), facts(&image.name), "{config}");
        let history = docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", &slim]);
        let layer = docker(&["image", "inspect", "-f", "{{index .RootFS.Layers 0}}", &image.name]);
        assert_eq!(history, format!("slim build|slim {} from layers {layer}", env!("CARGO_PKG_VERSION")));
        assert_eq!(docker(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", &slim]), "1");
    }
}

#[test]
fn options_of_the_run_are_not_in_the_configuration() {
    let image =
        shell("cat /etc/group").change("ENV A=b").change("EXPOSE 80").directory("/work", 0o755).change("LABEL a=b").load();
    let options = [
        NO_HTTP,
        "--env",
        "A=other",
        "--env",
        "NEW=1",
        "--user",
        "1000:2000",
        "--workdir",
        "/tmp",
        "--expose",
        "99",
        "--label",
        "c=d",
        "--entrypoint",
        "cat",
        "--cmd",
        "/etc/passwd",
        "--hostname",
        "h",
        "--tmpfs",
        "/t",
        "--volume",
        "/v",
        "--shm-size",
        "1m",
        "--read-only",
        "--init=false",
        "--tty=false",
        "--network",
        "none",
        "--cap-drop",
        "ALL",
        "--ulimit",
        "nofile=100",
    ];
    let run = Slim::keep(&image, &options).run().ok();
    assert_eq!(facts(&image.slim_name()), facts(&image.name));
    assert!(run.keeps("/bin/sh"), "the image's own command still works");
    same_behaviour(&image);
    let packed = entries(&image.slim_layer()[..]);
    for path in ["t", "v"] {
        assert!(!packed.contains_key(path.as_bytes()), "{path}");
    }
}

#[test]
fn the_same_plan_gives_the_same_image() {
    let image = shell("cat /etc/group; cat /nothing; exit 0").file("/etc/other", b"x", 0o644).load();
    let tags = [name("a"), name("b"), name("dated")];
    let build = |tag: &Image, epoch: &str| {
        let words = [NO_HTTP, "--tag", &tag.name, "--write-plan", "plan", "--observation-out", "seen"];
        Slim::keep(&image, &words).env("SOURCE_DATE_EPOCH", epoch).run().ok()
    };
    let runs = [build(&tags[0], ""), build(&tags[1], ""), build(&tags[2], "1000000000")];
    let [first, second, dated] = tags.each_ref().map(|tag| &tag.name[..]);
    assert_eq!(inspect(first, ".Id"), inspect(second, ".Id"));
    let plans = runs.each_ref().map(|run| std::fs::read_to_string(run.path("plan")).unwrap());
    for plan in &plans[1..] {
        let lines = plan.lines().zip(plans[0].lines());
        let different: Vec<_> = lines.filter(|(one, other)| one != other).collect();
        assert!(*plan == plans[0], "{different:#?}");
    }

    assert_ne!(inspect(first, ".Id"), inspect(dated, ".Id"));
    let (mut expected, found) = (facts(first), facts(dated));
    expected["Created"] = json!("2001-09-09T01:46:40Z");
    assert_eq!(found, expected);
    assert_eq!(inspect(first, ".RootFS.Layers"), inspect(dated, ".RootFS.Layers"));
}

#[test]
fn plan_and_observation_are_complete_files() {
    let image = shell("cat /etc/group; cat /odd* /nothing").change("HEALTHCHECK CMD cat /etc/passwd").load();
    let words = [NO_HTTP, "--exec", "cat /etc/nsswitch.conf", "--write-plan", "plan", "--observation-out", "seen"];
    let run = Slim::keep(&image, &words).run().ok();
    let report = run.report();
    let plan = slim::plan::Plan::from_json(&std::fs::read(run.path("plan")).unwrap()).unwrap();
    let planned: Vec<Vec<u8>> = plan.entries.iter().map(|kept| kept.path.clone()).collect();
    assert_eq!(planned, rows(&report["kept"]));
    assert_eq!(plan.image, inspect(&image.name, ".Id"));

    let seen = slim::observe::file::read(&std::fs::read(run.path("seen")).unwrap()[..]).unwrap();
    assert_eq!((&seen.header.image, &seen.header.name), (&plan.image, &image.name));
    assert!(seen.end.complete && seen.end.losses.is_empty() && seen.end.counters.lost == 0);
    assert_eq!(seen.end.exit_code, Some(1), "of the program, as `/nothing` is not there");
    assert!(seen.uses.iter().any(|path_use| path_use.path == b"/nothing"), "failed look-ups are evidence");
    assert!(seen.processes.iter().any(|process| process.command.iter().any(|word| word == "/etc/nsswitch.conf")));
    assert!(seen.mounts.iter().any(|mount| mount.target == b"/proc"));
    assert!(!seen.syscalls.is_empty());
}
