//! Files whose weights are fitted to what goes into them (`bitworth_quant::fit`): one walk over a text collects the second moment
//! of every input, block by block; when the next block begins, the matrices that read an input are encoded for all files.
//!
//! Sums are kept apart by parts of the text, so that what was fitted to some of them can be judged by another: windows go in turn
//! to two parts, and of several texts each is a part that is left out in turn.

mod journal;
mod plan;
mod walk;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::PoisonError;

use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::fit::{self, FitReport, Shrinkage};
use bitworth_quant::gguf::{Array, Value};
use bitworth_quant::hex::hex;
use bitworth_quant::plan::PlanEntry;
use bitworth_quant::quantize::{Clock, Finish, Fitting, Known, Output, Sink, Written};
use bitworth_quant::{Checkpoint, DType, Plan};
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::journal::Journal;
use self::walk::{Fitter, State};
use super::error::{At, Result};
use super::readers::readers;
use super::text::TextWindows;
use super::{Watch, models};
use bitworth_engine::backend::Backend;
use bitworth_engine::model::Variant;
use bitworth_engine::observe::Site;
use bitworth_engine::sweep::{self, Observation, SweepLimits};
use bitworth_eval::job::FitSpec;
use bitworth_eval::overlap::RunSample;
use bitworth_text::tokenizer::Tokenizer;

pub use plan::{FitPlan, GroupedInput};

/// The hashes of the texts, in a file's metadata.
const TEXTS: &str = "bitworth.fit.texts_sha256";
/// Some runs of words of what the texts were used for, as hashes (see [`RunSample`]).
const RUNS: &str = "bitworth.fit.runs";
/// Tokens of the texts.
const TOKENS: &str = "bitworth.fit.tokens";
/// The version of this program.
const VERSION: &str = "bitworth.fit.version";
/// The inputs that were fitted to, each by the first tensor that reads it, for each type that such tensors have.
const SITES: &str = "bitworth.fit.sites";
/// For each of those the share of the diagonal that was used, the least where its matrices (experts) differ; 1 where no feedback
/// was.
const RHO: &str = "bitworth.fit.rho";

/// Parts that texts are kept apart in, at most: each takes memory for all moments, and a trial of every share of the diagonal.
/// More texts than these share parts.
const MOST_PARTS: usize = 4;

/// Runs of words that a file keeps, of all texts, and of each at least and at most.
const ALL_RUNS: usize = 128;
const FEWEST_RUNS: usize = 16;
const MOST_RUNS: usize = 64;

/// Texts that weights were fitted to, as a file knows them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FittedTexts {
    /// SHA-256 of each text.
    pub sha256: Vec<String>,
    /// Some runs of words of what they were used for: copies that were edited or cut have a share of them.
    pub runs: RunSample,
}

/// Runs that a file keeps of each of so many texts, at most.
fn runs_of_each(texts: usize) -> usize {
    (ALL_RUNS / texts.max(1)).clamp(FEWEST_RUNS, MOST_RUNS)
}

/// Texts that files are fitted to, cut into windows.
#[derive(Debug, Clone)]
pub struct FitText {
    /// Windows of tokens, all of one length.
    pub sequences: Vec<Vec<u32>>,
    /// Of each window the part of the text that it is in.
    pub parts: Vec<usize>,
    /// Parts that are left out in turn to judge what was fitted to the others; it ends with the last part.
    pub left_out: Range<usize>,
    /// What files say of them.
    pub known_by: FittedTexts,
}

impl FitText {
    /// Reads the texts: of each the first windows, the same number.
    ///
    /// # Errors
    /// A text that cannot be read or is shorter than a window.
    pub fn read(spec: &FitSpec, tokenizer: &Tokenizer) -> Result<Self> {
        let (mut sequences, mut places, mut sha256) = (Vec::new(), Vec::new(), Vec::new());
        let mut runs = RunSample::default();
        for name in &spec.texts {
            let text = models::read_text(name)?;
            sha256.push(hex(&Sha256::digest(text.as_bytes())));
            let windows = TextWindows::windows(tokenizer, &text, spec.ctx, Some(spec.windows())).at(|| name.clone())?;
            runs = runs.and(RunSample::of(windows.held(&text), runs_of_each(spec.texts.len())));
            places.extend((0..windows.sequences.len()).map(|window| (sha256.len() - 1, window)));
            sequences.extend(windows.sequences.into_iter().map(|sequence| sequence.tokens));
        }
        let (parts, left_out) = parts(&sha256, &places);
        Ok(Self { sequences, parts, left_out, known_by: FittedTexts { sha256, runs } })
    }

