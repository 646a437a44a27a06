//! `bitworth run`: quantize, score, time, report. The work is a list of items; each leaves its records in one file when it is
//! done, and a later run of the same configuration in the same folder does only what is not there.
//!
//! Absent: what the numbers mean (`eval::stats`) and how they are shown (`report`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::imatrix::{ImatrixFormat, Sums};
use bitworth_quant::message::Message;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::quantize::hex;
use bitworth_quant::quantize::{Output, QuantizeOptions};
use bitworth_quant::{Checkpoint, Imatrix, Plan, Recipe};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::config::{ImatrixConfig, RunConfig, SpeedConfig, TextConfig};
use super::device::{Device, DeviceSelector};
use super::error::{At, Error, Result};
use super::imatrix::{self, Collect};
use super::text::{self, TextWindows};
use super::timing::{self, Workload};
use super::{Watch, models, requests};
use crate::on_device;
use bitworth_engine::backend::Arithmetic;
use bitworth_engine::error::EngineError;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane, SweepLimits};
use bitworth_eval::record::{Body, ItemRecord, LaneRecord, Origin, Record};
use bitworth_eval::records;
use bitworth_eval::task::{self, Task};
use bitworth_text::tokenizer::Tokenizer;

/// What the folder of a run is for; written first, compared before anything is added.
const IDENTITY: &str = "run.json";
/// The folder of the GGUF files.
const MODELS: &str = "models";

/// What a run came to.
#[derive(Debug)]
pub struct Finished {
    /// How many items of work were there before.
    pub found: usize,
    /// What the user should know and is no error: models that could not be timed, timings that drifted.
    pub notes: Vec<Message>,
}

/// Does what `config` says in the folder `out`; the records are there afterwards.
///
/// # Errors
/// Anything that the steps say; a folder that holds another run. What is wrong with the configuration itself is found before
/// anything is written.
pub fn run(config: &RunConfig, out: &Path, device: &Device, watch: Watch<'_>) -> Result<Finished> {
    let job = Job::prepare(config, watch)?;
    claim(out, &job.identity(config, device)?)?;
    let run = Run {
        out,
        device,
        watch,
        checkpoint: &job.checkpoint,
        task_tokenizer: &job.task_tokenizer,
        found: Cell::new(0),
        notes: RefCell::default(),
    };
    let imatrix = job.importance.as_ref().map(|importance| run.importance(importance)).transpose()?;
    let choices = |recipe: &Recipe| {
        let imatrix = imatrix.clone().filter(|_| job.guided.contains(&recipe.name));
        PlanOptions { imatrix, ..PlanOptions::default() }
    };
    let lanes = run.lanes(&job.recipes, choices)?;
    for text in &job.texts {
        run.text(&lanes, text, config.text.as_ref().map_or(usize::MAX, |t| t.pass_tokens))?;
    }
    for task in &job.tasks {
        run.task(&lanes, task, config.tasks.as_ref().and_then(|t| t.limit))?;
    }
    if let Some(load) = &job.workload {
        run.speed(&lanes, load)?;
    }
    Ok(Finished { found: run.found.get(), notes: run.notes.into_inner() })
}

/// All that a configuration names, opened and checked.
struct Job {
    checkpoint: Arc<Checkpoint>,
    /// For the texts of the tasks.
    task_tokenizer: Tokenizer,
    recipes: Vec<Arc<Recipe>>,
    importance: Option<Importance>,
    /// The recipes that use it.
    guided: BTreeSet<String>,
    texts: Vec<TextWindows>,
    tasks: Vec<Task>,
    workload: Option<Workload>,
}

