//! Layer-major scoring: the model is walked layer by layer over the whole data set, for all lanes side by side.
//!
//! The activations of all tokens stay in memory; each layer's weights are read while the one before is computed, used for every
//! token of every lane, and dropped. No key/value cache outlives a layer. Sequences of any length are packed without padding;
//! sequences that begin alike share the rows of their beginning. A chunk bounds the temporary buffers, a pass bounds the
//! activations. Every row is computed independently of its neighbours in the batch, so none of this changes a single bit of the
//! result.
//!
//! Absent: tokenizing, windows, what the scores mean (see `eval` and `measure`).

mod alike;
mod chunk;
mod layers;
mod pass;
mod plan;
mod prefix;
mod state;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitworth_quant::arch::Role;
use bitworth_quant::checkpoint::Pages;
use bitworth_quant::hparams::RopeScaling;
use bitworth_quant::progress::Unit;
use bitworth_quant::quantize::Sink;
use bitworth_quant::{HParams, Progress};

use super::backend::{Arithmetic, Backend, HeadRow};
use super::error::{EngineError, Result};
use super::footprint::WorkspaceColumns;
use super::forward;
use super::head::{self, StoredLogProbs};
use super::model::{OutputHead, Reader, Variant};
use super::observe::{Observed, Observer, Site};
use super::state::KvColumns;
use super::supply::Supply;
use alike::Alike;
pub use layers::LayerError;
use pass::{Pass, Walk};
pub use plan::{PassPlan, SweepLimits, SweepPlan, flops_per_second};
use state::State;
pub use state::discard_state;

/// Some tokens of which some are predicted. Row i sees tokens `0..=i` and predicts token i + 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The rows whose predictions are scored; `scored.end < tokens.len()`.
    pub scored: Range<usize>,
}

/// One version of the model on its way through the sweep.
#[derive(Clone)]
pub struct Lane {
    /// Name in records.
    pub name: String,
    /// Where its weights come from.
    pub variant: Variant,
    /// How its products are computed.
    pub arithmetic: Arithmetic,
}

/// The scores of one lane: for each sequence, one [`HeadRow`] per scored row. The divergences are from lane 0.
pub type LaneScores = Vec<Vec<HeadRow>>;

/// The final hidden states (behind the last block, before the final norm) of the scored rows of an earlier sweep.
pub trait StoredHidden: Sync {
    /// Those of a sequence: `[scored rows, H]`.
    ///
    /// # Errors
    /// What cannot be read, or is not what was written.
    fn rows(&self, sequence: usize) -> Result<Vec<f32>>;

    /// What tells them from all others.
    ///
    /// # Errors
    /// What cannot be read.
    fn identity(&self) -> Result<String>;
}

/// Where the logits of lane 0 come from.
#[derive(Clone, Copy, Default)]
pub enum Reference<'a> {
    /// From a walk through its layers.
    #[default]
    Walked,
    /// From hidden states of an earlier sweep, and the head of lane 0.
    Hidden(&'a dyn StoredHidden),
    /// From stored log-probabilities; nothing of lane 0 is read.
    LogProbs(&'a dyn StoredLogProbs),
}

/// Takes the final hidden states of the scored rows of lane 0, `[scored rows, H]`, by the number of their sequence, each sequence
/// once, in any order.
pub type HiddenTaker<'a> = &'a dyn Fn(usize, &[f32]) -> Result<()>;

/// How a sweep can be taken up again.
#[derive(Debug, Clone, Copy)]
pub struct Resume<'a> {
    /// A folder of its own.
    pub folder: &'a Path,
    /// Whether activations are written behind every layer, however long that takes; else as often as that is a tenth of the time.
    pub every_layer: bool,
    /// Whether state of another sweep, or state that cannot be read, is thrown away with a warning, and scored anew; else it is
    /// refused. Files of others are never thrown away.
    pub renews: bool,
}