    /// The part of the text that a row of the walk is in; windows are of one length.
    fn part_of(&self, row: usize) -> usize {
        let window = row / self.sequences.first().map_or(1, Vec::len).max(1);
        self.parts.get(window).copied().unwrap_or(0)
    }

    /// How many parts there are.
    fn part_count(&self) -> usize {
        self.left_out.end
    }

    /// Tokens of all windows.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }
}

/// The part of each window, by its text and its number there, and the parts that are left out in turn: of one text the second of
/// two, of several all. A text that is named twice is one.
fn parts(sha256: &[String], places: &[(usize, usize)]) -> (Vec<usize>, Range<usize>) {
    let mut texts: Vec<&String> = Vec::new();
    for sha256 in sha256 {
        if !texts.contains(&sha256) {
            texts.push(sha256);
        }
    }
    let part = |&(text, window): &(usize, usize)| match texts.iter().position(|known| **known == sha256[text]) {
        Some(number) if texts.len() > 1 => number % MOST_PARTS,
        _ => window % 2,
    };
    let left_out = if texts.len() > 1 { 0..texts.len().min(MOST_PARTS) } else { 1..2 };
    (places.iter().map(part).collect(), left_out)
}

/// How files are fitted, and what is wanted beside them.
#[derive(Clone, Copy)]
pub struct FitOptions<'a> {
    /// Bytes that all of it may take, as [`FitPlan::bytes`] counts them: with too few for moments, columns go in groups
    /// ([`FitPlan::grouped`]).
    pub memory_bytes: usize,
    /// Whether the output matrix is fitted, too.
    pub output: bool,
    /// Whether to hash the files.
    pub sha256: bool,
    /// With a clock, [`Written::report`] is made.
    pub report: Option<Clock<'a>>,
    /// Whether to take up what an earlier call for the same files left, and to leave what is done when this one ends early.
    pub resume: bool,
    /// Receives what the user should know and is no error: columns that go in groups, unfinished files that could not be taken
    /// up.
    pub note: &'a (dyn Fn(&str) + Sync),
}

impl Default for FitOptions<'_> {
    fn default() -> Self {
        Self { memory_bytes: usize::MAX, output: false, sha256: false, report: None, resume: false, note: &|_| {} }
    }
}

/// The texts that a file says its weights were fitted to; none where it was not. Older files say no runs of words.
pub fn texts_of(checkpoint: &Checkpoint) -> FittedTexts {
    let metadata = checkpoint.metadata();
    let sha256 = match metadata.get(TEXTS) {
        Some(Value::String(texts)) => texts.split(',').map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let runs = match metadata.get(RUNS) {
        Some(Value::Array(Array::U64(hashes))) => RunSample::from_hashes(hashes),
        _ => RunSample::default(),
    };
    FittedTexts { sha256, runs }
}

/// Bytes that a file of a model has more at most because it was fitted to `texts` texts, padding aside.
pub fn metadata_bytes(checkpoint: &Checkpoint, texts: usize) -> u64 {
    // A key with its length and type; of a text its length, of a list the type and number of what is in it.
    let key = |key: &str| 8 + key.len() + 4;
    let version = 8 + env!("CARGO_PKG_VERSION").len();
    let keys = [(TEXTS, 8), (RUNS, 12), (TOKENS, 8), (VERSION, version), (SITES, 12), (RHO, 12)];
    let keys: usize = keys.iter().map(|(name, bytes)| key(name) + bytes).sum();
    // A hash and a comma, and hashes of runs.
    let hashes = (65 + size_of::<u64>() * runs_of_each(texts)) * texts;
    let tensors = places(checkpoint, true).flat_map(|(block, site)| readers(checkpoint, block, site));
    // A name with its length, and a number.
    let inputs: usize = tensors.map(|tensor| 8 + tensor.name.len() + 4).sum();
    (keys + hashes + inputs) as u64
}

/// The inputs of a model's matrices, block by block; in the end that of the output matrix, which is in no block.
fn places(checkpoint: &Checkpoint, output: bool) -> impl Iterator<Item = (usize, Site)> + use<> {
    let blocks = (0..checkpoint.hparams().block_count).flat_map(|block| Site::OF_BLOCK.map(|site| (block, site)));
    blocks.chain(output.then_some((0, Site::Output)))
}

/// What became of one tensor in one encoding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FittedTensor {
    /// Its name.
    pub tensor: String,
    /// The encoding.
    pub to: String,
    /// How its input was shrunk: the share of the diagonal that was used, of several matrices (experts, heads) the least.
    pub shrinkage: Shrinkage,
    /// Rows and losses.
    #[serde(flatten)]
    pub report: FitReport,
    /// Seconds that it took, where there is a clock.
    #[serde(skip)]
    pub seconds: f64,
}