impl Job {
    fn prepare(config: &RunConfig, watch: Watch<'_>) -> Result<Self> {
        let checkpoint = models::open(&config.model, watch)?;
        checkpoint.block_traits()?;
        let tokenizer = Tokenizer::new(&checkpoint)?;
        let recipes = config.recipes.iter().map(|name| Recipe::find(name)).collect::<Result<Vec<_>, _>>()?;
        let importance = config.imatrix.as_ref().map(|imatrix| Importance::prepare(imatrix, &tokenizer)).transpose()?;
        let guided = guided(config)?;
        for (i, recipe) in recipes.iter().enumerate() {
            if recipes[..i].iter().any(|other| other.name == recipe.name) {
                return Err(Error::unfit(format!("recipes: there are two named {}", recipe.name)));
            }
            let imatrix = match &importance {
                // One that is yet to be collected covers every matrix.
                Some(Importance::Collect { .. }) if guided.contains(&recipe.name) => continue,
                Some(Importance::Stored { imatrix, .. }) if guided.contains(&recipe.name) => Some(imatrix.clone()),
                _ => None,
            };
            Plan::of(checkpoint.as_ref(), recipe, &PlanOptions { imatrix, ..PlanOptions::default() })?
                .check_importance(checkpoint.path())
                .at(|| format!("recipe {} (in a configuration, [imatrix] gives one)", recipe.name))?;
        }
        let texts = config.text.as_ref().map(|text| passes(text, &tokenizer)).transpose()?.unwrap_or_default();
        let context = sweep::longest_sequence(checkpoint.hparams());
        if let Some(text) = config.text.as_ref().filter(|text| text.ctx > context) {
            return Err(Error::unfit(format!("text.ctx = {} is longer than the model's context of {context}", text.ctx)));
        }
        let workload = config.speed.as_ref().map(|speed| {
            let SpeedConfig { prompt, generate, depth, batch, repetitions } = *speed;
            let [prompt, generate, depth, batch] = [prompt, generate, depth, batch].map(|count| vec![count]);
            Workload { prompt, generate, depth, batch, repetitions, ..Workload::default() }
        });
        workload.as_ref().map_or(Ok(()), |load| load.check(context)).at(|| "[speed]")?;
        let mut tasks: Vec<Task> = Vec::new();
        let limit = config.tasks.as_ref().and_then(|tasks| tasks.limit);
        for name in config.tasks.iter().flat_map(|tasks| &tasks.names) {
            let task = Task::load(name)?;
            if tasks.iter().any(|other| other.name == task.name) {
                return Err(Error::unfit(format!("tasks.names: there are two tasks named {}", task.name)));
            }
            tasks.push(task);
        }
        let mut task_tokenizer = tokenizer.clone();
        if config.tasks.as_ref().is_some_and(|tasks| tasks.chat) {
            (tasks, task_tokenizer) = requests::as_chats(&checkpoint, &tokenizer, tasks)?;
        }
        for task in &tasks {
            requests::check(&task_tokenizer, &task::build(task.first(limit)), context).at(|| format!("task {}", task.name))?;
        }
        Ok(Self { checkpoint, task_tokenizer, recipes, importance, guided, texts, tasks, workload })
    }

    /// What makes this run another than the next one: contents, not paths.
    fn identity(&self, config: &RunConfig, device: &Device) -> Result<Value> {
        let limit = config.tasks.as_ref().and_then(|tasks| tasks.limit);
        let tasks: Vec<Value> = self
            .tasks
            .iter()
            .map(|task| json!([task.name, task.version, hex(&Sha256::digest(format!("{:?}", task.first(limit))))]))
            .collect();
        let texts: Vec<Value> =
            self.texts.iter().map(|text| json!([text.protocol.to_string(), text.sha256, text.sequences.len()])).collect();
        let mut identity = json!({
            "bitworth": env!("CARGO_PKG_VERSION"),
            "device": device.info(),
            "model": [self.checkpoint.name(), hex(&Variant::Stored(self.checkpoint.clone()).fingerprint()?)],
            "tokenizer_sha256": hex(&Sha256::digest(self.checkpoint.tokenizer_json()?.to_string())),
            "recipes": self.recipes.iter().map(|recipe| recipe_identity(recipe)).collect::<Vec<_>>(),
            "texts": texts,
            "pass_tokens": config.text.as_ref().map(|text| text.pass_tokens),
            "tasks": tasks,
            "speed": config.speed,
        });
        if let Some(importance) = &self.importance {
            identity["imatrix"] = json!([importance.identity(), self.guided]);
        }
        Ok(identity)
    }
}

/// Where the importance matrix comes from.
enum Importance {
    /// A file, and the hash of its bytes.
    Stored { imatrix: Arc<Imatrix>, sha256: String },
    /// A text, cut into windows.
    Collect { name: String, windows: Vec<Vec<u32>>, ctx: usize, sha256: String },
}

