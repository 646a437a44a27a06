//! Layer-major scoring: the model is walked layer by layer over the whole data set, for all lanes side by side.
//!
//! The activations of all tokens stay in memory; each layer's weights are read, used for every token of every lane, and
//! dropped. No key/value cache outlives a layer. Sequences of any length are packed without padding into chunks; a chunk
//! bounds the temporary buffers, a pass bounds the activations. Every row is computed independently of its neighbours in the
//! batch, so neither bound changes a single bit of the result.
//!
//! Absent: tokenizing, windows, what the scores mean (see `eval` and `runner`).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use quant::arch::Role;
use quant::hparams::RopeScaling;
use quant::progress::Unit;
use quant::{HParams, Progress};

use super::backend::{Arithmetic, Backend, HeadRow};
use super::error::{EngineError, Result};
use super::forward::{self, Batch, Graph, Rows, Workspace};
use super::head;
use super::model::{Block, Embedding, OutputHead, Variant};
use super::rope::{LengthClasses, Rope};

/// Some tokens of which some are predicted. Row i sees tokens `0..=i` and predicts token i + 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The rows whose predictions are scored; `scored.end < tokens.len()`.
    pub scored: Range<usize>,
}

/// One version of the model on its way through the sweep.
pub struct Lane {
    /// Name in records.
    pub name: String,
    /// Where its weights come from.
    pub variant: Variant,
    /// How its products are computed.
    pub arithmetic: Arithmetic,
}

/// How a sweep is cut. None of it changes results.
#[derive(Debug, Clone, Copy)]
pub struct SweepLimits {
    /// Bytes of activations held at once; what does not fit goes into another pass over the model.
    pub activation_bytes: usize,
    /// Bytes of one temporary buffer.
    pub buffer_bytes: usize,
}

impl Default for SweepLimits {
    fn default() -> Self {
        Self { activation_bytes: 1 << 30, buffer_bytes: 32 << 20 }
    }
}

/// The scores of one lane: for each sequence, one [`HeadRow`] per scored row. The KL divergence is from lane 0.
pub type LaneScores = Vec<Vec<HeadRow>>;

/// Scores all `sequences` with every lane; lane 0 is the reference of the others.
///
/// Progress counts rows times layers times lanes.
///
/// # Errors
/// A model that cannot be read, does not know a token or has another vocabulary than lane 0; a device that fails;
/// [`EngineError::Interrupted`] when `stop` becomes true.
pub fn score<B: Backend>(
    backend: &B,
    lanes: &[Lane],
    sequences: &[Sequence],
    cut: SweepLimits,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Vec<LaneScores>> {
    let longest = check(lanes, sequences)?;
    lanes.iter().try_for_each(|lane| backend.check_arithmetic(lane.arithmetic))?;
    let widest = lanes.iter().map(|lane| Workspace::<B>::widest(lane.variant.hparams())).max().unwrap_or(1);
    check_length(backend, lanes, longest, widest, Longer::Refused)?;
    let state = lanes.iter().map(|lane| lane.variant.hparams().embedding_length * size_of::<f32>()).sum::<usize>();
    let chunk_rows = (cut.buffer_bytes / (widest * size_of::<f32>())).min(backend.max_buffer_len() / widest).max(1);
    let pass_rows = (cut.activation_bytes / state.max(1)).max(1);
    let rows: usize = sequences.iter().map(|s| s.scored.end).sum();
    let steps: usize = lanes.iter().map(|lane| lane.variant.hparams().block_count + 1).sum();
    progress.start((rows * steps) as u64, Unit::Items, "scoring");
    let mut scores: Vec<LaneScores> = lanes.iter().map(|_| Vec::with_capacity(sequences.len())).collect();
    for pass in cut_by_rows(sequences, pass_rows) {
        let walk = Walk { backend, lanes, chunk_rows, progress, stop };
        for (scores, new) in scores.iter_mut().zip(walk.pass(&sequences[pass])?) {
            scores.extend(new);
        }
    }
    progress.finish();
    Ok(scores)
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
    let lanes = [Lane { name: variant.checkpoint().name().to_owned(), variant: variant.clone(), arithmetic: Arithmetic::F32 }];
    for (i, tokens) in sequences.iter().enumerate() {
        check_tokens(&lanes[0], tokens, i)?;
    }
    let (h, longest) = (variant.hparams(), sequences.iter().map(Vec::len).max().unwrap_or(0));
    let whole: Vec<_> = sequences.iter().map(|t| Sequence { tokens: t.clone(), scored: 0..t.len() }).collect();
    let widest = Workspace::<B>::widest(h);
    let chunk_rows = (LOGIT_BYTES / (h.vocab_size * size_of::<f32>())).min(backend.max_buffer_len() / widest);
    check_length(backend, &lanes, longest, widest, Longer::Computed)?;
    let rows: usize = sequences.iter().map(Vec::len).sum();
    progress.start((rows * h.block_count) as u64, Unit::Items, "computing logits");
    let walk = Walk { backend, lanes: &lanes, chunk_rows, progress, stop };
    let (graphs, chunks, hidden) = walk.hidden(&whole)?;
    let head = OutputHead::load(backend, variant, None, Arithmetic::F32)?;
    for (chunk, hidden) in chunks.iter().zip(&hidden[0]) {
        walk.check_stop()?;
        let mut logits = head::logits(backend, &graphs[0], &head, hidden, chunk.batch.rows)?.into_iter();
        if logits.as_slice().iter().any(|logit| logit.is_nan()) {
            return Err(not_numbers(&lanes[0]));
        }
        for index in chunk.sequences.clone() {
            take(index, logits.by_ref().take(sequences[index].len() * h.vocab_size).collect())?;
        }
    }
    progress.finish();
    Ok(())
}

/// What becomes of sequences longer than what a model was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Longer {
    /// They would measure the wrong thing.
    Refused,
    /// They are computed as the reference does it, where positions are computed and not learned, for what it is worth.
    Computed,
}