/// What a sweep does beside scoring.
#[derive(Clone, Copy, Default)]
pub struct SweepOptions<'a> {
    /// How it is cut.
    pub limits: SweepLimits,
    /// Where it leaves what it needs to go on after it was ended, and finds what an earlier one left.
    pub resume: Option<Resume<'a>>,
    /// By lane: the file that is made of the tensors that it reads.
    pub sinks: &'a [Option<Arc<Sink>>],
    /// Where lane 0 comes from.
    pub reference: Reference<'a>,
    /// Who wants lane 0's final hidden states; for them, passes that an earlier sweep has finished are gone through again.
    pub hidden: Option<HiddenTaker<'a>>,
    /// Whether the error of every lane's activations behind every block is wanted.
    pub layers: bool,
}

/// What came of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// By lane.
    pub lanes: Vec<LaneScores>,
    /// Where wanted: by lane but the first, block and sequence.
    pub layers: Vec<LayerError>,
}

/// Scores all `sequences` with every lane; lane 0 is the reference of the others.
///
/// # Errors
/// As [`sweep`].
pub fn score<B: Backend>(
    backend: &B,
    lanes: &[Lane],
    sequences: &[Sequence],
    limits: SweepLimits,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Vec<LaneScores>> {
    Ok(sweep(backend, lanes, sequences, &SweepOptions { limits, ..SweepOptions::default() }, progress, stop)?.lanes)
}

/// Scores all `sequences` with every lane, with all there is to choose; lane 0 is the reference of the others.
///
/// Progress counts rows times layers times lanes.
///
/// # Errors
/// A model that cannot be read, does not know a token or has another vocabulary than lane 0; a device that fails; memory limits
/// that not even one layer fits; state of another sweep, or that cannot be written; [`EngineError::Interrupted`] when `stop`
/// becomes true.
pub fn sweep<B: Backend>(
    backend: &B,
    lanes: &[Lane],
    sequences: &[Sequence],
    options: &SweepOptions<'_>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Scores> {
    let plan = plan(backend, lanes, sequences, &options.limits)?;
    if options.layers {
        check_layers(lanes, options.reference)?;
    }
    let walked = !matches!(options.reference, Reference::Walked);
    let walked = usize::from(walked)..lanes.len();
    let sinks = lanes.iter().zip(options.sinks).filter_map(|(lane, sink)| Some((lane.variant.clone(), sink.clone()?)));
    let supply = Supply::new(lanes[walked.clone()].iter().map(|lane| &lane.variant), sinks.collect());
    let state = options.resume.map(|resume| State::open(resume, lanes, sequences, &plan, options)).transpose()?;
    progress.start(plan.steps(walked.len()), Unit::Items, "scoring");
    let walk = Walk {
        backend,
        lanes,
        alike: Alike::of(&lanes[walked.clone()]),
        walked,
        supply: &supply,
        chunk: plan.chunk,
        pages: if plan.evicts { Pages::Evicted } else { Pages::Unmapped },
        progress,
        stop,
        observer: None,
        layers: options.layers,
    };
    let mut scores = Scores { lanes: vec![vec![Vec::new(); sequences.len()]; lanes.len()], layers: Vec::new() };
    for (number, planned) in plan.passes.iter().enumerate() {
        let pass = Pass::new(&walk, sequences, &plan.order, planned.places.clone())?;
        let finished = match &state {
            Some(state) if options.hidden.is_none() => state.finished(number, &pass.numbers(), sequences)?,
            _ => None,
        };
        let done = match finished {
            Some(done) => {
                progress.advance(plan.steps_of(planned, walk.walked.len()));
                done
            }
            None => pass.score(&plan, options, state.as_ref().map(|state| (state, number)))?,
        };
        if let Some(state) = &state {
            state.finish(number, &done)?;
        }
        for (all, lane) in scores.lanes.iter_mut().zip(done.lanes) {
            for (sequence, rows) in pass.numbers().into_iter().zip(lane) {
                all[sequence] = rows;
            }
        }
        scores.layers.extend(done.layers);
    }
    scores.layers.sort_by_key(|error| (error.lane, error.block, error.sequence));
    if let Some(state) = state {
        state.remove()?;
    }
    progress.finish();
    Ok(scores)
}

/// How a sweep would go: passes, memory, bytes to read, without going.
///
/// # Errors
/// As [`sweep`] before it begins.
pub fn plan<B: Backend>(backend: &B, lanes: &[Lane], sequences: &[Sequence], limits: &SweepLimits) -> Result<SweepPlan> {
    let longest = check(lanes, sequences)?;
    lanes.iter().try_for_each(|lane| backend.check_arithmetic(lane.arithmetic))?;
    check_length(backend, lanes, longest, Longer::Refused)?;
    SweepPlan::new(backend, lanes, sequences, limits)
}

/// Bytes of logits computed at once, one sequence at least.
const LOGIT_BYTES: usize = 256 << 20;

/// The logits of every row of every sequence: `[tokens, V]` per sequence, handed to `take` in order.
///
/// # Errors
/// As [`score`], and whatever `take` returns.
pub fn logits<B: Backend>(
    backend: &B,
    variant: &Variant,
    sequences: &[Vec<u32>],
    progress: &dyn Progress,
    stop: &AtomicBool,
    mut take: impl FnMut(usize, Vec<f32>) -> Result<()>,
) -> Result<()> {
    let lanes = [alone(variant)];
    let whole = whole(&lanes[0], sequences)?;
    let (h, longest) = (variant.hparams(), sequences.iter().map(Vec::len).max().unwrap_or(0));
    check_length(backend, &lanes, longest, Longer::Computed)?;
    let rows: usize = sequences.iter().map(Vec::len).sum();
    progress.start((rows * h.block_count) as u64, Unit::Items, "computing logits");
    let supply = Supply::default();
    let walk = Walk::alone(backend, &lanes, &supply, &SweepLimits::default(), longest, progress, stop);
    let order = prefix::Order::as_given(sequences.len());
    let pass = Pass::new(&walk, &whole, &order, 0..sequences.len())?;
    let mut hidden = pass.embed()?;
    pass.layers(&mut hidden, 0, |_, _| Ok(()))?;
    let head = OutputHead::load(backend, &Reader::alone(variant, Arithmetic::F32), None)?;
    let width = h.embedding_length;
    for (number, sequence) in sequences.iter().enumerate() {
        let mut all = Vec::with_capacity(sequence.len() * h.vocab_size);
        for piece in pass.pieces(number) {
            let at_once = (LOGIT_BYTES / (h.vocab_size * size_of::<f32>())).max(1);
            for first in (0..piece.rows.len()).step_by(at_once) {
                walk.check_stop()?;
                let count = at_once.min(piece.rows.len() - first);
                let mut x = backend.alloc(count * width)?;
                backend.copy(&hidden.x[0][piece.chunk], (piece.first + first) * width, &mut x, 0, count * width)?;
                all.extend(head::logits(backend, &pass.graphs[0], &head, &x, count)?);
            }
        }
        if all.iter().any(|logit| logit.is_nan()) {
            return Err(not_numbers(&lanes[0]));
        }
        take(number, all)?;
    }
    progress.finish();
    Ok(())
}

/// What is observed: all rows of all sequences, on their way through a model.
pub struct Observation<'a, B: Backend> {
    /// The model.
    pub variant: &'a Variant,
    /// Token ids of each sequence.
    pub sequences: &'a [Vec<u32>],
    /// How the walk is cut.
    pub limits: SweepLimits,
    /// Whether the output matrix is of interest, too.
    pub output: bool,
    /// Who is told.
    pub observer: &'a dyn Observer<B>,
}