impl Importance {
    fn prepare(config: &ImatrixConfig, tokenizer: &Tokenizer) -> Result<Self> {
        if let Some(file) = &config.file {
            let path = PathBuf::from(file);
            let sha256 = file_sha256(&path).map_err(|e| Error::io(&path, e))?;
            return Ok(Self::Stored { imatrix: Arc::new(Imatrix::open(&path)?), sha256 });
        }
        let name = config.text.clone().unwrap_or_default();
        let text = models::read_text(&name)?;
        let windows = imatrix::windows(tokenizer, &text, config.ctx, 0, config.chunks).at(|| name.clone())?;
        Ok(Self::Collect { name, windows, ctx: config.ctx, sha256: hex(&Sha256::digest(text)) })
    }

    fn identity(&self) -> Value {
        match self {
            Self::Stored { sha256, .. } => json!(["file", sha256]),
            Self::Collect { windows, ctx, sha256, .. } => json!(["text", sha256, ctx, windows.len()]),
        }
    }
}

/// The names of the recipes that use the importance matrix.
fn guided(config: &RunConfig) -> Result<BTreeSet<String>> {
    let Some(imatrix) = &config.imatrix else { return Ok(BTreeSet::new()) };
    let names = imatrix.recipes.as_ref().unwrap_or(&config.recipes);
    names.iter().map(|name| Ok(Recipe::find(name)?.name.clone())).collect()
}

/// The passes over the text.
fn passes(config: &TextConfig, tokenizer: &Tokenizer) -> Result<Vec<TextWindows>> {
    let text = models::read_text(&config.file)?;
    let mut passes = vec![TextWindows::windows(tokenizer, &text, config.ctx, config.chunks).at(|| config.file.clone())?];
    if config.bits_per_byte {
        let limit = config.bits_per_byte_chunks.or(config.chunks);
        passes.push(TextWindows::rolling(tokenizer, &text, config.ctx, limit)?);
    }
    Ok(passes)
}

/// Makes the folder this run's, or finds that it is, and removes what an interrupted run left half-written. Records of
/// different models, configurations, programs or devices never mix.
fn claim(out: &Path, identity: &Value) -> Result<()> {
    let path = out.join(IDENTITY);
    match std::fs::read(&path) {
        Ok(there) => {
            let there: Value = serde_json::from_slice(&there).map_err(|e| bitworth_quant::Error::file(&path, e.to_string()))?;
            if there != *identity {
                let keys: BTreeSet<&String> =
                    [&there, identity].into_iter().filter_map(Value::as_object).flat_map(|object| object.keys()).collect();
                let other: Vec<&str> =
                    keys.into_iter().filter(|key| there.get(key) != identity.get(key)).map(String::as_str).collect();
                let holds = format!("the folder holds another run (other {}); choose another ", other.join(", "));
                let what = Message::from(holds).then(records::OUT).then(" or remove it");
                return Err(bitworth_quant::Error::file(&path, what).into());
            }
            for folder in [out.to_owned(), out.join(MODELS), out.join(records::RECORDS)] {
                remove_partial(&folder);
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
            write_whole(&path, format!("{identity:#}").as_bytes())?;
        }
        Err(e) => return Err(Error::io(&path, e)),
    }
    Ok(())
}

/// Removes the temporary files of a run that was killed. What cannot be removed does no harm but take room.
fn remove_partial(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".partial") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// One run's surroundings.
struct Run<'a> {
    out: &'a Path,
    device: &'a Device,
    watch: Watch<'a>,
    checkpoint: &'a Arc<Checkpoint>,
    task_tokenizer: &'a Tokenizer,
    /// Items of work that were there already.
    found: Cell<usize>,
    /// See [`Finished::notes`].
    notes: RefCell<Vec<Message>>,
}

