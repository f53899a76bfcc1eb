//! One thing is taken out of a plan, of every kind that is easily lost: it is seen, it is repaired or told.

use serde_json::Value;

use super::kinds::{self, KINDS, Kind, Repair};
use super::{PlanFile, Tag, assert_nothing_is_left, build_of_plan, for_each_beside, verification};
use crate::support::{Image, Run, Slim};

#[test]
fn what_was_lost_is_seen_and_repaired_or_told() {
    check(&kinds::image().build(), &KINDS.each_ref());
}

/// One kind for each way in which the daemon is asked for something else: a file, permissions, what is run at the start.
#[test]
fn what_was_lost_is_seen_and_repaired_or_told_under_docker() {
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| ["template", "mode", "entrypoint"].contains(&kind.name)).collect();
    assert_eq!(kinds.len(), 3);
    check(&kinds::image().load(), &kinds);
}

fn check(image: &Image, kinds: &[&Kind]) {
    let requests = kinds::all_requests();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let plan = PlanFile::of(image, &requests);
    for_each_beside(kinds.iter().zip(1..), |(kind, number)| {
        let case = Case { image, plan: plan.with(&kind.lost), number, kind };
        case.is_seen();
        case.is_repaired_or_told();
        case.is_tagged_where_nobody_looks();
    });
}

/// A plan that lacks one thing.
struct Case<'a> {
    image: &'a Image,
    plan: PlanFile,
    kind: &'a Kind,
    number: u32,
}

impl Case<'_> {
    fn build(&self, tag: &Tag, words: &[&str]) -> Run {
        let request = self.kind.request();
        let words = [&["--http-probe-cmd", &request], words].concat();
        // All repaired plans come to the same image, which one case would take from another.
        build_of_plan(self.image, &self.plan, tag, &words).env("SOURCE_DATE_EPOCH", &self.number.to_string()).run()
    }

    fn is_seen(&self) {
        let tag = Tag::of(self.image);
        let run = self.build(&tag, &["--verify=strict", "--repair-rounds", "0"]).fails(8, self.kind.lost.path());
        assert_nothing_is_left(&run, &tag);
        assert_tells(&verification(&run), &self.kind.probe(), self.kind.lost.path());
    }

    fn is_repaired_or_told(&self) {
        let tag = Tag::of(self.image);
        let run = self.build(&tag, &["--verify=strict"]);
        let path = self.kind.lost.path();
        match self.kind.repair {
            Repair::Restored(why) => {
                let run = run.ok();
                assert!(tag.is_there());
                assert!(run.reasons(path).iter().any(|reason| reason["why"] == why), "{path}: {:?}", run.reasons(path));
                let verification = verification(&run);
                assert_eq!(verification["verdict"], "same", "{path}");
                assert_eq!(verification["rounds"].as_array().map(Vec::len), Some(2), "{verification:#}");
                assert!(verification["rounds"][0]["examples"].as_array().unwrap().contains(&path.into()), "{verification:#}");
            }
            Repair::Told => {
                let run = run.fails(8, path);
                assert_nothing_is_left(&run, &tag);
                assert_tells(&verification(&run), &self.kind.probe(), path);
            }
        }
    }

    fn is_tagged_where_nobody_looks(&self) {
        let tag = Tag::of(self.image);
        let run = self.build(&tag, &["--verify=off"]).ok();
        assert!(tag.is_there());
        assert_eq!(verification(&run), Value::Null);
    }
}

/// What differs, and what is likely to be the reason.
#[track_caller]
fn assert_tells(verification: &Value, probe: &str, path: &str) {
    assert_eq!(verification["verdict"], "differs", "{verification:#}");
    let difference = &verification["differences"][0];
    assert_eq!(difference["probe"], probe, "{verification:#}");
    assert_ne!(difference["expected"], difference["got"], "{verification:#}");
    assert_eq!(verification["suspects"][0]["path"], path, "{verification:#}");
}

#[test]
fn a_lost_capability_is_seen_in_an_image_of_another_tool() {
    let (image, other) = (kinds::image().build(), kinds::image_without_capability().build());
    let verify = |path: &str| {
        let words =
            ["verify", &other.source(), "--against", &image.source(), "--report", "report.json", "--http-probe-cmd", path];
        Slim::new(&words).run()
    };
    verify("/cgi-bin/template").ok();
    let run = verify("/cgi-bin/capability");
    assert_eq!(run.code(), 8, "{}{}", run.stdout(), run.stderr());
    let report: Value = serde_json::from_slice(&std::fs::read(run.path("report.json")).unwrap()).unwrap();
    assert_tells(&report, "GET /cgi-bin/capability on port 8080", "/app/capable");
    assert!(run.stdout().contains("/app/capable"), "{}", run.stdout());
}

#[test]
fn what_a_crippled_sensor_did_not_see_is_repaired() {
    let image = kinds::image().build();
    let requests = kinds::all_requests();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let crippled = ["--sensor", "fanotify", "--keep-looked-at", "none"];
    let run = Slim::build(&image, &[&crippled, &requests[..]].concat()).run().ok();
    let verification = verification(&run);
    assert_eq!(verification["verdict"], "same");
    let rounds = verification["rounds"].as_array().unwrap();
    let (last, before) = rounds.split_last().unwrap();
    assert!(!before.is_empty() && before.iter().all(|round| round["added"].as_u64() > Some(0)), "{verification:#}");
    assert_eq!((&last["differences"], &last["added"]), (&0.into(), &0.into()), "{verification:#}");
    let reason = |path: &str| run.reasons(path)[0]["why"].clone();
    assert_eq!((reason("/app/current"), reason("/srv/python/greeting.py")), ("repair".into(), "widened".into()));
    // The full sensor, and so another run, finds nothing wrong with it.
    let (slim, original) = (image.slim_source(), image.source());
    let words = [&["verify", &slim, "--against", &original], &requests[..]].concat();
    Slim::new(&words).run().ok();
}
