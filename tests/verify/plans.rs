//! The same plan gives the same image, without running anything; several runs give one plan.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{Outside, PlanFile, Tag, build_of_plan, page};
use crate::support::{Engine, Image, NO_HTTP, Run, Slim, docker, on_both_engines, shell};

on_both_engines!(a_plan_is_packed_without_running_anything, the_same_plan_gives_the_same_image);

/// Builds from a plan without running anything; the image's id.
#[track_caller]
fn packed(image: &Image, plan: &PlanFile, words: &[&str]) -> (String, Run) {
    let tag = Tag::of(image);
    let run = build_of_plan(image, plan, &tag, words).run().ok();
    (tag.config().0, run)
}

fn a_plan_is_packed_without_running_anything(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let image = shell("cat /etc/group; echo ran >> /trace/runs").build_for(engine);
    let mount = format!("{}:/trace", folder.path().display());
    let words = [NO_HTTP, "--volume", &mount];
    let plan = PlanFile::of(&image, &words);
    let runs = || std::fs::read_to_string(folder.path().join("runs")).unwrap();
    assert_eq!(runs(), "ran\n");

    let now = || format!("{:.9}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64());
    let begun = now();
    packed(&image, &plan, &words);
    assert_eq!(runs(), "ran\n", "the program was not run again");
    if engine == Engine::Embedded {
        return;
    }
    let id = docker(&["image", "inspect", "-f", "{{.Id}}", &image.name]);
    let format = "{{.Actor.Attributes.image}}";
    let started = ["events", "--since", &begun, "--until", &now(), "--filter", "event=start", "--format", format];
    let started = docker(&started);
    let own = started.lines().filter(|started| **started == id || **started == image.name).count();
    assert_eq!(own, 1, "no container was started but the packer's:\n{started}");
}

fn the_same_plan_gives_the_same_image(engine: Engine) {
    let image = page().build_for(engine);
    let plan = PlanFile::of(&image, &[]);
    let (id, _) = packed(&image, &plan, &[]);
    let (again, run) = packed(&image, &plan, &["--check-reproducible"]);
    assert_eq!(again, id);
    assert_eq!(run.report()["reproducible"], true);
    // Also where it is run and probed.
    assert_eq!(packed(&image, &plan, &["--verify=strict"]).0, id);

    let dated = |seconds: &str| {
        let tag = Tag::of(&image);
        build_of_plan(&image, &plan, &tag, &[]).env("SOURCE_DATE_EPOCH", seconds).run().ok();
        let (id, config) = tag.config();
        format!("{id} {}", config["created"].as_str().unwrap())
    };
    let first = dated("1000000000");
    assert!(first.ends_with(" 2001-09-09T01:46:40Z") && !first.starts_with(&id), "{first}");
    assert_eq!(dated("1000000000"), first);
}

#[test]
fn a_plan_of_another_image_is_refused() {
    let (image, other) = (page().build(), shell("cat /etc/group").build());
    let (plan, tag) = (PlanFile::of(&image, &[]), Tag::of(&image));
    let text = "the plan keeps `/www`, which is not in the image: it was made of another image";
    build_of_plan(&other, &plan, &tag, &[]).run().fails(2, text);
    assert!(!tag.is_there());
}

#[test]
fn what_only_some_runs_use_is_kept_and_told() {
    let outside = Outside::new();
    let script = format!("cat /etc/group /data/$(wget -q -O - http://127.0.0.1:{}/) > /dev/null", outside.port());
    let mut image = shell(&script);
    for number in 1..=4 {
        image = image.file(&format!("/data/{number}"), b"the same", 0o644);
    }
    let image = image.build();
    let words = [NO_HTTP, "--network", "host", "--runs", "3"];
    let run = Slim::observe(&image, &words).run().ok();
    let report = run.report();
    assert_eq!(report["runs"]["count"], 3);
    let partial: Vec<_> = report["runs"]["partial"].as_array().unwrap().clone();
    let expected = (1..=3).map(|run| json!({"path": format!("/data/{run}"), "runs": [run]}));
    assert_eq!(partial, expected.collect::<Vec<_>>());
    assert!((1..=3).all(|run_number| run.keeps(&format!("/data/{run_number}"))) && !run.keeps("/data/4"));
}
