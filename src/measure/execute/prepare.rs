//! A model's share of a job, opened and checked: nothing is computed and nothing written. What is wrong with a job is found here.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bitworth_quant::hex::hex;
use bitworth_quant::message::Message;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::quantize::Split;
use bitworth_quant::{Checkpoint, Imatrix, Plan, Recipe, content};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::questions::{Harness, Named, Questions};
use super::stand_in::TimedShape;
use crate::error::{At, Error, Result};
use crate::fit::{self, FitText, FittedTexts};
use crate::requests::Packed;
use crate::settings::NOISE_FLOOR;
use crate::text::TextWindows;
use crate::timing::{self, LlamaBench, Workload};
use crate::{Watch, imatrix, models};
use bitworth_engine::backend::Arithmetic;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane, SweepLimits};
use bitworth_eval::job::{self, FitSpec, ImatrixSpec, Job, ModelSpec, SpeedSpec, SplitSpec, TextSpec};
use bitworth_eval::overlap::Ngrams;
use bitworth_eval::request;
use bitworth_eval::slice::Slice;
use bitworth_text::tokenizer::Tokenizer;

/// The most runs of words of a text that are kept.
const MOST_RUNS: usize = 1 << 24;

/// All that a job names for one model, opened and checked.
pub struct Prepared {
    /// The model's, by which records know it.
    pub name: String,
    /// The reference.
    pub checkpoint: Arc<Checkpoint>,
    /// `None` where a job reads no text at all.
    tokenizer: Option<Tokenizer>,
    /// The recipes of which files are made.
    pub recipes: Vec<Arc<Recipe>>,
    /// The other versions, as they stand.
    pub candidates: Vec<Lane>,
    pub importance: Option<Importance>,
    /// The recipes that use it.
    pub guided: BTreeSet<String>,
    /// What weights are fitted to, and what says so in the job's words.
    pub fit: Option<(FitText, FitSpec)>,
    /// The recipes, by name, and the candidates on the fly, by the name of the plan's recipe, whose weights are fitted.
    pub fitted: BTreeSet<String>,
    pub texts: Vec<Walk>,
    pub tasks: Vec<Questions>,
    /// The tasks of lm-evaluation-harness among them.
    pub harness: Option<Harness>,
    /// Requests that are answered, and their file.
    pub requests: Option<(String, Packed)>,
    pub speed: Option<Speed>,
    pub arithmetic: Arithmetic,
    /// How much memory scoring takes.
    pub limits: SweepLimits,
    /// How the files of the recipes are cut.
    pub split: Split,
    /// See [`ModelSpec::by_name`].
    pub by_name: bool,
    /// Whether the last of the candidates is the reference through the other arithmetic.
    pub noise_floor: bool,
    /// What the job calls the candidates that are.
    pub taken: Vec<String>,
    /// Candidates that are no versions of the model, as the job names them, and why.
    pub left_out: Vec<(String, Message)>,
    /// Tasks with items that stand in the text that an importance matrix is collected on, and texts that weights are fitted to,
    /// in sentences.
    overlaps: Vec<Message>,
    /// See [`job::TasksSpec::margin`].
    pub margin: Option<f64>,
}

/// What is timed, and on what.
pub struct Speed {
    pub load: Workload,
    /// What is timed in the place of every lane.
    pub shape: Option<TimedShape>,
    /// Whether lanes that could take turns do not.
    pub sequential: bool,
}

impl Speed {
    /// What makes timings others than those of the same lanes before.
    pub fn identity(&self) -> Value {
        // Lanes that took turns and lanes that did not are timed alike.
        let shape = self.shape.as_ref().map(|shape| (shape.name(), shape.identity()));
        json!([format!("{:?}", self.load), shape])
    }
}

/// One walk over a text.
pub struct Walk {
    pub windows: TextWindows,
    /// What makes it another one than a walk of the same name.
    pub identity: Value,
    /// The windows that are scored.
    pub range: Range<usize>,
    /// Tokens scored between two writes of records.
    pub pass_tokens: usize,
    pub keep_tokens: bool,
}

impl Walk {
    /// Its name among the walks of a run.
    pub fn name(&self) -> String {
        format!("{}.{}", self.windows.name.as_deref().unwrap_or("text"), self.windows.protocol.pass.name())
    }

