//! Does what a [`Job`] says: quantize, score, ask, time. The work is a list of items; each leaves its records in one file when it
//! is done, and a later job in the same folder does only what is not there.
//!
//! Absent: what the numbers mean (`eval::stats`) and how they are shown (`report`).

mod data_sets;
mod folder;
mod items;
mod lanes;
mod plan;
mod prepare;
mod questions;
mod speed;
mod stages;
mod stand_in;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::Recipe;
use bitworth_quant::hex::hex;
use bitworth_quant::message::{Command, Message};
use bitworth_quant::quantize::Sink;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::folder::{Store, Wanted};
use self::plan::TaskWalk;
use self::prepare::{Prepared, Walk};
use self::questions::Questions;
use self::stages::Stages;
use super::device::Device;
use super::error::{At, Error, Result};
use super::generation::{self, Prompt};
use super::reference::lane::{self, Kept, ReferenceSource};
use super::settings::{NOISE_FLOOR, REQUESTS};
use super::text::TextWindows;
use super::{Watch, requests};
use crate::on_device;
use bitworth_engine::backend::Backend;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane, LaneScores, LayerError, Resume, Sequence, SweepOptions};
use bitworth_eval::job::Job;
use bitworth_eval::record::{Body, Layer, Origin, Protocol, Record};
use bitworth_eval::request::Answer;

pub use self::folder::margin;
pub use self::lanes::{describe_lane, lane_record};
pub use self::plan::{CandidatePlan, FilePlan, JobPlan, ModelPlan, ShapePlan, StagePlan, TimingPlan};
pub use self::questions::{Harness, Named};
pub use self::speed::TimedTogether;

/// The folder of a run in which passes that were interrupted keep their state.
const STATE: &str = "state";

/// What a job came to.
#[derive(Default)]
pub struct Finished {
    /// The folders with the records, one for each model; none where nothing was to be written.
    pub folders: Vec<PathBuf>,
    /// The records, where they were kept in memory.
    pub records: Vec<Record>,
    /// The answers to the job's requests, by lane.
    pub answers: Vec<(String, Vec<Answer>)>,
    /// Where they were wanted: errors of activations, by lane but the first.
    pub layers: Vec<(String, Vec<Layer>)>,
    /// What the job is about, among all that its folders may hold.
    pub scope: Scope,
    /// The tasks of lm-evaluation-harness that the first model was asked.
    pub harness: Option<Harness>,
    /// How lanes were timed, where any were.
    pub timed: Option<TimedTogether>,
    /// How many items of work were there before.
    pub found: usize,
    /// What the user should know and is no error: models that could not be timed, timings that drifted, candidates left out.
    pub notes: Vec<Message>,
}

/// Which records are a job's: a folder may hold more, of jobs before.
#[derive(Debug, Default)]
pub struct Scope {
    /// Model and lane.
    lanes: BTreeSet<(String, String)>,
    /// Model and candidate.
    left_out: BTreeSet<(String, String)>,
    /// Model, text and protocol.
    texts: BTreeSet<(String, String, Protocol)>,
    tasks: BTreeSet<String>,
    timed: bool,
}

impl Scope {
    /// Whether a record is of a lane of the job, and of what the job measures.
    pub fn holds(&self, record: &Record) -> bool {
        let Origin { model, lane, .. } = &record.origin;
        let is_measured = match &record.body {
            Body::Lane(_) => true,
            Body::Sequence(s) => self.texts.contains(&(model.clone(), s.text_sha256.clone(), s.protocol.clone())),
            Body::Item(item) => self.tasks.contains(&item.task),
            Body::Speed(_) => self.timed,
            Body::LeftOut(_) => return self.left_out.contains(&(model.clone(), lane.clone())),
        };
        is_measured && self.lanes.contains(&(model.clone(), lane.clone()))
    }

    fn add(&mut self, model: &Prepared, names: &lanes::Names) {
        let name = &model.name;
        let recipes = model.recipes.iter().map(|recipe| &recipe.name);
        let lanes = std::iter::once(&names.reference).chain(recipes).chain(&names.candidates);
        self.lanes.extend(lanes.map(|lane| (name.clone(), lane.clone())));
        self.left_out.extend(model.left_out.iter().map(|(candidate, _)| (name.clone(), candidate.clone())));
        let text = |walk: &Walk| (name.clone(), walk.windows.sha256.clone(), walk.windows.protocol.clone());
        self.texts.extend(model.texts.iter().map(text));
        self.tasks.extend(model.tasks.iter().map(|task| task.name.clone()));
        self.timed |= model.speed.is_some();
    }
}