/// Runs all rows through every layer and tells the observer of what goes into the matrices. Where the activations take more than
/// one pass, each pass begins again with the first layer. Rows that sequences have in common are computed for each of them.
///
/// # Errors
/// As [`score`], and whatever the observer returns.
pub fn observe<B: Backend>(
    backend: &B,
    observation: &Observation<'_, B>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<()> {
    let Observation { variant, sequences, limits, output, observer } = *observation;
    let lanes = [alone(variant)];
    let whole = whole(&lanes[0], sequences)?;
    let (h, longest) = (variant.hparams(), sequences.iter().map(Vec::len).max().unwrap_or(0));
    check_length(backend, &lanes, longest, Longer::Refused)?;
    let rows: usize = sequences.iter().map(Vec::len).sum();
    progress.start((rows * h.block_count) as u64, Unit::Items, "collecting");
    let supply = Supply::default();
    let walk = Walk { observer: Some(observer), ..Walk::alone(backend, &lanes, &supply, &limits, longest, progress, stop) };
    let order = prefix::Order::as_given(sequences.len());
    let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
    for places in order.cut(&lengths, pass_rows(h, limits)) {
        let pass = Pass::new(&walk, &whole, &order, places)?;
        let mut hidden = pass.embed()?;
        pass.layers(&mut hidden, 0, |_, _| Ok(()))?;
        if !output {
            continue;
        }
        let norm = super::model::output_norm(backend, &Reader::alone(variant, Arithmetic::F32))?;
        let mut first = 0;
        for (chunk, x) in pass.chunks.iter().zip(&hidden.x[0]) {
            walk.check_stop()?;
            let (rows, cols) = (chunk.batch.rows, h.embedding_length);
            let mut normed = backend.alloc(rows * cols)?;
            forward::norm(backend, &pass.graphs[0], x, rows, &norm, &mut normed)?;
            let parts = [(0, 0..rows)];
            let (site, x, parts) = (Site::Output, &normed, &parts[..]);
            observer.observe(backend, &Observed { block: 0, site, x, cols, parts, first, rows: None })?;
            first += rows;
        }
    }
    progress.finish();
    Ok(())
}