impl Run<'_> {
    /// Does an item of work unless its records are there already.
    fn work_unit(&self, name: &str, work: impl FnOnce() -> Result<Vec<Record>>) -> Result<()> {
        if records::has(self.out, name) {
            self.found.set(self.found.get() + 1);
            return Ok(());
        }
        let records = work()?;
        Ok(records::append(self.out, name, &records)?)
    }

    fn note(&self, note: Message) {
        self.notes.borrow_mut().push(note);
    }

    fn record(&self, lane: &Lane, body: Body) -> Record {
        let device = &self.device.info().name;
        Record { origin: Origin::new(self.checkpoint.name(), &lane.name, device, lane.arithmetic.name()), body }
    }

    /// The importance matrix, which is collected once and then stands beside the models. The CPU collects it whatever the
    /// run's device: its sums are the same bits on every machine, and so are the models made with them.
    fn importance(&self, importance: &Importance) -> Result<Arc<Imatrix>> {
        let (name, windows, ctx) = match importance {
            Importance::Stored { imatrix, .. } => return Ok(imatrix.clone()),
            Importance::Collect { name, windows, ctx, .. } => (name, windows, *ctx),
        };
        let file = format!("{}.imatrix.gguf", self.checkpoint.name());
        let path = self.out.join(MODELS).join(&file);
        if path.exists() {
            self.found.set(self.found.get() + 1);
        } else {
            let folder = self.out.join(MODELS);
            std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
            let variant = Variant::Stored(self.checkpoint.clone());
            let chunk_size = u32::try_from(ctx).map_err(|_| Error::unfit(format!("imatrix.ctx = {ctx} is too long")))?;
            let sums = on_device!(&Device::open(DeviceSelector::Cpu)?, backend =>
                imatrix::collect(backend, &variant, windows, chunk_size, Collect::default(), self.watch))?;
            Sums { datasets: vec![name.clone()], ..sums }.write(&path, ImatrixFormat::Gguf)?;
        }
        // Models say what they were made with: a name that is the same whatever the folder.
        Ok(Arc::new(Imatrix::open(&path)?.named(&file)))
    }

    /// The reference and one lane per recipe, each in a GGUF file of its own; what is missing is made from one read.
    fn lanes(&self, recipes: &[Arc<Recipe>], choices: impl Fn(&Recipe) -> PlanOptions) -> Result<Vec<Lane>> {
        let mut reference = models::reference(self.checkpoint);
        let stored = reference.name.clone();
        if recipes.iter().any(|recipe| recipe.name == stored) {
            reference.name = format!("{stored} (stored)");
        }
        self.work_unit("lane.reference", || {
            let bpw = 8.0 * self.checkpoint.total_bytes() as f64 / self.checkpoint.parameter_count() as f64;
            let bytes = models::stored_bytes(self.checkpoint)?;
            let body = lane_record(&reference, &stored, true, Some(self.checkpoint.path()), bytes, bpw, None);
            Ok(vec![self.record(&reference, body)])
        })?;
        let folder = self.out.join(MODELS);
        let path = |recipe: &Recipe| folder.join(models::file_name(self.checkpoint, recipe));
        let made = |recipe: &&Arc<Recipe>| !records::has(self.out, &lane_unit(recipe)) || !path(recipe).exists();
        let missing: Vec<&Arc<Recipe>> = recipes.iter().filter(made).collect();
        if !missing.is_empty() {
            std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
            let outputs = missing
                .iter()
                .map(|r| Output::of(self.checkpoint.as_ref(), r, &choices(r), &path(r)))
                .collect::<Result<Vec<_>, _>>()?;
            bitworth_quant::quantize::quantize(
                self.checkpoint.as_ref(),
                &outputs,
                &QuantizeOptions::default(),
                self.watch.stop,
                self.watch.progress,
            )?;
        }
        let mut lanes = vec![reference];
        for recipe in recipes {
            let path = path(recipe);
            let lane = Lane {
                name: recipe.name.clone(),
                variant: Variant::Stored(Arc::new(Checkpoint::open(&path)?)),
                arithmetic: Arithmetic::F32,
            };
            self.work_unit(&lane_unit(recipe), || Ok(vec![self.record(&lane, file_record(&lane, recipe, &path)?)]))?;
            lanes.push(lane);
        }
        Ok(lanes)
    }

    fn text(&self, lanes: &[Lane], text: &TextWindows, pass_tokens: usize) -> Result<()> {
        let pass = bitworth_eval::record::WINDOWINGS
            .iter()
            .find(|(pass, _)| *pass == text.protocol.pass)
            .map_or("text", |(_, name)| name);
        for (number, range) in sweep::cut_by_rows(&text.sequences, pass_tokens).into_iter().enumerate() {
            self.work_unit(&format!("text.{pass}.{number:05}"), || {
                let scores = on_device!(self.device, backend =>
                    text::score(backend, lanes, text, range, SweepLimits::default(), self.watch))?;
                let of_lane = |(lane, sequences): (&Lane, Vec<_>)| {
                    sequences.into_iter().map(|s| self.record(lane, Body::Sequence(s))).collect::<Vec<_>>()
                };
                Ok(lanes.iter().zip(scores).flat_map(of_lane).collect())
            })?;
        }
        Ok(())
    }

    fn task(&self, lanes: &[Lane], task: &Task, limit: Option<usize>) -> Result<()> {
        self.work_unit(&format!("task.{}", task.name), || {
            let items = task.first(limit);
            let asked = task::build(items);
            let answers = on_device!(self.device, backend =>
                requests::answer(backend, lanes, self.task_tokenizer, &asked, SweepLimits::default(), self.watch))
            .at(|| format!("task {}", task.name))?;
            let mut records = Vec::new();
            for (lane, answers) in lanes.iter().zip(&answers) {
                for result in task.judge(items, answers)? {
                    let verdict = result.verdict;
                    let item = ItemRecord {
                        task: task.name.clone(),
                        task_version: task.version,
                        item: result.item as u32,
                        correct: verdict.correct,
                        logprobs: verdict.logprobs,
                        text: verdict.text,
                    };
                    records.push(self.record(lane, Body::Item(item)));
                }
            }
            Ok(records)
        })
    }

    fn speed(&self, lanes: &[Lane], load: &Workload) -> Result<()> {
        for lane in lanes {
            self.work_unit(&format!("speed.{}", lane.name), || {
                let timings = on_device!(self.device, backend => timing::measure(backend, &[&lane.variant], load, self.watch))?;
                if let Some(drift) = timings.drift {
                    self.note(Message::from(format!("{}: ", lane.name)).then(drift));
                }
                if timings.interrupted {
                    return Err(Error::interrupted());
                }
                Ok(timings.speeds.into_iter().flatten().map(|speed| self.record(lane, Body::Speed(speed))).collect())
            })
            .or_else(|e| match e {
                // A model too large to be resident was scored all the same; its speed stays empty, and a later run tries again.
                Error::Engine(EngineError::Device(why)) => {
                    self.note(Message::from(format!("{} is not timed: ", lane.name)).then(why.message()));
                    Ok(())
                }
                e => Err(e),
            })?;
        }
        Ok(())
    }
}