/// A job that was opened and checked; nothing is done or written yet.
pub struct Ready<'a> {
    device: &'a Device,
    watch: Watch<'a>,
    models: Vec<(Prepared, lanes::Names)>,
    /// One for each model; none where nothing is to be written.
    folders: Vec<PathBuf>,
}

/// What is done beside scoring, on the way of the one walk over the one text of a job without a folder.
#[derive(Clone, Copy)]
pub struct Beside<'a> {
    /// Where the reference comes from.
    pub source: &'a ReferenceSource,
    /// Where it is kept.
    pub kept: &'a Kept,
    /// By lane: the file that is made of the tensors that it reads.
    pub sinks: &'a [Option<Arc<Sink>>],
    /// Whether the error of every lane's activations behind every block is wanted.
    pub layers: bool,
    /// Where the walk leaves what it needs to go on after it was ended.
    pub resume: Option<Resume<'a>>,
}

/// Does what `job` says. With a folder, files and records are there afterwards, and a job that was interrupted goes on; without
/// one, recipes are applied on the fly, and the records are returned.
///
/// # Errors
/// As [`Ready::new`]; anything that the steps say.
pub fn execute(job: &Job, out: Option<&Path>, device: &Device, watch: Watch<'_>) -> Result<Finished> {
    Ready::new(job, out, device, watch)?.execute(None)
}

impl<'a> Ready<'a> {
    /// Opens and checks all that `job` names, for the folder `out` or for memory.
    ///
    /// # Errors
    /// What is wrong with the job; a folder that holds another run.
    pub fn new(job: &Job, out: Option<&Path>, device: &'a Device, watch: Watch<'a>) -> Result<Self> {
        if job.noise_floor && out.is_some() {
            let what = ": its lane has another arithmetic than its reference, which a report cannot hold; measure it without a \
                        folder, as ";
            return Err(Error::unfit(Message::from(NOISE_FLOOR).then(what).then(Command::Compare).then(" does")));
        }
        if job.requests.is_some() && out.is_some() {
            let what = ": they leave answers and no records; ask them without a folder, as ";
            return Err(Error::unfit(Message::from(REQUESTS).then(what).then(Command::Score).then(" does")));
        }
        // A model that does not open is known before hours of work on another.
        let named = job.tasks.as_ref().map(|tasks| Named::find(tasks, job.slice, watch)).transpose()?;
        let prepare = |model| Prepared::new(job, model, named.as_ref(), watch);
        let prepared = job.models.iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let prepared = prepare::name(prepared, out.is_some())?;
        let folders = out.map(|out| job.folders(out)).unwrap_or_default();
        if let Some(out) = out {
            folder::check_kind(out, prepared.len() > 1)?;
        }
        let (mut models, mut worst) = (Vec::new(), None::<(usize, Error)>);
        for (i, mut model) in prepared.into_iter().enumerate() {
            let names = lanes::names(&mut model);
            if let Some(floor) = model.candidates.last().filter(|_| job.noise_floor) {
                on_device!(device, backend => backend.check_arithmetic(floor.arithmetic)).at(|| NOISE_FLOOR)?;
            }
            let unfit = plan::check(&model, &names, folders.get(i).map(PathBuf::as_path), device)?;
            worst = worst.into_iter().chain(unfit).max_by_key(|(needed, _)| *needed);
            models.push((model, names));
        }
        if let Some((_, e)) = worst {
            return Err(e);
        }
        Ok(Self { device, watch, models, folders })
    }

    /// The same, where candidates are all that was asked for and at least one of them is measured.
    ///
    /// # Errors
    /// Every candidate of a model was left out: with the reasons.
    pub fn with_candidates(self) -> Result<Self> {
        let lacks = |model: &Prepared| !model.left_out.is_empty() && model.taken.is_empty() && model.recipes.is_empty();
        let Some((model, _)) = self.models.iter().find(|(model, _)| lacks(model)) else { return Ok(self) };
        let reasons = model.left_out.iter().map(|(_, why)| why.clone());
        Err(Error::unfit(Message::from("nothing is left to compare: ").then(Message::joined(reasons, "; "))))
    }

