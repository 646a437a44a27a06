//! What a job would do, without doing it: items of work, passes, bytes, memory, time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::plan::PlanOptions;
use bitworth_quant::{Plan, Recipe};
use serde::Serialize;

use super::folder::{self, MODELS, RunIdentity};
use super::items::{lane_item, speed_item, task_item, text_item};
use super::lanes::{Names, importance_file};
use super::prepare::{Importance, Prepared, Speed, Walk};
use super::questions::Questions;
use super::stand_in::TimedShape;
use crate::device::Device;
use crate::error::{At, Error, Result};
use crate::requests::Packed;
use crate::{models, on_device};
use bitworth_engine::error::EngineError;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane, Sequence, SweepPlan};
use bitworth_eval::records;

/// Tasks that are asked in one walk, of the lanes that lack them.
pub struct TaskWalk<'a> {
    pub tasks: Vec<&'a Questions>,
    /// Names of lanes.
    pub missing: BTreeSet<String>,
}

/// The walks in which a model's tasks are asked: one for all that lack the same lanes. `missing` are the lanes for which an item
/// of work is not done, `None` where it is done for all.
pub fn task_walks(model: &Prepared, missing: impl Fn(&str) -> Result<Option<BTreeSet<String>>>) -> Result<Vec<TaskWalk<'_>>> {
    let mut walks: Vec<TaskWalk<'_>> = Vec::new();
    // A slice may have nothing of a task.
    for task in model.tasks.iter().filter(|task| task.items > 0) {
        let Some(missing) = missing(&task_item(task))? else { continue };
        match walks.iter_mut().find(|walk| walk.missing == missing) {
            Some(walk) => walk.tasks.push(task),
            None => walks.push(TaskWalk { tasks: vec![task], missing }),
        }
    }
    Ok(walks)
}

/// What messages call tasks that are asked together.
pub fn tasks_title(tasks: &[&Questions]) -> String {
    format!("{} {}", tasks_kind(tasks), tasks_names(tasks))
}

fn tasks_kind(tasks: &[&Questions]) -> &'static str {
    if tasks.len() == 1 { "task" } else { "tasks" }
}

