//! What is told of the result: the report, and what is written on the terminal.

use serde_json::{Value, json};

use super::{inspect, rows};
use crate::support::{NO_HTTP, Run, Slim, config_id, exported, shell};

#[test]
fn the_report_accounts_for_every_entry() {
    let image = shell("cat /etc/group /srv/used; cat /srv/missing")
        .file("/srv/used", b"used", 0o644)
        .file("/srv/unused", b"unused", 0o644)
        .hard_link("/srv/other-name", "/srv/used")
        .load();
    let run = Slim::keep(&image, &[NO_HTTP, "--env", "A=hidden", "--exec", "cat /etc/passwd"]).run().ok();
    let report = run.report();
    assert_eq!(report["version"], 1);
    assert!(report["tool"].as_str().unwrap().starts_with("slim "));
    assert_eq!((&report["outcome"]["exit_code"], &report["outcome"]["meaning"]), (&json!(0), &json!("done")));
    assert_eq!(report["image"]["name"], image.name);
    assert_eq!(report["result"]["id"], config_id(&image.slim_name()));
    assert_eq!(report["result"]["layer"], inspect(&image.slim_name(), "index .RootFS.Layers 0"));

    let engine = [
        ".dockerenv",
        "dev/console",
        "dev/pts",
        "dev/shm",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
        "proc",
        "sys",
        "dev",
    ];
    let mut expected = exported(&image.name);
    expected.retain(|path, _| !engine.iter().any(|name| name.as_bytes() == path));
    let mut expected: Vec<Vec<u8>> = expected.keys().map(|path| [b"/", &path[..]].concat()).collect();
    expected.push(b"/".to_vec());
    expected.sort();
    expected.dedup();
    let mut accounted = [rows(&report["kept"]), rows(&report["removed"]["paths"])].concat();
    accounted.sort();
    assert_eq!(accounted, expected);
    assert_eq!(report["image"]["entries"], accounted.len());
    assert_eq!(report["removed"]["entries"], rows(&report["removed"]["paths"]).len());
    assert_eq!(report["removed"]["bytes"], b"unused".len(), "`/srv/other-name` is still there as `/srv/used`");
    for row in report["kept"].as_array().unwrap() {
        assert!(!row["reasons"].as_array().unwrap().is_empty(), "{row}");
        assert!(row["kind"].is_string() && row["size"].is_u64(), "{row}");
    }
    let used = |path: &str, access: &str, during: &str| {
        let expected = json!({"why": "used", "access": access, "by": "/bin/busybox", "during": during});
        assert!(run.reasons(path).contains(&expected), "{path}: {:?}", run.reasons(path));
    };
    used("/srv/used", "open", "start");
    used("/etc/passwd", "open", "cat /etc/passwd");
    used("/bin/busybox", "exec", "start");

    assert_eq!((&report["evidence"]["complete"], &report["evidence"]["counters"]["lost"]), (&json!(true), &json!(0)));
    assert_eq!(report["probes"]["exec"][0]["exit_code"], 0);
    let syscalls = report["syscalls"].as_array().unwrap();
    assert!(syscalls.contains(&json!("execve")) && syscalls.contains(&json!("write")), "{syscalls:?}");
    let steps: Vec<&str> = report["seconds"].as_array().unwrap().iter().map(|step| step[0].as_str().unwrap()).collect();
    for step in ["resolve", "observe", "plan", "pack"] {
        assert!(steps.contains(&step), "{steps:?}");
    }
    assert!(report["options"].to_string().contains('A') && !report.to_string().contains("hidden"), "values may be secrets");
}

#[test]
fn the_report_goes_where_the_user_says() {
    let image = shell("cat /etc/group").load();
    let files = |run: &Run| std::fs::read_dir(run.path("")).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    let run = Slim::keep(&image, &[NO_HTTP, "--report", "off"]).run().ok();
    assert_eq!(files(&run), [""; 0], "nothing is written");
    let run = Slim::keep(&image, &[NO_HTTP, "--report", "mine.json"]).run().ok();
    assert_eq!(files(&run), ["mine.json"]);
    let run = Slim::keep(&image, &[NO_HTTP, "--report", "missing/folder/mine.json"]).run().ok();
    assert!(run.stderr().contains("missing/folder/mine.json"), "{}", run.stderr());
    assert_eq!(files(&run), [""; 0]);
    assert_eq!(inspect(&image.slim_name(), "len .RootFS.Layers"), "1");
}

#[test]
fn the_result_is_told_as_it_was_asked_for() {
    let image = shell("cat /etc/group").load();
    let slim = image.slim_name();
    let run = Slim::keep(&image, &[NO_HTTP, "--quiet"]).run().ok();
    assert_eq!((run.stdout(), run.stderr()), (format!("{slim}\n"), String::new()));
    let run = Slim::keep(&image, &[NO_HTTP, "--output-format", "json"]).run().ok();
    let told: Value = serde_json::from_str(&run.stdout()).unwrap();
    let report = run.report();
    assert_eq!((&told["image"], &told["tags"]), (&json!(image.name), &json!([slim])));
    assert_eq!((&told["id"], &told["entries_kept"]), (&report["result"]["id"], &report["result"]["entries"]));
    assert_eq!((&told["size_before"], &told["size_after"]), (&report["image"]["size"], &report["result"]["size"]));
    assert_eq!((&told["lost"], &told["entries_removed"]), (&json!(0), &report["removed"]["entries"]));
    let run = Slim::keep(&image, &[NO_HTTP]).run().ok();
    for words in [&slim[..], "kept", "removed", " 0 lost", "times smaller", "docker run --rm"] {
        assert!(run.stdout().contains(words), "{words}: {}", run.stdout());
    }
    assert!(!run.stdout().contains('\x1b') && !run.stderr().contains('\x1b'), "no terminal, no colour");
}