    /// What would be done.
    ///
    /// # Errors
    /// A folder that holds another run; a device that fails.
    pub fn plan(&self) -> Result<JobPlan> {
        plan::plan(&self.models, &self.folders, self.device)
    }

    /// The lanes of all models, recipes on the fly: model by model, the reference first.
    ///
    /// # Errors
    /// A recipe that a model cannot have.
    pub fn lanes(&self) -> Result<Vec<Lane>> {
        let lanes = self.models.iter().map(|(model, names)| plan::planned_lanes(model, names));
        Ok(lanes.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Hashes of the texts that lanes of the first model are fitted to.
    pub fn fit_texts(&self) -> &[String] {
        self.models.first().and_then(|(model, _)| model.fit.as_ref()).map_or(&[], |(text, _)| &text.known_by.sha256)
    }

    /// The first text of the first model, cut into windows.
    pub fn text(&self) -> Option<&TextWindows> {
        self.models.first()?.0.texts.first().map(|walk| &walk.windows)
    }

    /// Does it.
    ///
    /// # Errors
    /// Anything that the steps say; `beside` where there is a folder, or more than one walk.
    pub fn execute(self, beside: Option<&Beside<'_>>) -> Result<Finished> {
        self.work(beside, None)
    }

    /// Does it, where it is to answer the requests of one model: what is scored of them goes on with what `resume` holds.
    ///
    /// # Errors
    /// Anything that the steps say; `resume` where there are several models.
    pub fn answer(self, resume: Option<Resume<'_>>) -> Result<Finished> {
        if resume.is_some() && self.models.len() > 1 {
            return Err(Error::unfit("this takes requests of one model"));
        }
        self.work(None, resume)
    }

    fn work(self, beside: Option<&Beside<'_>>, resume: Option<Resume<'_>>) -> Result<Finished> {
        let mut finished = Finished::default();
        let Self { device, watch, models, folders } = self;
        let walks: usize = models.iter().flat_map(|(model, _)| &model.texts).map(|walk| walk.passes().len()).sum();
        if beside.is_some() && (!folders.is_empty() || walks != 1) {
            return Err(Error::unfit("this takes one walk over one text, without a folder"));
        }
        let several = models.len() > 1;
        let folder = |i: usize| folders.get(i).map(PathBuf::as_path);
        let mut weights: Vec<Vec<f64>> =
            models.iter().enumerate().map(|(i, (model, _))| plan::weights(model, folder(i))).collect();
        // The timings of all models are one stage, behind those of every one.
        weights.push(plan::timing_weight(&models, &folders).into_iter().collect());
        let stages = Stages::new(watch.progress, &weights);
        let mut runs = Vec::new();
        for (i, (model, names)) in models.iter().enumerate() {
            let name = &model.name;
            stages.enter(i, if several { format!("{name}: ") } else { String::new() });
            finished.scope.add(model, names);
            let surroundings = Surroundings { device, watch, stages: &stages, beside, resume };
            let run = Run::score((model, names), folder(i), surroundings);
            runs.push(if several { run.at(|| name.clone())? } else { run? });
        }
        stages.enter(models.len(), String::new());
        finished.timed = speed::time(&runs, device, &stages)?;
        for run in runs {
            run.finish(&mut finished);
        }
        finished.harness = models.into_iter().next().and_then(|(model, _)| model.harness);
        watch.progress.finish();
        finished.folders = folders;
        Ok(finished)
    }
}

/// What all models of a job have in common.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    device: &'a Device,
    watch: Watch<'a>,
    stages: &'a Stages<'a>,
    beside: Option<&'a Beside<'a>>,
    /// Where the walk over requests leaves what it needs to go on after it was ended.
    resume: Option<Resume<'a>>,
}

/// Errors of activations, by lane but the first.
fn layers(lanes: &[Lane], errors: &[LayerError]) -> Vec<(String, Vec<Layer>)> {
    let layer = |error: &LayerError| Layer {
        block: error.block as u32,
        sequence: error.sequence as u32,
        rows: error.rows as u32,
        error: error.error,
        reference: error.reference,
    };
    let of = |lane: usize| errors.iter().filter(|error| error.lane == lane).map(layer).collect();
    lanes.iter().enumerate().skip(1).map(|(number, lane)| (lane.name.clone(), of(number))).collect()
}

fn wanted(model: &Prepared, names: &lanes::Names, device: &Device) -> Result<Wanted> {
    let recipe = |recipe: &Arc<Recipe>| (recipe.name.clone(), model.lane_identity(recipe));
    let mut lanes: Vec<(String, Value)> = model.recipes.iter().map(recipe).collect();
    for (lane, name) in model.candidates.iter().zip(&names.candidates) {
        let content = hex(&lane.variant.fingerprint()?);
        let mut identity = json!({ "content": content });
        if let Variant::Planned(_, plan) = &lane.variant {
            if let Some(fit) = model.fit_identity(&plan.recipe) {
                identity["fit"] = fit;
            }
            // Its content is not known yet: it is that of the plan without the matrix.
            if let Some(importance) = model.importance.as_ref().filter(|_| model.awaits_importance(&plan.recipe)) {
                identity["imatrix"] = importance.identity();
            }
        }
        lanes.push((name.clone(), identity));
    }
    Ok(Wanted {
        device: json!(device.info()),
        model: model.model_identity()?,
        arithmetic: model.arithmetic.name().to_owned(),
        imatrix: model.importance.as_ref().map_or(json!(null), prepare::Importance::identity),
        speed: model.speed.as_ref().map_or(json!(null), prepare::Speed::identity),
        margin: model.margin,
        lanes,
        walks: model.texts.iter().map(|walk| (walk.name(), walk.identity.clone())).collect(),
        tasks: model.tasks.iter().map(|task| (task.name.clone(), task.identity.clone())).collect(),
    })
}

/// One run's surroundings.
struct Run<'a> {
    device: &'a Device,
    watch: Watch<'a>,
    stages: &'a Stages<'a>,
    beside: Option<&'a Beside<'a>>,
    layers: RefCell<Vec<(String, Vec<Layer>)>>,
    model: &'a Prepared,
    names: &'a lanes::Names,
    /// All of them, once they are there.
    lanes: Vec<Lane>,
    answers: Vec<(String, Vec<Answer>)>,
    store: RefCell<Store>,
    /// Where files stand that are gone with the run.
    passing: RefCell<Option<TempDir>>,
    /// Items of work that were there already.
    found: Cell<usize>,
    /// See [`Finished::notes`].
    notes: RefCell<Vec<Message>>,
}