/// Makes the files of `outputs` on a walk over a text. Tensors that read no input of a block (the embedding, and the head unless
/// [`FitOptions::output`] asks for it), and those in encodings that cannot be fitted, are encoded as without a text.
///
/// # Errors
/// As [`FitPlan::new`], [`Sink::create_all`] and [`sweep::observe`].
pub fn fit<B: Backend>(
    backend: &B,
    variant: &Variant,
    outputs: Vec<Output>,
    text: &FitText,
    options: &FitOptions<'_>,
    watch: Watch<'_>,
) -> Result<(Vec<Written>, Vec<FittedTensor>)> {
    let checkpoint = variant.checkpoint().as_ref();
    let plans: Vec<&Plan> = outputs.iter().map(|output| &output.plan).collect();
    let plan = FitPlan::new(checkpoint, &plans, text, options)?;
    if let Some(note) = plan.grouped_note() {
        (options.note)(&note);
    }
    let wanted: Vec<Wanted> = plans.into_iter().map(Wanted::new).collect();
    let sites: Vec<Vec<(SiteKey, String)>> = wanted.iter().map(|wanted| wanted.sites(checkpoint, options.output)).collect();
    let outputs = outputs.into_iter().zip(&sites).map(|(output, sites)| with_origin(output, text, sites)).collect();
    let (mut sinks, journal) = match options.resume {
        false => (Sink::create_all(checkpoint, outputs)?, None),
        true => {
            let mut sinks = Sink::reopen_all(checkpoint, outputs)?;
            let lengths: Vec<usize> = text.sequences.iter().map(Vec::len).collect();
            let asked = (options.report.is_some(), options.output);
            let how = format!("{} {asked:?} {lengths:?} {:?}", backend.info().name, plan.grouped);
            let journal = Journal::open(checkpoint, &mut sinks, &how, options.note)?;
            (sinks, journal)
        }
    };
    let fitter = Fitter::new(State::new(checkpoint, wanted, &sinks, &plan, (text, options)).taking_up(journal));
    // The plan has looked at the memory; all tokens go through in one pass.
    let limits = SweepLimits { memory_bytes: usize::MAX, ..SweepLimits::default() };
    let observation = Observation { variant, sequences: &text.sequences, limits, output: options.output, observer: &fitter };
    sweep::observe(backend, &observation, watch.progress, watch.stop)?;
    let mut state = fitter.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.flush()?;
    let State { fitted, rho, importance, journal, .. } = state;
    for (sink, sites) in sinks.iter_mut().zip(&sites).filter(|(_, sites)| !sites.is_empty()) {
        sink.set(RHO, rho_of(sites, &rho))?;
    }
    let known = |entry: &PlanEntry| {
        let same = |one: &&FittedTensor| one.tensor == entry.source() && one.to == entry.to.name() && entry.from != entry.to;
        fitted.iter().find(same).map_or_else(Known::default, |one| Known {
            importance: importance.get(&one.tensor).map(Vec::as_slice),
            fit: Some(Fitting { shrinkage: one.shrinkage, report: one.report }),
            seconds: one.seconds,
        })
    };
    let finish = Finish { sha256: options.sha256, report: options.report, known: Some(&known) };
    // First all of them to the disk, where most failures are, then all names.
    let complete = sinks.into_iter().map(|sink| Ok(sink.complete(checkpoint, finish)?)).collect::<Result<Vec<_>>>()?;
    let written = complete.into_iter().map(|file| Ok(file.commit()?)).collect::<Result<Vec<_>>>()?;
    if let Some(journal) = journal {
        journal.remove()?;
    }
    Ok((written, fitted))
}

