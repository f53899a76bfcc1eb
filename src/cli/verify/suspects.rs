//! What an image may lack of its original: both trees, by what its processes used.

use std::collections::{BTreeMap, HashSet};

use crate::cli::failure::Failure;
use crate::engine::daemon_image::{self, SourceError};
use crate::engine::runtime::Runtime;
use crate::escape::escape;
use crate::image::source::SourceImage;
use crate::image::tree::{EntryId, Kind, Tree};
use crate::observe::observation::Observation;
use crate::observe::observation::Spelling;
use crate::plan::resolve::View;
use crate::plan::{Kept, Plan, Reason, missing};
use crate::report::verification::{Path, Suspect};
use crate::verify::Trial;
use crate::verify::diagnosis::{Facts, diagnose};

/// So many suspects are told.
const MAX_SUSPECTS: usize = 100;

/// What the image may lack, and what that probably means.
pub(super) async fn find(
    runtime: Runtime<'_>,
    fat: &SourceImage,
    image: &SourceImage,
    trial: &Trial,
) -> Result<(Vec<Suspect>, Vec<String>), Failure> {
    let (fat_tree, tree) = (list(runtime, fat).await?, list(runtime, image).await?);
    let observation = &trial.observed.observation;
    let is_kept = |id: EntryId| tree.get(&fat_tree.path(id)).is_some();
    let missing = missing(&fat_tree, observation, runtime.own_prefix().as_bytes(), &is_kept);
    let looked_for = missing.iter().map(|missing| Suspect {
        path: Path(fat_tree.path(missing.entry)),
        reason: format!("`{}` looks for it during {}", escape(&missing.by), missing.during.0),
    });
    let suspects = looked_for.chain(changed(&fat_tree, &tree, observation)).take(MAX_SUSPECTS).collect();
    let plan = as_plan(&fat_tree, &tree, &fat.id);
    let diagnosis = diagnose(&Facts {
        tree: &fat_tree,
        plan: &plan,
        start_error: trial.observed.start_failure.as_deref(),
        exit_code: trial.observed.observation.end.exit_code,
        log: trial.observed.log.join("\n").as_bytes(),
        missing: &missing,
        // Nobody watched the original.
        executed_before: &BTreeMap::new(),
        executed: &BTreeMap::new(),
    });
    Ok((suspects, diagnosis))
}

async fn list(runtime: Runtime<'_>, image: &SourceImage) -> Result<Tree, Failure> {
    let (engine, program) = match runtime {
        Runtime::Docker(engine, program) => (engine, program),
        Runtime::Embedded(engine) => {
            let (image, flavour) = (image.clone(), engine.flavour());
            // It was run, so it is unpacked.
            let listed = tokio::task::spawn_blocking(move || image.place.list(&image, flavour, u64::MAX, &|_, _| {}));
            return Ok(listed.await.map_err(|error| Failure::internal(error.to_string()))??.tree);
        }
    };
    let (container, mut packer, _) = daemon_image::open(engine, program, image).await?;
    let listed = tokio::task::spawn_blocking(move || packer.list()).await;
    let (tree, _) = listed.map_err(|error| Failure::internal(error.to_string()))?.map_err(SourceError::from)?;
    container.remove().await?;
    Ok(tree)
}

/// What both have, and the processes used, but not in the same way.
fn changed(fat: &Tree, slim: &Tree, observation: &Observation) -> Vec<Suspect> {
    let view = View::with_mounts(slim, &observation.mounts);
    let (mut seen, mut suspects) = (HashSet::new(), vec![]);
    for path_use in &observation.uses {
        let spelling = Spelling { root: &path_use.root, base: &path_use.base, path: &path_use.path };
        let resolution = view.resolve(spelling, true);
        for id in resolution.passed.iter().copied().chain(resolution.found()).filter(|&id| seen.insert(id)) {
            let path = slim.path(id);
            let difference = fat.get(&path).and_then(|original| difference(fat, original, slim, id));
            suspects.extend(difference.map(|reason| Suspect { path: Path(path), reason }));
        }
    }
    suspects
}

fn difference(fat: &Tree, original: EntryId, slim: &Tree, id: EntryId) -> Option<String> {
    let differ = |what: &str, one: String, other: String| Some(format!("{what} is {other}, in the original {one}"));
    let octal = |mode: u16| format!("{mode:04o}");
    let owner = |(uid, gid): (u32, u32)| format!("{uid}:{gid}");
    let names = |tree: &Tree, id| -> Vec<String> { tree.xattrs(id).iter().map(|xattr| escape(&xattr.name)).collect() };
    if fat.kind(original) != slim.kind(id) {
        let words = |kind: Kind| format!("{kind:?}").to_lowercase();
        return differ("it", words(fat.kind(original)), words(slim.kind(id)));
    }
    if fat.kind(original) == Kind::Symlink {
        let target = |tree: &Tree, id| escape(tree.target(id));
        return (fat.target(original) != slim.target(id))
            .then(|| differ("its target", target(fat, original), target(slim, id)))?;
    }
    if fat.mode(original) != slim.mode(id) {
        return differ("its mode", octal(fat.mode(original)), octal(slim.mode(id)));
    }
    if fat.owner(original) != slim.owner(id) {
        return differ("its owner", owner(fat.owner(original)), owner(slim.owner(id)));
    }
    if fat.kind(original) == Kind::File && fat.size(original) != slim.size(id) {
        return differ("its size", fat.size(original).to_string(), slim.size(id).to_string());
    }
    let list = |names: Vec<String>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let same = fat.xattrs(original) == slim.xattrs(id);
    if same { None } else { differ("its extended attributes", list(names(fat, original)), list(names(slim, id))) }
}

/// What an image has of its original, in the form that a diagnosis reads.
fn as_plan(fat: &Tree, slim: &Tree, image: &str) -> Plan {
    let kept = fat.walk(EntryId::ROOT).map(|id| fat.path(id)).filter(|path| slim.get(path).is_some());
    let reasons = || vec![Reason::Rule { rule: "it is in the image".to_owned() }];
    let entries = kept.map(|path| Kept { path, mode: None, owner: None, reasons: reasons() });
    Plan { version: Plan::VERSION, image: image.to_owned(), notes: vec![], entries: entries.collect() }
}