    /// The windows that are scored, cut where records are written.
    pub fn passes(&self) -> Vec<Range<usize>> {
        let passes = sweep::cut_by_rows(&self.windows.sequences[self.range.clone()], self.pass_tokens);
        passes.into_iter().map(|pass| pass.start + self.range.start..pass.end + self.range.start).collect()
    }
}

impl Prepared {
    /// Opens what `job` names for `model`.
    pub fn new(job: &Job, model: &ModelSpec, named: Option<&Named<'_>>, watch: Watch<'_>) -> Result<Self> {
        let checkpoint = models::open(&model.model, watch)?;
        checkpoint.block_traits()?;
        let collects = model.imatrix.as_ref().is_some_and(|imatrix| imatrix.text.is_some());
        let reads = !job.texts.is_empty() || job.tasks.is_some() || job.requests.is_some() || collects || model.fit.is_some();
        // A model of random weights need not have one.
        let tokenizer = reads.then(|| Tokenizer::new(&checkpoint)).transpose()?;
        let arithmetic = job.arithmetic.as_deref().map_or(Ok(Arithmetic::F32), str::parse)?;
        let recipes = model.recipes.iter().map(|name| recipe(name)).collect::<Result<Vec<_>>>()?;
        let fit = model.fit.as_ref().map(|spec| Ok::<_, Error>((FitText::read(spec, words(tokenizer.as_ref())?)?, spec.clone())));
        let fit = fit.transpose()?;
        let importance = model.imatrix.as_ref().map(|imatrix| Importance::prepare(imatrix, tokenizer.as_ref())).transpose()?;
        let guided = guided(model)?;
        check_recipes(&checkpoint, &recipes, importance.as_ref(), &guided)?;
        let on_the_fly = model.candidates.iter().filter_map(|name| name.strip_prefix('@'));
        let fitted = model.recipes.iter().map(String::as_str).chain(on_the_fly).filter(|name| job::fitted(name).1);
        let fitted = fitted.map(|name| Ok(recipe(name)?.name.clone())).collect::<Result<BTreeSet<_>>>()?;
        let (mut taken, mut left_out) = (Vec::new(), Vec::new());
        let mut candidates = Vec::new();
        for name in &model.candidates {
            // What is scored is compared; requests alone are not.
            let of_its_architecture = job.requests.is_none() || !job.texts.is_empty() || job.tasks.is_some();
            match candidate(&checkpoint, name, (importance.as_ref(), &guided), of_its_architecture, watch) {
                Ok(lane) => {
                    candidates.push(Lane { arithmetic, ..lane });
                    taken.push(name.clone());
                }
                Err(e @ Error::OtherModel { .. }) if !job.strict => left_out.push((name.clone(), e.message())),
                Err(e) => return Err(e),
            }
        }
        if job.noise_floor {
            candidates.push(noise_floor(&checkpoint, arithmetic)?);
        }
        let context = sweep::longest_sequence(checkpoint.hparams());
        let fitted_lanes = fitted_lanes(fit.as_ref().map(|(text, _)| text), &checkpoint, &candidates);
        let (mut texts, mut notes): (Vec<Walk>, Vec<Message>) = (Vec::new(), Vec::new());
        for spec in &job.texts {
            let (walks, text) = walks(spec, job.slice, words(tokenizer.as_ref())?, context)?;
            notes.extend(fit_overlaps(&walks, &text, &fitted_lanes));
            texts.extend(walks);
        }
        check_texts(&texts)?;
        let speed = job.speed.as_ref().map(|spec| speed(spec, context)).transpose().at(|| "[speed]")?;
        let asked = named.map(|named| named.ask(&checkpoint, words(tokenizer.as_ref())?, context)).transpose()?;
        let (tasks, harness) = asked.map_or((Vec::new(), None), |(tasks, harness)| (tasks, Some(harness)));
        let overlaps = match model.imatrix.as_ref().and_then(|imatrix| imatrix.text.as_ref()) {
            Some(text) => overlaps(&tasks, text)?,
            None => Vec::new(),
        };
        notes.extend(overlaps);
        let requests = job.requests.as_ref().map(|file| requests_of(file, words(tokenizer.as_ref())?, context)).transpose()?;
        Ok(Self {
            name: checkpoint.name().to_owned(),
            checkpoint,
            tokenizer,
            recipes,
            candidates,
            importance,
            guided,
            fit,
            fitted,
            texts,
            tasks,
            harness,
            requests,
            speed,
            arithmetic,
            limits: limits(job),
            split: job.split.as_ref().map_or(Split::None, split),
            by_name: model.by_name,
            noise_floor: job.noise_floor,
            taken,
            left_out,
            overlaps: notes,
            margin: job.tasks.as_ref().map(|tasks| tasks.margin),
        })
    }