/// An input in one encoding of the tensors that read it: block, site, the encoding's name.
type SiteKey = (usize, Site, &'static str);

/// The file says what it was fitted to.
fn with_origin(mut output: Output, text: &FitText, sites: &[(SiteKey, String)]) -> Output {
    // Of a source that was fitted itself; none of it holds of this file.
    for key in [TEXTS, RUNS, TOKENS, VERSION, SITES, RHO] {
        output.metadata.remove(key);
    }
    output.metadata.set(TEXTS, Value::String(text.known_by.sha256.join(",")));
    output.metadata.set(RUNS, Value::Array(Array::U64(text.known_by.runs.hashes().to_vec())));
    output.metadata.set(TOKENS, Value::U64(text.tokens() as u64));
    output.metadata.set(VERSION, Value::String(env!("CARGO_PKG_VERSION").to_owned()));
    if !sites.is_empty() {
        let names = sites.iter().map(|(_, name)| name.clone()).collect();
        output.metadata.set(SITES, Value::Array(Array::String(names)));
        // Known when all is fitted; until then it keeps the place.
        output.metadata.set(RHO, rho_of(sites, &BTreeMap::new()));
    }
    output
}

/// The shares of the diagonal as a file holds them.
fn rho_of(sites: &[(SiteKey, String)], rho: &BTreeMap<SiteKey, f32>) -> Value {
    let rho = sites.iter().map(|(key, _)| rho.get(key).copied().unwrap_or(Shrinkage::NONE.rho));
    Value::Array(Array::F32(rho.collect()))
}

/// By tensor of the source: what it becomes in one file, and its name there.
struct Wanted(BTreeMap<String, (DType, String)>);

impl Wanted {
    fn new(plan: &Plan) -> Self {
        let kept = plan.entries.iter().filter(|entry| entry.from != entry.to && fit::fits(entry.to));
        Self(kept.map(|entry| (entry.source().to_owned(), (entry.to, entry.tensor.clone()))).collect())
    }

    /// What a tensor becomes, if it is to be fitted.
    fn of(&self, tensor: &Tensor) -> Option<DType> {
        self.0.get(&tensor.name).map(|(to, _)| *to)
    }

    /// The inputs that are fitted to, with the first tensor that reads each in one encoding.
    fn sites(&self, checkpoint: &Checkpoint, output: bool) -> Vec<(SiteKey, String)> {
        let mut sites: Vec<(SiteKey, String)> = Vec::new();
        for (block, site) in places(checkpoint, output) {
            for tensor in readers(checkpoint, block, site) {
                let Some((to, name)) = self.0.get(&tensor.name) else { continue };
                let key = (block, site, to.name());
                if sites.iter().rev().take_while(|(known, _)| known.0 == block).all(|(known, _)| *known != key) {
                    sites.push((key, name.clone()));
                }
            }
        }
        sites
    }
}

/// What was fitted, in one line.
pub fn summary(fitted: &[FittedTensor]) -> String {
    let all = fitted.iter().fold(FitReport::default(), |all, one| all.and(one.report));
    let unfitted = fitted.iter().filter(|one| one.report.fitted == 0).count();
    let share = if all.loss_before > 0.0 { 100.0 * (all.loss_after / all.loss_before - 1.0) } else { 0.0 };
    let kept = if unfitted > 0 { format!("; {unfitted} keep the importance matrix's bytes") } else { String::new() };
    format!("{} tensors fitted, loss of their outputs {share:+.1} %{kept}", fitted.len() - unfitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_go_to_two_parts_in_turn_and_texts_are_parts_that_are_left_out() {
        let hashes = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let places = |texts: usize| (0..texts).flat_map(|text| (0..3).map(move |window| (text, window))).collect::<Vec<_>>();
        assert_eq!(parts(&hashes(&["a"]), &places(1)), (vec![0, 1, 0], 1..2));
        assert_eq!(parts(&hashes(&["a", "b", "c"]), &places(3)), (vec![0, 0, 0, 1, 1, 1, 2, 2, 2], 0..3));
        // One text that is named twice.
        assert_eq!(parts(&hashes(&["a", "a"]), &places(2)), (vec![0, 1, 0, 0, 1, 0], 1..2));
        assert_eq!(parts(&hashes(&["a", "b", "a"]), &places(3)), (vec![0, 0, 0, 1, 1, 1, 0, 0, 0], 0..2));
        // More texts than parts.
        let (found, left_out) = parts(&hashes(&["a", "b", "c", "d", "e", "f"]), &places(6));
        assert_eq!((found.into_iter().step_by(3).collect::<Vec<_>>(), left_out), (vec![0, 1, 2, 3, 0, 1], 0..4));
        let known_by = FittedTexts::default();
        let text = FitText { sequences: vec![vec![0; 4]; 3], parts: vec![0, 1, 0], left_out: 1..2, known_by };
        assert_eq!((0..12).map(|row| text.part_of(row)).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]);
    }
}