impl<'a> Run<'a> {
    /// Opens a model's folder, makes its lanes and scores them.
    fn score((model, names): (&'a Prepared, &'a lanes::Names), out: Option<&Path>, around: Surroundings<'a>) -> Result<Self> {
        let Surroundings { device, watch, stages, beside, resume } = around;
        let store = match out {
            Some(out) => Store::open(out, wanted(model, names, device)?)?,
            None => Store::Memory(Vec::new()),
        };
        let mut run = Self {
            device,
            watch: Watch { progress: stages, ..watch },
            stages,
            beside,
            layers: RefCell::new(Vec::new()),
            model,
            names,
            lanes: Vec::new(),
            answers: Vec::new(),
            store: RefCell::new(store),
            passing: RefCell::new(None),
            found: Cell::new(0),
            notes: RefCell::new(model.notes()),
        };
        run.left_out()?;
        let imatrix = model.importance.as_ref().map(|importance| run.importance(importance)).transpose()?;
        let lanes = run.lanes(imatrix.as_ref())?;
        for walk in &model.texts {
            run.text(&lanes, walk)?;
        }
        run.tasks(&lanes)?;
        run.forget_states()?;
        if let Some((file, asked)) = &model.requests {
            let stage = stages.begin("requests");
            let tokenizer = model.tokenizer()?;
            let options = SweepOptions { limits: model.limits, resume, ..SweepOptions::default() };
            let all = on_device!(device, backend => requests::answer(backend, &lanes, tokenizer, asked, &options, run.watch));
            run.answers.extend(lanes.iter().map(|lane| lane.name.clone()).zip(all.at(|| file.clone())?));
            stages.end(stage);
        }
        run.lanes = lanes;
        Ok(run)
    }

    /// Adds what the run came to.
    fn finish(self, finished: &mut Finished) {
        if let Store::Memory(records) = self.store.into_inner() {
            finished.records.extend(records);
        }
        finished.layers.extend(self.layers.into_inner());
        finished.answers.extend(self.answers);
        finished.found += self.found.get();
        finished.notes.extend(self.notes.into_inner());
    }

    fn note(&self, note: Message) {
        self.notes.borrow_mut().push(note);
    }

    fn record(&self, lane: &Lane, body: Body) -> Record {
        let device = &self.device.info().name;
        Record { origin: Origin::new(&self.model.name, &lane.name, device, lane.arithmetic.name()), body }
    }