/// Rows of one model whose activations are held at once.
pub fn pass_rows(h: &HParams, limits: SweepLimits) -> usize {
    (limits.activation_bytes.min(limits.memory_bytes / 2) / row_bytes(h).max(1)).max(1)
}

/// Bytes of activations that are held for a row of one model.
pub fn row_bytes(h: &HParams) -> usize {
    (h.embedding_length + KvColumns::lent(h)) * size_of::<f32>()
}

/// A model as the only lane.
fn alone(variant: &Variant) -> Lane {
    Lane { name: variant.checkpoint().name().to_owned(), variant: variant.clone(), arithmetic: Arithmetic::F32 }
}

/// Sequences of which all rows are computed.
fn whole(lane: &Lane, sequences: &[Vec<u32>]) -> Result<Vec<Sequence>> {
    sequences.iter().enumerate().try_for_each(|(i, tokens)| check_tokens(lane, tokens, i))?;
    Ok(sequences.iter().map(|tokens| Sequence { tokens: tokens.clone(), scored: 0..tokens.len() }).collect())
}

/// What becomes of sequences longer than what a model was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Longer {
    /// They would measure the wrong thing.
    Refused,
    /// They are computed as the reference does it, where positions are computed and not learned, for what it is worth.
    Computed,
}

/// The keys of a sequence must fit one buffer of the device, too.
fn check_length<B: Backend>(backend: &B, lanes: &[Lane], longest: usize, longer: Longer) -> Result<()> {
    for lane in lanes {
        let h = lane.variant.hparams();
        let columns = h.largest(|block| h.kv_heads(block) * h.key_width(block).max(h.value_width(block)));
        let room = backend.max_buffer_len() / columns.max(1);
        let trained = longest_sequence(h);
        let learned = lane.variant.checkpoint().tensor_of(Role::PositionEmbd, 0).is_some();
        let context = if longer == Longer::Refused || learned { trained } else { usize::MAX };
        if longest > trained && longest <= context {
            tracing::warn!(
                "{}: a sequence of {longest} tokens is longer than the {trained} that the model was trained for",
                lane.name
            );
        }
        if longest > context.min(room) {
            let (limit, whose) = if context <= room { (context, "the model") } else { (room, "the device") };
            return Err(EngineError::Unfit {
                model: lane.variant.checkpoint().path().display().to_string(),
                what: format!("a sequence of {longest} tokens is longer than the {limit} that {whose} takes; cut it shorter"),
            });
        }
    }
    Ok(())
}