/// A sequence goes through a layer in one piece, so it must fit the device, too.
fn check_length<B: Backend>(backend: &B, lanes: &[Lane], longest: usize, widest: usize, longer: Longer) -> Result<()> {
    let room = backend.max_buffer_len() / widest;
    for lane in lanes {
        let trained = longest_sequence(lane.variant.hparams());
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
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut rows = 0;
    for (i, sequence) in sequences.iter().enumerate() {
        match ranges.last_mut() {
            Some(range) if rows + sequence.scored.end <= limit => {
                range.end = i + 1;
                rows += sequence.scored.end;
            }
            _ => {
                ranges.push(i..i + 1);
                rows = sequence.scored.end;
            }
        }
    }
    ranges
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

fn check_tokens(lane: &Lane, tokens: &[u32], index: usize) -> Result<()> {
    let vocab = lane.variant.hparams().vocab_size;
    let unfit = |what| Err(EngineError::Unfit { model: lane.variant.checkpoint().path().display().to_string(), what });
    match tokens.iter().find(|&&t| t as usize >= vocab) {
        Some(token) => unfit(format!("sequence {index}: token {token} is outside the vocabulary of {vocab}")),
        None if tokens.is_empty() => unfit(format!("sequence {index} has no tokens")),
        None => Ok(()),
    }
}

/// Sequences that go through a layer together.
struct Chunk<B: Backend> {
    tokens: B::Indices,
    batch: Batch<B>,
    sequences: Range<usize>,
    /// Scored rows and the tokens they should predict.
    scored: Vec<u32>,
    targets: Vec<u32>,
}

impl<B: Backend> Chunk<B> {
    fn new(backend: &B, all: &[Sequence], range: Range<usize>, first: &dyn Fn(usize) -> u32, widths: &[usize]) -> Result<Self> {
        let (mut tokens, mut positions, mut angles, mut spans) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut scored, mut targets) = (Vec::new(), Vec::new());
        for sequence in &all[range.clone()] {
            let start = tokens.len() as u32;
            tokens.extend_from_slice(&sequence.tokens[..sequence.scored.end]);
            let first_angle = first(sequence.scored.end);
            for i in 0..sequence.scored.end as u32 {
                positions.push(i);
                angles.push(first_angle + i);
                spans.extend([start, start + i + 1]);
            }
            scored.extend(sequence.scored.clone().map(|i| start + i as u32));
            targets.extend(sequence.scored.clone().filter_map(|i| sequence.tokens.get(i + 1)));
        }
        let batch = Batch::new(backend, &positions, &angles, &spans, widths)?;
        Ok(Self { tokens: backend.indices(&tokens)?, batch, sequences: range, scored, targets })
    }
}

/// What one pass needs to know.
struct Walk<'a, B: Backend> {
    backend: &'a B,
    lanes: &'a [Lane],
    chunk_rows: usize,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

/// Per lane its constants, the chunks, and per lane and chunk the activations behind the last layer.
type Hidden<B> = (Vec<Graph<B>>, Vec<Chunk<B>>, Vec<Vec<<B as Backend>::Buffer>>);

impl<B: Backend> Walk<'_, B> {
    fn pass(&self, sequences: &[Sequence]) -> Result<Vec<LaneScores>> {
        let (graphs, chunks, hidden) = self.hidden(sequences)?;
        let head = |lane: &Lane| OutputHead::load(self.backend, &lane.variant, None, lane.arithmetic);
        let heads = self.lanes.iter().map(head).collect::<Result<Vec<_>>>()?;
        let mut scores: Vec<LaneScores> = self.lanes.iter().map(|_| Vec::with_capacity(sequences.len())).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            self.check_stop()?;
            let hidden: Vec<&B::Buffer> = hidden.iter().map(|lane| &lane[at]).collect();
            let rows = head::score(self.backend, &graphs, &heads, &hidden, &chunk.scored, &chunk.targets)?;
            for (lane, rows) in self.lanes.iter().zip(&rows) {
                if rows.iter().any(|row| !row.log_sum_exp.is_finite() || row.target_logit.is_nan()) {
                    return Err(not_numbers(lane));
                }
            }
            for (scores, rows) in scores.iter_mut().zip(rows) {
                let mut rows = rows.into_iter();
                scores.extend(
                    sequences[chunk.sequences.clone()].iter().map(|s| rows.by_ref().take(s.scored.len()).collect::<Vec<_>>()),
                );
            }
            self.progress.advance((chunk.batch.rows * self.lanes.len()) as u64);
        }
        Ok(scores)
    }

    /// Runs every layer of every lane over all sequences.
    fn hidden(&self, sequences: &[Sequence]) -> Result<Hidden<B>> {
        let backend = self.backend;
        let ropes = self.lanes.iter().map(|lane| Rope::of(&lane.variant)).collect::<Result<Vec<_>>>()?;
        let ropes: Vec<&Rope> = ropes.iter().collect();
        let classes = LengthClasses::new(&ropes, sequences.iter().map(|s| s.scored.end));
        let first = |length: usize| classes.first_position(&ropes, length);
        let mut widths: Vec<usize> =
            self.lanes.iter().filter_map(|l| l.variant.hparams().window.as_ref()).map(|w| w.width).collect();
        widths.sort_unstable();
        widths.dedup();
        let chunks = cut_by_rows(sequences, self.chunk_rows)
            .into_iter()
            .map(|range| Chunk::new(backend, sequences, range, &first, &widths))
            .collect::<Result<Vec<_>>>()?;
        let graph = |(lane, rope): (&Lane, &&Rope)| Graph::new(backend, &lane.variant, (*rope).clone(), &classes);
        let graphs = self.lanes.iter().zip(&ropes).map(graph).collect::<Result<Vec<_>>>()?;
        let embedded = self.lanes.iter().zip(&graphs).map(|(lane, graph)| self.embed(lane, graph, &chunks));
        let mut hidden = embedded.collect::<Result<Vec<_>>>()?;
        let largest = chunks.iter().map(|chunk| chunk.batch.rows).max().unwrap_or(0);
        let depth = graphs.iter().map(|g| g.hparams().block_count).max().unwrap_or(0);
        let mut workspaces: Vec<(HParams, Workspace<B>)> = Vec::new();
        for layer in 0..depth {
            for (lane, (graph, hidden)) in self.lanes.iter().zip(graphs.iter().zip(&mut hidden)) {
                if layer >= graph.hparams().block_count {
                    continue;
                }
                let weights = Block::load(backend, &lane.variant, layer, lane.arithmetic)?;
                let ws = workspace(backend, &mut workspaces, graph.hparams(), largest)?;
                for (chunk, x) in chunks.iter().zip(hidden) {
                    self.check_stop()?;
                    forward::block(backend, graph, &weights, &chunk.batch, None, Rows::Many, ws, x)?;
                    self.progress.advance(chunk.batch.rows as u64);
                }
            }
        }
        Ok((graphs, chunks, hidden))
    }

    fn embed(&self, lane: &Lane, graph: &Graph<B>, chunks: &[Chunk<B>]) -> Result<Vec<B::Buffer>> {
        let embedding = Embedding::load(self.backend, &lane.variant)?;
        let width = lane.variant.hparams().embedding_length;
        chunks
            .iter()
            .map(|chunk| {
                let mut x = self.backend.alloc(chunk.batch.rows * width)?;
                forward::embed(self.backend, graph, &embedding, &chunk.tokens, &chunk.batch, &mut x)?;
                Ok(x)
            })
            .collect()
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(EngineError::Interrupted) } else { Ok(()) }
    }
}

/// What is said of a model whose logits are infinite or not a number.
fn not_numbers(lane: &Lane) -> EngineError {
    EngineError::Unfit {
        model: lane.name.clone(),
        what: "its logits are not numbers; some of its weights must be infinite, not a number, or out of all proportion; quantizing it \
               names the first such weight"
            .into(),
    }
}

/// The temporary buffers for a model's shape; lanes of one shape share them.
fn workspace<'a, B: Backend>(
    backend: &B,
    all: &'a mut Vec<(HParams, Workspace<B>)>,
    h: &HParams,
    rows: usize,
) -> Result<&'a mut Workspace<B>> {
    let at = match all.iter().position(|(shape, _)| shape == h) {
        Some(at) => at,
        None => {
            all.push((h.clone(), Workspace::new(backend, h, rows)?));
            all.len() - 1
        }
    };
    Ok(&mut all[at].1)
}