/// The name of one of llama.cpp's recipes; of a custom one, the rules too.
fn recipe_identity(recipe: &Recipe) -> Value {
    match Recipe::find(&recipe.name) {
        Ok(_) => json!(recipe.name),
        Err(_) => json!([recipe.name, hex(&Sha256::digest(format!("{recipe:?}")))]),
    }
}

fn lane_unit(recipe: &Recipe) -> String {
    format!("lane.{}", recipe.name)
}

fn file_record(lane: &Lane, recipe: &Recipe, path: &PathBuf) -> Result<Body> {
    let bytes = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    let checkpoint = lane.variant.checkpoint();
    let bpw = 8.0 * checkpoint.total_bytes() as f64 / checkpoint.parameter_count() as f64;
    let sha256 = file_sha256(path).map_err(|e| Error::io(path, e))?;
    Ok(lane_record(lane, &recipe.name, false, Some(path), bytes, bpw, Some(sha256)))
}

/// The record that describes a lane.
pub(super) fn lane_record(
    lane: &Lane,
    recipe: &str,
    is_reference: bool,
    file: Option<&Path>,
    bytes: u64,
    bpw: f64,
    sha256: Option<String>,
) -> Body {
    let types: Vec<String> = lane.variant.types().iter().map(|(dtype, weights)| format!("{dtype} {weights}")).collect();
    Body::Lane(LaneRecord {
        recipe: recipe.to_owned(),
        is_reference,
        file: file.map(|path| path.display().to_string()),
        bytes,
        bpw,
        sha256,
        types: Some(types.join(", ")),
        imatrix: None,
        fell_back: None,
        parts: None,
    })
}

fn file_sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&block[..read]);
    }
}