/// The first of them by name, and how many more there are.
fn tasks_names(tasks: &[&Questions]) -> String {
    let shown = if tasks.len() <= 4 { tasks.len() } else { 3 };
    let names: Vec<&str> = tasks[..shown].iter().map(|task| task.name.as_str()).collect();
    match tasks.len() - shown {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// How hard the stages are that make a model's lanes: multiplications and additions, roughly.
fn making_weights(model: &Prepared, folder: Option<&Path>) -> Vec<f64> {
    let is_done = |item: &str| folder.is_some_and(|folder| records::has(folder, item));
    let parameters = model.checkpoint.parameter_count() as f64;
    let mut weights = Vec::new();
    if matches!(model.importance, Some(Importance::Collect { .. })) {
        let file = importance_file(&model.checkpoint);
        let done = folder.is_some_and(|folder| folder.join(MODELS).join(file).exists());
        weights.extend((!done).then_some(parameters * 2e4));
    }
    let is_unfitted = |name: &&String| !is_done(&lane_item(name)) && !is_done(&lane_item(&format!("@{name}")));
    let unfitted = model.fitted.iter().filter(is_unfitted).count();
    if let Some((text, _)) = model.fit.as_ref().filter(|_| unfitted > 0) {
        let tokens: usize = text.sequences.iter().map(Vec::len).sum();
        // The walk, its second moments, and the search of scales with feedback.
        weights.push(parameters * (6.0 * tokens as f64 + 4e5 * unfitted as f64));
    }
    if model.recipes.iter().any(|recipe| !is_done(&lane_item(&recipe.name))) && folder.is_some() {
        // Searching for the scales of a weight takes some thousand operations.
        weights.push(parameters * 2e3 * model.recipes.len() as f64);
    }
    weights
}

/// How hard each stage is that is left.
pub fn weights(model: &Prepared, folder: Option<&Path>) -> Vec<f64> {
    let is_done = |item: &str| folder.is_some_and(|folder| records::has(folder, item));
    let parameters = model.checkpoint.parameter_count() as f64;
    let lanes = (1 + model.recipes.len() + model.candidates.len()) as f64;
    let mut weights = making_weights(model, folder);
    for walk in &model.texts {
        for (number, range) in walk.passes().into_iter().enumerate() {
            let rows: usize = walk.windows.sequences[range].iter().map(|s| s.tokens.len()).sum();
            weights.extend((!is_done(&text_item(walk, number))).then_some(2.0 * parameters * rows as f64 * lanes));
        }
    }
    let missing = model.tasks.iter().filter(|task| task.items > 0 && !is_done(&task_item(task)));
    let rows: usize = missing.map(|task| rows_of(&task.packed)).sum();
    weights.extend((rows > 0).then_some(2.0 * parameters * rows as f64 * lanes));
    weights.extend(model.requests.as_ref().map(|(_, asked)| 2.0 * parameters * rows_of(asked) as f64 * lanes));
    weights
}

/// Tokens that are taken in or made.
fn rows_of(packed: &Packed) -> usize {
    packed.sequences().iter().map(|sequence| sequence.tokens.len()).sum::<usize>() + generated(packed)
}

/// Tokens of generated text with their prompts; making them is slower by far.
fn generated(packed: &Packed) -> usize {
    packed.prompts().iter().map(|prompt| prompt.ids.len() + 20 * prompt.max_tokens).sum()
}

/// How hard the timings of all models are, as one stage; `None` where nothing is timed.
pub fn timing_weight(models: &[(Prepared, Names)], folders: &[PathBuf]) -> Option<f64> {
    let mut sum = None;
    for (i, (model, names)) in models.iter().enumerate() {
        let Some(Speed { load, shape, .. }) = &model.speed else { continue };
        let is_done = |lane: &String| folders.get(i).is_some_and(|folder| records::has(folder, &speed_item(lane)));
        let recipes = model.recipes.iter().map(|recipe| &recipe.name);
        // Without the noise floor, which stands last and is not timed.
        let candidates = &names.candidates[..names.candidates.len() - usize::from(model.noise_floor)];
        let lanes = std::iter::once(&names.reference).chain(recipes).chain(candidates).filter(|lane| !is_done(lane)).count();
        let parameters = shape.as_ref().map_or(model.checkpoint.parameter_count(), TimedShape::parameter_count) as f64;
        let tokens: usize = load.prompt.iter().sum::<usize>() + 20 * load.generate.iter().sum::<usize>();
        let timings = lanes * load.engines.len() * (load.repetitions + 1);
        *sum.get_or_insert(0.0) += 2.0 * parameters * (tokens * timings) as f64;
    }
    sum.filter(|sum| *sum > 0.0)
}

/// What a job would do.
#[derive(Debug, Serialize)]
pub struct JobPlan {
    /// By model.
    pub models: Vec<ModelPlan>,
    /// About how long all of it takes at the device's speed in large products; reading not counted.
    pub estimated_seconds: f64,
    /// The part of this that is scoring.
    pub scoring_seconds: f64,
}

/// What a job would do with one model.
#[derive(Debug, Serialize)]
pub struct ModelPlan {
    /// The model's name.
    pub model: String,
    /// The lanes, the reference first.
    pub lanes: Vec<String>,
    /// The files of the recipes.
    pub files: Vec<FilePlan>,
    /// The candidates that are there already, or are made on the fly.
    pub candidates: Vec<CandidatePlan>,
    /// The walks over texts.
    pub stages: Vec<StagePlan>,
    /// The tasks, and a file of requests.
    pub tasks: Vec<StagePlan>,
    /// The lanes that are timed.
    pub timings: Vec<TimingPlan>,
    /// About how long an importance matrix, fitting and quantizing take, as far as they are left, and generating text.
    pub making_seconds: f64,
    /// Candidates that would be left out, and why.
    pub notes: Vec<String>,
}

/// A file of a recipe.
#[derive(Debug, Serialize)]
pub struct FilePlan {
    /// Its name.
    pub file: String,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Whether it is there already.
    pub exists: bool,
}

/// A candidate.
#[derive(Debug, Serialize)]
pub struct CandidatePlan {
    /// Its lane.
    pub lane: String,
    /// Where it stands; `None` for one that is made on the fly.
    pub file: Option<String>,
    /// Bytes of its tensors.
    pub bytes: u64,
}

/// One walk over a text, or one task.
#[derive(Debug, Serialize)]
pub struct StagePlan {
    /// `text`, `task` or `requests`.
    pub kind: &'static str,
    /// The text and how it is walked, or the task.
    pub name: String,
    /// Lanes whose records are there already.
    pub done_lanes: usize,
    /// Whether all of them are.
    pub is_done: bool,
    /// Items of a task.
    pub items: Option<usize>,
    /// How the engine would go for the lanes that are not done, or where all are, for all; `None` for a task that only generates.
    pub sweep: Option<SweepPlan>,
    /// About how long what is left takes at the device's speed in large products.
    pub estimated_seconds: f64,
}

/// One lane's timings.
#[derive(Debug, Serialize)]
pub struct TimingPlan {
    /// The lane.
    pub lane: String,
    /// Whether its records are there already.
    pub is_done: bool,
    /// The model of random weights that is timed in its place.
    pub shape: Option<ShapePlan>,
}

/// A model of random weights.
#[derive(Debug, Serialize)]
pub struct ShapePlan {
    /// Its shape.
    pub name: String,
    /// Bytes of its file; `None` where it cannot have the lane's types.
    pub bytes: Option<u64>,
}

/// Plans what is ready.
pub fn plan(models: &[(Prepared, Names)], folders: &[PathBuf], device: &Device) -> Result<JobPlan> {
    let rate = on_device!(device, backend => sweep::flops_per_second(backend))?;
    let mut plans = Vec::new();
    for (i, (model, names)) in models.iter().enumerate() {
        let there = There::of(model, names, folders.get(i).map(PathBuf::as_path), device)?;
        plans.push(plan_one(model, names, &there, device, rate)?);
    }
    let stages = plans.iter().flat_map(|plan| plan.stages.iter().chain(&plan.tasks));
    let scoring_seconds = sum(stages.map(|stage| stage.estimated_seconds));
    let timing_seconds = timing_weight(models, folders).map_or(0.0, |operations| operations / rate);
    let estimated_seconds = scoring_seconds + timing_seconds + sum(plans.iter().map(|plan| plan.making_seconds));
    Ok(JobPlan { estimated_seconds, scoring_seconds, models: plans })
}

/// The sum of floats, which of nothing is -0 in the standard library.
fn sum(all: impl Iterator<Item = f64>) -> f64 {
    all.fold(0.0, |sum, one| sum + one)
}

fn plan_one(model: &Prepared, names: &Names, there: &There<'_>, device: &Device, rate: f64) -> Result<ModelPlan> {
    let lanes = planned_lanes(model, names)?;
    let mut files = Vec::new();
    for (recipe, lane) in model.recipes.iter().zip(&lanes[1..]) {
        let file = models::file_name(&model.checkpoint, recipe);
        let exists = there.folder.is_some_and(|folder| folder.join(MODELS).join(&file).exists());
        files.push(FilePlan { file, bytes: lane.variant.bytes(), exists });
    }
    let candidate = |lane: &Lane| {
        let file = match &lane.variant {
            Variant::Stored(stored) => Some(stored.path().display().to_string()),
            Variant::Planned(..) => None,
        };
        CandidatePlan { lane: lane.name.clone(), file, bytes: lane.variant.bytes() }
    };
    let parameters = model.checkpoint.parameter_count() as f64;
    let mut making = sum(making_weights(model, there.folder).into_iter());
    let mut stages = Vec::new();
    for stage in all_stages(model, there, &lanes)? {
        let missing = there.missing(&stage, &lanes)?;
        making += 2.0 * parameters * (stage.generated * missing.len()) as f64;
        let swept = if missing.is_empty() { lanes.clone() } else { stage.swept(&lanes, &missing) };
        let sweep = (!stage.sequences.is_empty())
            .then(|| on_device!(device, backend => sweep::plan(backend, &swept, &stage.sequences, &model.limits)))
            .transpose()
            .at(|| stage.title.clone())?;
        let is_done = missing.is_empty();
        stages.push(StagePlan {
            kind: stage.kind,
            done_lanes: lanes.len() - missing.len(),
            is_done,
            items: stage.items,
            estimated_seconds: sweep.as_ref().filter(|_| !is_done).map_or(0.0, |sweep| sweep.flops / rate),
            sweep,
            name: stage.name,
        });
    }
    let timed = lanes.iter().filter(|lane| model.speed.is_some() && lane.arithmetic == model.arithmetic);
    let shape = model.speed.as_ref().and_then(|speed| speed.shape.as_ref());
    let timing = |lane: &Lane| {
        let planned = |shape: &TimedShape| {
            let bytes = model.recipe_of(lane).map(|recipe| shape.file_bytes(&recipe)).transpose()?;
            Ok::<_, Error>(ShapePlan { name: shape.name().to_owned(), bytes })
        };
        let is_done = there.has(&speed_item(&lane.name))?;
        Ok(TimingPlan { lane: lane.name.clone(), is_done, shape: shape.map(planned).transpose()? })
    };
    let (stages, tasks) = stages.into_iter().partition(|stage| stage.items.is_none());
    Ok(ModelPlan {
        model: model.checkpoint.name().to_owned(),
        lanes: lanes.iter().map(|lane| lane.name.clone()).collect(),
        files,
        candidates: model.candidates.iter().map(candidate).collect(),
        stages,
        tasks,
        timings: timed.map(timing).collect::<Result<_>>()?,
        making_seconds: making / rate,
        notes: model.notes().iter().map(ToString::to_string).collect(),
    })
}

/// Refuses what would only be found behind hours of work: a model whose sweeps do not fit the memory. Of several that do not, the
/// one that needs most is returned, with what it needs: then one more try is enough.
pub fn check(model: &Prepared, names: &Names, folder: Option<&Path>, device: &Device) -> Result<Option<(usize, Error)>> {
    let lanes = planned_lanes(model, names)?;
    let mut worst: Option<(usize, Error)> = None;
    let there = There::of(model, names, folder, device)?;
    for stage in all_stages(model, &there, &lanes)?.into_iter().filter(|stage| !stage.sequences.is_empty()) {
        let plan = |lanes: &[Lane]| {
            on_device!(device, backend => sweep::plan(backend, lanes, &stage.sequences, &model.limits)).map(drop)
        };
        let fits = match plan(&lanes) {
            Err(e @ EngineError::TooLittleMemory { .. }) => {
                // What is done already takes none.
                let missing = there.missing(&stage, &lanes)?;
                match missing.len() {
                    0 => Ok(()),
                    count if count == lanes.len() => Err(e),
                    _ => plan(&stage.swept(&lanes, &missing)),
                }
            }
            planned => planned,
        };
        let needed = match &fits {
            Err(EngineError::TooLittleMemory { needed_mib, .. }) => Some(*needed_mib),
            _ => None,
        };
        match (needed, fits.map_err(Error::from).at(|| stage.title.clone())) {
            (Some(needed), Err(e)) if worst.as_ref().is_none_or(|(most, _)| *most < needed) => worst = Some((needed, e)),
            (Some(_), _) => {}
            (None, fits) => fits?,
        }
    }
    Ok(worst)
}

/// A text's walk or a task, as it is swept.
struct PlannedStage {
    kind: &'static str,
    name: String,
    /// What messages call it.
    title: String,
    /// The items of work that it is made of.
    work: Vec<String>,
    sequences: Vec<Sequence>,
    /// See [`generated`].
    generated: usize,
    items: Option<usize>,
}

impl PlannedStage {
    /// The lanes that are swept so that `missing` are done: divergences are measured against the reference.
    fn swept(&self, lanes: &[Lane], missing: &BTreeSet<String>) -> Vec<Lane> {
        let reference = self.items.is_none();
        let wanted = |(i, lane): &(usize, &Lane)| (reference && *i == 0) || missing.contains(&lane.name);
        lanes.iter().enumerate().filter(wanted).map(|(_, lane)| lane.clone()).collect()
    }
}

fn all_stages(model: &Prepared, there: &There<'_>, lanes: &[Lane]) -> Result<Vec<PlannedStage>> {
    let walk = |walk: &Walk| {
        let passes = walk.passes().len();
        PlannedStage {
            kind: "text",
            name: walk.name(),
            title: format!("text {}", walk.name()),
            work: (0..passes).map(|number| text_item(walk, number)).collect(),
            sequences: walk.windows.sequences[walk.range.clone()].to_vec(),
            generated: 0,
            items: None,
        }
    };
    let requests = |(file, asked): &(String, Packed)| PlannedStage {
        kind: "requests",
        name: file.clone(),
        title: file.clone(),
        work: vec![file.clone()],
        sequences: asked.sequences().to_vec(),
        generated: generated(asked),
        items: Some(asked.count()),
    };
    let mut stages: Vec<PlannedStage> = model.texts.iter().map(walk).collect();
    let (done, walks) = task_stages(model, there, lanes)?;
    stages.extend(done);
    stages.extend(walks);
    stages.extend(model.requests.iter().map(requests));
    Ok(stages)
}

/// The walks over tasks: one for those that are done, and those in which the others are asked.
fn task_stages(model: &Prepared, there: &There<'_>, lanes: &[Lane]) -> Result<(Option<PlannedStage>, Vec<PlannedStage>)> {
    let missing = |item: &str| {
        let missing = there.missing_of(&[item.to_owned()], lanes)?;
        Ok((!missing.is_empty()).then_some(missing))
    };
    let walks: Vec<PlannedStage> =
        task_walks(model, missing)?.into_iter().map(|TaskWalk { tasks, .. }| task_stage(&tasks)).collect();
    let open: BTreeSet<&String> = walks.iter().flat_map(|walk| &walk.work).collect();
    let done: Vec<&Questions> = model.tasks.iter().filter(|task| task.items > 0 && !open.contains(&task_item(task))).collect();
    let done = (!done.is_empty()).then(|| task_stage(&done));
    Ok((done, walks))
}

fn task_stage(tasks: &[&Questions]) -> PlannedStage {
    PlannedStage {
        kind: tasks_kind(tasks),
        name: tasks_names(tasks),
        title: tasks_title(tasks),
        work: tasks.iter().map(|task| task_item(task)).collect(),
        sequences: tasks.iter().flat_map(|task| task.packed.sequences()).cloned().collect(),
        generated: tasks.iter().map(|task| generated(&task.packed)).sum(),
        items: Some(tasks.iter().map(|task| task.items).sum()),
    }
}

/// What a run's folder holds already.
struct There<'a> {
    folder: Option<&'a Path>,
    identity: Option<RunIdentity>,
}

impl<'a> There<'a> {
    /// Looks, and refuses what a run in the folder would.
    fn of(model: &Prepared, names: &Names, folder: Option<&'a Path>, device: &Device) -> Result<Self> {
        let identity = folder.map(folder::identity).transpose()?.flatten();
        if let Some((folder, identity)) = folder.zip(identity.as_ref()) {
            identity.check(folder, &super::wanted(model, names, device)?)?;
            identity.check_files(folder)?;
        }
        Ok(Self { folder, identity })
    }

    /// Whether an item of work is done.
    fn has(&self, item: &str) -> Result<bool> {
        self.folder.zip(self.identity.as_ref()).map_or(Ok(false), |(folder, identity)| identity.has(folder, item))
    }

    /// The lanes for which a part of a stage is not done.
    fn missing(&self, stage: &PlannedStage, lanes: &[Lane]) -> Result<BTreeSet<String>> {
        self.missing_of(&stage.work, lanes)
    }

    /// The lanes for which one of these items of work is not done.
    fn missing_of(&self, work: &[String], lanes: &[Lane]) -> Result<BTreeSet<String>> {
        let all = || lanes.iter().map(|lane| lane.name.clone());
        // Of a slice that has nothing of it.
        if work.is_empty() {
            return Ok(BTreeSet::new());
        }
        let Some((folder, identity)) = self.folder.zip(self.identity.as_ref()) else { return Ok(all().collect()) };
        let mut missing = BTreeSet::new();
        for item in work {
            let parts = identity.parts(folder, item)?;
            missing.extend(all().filter(|lane| !parts.lanes.contains(lane)));
        }
        Ok(missing)
    }
}

/// The reference, a lane for each recipe, whose file need not be there, and the candidates.
pub fn planned_lanes(model: &Prepared, names: &Names) -> Result<Vec<Lane>> {
    let reference = Lane { name: names.reference.clone(), arithmetic: model.arithmetic, ..models::reference(&model.checkpoint) };
    let of = |recipe: &Arc<Recipe>| {
        let plan = Plan::of(model.checkpoint.as_ref(), recipe, &PlanOptions::default())?;
        let variant = Variant::Planned(model.checkpoint.clone(), Arc::new(plan));
        Ok(Lane { name: recipe.name.clone(), variant, arithmetic: model.arithmetic })
    };
    let recipes = model.recipes.iter().map(of).collect::<Result<Vec<_>>>()?;
    Ok(std::iter::once(reference).chain(recipes).chain(model.candidates.iter().cloned()).collect())
}
