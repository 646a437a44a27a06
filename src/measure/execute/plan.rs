//! What a job would do, without doing it: items of work, passes, bytes, memory, time. Also the names of the items.

use std::path::Path;
use std::sync::Arc;

use bitworth_quant::plan::PlanOptions;
use bitworth_quant::{Plan, Recipe};
use serde::Serialize;

use super::folder::{self, Store};
use super::prepare::{Prepared, Walk};
use crate::device::Device;
use crate::error::Result;
use crate::{Watch, models, on_device};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane, SweepPlan};
use bitworth_eval::job::Job;
use bitworth_eval::records;
use bitworth_eval::task::Task;

/// The item that describes the reference.
pub const REFERENCE_ITEM: &str = "lane.reference";

/// The item that describes a lane.
pub fn lane_item(lane: &str) -> String {
    format!("lane.{lane}")
}

/// The item of a pass over a text.
pub fn text_item(walk: &Walk, number: usize) -> String {
    format!("text.{}.{number:05}", walk.name())
}

/// The item of a task.
pub fn task_item(task: &Task) -> String {
    format!("task.{}", task.name)
}

/// The item of a lane's timings.
pub fn speed_item(lane: &str) -> String {
    format!("speed.{lane}")
}

/// How hard a stage is: multiplications and additions, roughly.
pub fn weights(model: &Prepared, store: &Store) -> Vec<f64> {
    let is_done = |item: &str| store.folder().is_some_and(|folder| records::has(folder, item));
    let parameters = model.checkpoint.parameter_count() as f64;
    let lanes = (1 + model.recipes.len() + model.candidates.len()) as f64;
    let mut weights = Vec::new();
    if model.importance.as_ref().is_some_and(|i| matches!(i, super::prepare::Importance::Collect { .. })) {
        let done = model.recipes.iter().any(|recipe| is_done(&lane_item(&recipe.name)));
        weights.extend((!done).then_some(parameters * 2e4));
    }
    if model.recipes.iter().any(|recipe| !is_done(&lane_item(&recipe.name))) && store.folder().is_some() {
        // Searching for the scales of a weight takes some thousand operations.
        weights.push(parameters * 2e3 * model.recipes.len() as f64);
    }
    for walk in &model.texts {
        for (number, range) in sweep::cut_by_rows(&walk.windows.sequences, walk.pass_tokens).into_iter().enumerate() {
            let rows: usize = walk.windows.sequences[range].iter().map(|s| s.tokens.len()).sum();
            weights.extend((!is_done(&text_item(walk, number))).then_some(2.0 * parameters * rows as f64 * lanes));
        }
    }
    for task in &model.tasks {
        // About a hundred tokens an item.
        let items = task.first(model.limit).len() as f64;
        weights.extend((!is_done(&task_item(task))).then_some(2.0 * parameters * 100.0 * items * lanes));
    }
    if let Some(load) = &model.workload {
        let tokens: usize = load.prompt.iter().sum::<usize>() + 20 * load.generate.iter().sum::<usize>();
        let timed = 2.0 * parameters * (tokens * (load.repetitions + 1)) as f64;
        let names = std::iter::once(models::reference(&model.checkpoint).name)
            .chain(model.recipes.iter().map(|recipe| recipe.name.clone()))
            .chain(model.candidates.iter().map(|lane| lane.name.clone()));
        weights.extend(names.filter(|name| !is_done(&speed_item(name))).map(|_| timed));
    }
    weights
}

/// What a job would do.
#[derive(Debug, Serialize)]
pub struct JobPlan {
    /// By model.
    pub models: Vec<ModelPlan>,
    /// About how long all of it takes; reading, quantizing and timing not counted.
    pub estimated_seconds: f64,
}

/// What a job would do with one model.
#[derive(Debug, Serialize)]
pub struct ModelPlan {
    /// The model's name.
    pub model: String,
    /// The lanes, the reference first.
    pub lanes: Vec<String>,
    /// The files to be made, with their bytes.
    pub files: Vec<(String, u64)>,
    /// The sweeps.
    pub stages: Vec<StagePlan>,
    /// Candidates that would be left out, and why.
    pub notes: Vec<String>,
}

/// One walk over a text.
#[derive(Debug, Serialize)]
pub struct StagePlan {
    /// The text and how it is walked.
    pub name: String,
    /// Whether its records are there already.
    pub is_done: bool,
    /// How the engine would go.
    pub sweep: SweepPlan,
    /// About how long it takes at the device's speed in large products.
    pub estimated_seconds: f64,
}

/// Plans `job` for the folder `out`.
///
/// # Errors
/// As [`super::execute`] before it begins.
pub fn plan(job: &Job, out: Option<&Path>, device: &Device, watch: Watch<'_>) -> Result<JobPlan> {
    let rate = on_device!(device, backend => sweep::flops_per_second(backend))?;
    let folders = out.map(|out| job.folders(out)).unwrap_or_default();
    let mut plans = Vec::new();
    for (i, spec) in job.models.iter().enumerate() {
        let mut model = Prepared::new(job, spec, watch)?;
        let names = super::lanes::names(&mut model);
        let mut lanes =
            vec![Lane { name: names.reference, arithmetic: model.arithmetic, ..models::reference(&model.checkpoint) }];
        let mut files = Vec::new();
        for recipe in &model.recipes {
            let (lane, bytes) = planned(&model, recipe)?;
            lanes.push(lane);
            files.push((models::file_name(&model.checkpoint, recipe), bytes));
        }
        lanes.extend(model.candidates.iter().cloned());
        let folder = folders.get(i);
        let identity = folder.map(|folder| folder::identity(folder)).transpose()?.flatten();
        let identity = folder.zip(identity.as_ref());
        let mut stages = Vec::new();
        for walk in &model.texts {
            let passes = sweep::cut_by_rows(&walk.windows.sequences, walk.pass_tokens).len();
            let mut is_done = identity.is_some();
            for number in 0..passes {
                let Some((folder, identity)) = identity.filter(|_| is_done) else { break };
                let parts = identity.parts(folder, &text_item(walk, number))?;
                is_done &= lanes.iter().all(|lane| parts.lanes.contains(&lane.name));
            }
            let sequences = &walk.windows.sequences;
            let sweep = on_device!(device, backend => sweep::plan(backend, &lanes, sequences, &model.limits))?;
            stages.push(StagePlan { name: walk.name(), is_done, estimated_seconds: sweep.flops / rate, sweep });
        }
        plans.push(ModelPlan {
            model: model.checkpoint.name().to_owned(),
            lanes: lanes.iter().map(|lane| lane.name.clone()).collect(),
            files,
            stages,
            notes: model.notes.iter().map(ToString::to_string).collect(),
        });
    }
    let left = plans.iter().flat_map(|plan| &plan.stages).filter(|stage| !stage.is_done);
    Ok(JobPlan { estimated_seconds: left.map(|stage| stage.estimated_seconds).sum(), models: plans })
}

/// The lane of a recipe whose file need not be there, and the bytes that its tensors take.
fn planned(model: &Prepared, recipe: &Arc<Recipe>) -> Result<(Lane, u64)> {
    let plan = Plan::of(model.checkpoint.as_ref(), recipe, &PlanOptions::default())?;
    let bytes = plan.bytes();
    let variant = Variant::Planned(model.checkpoint.clone(), Arc::new(plan));
    Ok((Lane { name: recipe.name.clone(), variant, arithmetic: model.arithmetic }, bytes))
}
