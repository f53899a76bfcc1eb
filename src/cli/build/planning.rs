//! What is kept: made from what was seen, or read from a file.

use std::path::Path;
use std::sync::Arc;

use super::{Build, Files, Source};
use crate::cli::failure::Failure;
use crate::cli::meaning;
use crate::image::read_files::TreeContents;
use crate::observe::run::Observed;
use crate::plan::{Plan, PlanInput, make, seen_by_some};
use crate::report::Entries;

impl Build<'_> {
    /// The plan that the user gave, if any.
    pub(super) fn read_plan(&self) -> Result<Option<Plan>, Failure> {
        let read = |path: &Path| {
            let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("`--plan {}`: {error}", path.display()));
            let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
            Plan::from_json(&bytes).map_err(|error| wrong(&error))
        };
        self.request.plan.as_deref().map(read).transpose()
    }

    /// Sees to it that a plan is of this image.
    pub(super) fn check_plan(&mut self, source: &Source, files: Files, plan: Plan) -> Result<(Files, Arc<Plan>), Failure> {
        let plan = Arc::new(plan);
        self.report.entries = Some(Entries::new(Arc::clone(&files.tree), Arc::clone(&plan))?);
        if plan.image != source.image.id {
            // It may have been built again, or have another id in another engine: what counts is that all of it is there.
            self.warn(format!("the plan was made of the image `{}`; all that it keeps is in `{}`", plan.image, source.image.id));
        }
        Ok((files, plan))
    }

    /// Makes the plan from what was seen.
    pub(super) async fn make_plan(
        &mut self,
        source: &Source,
        files: Files,
        runs: &[Observed],
    ) -> Result<(Files, Arc<Plan>), Failure> {
        let config = meaning::config_view(&source.image.config);
        let (extras, keep_looked_at) = meaning::extras(&self.request.keep);
        let (id, own) = (source.image.id.clone(), source.runtime(self.engines)?.own_prefix().to_owned());
        let is_machine = source.image.place.is_machine();
        let observations: Vec<_> = runs.iter().map(|run| run.observation.clone()).collect();
        let planned = tokio::task::spawn_blocking(move || {
            let Files { mut reader, tree } = files;
            let contents = TreeContents::new(&tree, &mut *reader);
            let plan = make(&PlanInput {
                image: &id,
                tree: &tree,
                is_machine,
                config: &config,
                observations: &observations,
                extras: &extras,
                keep_looked_at,
                contents: &contents,
                own_prefix: own.as_bytes(),
            });
            let partial = seen_by_some(&tree, &observations, own.as_bytes());
            plan.map(|plan| (Files { reader, tree }, Arc::new(plan), partial))
        });
        let (files, plan, partial) = planned.await.map_err(|error| Failure::internal(error.to_string()))??;
        for note in &plan.notes {
            self.warn(note.clone());
        }
        self.report.runs(runs.len(), &files.tree, &partial);
        self.report.entries = Some(Entries::new(Arc::clone(&files.tree), Arc::clone(&plan))?);
        Ok((files, plan))
    }
}