    /// The recipe that gives a shape the types of a lane; `None` where no recipe does.
    pub fn recipe_of(&self, lane: &Lane) -> Option<Arc<Recipe>> {
        let made = self.recipes.iter().find(|recipe| recipe.name == lane.name);
        match (made, &lane.variant) {
            (Some(recipe), _) => Some(recipe.clone()),
            (None, Variant::Planned(_, plan)) => Some(plan.recipe.clone()),
            (None, Variant::Stored(stored)) => Recipe::find(&models::recipe_name(stored)).ok(),
        }
    }

    /// For the texts of the tasks and requests.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        words(self.tokenizer.as_ref())
    }

    /// The candidates that were left out, and tasks whose items are no test of an importance matrix, for people.
    pub fn notes(&self) -> Vec<Message> {
        let left_out = self.left_out.iter().map(|(_, why)| Message::from("left out: ").then(why));
        left_out.chain(self.overlaps.iter().cloned()).collect()
    }

    /// What a recipe is applied with, once the importance matrix is there.
    pub fn choices(&self, recipe: &Recipe, imatrix: Option<&Arc<Imatrix>>) -> PlanOptions {
        let imatrix = imatrix.filter(|_| self.guided.contains(&recipe.name)).cloned();
        PlanOptions { imatrix, ..PlanOptions::default() }
    }

    /// Whether a recipe uses the importance matrix, and that is yet to be collected.
    pub fn awaits_importance(&self, recipe: &Recipe) -> bool {
        matches!(self.importance, Some(Importance::Collect { .. })) && self.guided.contains(&recipe.name)
    }

    /// What the lanes beside the reference are, by name: contents, not paths.
    pub fn lane_identity(&self, recipe: &Recipe) -> Value {
        let rules = match Recipe::find(&recipe.name) {
            Ok(_) => json!(recipe.name),
            Err(_) => json!([recipe.name, hex(&Sha256::digest(format!("{recipe:?}")))]),
        };
        let importance = self.importance.as_ref().filter(|_| self.guided.contains(&recipe.name));
        let split = (self.split != Split::None).then(|| format!("{:?}", self.split));
        let mut identity = json!({ "recipe": rules, "imatrix": importance.map(Importance::identity), "split": split });
        if let Some(fit) = self.fit_identity(recipe) {
            identity["fit"] = fit;
        }
        identity
    }

    /// What the weights of a recipe are fitted to; `None` where they are not.
    pub fn fit_identity(&self, recipe: &Recipe) -> Option<Value> {
        let (text, spec) = self.fit.as_ref().filter(|_| self.fitted.contains(&recipe.name))?;
        let mut identity = vec![json!(text.known_by.sha256), json!(spec.ctx), json!(text.sequences.len())];
        identity.extend(spec.output.then(|| json!("output")));
        Some(identity.into())
    }

    /// What makes the model another one, beside its name.
    pub fn model_identity(&self) -> Result<Value> {
        let tokenizer = match &self.tokenizer {
            Some(_) => hex(&Sha256::digest(self.checkpoint.tokenizer_json()?.to_string())),
            None => String::new(),
        };
        Ok(json!([self.checkpoint.name(), hex(&Variant::Stored(self.checkpoint.clone()).fingerprint()?), tokenizer]))
    }
}

/// Which tasks have items that share a run of 13 words with the text `name` of an importance matrix: quantized by it, a lane was
/// shaped by what it is asked.
fn overlaps(tasks: &[Questions], name: &str) -> Result<Vec<Message>> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let mut runs = Ngrams::new(Ngrams::WORDS, MOST_RUNS);
    if let Err(what) = runs.add(&models::read_text(name)?) {
        tracing::warn!("{name}: {what}; only those before were looked for in tasks");
    }
    let one = |task: &Questions| {
        let count = task.texts().iter().filter(|text| runs.shares(text)).count();
        let what = format!("task {}: {count} of {} items share a run of 13 words with {name}", task.name, task.items);
        (count > 0).then(|| what.into())
    };
    Ok(tasks.iter().filter_map(one).collect())
}

