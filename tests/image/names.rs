//! Which image is meant, which is refused, and what the result is called.

use serde_json::{Value, json};

use super::{architecture, inspect, name};
use crate::support::{Image, NO_HTTP, Slim, busybox, docker, docker_output, same_behaviour, shell};

#[test]
fn the_result_has_the_names_that_were_asked_for() {
    let image = shell("cat /etc/group").load();
    let tags = [name("one"), name("two")];
    Slim::keep(&image, &[NO_HTTP, "--tag", &tags[0].name, "--tag", &tags[1].name]).run().ok();
    assert_eq!(inspect(&tags[0].name, ".Id"), inspect(&tags[1].name, ".Id"));
    assert!(!docker_output(&["image", "inspect", &image.slim_name()]).status.success(), "only those");

    // `latest`, where no tag is given
    let (untagged, _) = tags[0].name.rsplit_once(':').unwrap();
    let latest = Image::named(format!("{untagged}:latest"));
    Slim::keep(&image, &[NO_HTTP, "--tag", untagged]).run().ok();
    assert_eq!(inspect(&latest.name, ".Id"), inspect(&tags[0].name, ".Id"));

    // an id gives a name that leads back to it
    let id = inspect(&image.name, ".Id");
    let digits = &id["sha256:".len()..];
    let short = &digits[..12];
    let by_id = Image::named(format!("slim-{short}:latest"));
    for spelling in [&id, digits, short, &format!("sha256:{short}")] {
        docker_output(&["rmi", &by_id.name]);
        let run = Slim::new(&["build", spelling, NO_HTTP]).run().ok();
        assert_eq!(run.report()["result"]["tags"], json!([by_id.name]), "{spelling}");
        assert_eq!(inspect(&by_id.name, ".Id"), inspect(&tags[0].name, ".Id"));
    }
    for (tag, problem) in [("Upper", "lower-case"), ("a:b@sha256:c", ""), ("a:-", "tag"), ("", "empty")] {
        Slim::keep(&image, &[NO_HTTP, "--tag", tag]).run().fails(2, problem);
    }
}

#[test]
fn the_image_is_named_in_several_ways() {
    let image = shell("cat /etc/group").load();
    let of_daemon = format!("docker-daemon:{}", image.name);
    for words in [["build", "--target", &image.name], ["build", "--verbose", &of_daemon], ["b", "-q", &image.name]] {
        Slim::new(&[&words[..], &[NO_HTTP]].concat()).run().ok();
        assert_eq!(inspect(&image.slim_name(), "len .RootFS.Layers"), "1", "{words:?}");
        docker(&["rmi", &image.slim_name()]);
    }
}

#[test]
fn an_older_result_survives_a_build_that_fails() {
    let image = shell("cat /etc/group").load();
    Slim::keep(&image, &[NO_HTTP]).run().ok();
    let before = inspect(&image.slim_name(), ".Id");
    for (words, code, said) in [
        (&[NO_HTTP, "--include-path", "/missing"][..], 2, "`--include-path /missing`"),
        (&[NO_HTTP, "--entrypoint", "/missing"], 5, "/missing"),
        (&[NO_HTTP, "--exec", "/missing"], 6, "/missing"),
        (&["--http-probe", "--http-probe-retry-count", "0"], 5, "exit code 0"),
    ] {
        let run = Slim::keep(&image, words).run().fails(code, said);
        let outcome = &run.report()["outcome"];
        assert_eq!(outcome["exit_code"], code, "{outcome}");
        assert!(outcome["error"].as_str().unwrap().contains(said), "{outcome}");
        assert_eq!(run.report()["result"], Value::Null);
        assert_eq!(inspect(&image.slim_name(), ".Id"), before, "{words:?}");
    }
    same_behaviour(&image);
}

#[test]
fn what_slim_made_is_not_made_again_by_accident() {
    let image = shell("cat /etc/group").load();
    let run = Slim::keep(&image, &[NO_HTTP]).run().ok();
    let slim = image.slim_name();
    assert!(run.stdout().contains(&slim));
    let before = inspect(&slim, ".Id");
    Slim::new(&["build", &slim, NO_HTTP]).run().fails(4, "--force");
    let tag = name("again");
    let words = ["build", &slim, NO_HTTP, "--force", "--tag", &tag.name];
    let again = Slim::new(&words).run().ok();
    assert_eq!(again.report()["image"]["id"], before);
    assert_eq!(again.report()["removed"]["entries"], 0, "{}", again.report()["removed"]);
    assert_eq!(inspect(&tag.name, ".RootFS.Layers"), inspect(&slim, ".RootFS.Layers"), "nothing was left to remove");
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_started() {
    Slim::new(&["build", "slim-test-no-such-image:1", "--pull=false"]).run().fails(4, "slim-test-no-such-image:1");
    for (word, said) in [("docker://x", "say where the result goes"), ("Upper", "lower-case"), ("", "empty")] {
        Slim::new(&["build", word]).run().fails(2, said);
    }
    let other = if architecture() == "arm64" { "amd64" } else { "arm64" };
    let image = busybox().config(json!({"architecture": other, "os": "linux", "config": {"Cmd": ["/bin/true"]}})).load();
    let since = docker(&["info", "-f", "{{.SystemTime}}"]);
    let run = Slim::keep(&image, &[NO_HTTP]).run().fails(4, other);
    assert!(run.stderr().contains(architecture()), "{}", run.stderr());
    let until = docker(&["info", "-f", "{{.SystemTime}}"]);
    let events = docker(&["events", "--since", &since, "--until", &until, "--filter", "event=create"]);
    assert!(!events.contains(&inspect(&image.name, ".Id")) && !events.contains(&image.name), "{events}");
}