    /// Records which candidates are left out, and that those which were are not any more.
    fn left_out(&self) -> Result<()> {
        for name in &self.model.taken {
            self.store.borrow_mut().forget(&items::left_out_item(name))?;
        }
        for (name, why) in &self.model.left_out {
            let device = &self.device.info().name;
            let origin = Origin::new(&self.model.name, name, device, self.model.arithmetic.name());
            self.keep(&items::left_out_item(name), vec![Record { origin, body: Body::LeftOut(why.to_string()) }])?;
        }
        Ok(())
    }

    /// Whether an item is done; then it counts as found.
    fn is_done(&self, item: &str) -> Result<bool> {
        let is_done = self.store.borrow().has(item)?;
        self.found.set(self.found.get() + usize::from(is_done));
        Ok(is_done)
    }

    fn keep(&self, item: &str, records: Vec<Record>) -> Result<()> {
        self.store.borrow_mut().keep(item, records)
    }

    fn folder(&self) -> Option<PathBuf> {
        self.store.borrow().folder().map(Path::to_owned)
    }

    /// The lanes that an item is yet to be done for; `None` where there are none.
    fn missing<'l>(&self, item: &str, lanes: &'l [Lane]) -> Result<Option<Vec<&'l Lane>>> {
        let parts = self.store.borrow().parts(item)?;
        let missing: Vec<&Lane> = lanes.iter().filter(|lane| !parts.lanes.contains(&lane.name)).collect();
        self.found.set(self.found.get() + usize::from(missing.is_empty()));
        Ok((!missing.is_empty()).then_some(missing))
    }

    /// Keeps the records of some lanes of an item that others may have been done for before.
    fn keep_part(&self, item: &str, records: Vec<Record>) -> Result<()> {
        let name = self.store.borrow().parts(item)?.next;
        self.keep(&name, records)
    }

    fn text(&self, lanes: &[Lane], walk: &Walk) -> Result<()> {
        let text = &walk.windows;
        for (number, range) in walk.passes().into_iter().enumerate() {
            let item = items::text_item(walk, number);
            let Some(missing) = self.missing(&item, lanes)? else { continue };
            let stage = self.stages.begin(&format!("scoring {}", walk.name()));
            // The reference comes first, whether its own records are there or not.
            let has_reference = missing[0].name == lanes[0].name;
            let reference = (!has_reference).then_some(&lanes[0]);
            let swept: Vec<Lane> = reference.into_iter().chain(missing).cloned().collect();
            let state = self.folder().map(|folder| folder.join(STATE).join(&item));
            let resume = state.as_deref().map(|folder| Resume { folder, every_layer: false, renews: true });
            let options = SweepOptions { limits: self.model.limits, resume, ..SweepOptions::default() };
            let (progress, stop) = (self.watch.progress, self.watch.stop);
            let scores = match self.beside {
                None => on_device!(self.device, backend =>
                    sweep::sweep(backend, &swept, &text.sequences[range.clone()], &options, progress, stop))?,
                Some(Beside { source, kept, sinks, layers, resume }) => {
                    let options = SweepOptions { sinks, layers: *layers, resume: *resume, ..options };
                    on_device!(self.device, backend => lane::score(backend, &swept, text, &options, source, kept, self.watch))?
                }
            };
            if self.beside.is_some_and(|beside| beside.layers) {
                self.layers.borrow_mut().extend(layers(&swept, &scores.layers));
            }
            let scored = text.tokens_of_lanes(range.start, &scores.lanes);
            let of_lane = |(lane, sequences): (&Lane, &Vec<_>)| {
                let records = text.records(sequences, walk.keep_tokens).into_iter();
                records.map(|s| self.record(lane, Body::Sequence(s))).collect::<Vec<_>>()
            };
            let new = swept.iter().zip(&scored).skip(usize::from(!has_reference));
            self.keep_part(&item, new.flat_map(of_lane).collect())?;
            self.stages.end(stage);
        }
        Ok(())
    }

    /// Removes what is left in the folder of walks that were interrupted: all walks of this job are done, so those belong to jobs
    /// before it, of other lanes or tasks.
    fn forget_states(&self) -> Result<()> {
        let Some(folder) = self.folder().map(|folder| folder.join(STATE)) else { return Ok(()) };
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if sweep::discard_state(&entry.path())? {
                let what = "is removed: it is the state of an interrupted walk that is none of this job's";
                self.note(format!("{} {what}", entry.path().display()).into());
            }
        }
        let _ = std::fs::remove_dir(folder);
        Ok(())
    }

    /// Asks all tasks, in one walk over all lanes where all lack the same ones.
    fn tasks(&self, lanes: &[Lane]) -> Result<()> {
        let missing = |item: &str| {
            let missing = self.missing(item, lanes)?;
            Ok(missing.map(|lanes| lanes.iter().map(|lane| lane.name.clone()).collect()))
        };
        for TaskWalk { tasks, missing } in plan::task_walks(self.model, missing)? {
            let stage = self.stages.begin(&plan::tasks_title(&tasks));
            let swept: Vec<Lane> = lanes.iter().filter(|lane| missing.contains(&lane.name)).cloned().collect();
            let (texts, scored): (Vec<&Questions>, Vec<&Questions>) =
                tasks.iter().copied().partition(|task| !task.packed.prompts().is_empty());
            let scores = self.score_tasks(&swept, &scored)?;
            for (number, task) in scored.iter().enumerate() {
                let mut records = Vec::new();
                for (lane, scores) in swept.iter().zip(&scores) {
                    let answers = task.packed.answers(&scores[number], Vec::new());
                    records.extend(self.judged(lane, task, &answers)?);
                }
                self.keep_part(&items::task_item(task), records)?;
            }
            self.generate_tasks(&swept, &texts)?;
            self.stages.end(stage);
        }
        Ok(())
    }

    /// The scores of the tasks' sequences, by lane and task.
    fn score_tasks(&self, lanes: &[Lane], tasks: &[&Questions]) -> Result<Vec<Vec<LaneScores>>> {
        if tasks.is_empty() {
            return Ok(lanes.iter().map(|_| Vec::new()).collect());
        }
        let sequences: Vec<Sequence> = tasks.iter().flat_map(|task| task.packed.sequences()).cloned().collect();
        // What is asked and of whom: an interrupted walk is taken up by the same one only.
        let asked = (lanes.iter().map(|lane| &lane.name).collect::<Vec<_>>(), tasks.iter().map(|task| &task.identity));
        let name = hex(&Sha256::digest(format!("{:?}{:?}", asked.0, asked.1.collect::<Vec<_>>())));
        let state = self.folder().map(|folder| folder.join(STATE).join(format!("tasks.{}", &name[..16])));
        let resume = state.as_deref().map(|folder| Resume { folder, every_layer: false, renews: true });
        let options = SweepOptions { limits: self.model.limits, resume, ..SweepOptions::default() };
        let (progress, stop) = (self.watch.progress, self.watch.stop);
        let scores = on_device!(self.device, backend => sweep::sweep(backend, lanes, &sequences, &options, progress, stop))
            .at(|| plan::tasks_title(tasks))?;
        let by_task = |lane: LaneScores| {
            let mut rest = lane.into_iter();
            tasks.iter().map(|task| rest.by_ref().take(task.packed.sequences().len()).collect()).collect()
        };
        Ok(scores.lanes.into_iter().map(by_task).collect())
    }

    /// Generates the answers of tasks lane by lane, and keeps each lane's when it is done.
    fn generate_tasks(&self, lanes: &[Lane], tasks: &[&Questions]) -> Result<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        let prompts: Vec<Prompt> = tasks.iter().flat_map(|task| task.packed.prompts()).cloned().collect();
        let tokenizer = self.model.tokenizer()?;
        for (number, lane) in lanes.iter().enumerate() {
            self.stages.part(number, lanes.len());
            let texts = on_device!(self.device, backend => {
                generation::answer(backend, &lane.variant, tokenizer, &prompts, self.watch)
            });
            let mut texts = texts.at(|| format!("{}: {}", lane.name, plan::tasks_title(tasks)))?.into_iter();
            for task in tasks {
                let own: Vec<String> = texts.by_ref().take(task.packed.prompts().len()).collect();
                let records = self.judged(lane, task, &task.packed.answers(&[], own))?;
                self.keep_part(&items::task_item(task), records)?;
            }
        }
        Ok(())
    }

    fn judged(&self, lane: &Lane, task: &Questions, answers: &[Answer]) -> Result<Vec<Record>> {
        let items = task.judge(answers)?;
        Ok(items.into_iter().map(|item| self.record(lane, Body::Item(item))).collect())
    }
}