/// Lanes whose weights were fitted, and the texts: in this job, in the model or in a candidate's file.
fn fitted_lanes(fit: Option<&FitText>, model: &Checkpoint, candidates: &[Lane]) -> Vec<(String, FittedTexts)> {
    let own = fit.into_iter().map(|text| ("+fit".to_owned(), text.known_by.clone()));
    let reference = std::iter::once((model.name().to_owned(), fit::texts_of(model)));
    let made = candidates.iter().filter_map(|lane| match &lane.variant {
        Variant::Stored(stored) => Some((lane.name.clone(), fit::texts_of(stored))),
        Variant::Planned(..) => None,
    });
    own.chain(reference).chain(made).collect()
}

/// Lanes whose weights were fitted to what the walks over one text hold, or to a text that shares runs of words with it. Losses
/// there say nothing about other texts.
fn fit_overlaps(walks: &[Walk], text: &str, lanes: &[(String, FittedTexts)]) -> Vec<Message> {
    let Some(walk) = walks.iter().max_by_key(|walk| walk.windows.covered) else { return Vec::new() };
    let (name, held) = (walk.windows.name.as_deref().unwrap_or("text"), walk.windows.held(text));
    let note = |(lane, fitted): &(String, FittedTexts)| {
        if fitted.sha256.contains(&walk.windows.sha256) {
            let what = "were fitted to it, so they lose less there than on other texts";
            return Some(format!("text {name}: the weights of {lane} {what}"));
        }
        let shared = fitted.runs.shared_with(held);
        let (all, words) = (fitted.runs.hashes().len(), Ngrams::WORDS);
        let what = "were fitted to stand in it, so they may lose less there than on other texts";
        let note = || format!("text {name}: {shared} of {all} runs of {words} words of what the weights of {lane} {what}");
        (shared > 0).then(note)
    };
    let mut notes: Vec<String> = lanes.iter().filter_map(note).collect();
    notes.dedup();
    notes.into_iter().map(Message::from).collect()
}

/// A recipe by the name that a job has for it; one that is fitted has a name of its own.
fn recipe(name: &str) -> Result<Arc<Recipe>> {
    let (plain, is_fitted) = job::fitted(name);
    let recipe = Recipe::find(plain)?;
    Ok(match is_fitted {
        false => recipe,
        true => Arc::new(Recipe { name: format!("{}{}", recipe.name, FitSpec::MARK), ..Recipe::clone(&recipe) }),
    })
}

/// Windows are known by the text's content: the same text cannot be scored twice in one way.
fn check_texts(walks: &[Walk]) -> Result<()> {
    for (i, walk) in walks.iter().enumerate() {
        let key = |walk: &Walk| (walk.windows.sha256.clone(), walk.windows.protocol.clone());
        if let Some(same) = walks[..i].iter().find(|other| key(other) == key(walk)) {
            let names = [same, walk].map(|walk| walk.windows.name.clone().unwrap_or_default());
            return Err(Error::unfit(format!("text: {} and {} are the same text, cut in the same way", names[0], names[1])));
        }
    }
    Ok(())
}

/// Records know a model by its name: in a folder, where they outlast the job, it is the model's own, and else one that differs
/// from the others'.
pub fn name(mut models: Vec<Prepared>, outlasts: bool) -> Result<Vec<Prepared>> {
    for i in 0..models.len() {
        let (before, [model, ..]) = models.split_at_mut(i) else { continue };
        let Some(other) = before.iter().find(|other| other.name == model.name) else { continue };
        if outlasts {
            let (paths, name) = ([other, &*model].map(|model| model.checkpoint.path().display()), &model.name);
            return Err(Error::unfit(format!("models: {} and {} are both named {name}; rename one", paths[0], paths[1])));
        }
        model.name = job::free_name(&model.name, '#', |name| before.iter().any(|other| other.name == name));
    }
    Ok(models)
}