/// The longest sequence that a model was trained for: its context, or as far as its positions are stretched with length.
pub fn longest_sequence(h: &HParams) -> usize {
    match h.rope_scaling {
        RopeScaling::Dynamic { factor } => (h.context_length as f64 * f64::from(factor).max(1.0)) as usize,
        _ => h.context_length,
    }
}

/// Ranges of neighbouring sequences with at most `limit` rows each (one sequence at least).
pub fn cut_by_rows(sequences: &[Sequence], limit: usize) -> Vec<Range<usize>> {
    let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.scored.end).collect();
    prefix::Order::as_given(sequences.len()).cut(&lengths, limit)
}

/// Checks lanes and sequences against each other; returns the length of the longest sequence.
fn check(lanes: &[Lane], sequences: &[Sequence]) -> Result<usize> {
    let unfit = |lane: &Lane, what: String| EngineError::Unfit { model: lane.name.clone(), what };
    let Some(reference) = lanes.first() else { return Ok(0) };
    for lane in lanes {
        let (ours, theirs) = (lane.variant.hparams().vocab_size, reference.variant.hparams().vocab_size);
        if ours != theirs {
            return Err(unfit(
                lane,
                format!("vocabulary of {ours} tokens, but {} has {theirs}; they cannot be compared", reference.name),
            ));
        }
    }
    for (i, sequence) in sequences.iter().enumerate() {
        check_tokens(reference, &sequence.tokens, i)?;
        if sequence.scored.start > sequence.scored.end || sequence.scored.end >= sequence.tokens.len().max(1) {
            return Err(unfit(reference, "a sequence scores rows that predict nothing".into()));
        }
    }
    Ok(sequences.iter().map(|s| s.scored.end).max().unwrap_or(0))
}

/// Activations are compared block by block, number by number.
fn check_layers(lanes: &[Lane], reference: Reference<'_>) -> Result<()> {
    let unfit = |lane: &Lane, what: String| Err(EngineError::Unfit { model: lane.name.clone(), what });
    let Some(first) = lanes.first() else { return Ok(()) };
    if !matches!(reference, Reference::Walked) {
        let what =
            "the error behind each block needs the reference's layers, and a stored reference has none; compare with the model";
        return unfit(first, what.into());
    }
    let shape = |lane: &Lane| (lane.variant.hparams().block_count, lane.variant.hparams().embedding_length);
    match lanes.iter().find(|lane| shape(lane) != shape(first)) {
        None => Ok(()),
        Some(lane) => {
            let ((own_blocks, own_width), (blocks, width)) = (shape(lane), shape(first));
            unfit(
                lane,
                format!(
                    "{own_blocks} blocks of width {own_width}, but {} has {blocks} of {width}; their activations cannot be \
                     compared block by block",
                    first.name
                ),
            )
        }
    }
}

fn check_tokens(lane: &Lane, tokens: &[u32], index: usize) -> Result<()> {
    let vocab = lane.variant.hparams().vocab_size;
    let unfit = |what| Err(EngineError::Unfit { model: lane.variant.checkpoint().path().display().to_string(), what });
    match tokens.iter().find(|&&t| t as usize >= vocab) {
        Some(token) => unfit(format!("sequence {index}: token {token} is outside the vocabulary of {vocab}")),
        None if tokens.is_empty() => unfit(format!("sequence {index} has no tokens")),
        None => Ok(()),
    }
}

/// What is said of a model whose logits are infinite or not a number.
fn not_numbers(lane: &Lane) -> EngineError {
    EngineError::Unfit {
        model: lane.name.clone(),
        what: "its logits are not numbers; some of its weights must be infinite, not a number, or out of all proportion; \
             quantizing it names the first such weight"
            .into(),
    }
}

/// The most columns of a temporary buffer of any lane.
fn widest(lanes: &[Lane]) -> usize {
    lanes.iter().map(|lane| WorkspaceColumns::of(lane.variant.hparams()).widest()).max().unwrap_or(1)
}