/// The recipes of one name only, and each with the importance that it needs.
fn check_recipes(
    checkpoint: &Checkpoint,
    recipes: &[Arc<Recipe>],
    importance: Option<&Importance>,
    guided: &BTreeSet<String>,
) -> Result<()> {
    for (i, recipe) in recipes.iter().enumerate() {
        if recipes[..i].iter().any(|other| other.name == recipe.name) {
            return Err(Error::unfit(format!("recipes: there are two named {}", recipe.name)));
        }
        let imatrix = match importance {
            // One that is yet to be collected covers every matrix.
            Some(Importance::Collect { .. }) if guided.contains(&recipe.name) => continue,
            Some(Importance::Stored { imatrix, .. }) if guided.contains(&recipe.name) => Some(imatrix.clone()),
            _ => None,
        };
        Plan::of(checkpoint, recipe, &PlanOptions { imatrix, ..PlanOptions::default() })?
            .check_importance(checkpoint.path())
            .at(|| format!("recipe {}", recipe.name))?;
    }
    Ok(())
}

/// The reference through the other arithmetic.
fn noise_floor(checkpoint: &Arc<Checkpoint>, arithmetic: Arithmetic) -> Result<Lane> {
    let unfit = |what: String| Error::unfit(Message::from(NOISE_FLOOR).then(": ").then(what));
    let (name, ours) = (checkpoint.name(), arithmetic.name());
    let Some(other) = Arithmetic::ALL.into_iter().find(|&other| other != arithmetic) else {
        return Err(unfit(format!("there is no other arithmetic than {ours}")));
    };
    let variant = Variant::Stored(checkpoint.clone());
    if variant.types().iter().all(|(dtype, _)| dtype.is_float()) {
        return Err(unfit(format!(
            "the weights of {name} are plain numbers, which {ours} and {} compute alike; give a reference with quantized \
             weights, as a Q8_0 file",
            other.name()
        )));
    }
    Ok(Lane { name: name.to_owned(), variant, arithmetic: other })
}

/// A candidate's lane. To be compared it must be a version of the model; requests can be asked of any model of the same words.
fn candidate(
    checkpoint: &Arc<Checkpoint>,
    name: &str,
    (importance, guided): (Option<&Importance>, &BTreeSet<String>),
    of_its_architecture: bool,
    watch: Watch<'_>,
) -> Result<Lane> {
    if let Some(on_the_fly) = name.strip_prefix('@') {
        let recipe = recipe(on_the_fly)?;
        let importance = match importance.filter(|_| guided.contains(&recipe.name)) {
            None => models::Importance::None,
            Some(Importance::Stored { imatrix, .. }) => models::Importance::There(imatrix),
            Some(Importance::Collect { .. }) => models::Importance::Awaited,
        };
        return models::planned(checkpoint, name, &recipe, importance);
    }
    let lane = models::candidate(checkpoint, name, None, watch)?;
    if of_its_architecture {
        models::check_architecture(checkpoint, lane.variant.checkpoint())?;
    }
    Ok(lane)
}

fn limits(job: &Job) -> SweepLimits {
    let bytes = |mib: u64| usize::try_from(mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    job.max_memory_mib.map_or_else(SweepLimits::default, |mib| SweepLimits { memory_bytes: bytes(mib), ..SweepLimits::default() })
}

fn split(spec: &SplitSpec) -> Split {
    Split::Limits { max_bytes: spec.max_bytes, max_tensors: spec.max_tensors, metadata_alone: false }
}

fn speed(spec: &SpeedSpec, context: usize) -> Result<Speed> {
    let SpeedSpec { prompt, generate, depth, batch, .. } = spec.clone();
    let engine = |engine: &job::Engine| match engine {
        job::Engine::Bitworth => timing::TimedEngine::Bitworth,
        job::Engine::LlamaBench => timing::TimedEngine::LlamaBench(LlamaBench::new(spec.llama_bench.as_deref().map(Path::new))),
    };
    let load = Workload {
        prompt,
        generate,
        depth,
        batch,
        repetitions: spec.repetitions,
        warm_up: spec.warm_up,
        delay: Duration::try_from_secs_f64(spec.delay).map_err(|e| Error::unfit(format!("delay = {}: {e}", spec.delay)))?,
        drift_bound: spec.drift_bound,
        arithmetic: spec.arithmetic.as_deref().map(str::parse).transpose()?,
        engines: spec.engine.iter().map(engine).collect(),
    };
    let shape = spec.shape.as_deref().map(TimedShape::load).transpose()?;
    load.check(shape.as_ref().map_or(context, TimedShape::context))?;
    Ok(Speed { load, shape, sequential: spec.sequential })
}

/// The tokenizer of a job that reads texts.
fn words(tokenizer: Option<&Tokenizer>) -> Result<&Tokenizer> {
    tokenizer.ok_or_else(|| Error::unfit("the job reads no text, so the model's tokenizer was not opened"))
}

fn requests_of(file: &str, tokenizer: &Tokenizer, context: usize) -> Result<(String, Packed)> {
    let packed = Packed::new(tokenizer, &request::read_jsonl(Path::new(file))?, context).at(|| file.to_owned())?;
    if packed.cut > 0 {
        tracing::warn!(
            "{file}: {} requests are longer than the model's context of {context} tokens; their beginning was left out, as \
             lm-eval does",
            packed.cut
        );
    }
    Ok((file.to_owned(), packed))
}

/// The walks over one text, and the text.
fn walks(spec: &TextSpec, slice: Slice, tokenizer: &Tokenizer, context: usize) -> Result<(Vec<Walk>, String)> {
    if spec.ctx > context {
        let what = format!("text {}: ctx = {} is longer than the model's context of {context}", spec.name, spec.ctx);
        return Err(Error::unfit(what));
    }
    let text = models::read_text(&spec.file)?;
    let mut walks = vec![TextWindows::windows(tokenizer, &text, spec.ctx, spec.chunks).at(|| spec.file.clone())?];
    if spec.bits_per_byte {
        walks.push(TextWindows::rolling(tokenizer, &text, spec.ctx, spec.bits_per_byte_chunks.or(spec.chunks))?);
    }
    let identity = |windows: &TextWindows| {
        let mut all = vec![json!(windows.protocol.to_string()), json!(windows.sha256), json!(windows.sequences.len())];
        all.push(json!(spec.pass_tokens));
        all.extend((!slice.is_whole()).then(|| json!(slice)));
        json!(all)
    };
    let walk = |windows: TextWindows| Walk {
        identity: identity(&windows),
        range: slice.range(windows.sequences.len()),
        windows: TextWindows { name: Some(spec.name.clone()), ..windows },
        pass_tokens: spec.pass_tokens,
        keep_tokens: spec.keep_tokens,
    };
    Ok((walks.into_iter().map(walk).collect(), text))
}

/// Where the importance matrix comes from.
pub enum Importance {
    /// A file, and the hash of its bytes.
    Stored { imatrix: Arc<Imatrix>, hash: String },
    /// A text, cut into windows.
    Collect { name: String, windows: Vec<Vec<u32>>, ctx: usize, sha256: String },
}

impl Importance {
    fn prepare(spec: &ImatrixSpec, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        if let Some(file) = &spec.file {
            let path = PathBuf::from(file);
            return Ok(Self::Stored { hash: content::hash(&path)?, imatrix: Arc::new(Imatrix::open(&path)?) });
        }
        let name = spec.text.clone().unwrap_or_default();
        let text = models::read_text(&name)?;
        let windows = imatrix::windows(words(tokenizer)?, &text, spec.ctx, 0, spec.chunks).at(|| name.clone())?;
        Ok(Self::Collect { name, windows, ctx: spec.ctx, sha256: hex(&Sha256::digest(text)) })
    }

    pub fn identity(&self) -> Value {
        match self {
            Self::Stored { hash, .. } => json!(["file", hash]),
            Self::Collect { windows, ctx, sha256, .. } => json!(["text", sha256, ctx, windows.len()]),
        }
    }
}

/// The names of the recipes that use the importance matrix, whether files are made of them or lanes on the fly: those that it
/// lists, or else all.
fn guided(model: &ModelSpec) -> Result<BTreeSet<String>> {
    let Some(imatrix) = &model.imatrix else { return Ok(BTreeSet::new()) };
    let on_the_fly = model.candidates.iter().filter_map(|name| name.strip_prefix('@'));
    let all = || model.recipes.iter().map(String::as_str).chain(on_the_fly).collect();
    let names: Vec<&str> = imatrix.recipes.as_ref().map_or_else(all, |names| names.iter().map(String::as_str).collect());
    names.into_iter().map(|name| Ok(recipe(name)?.name.clone())).collect()
}

/// The name of a model's file for a recipe.
pub fn file_of(folder: &Path, checkpoint: &Checkpoint, recipe: &Recipe) -> PathBuf {
    folder.join(models::file_name(checkpoint, recipe))
}
