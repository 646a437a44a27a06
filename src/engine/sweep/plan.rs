//! How a sweep is cut so that it fits a given memory, decided before it begins: what goes into which pass, how large a chunk is,
//! what is read and how much memory that takes at most. None of it changes results. Absent: carrying it out (see `pass`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use bitworth_quant::arch::Role;
use bitworth_quant::checkpoint::TensorBytes;
use bitworth_quant::hparams::{Recurrent, RecurrentKind};
use bitworth_quant::{DType, HParams};
use serde::Serialize;

use super::alike;
use super::chunk::{ChunkLimits, Chunks};
use super::prefix::{Forest, Order, Path, paths};
use super::{Lane, Sequence, widest};
use crate::backend::{Arithmetic, Backend, HostTensor};
use crate::error::{EngineError, Result};
use crate::footprint::WorkspaceColumns;
use crate::head::TILE;
use crate::rope::{LengthClasses, Rope};
use crate::state::{KvColumns, StateColumns};

/// How a sweep is cut.
#[derive(Debug, Clone, Copy)]
pub struct SweepLimits {
    /// Bytes of memory that the sweep may take, mapped pages included.
    pub memory_bytes: usize,
    /// Bytes of activations held at once, where that is less than fits the memory; the rest goes into another pass over the
    /// model.
    pub activation_bytes: usize,
    /// Bytes of one temporary buffer. Mixtures of experts have larger ones where there is room, because their rows are spread
    /// over many matrices, and so have devices that ask for more rows ([`Backend::chunk_rows`]).
    pub buffer_bytes: usize,
}

impl Default for SweepLimits {
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, activation_bytes: usize::MAX, buffer_bytes: 32 << 20 }
    }
}

/// What the program takes beside what is planned: itself, the tokens, and what kernels use for decoded weights and scores.
const BASE_BYTES: usize = 128 << 20;
/// Rows that the matrix of an expert should meet at once, so that decoding it is little beside the product.
const EXPERT_ROWS: usize = 256;
/// Fewest rows of a chunk that memory limits may lead to.
const FEWEST_ROWS: usize = 32;
/// What is kept of a scored row and lane.
const SCORE_BYTES: usize = 256;

impl SweepLimits {
    /// Rows of a chunk where memory is no matter.
    pub fn chunk_rows<B: Backend>(&self, backend: &B, lanes: &[Lane]) -> usize {
        let widest = widest(lanes);
        let experts = |lane: &Lane| {
            let h = lane.variant.hparams();
            EXPERT_ROWS * h.expert_count / h.expert_used_count.max(1)
        };
        let experts = lanes.iter().map(experts).max().unwrap_or(0);
        let rows = (self.buffer_bytes / (widest * size_of::<f32>())).max(experts).max(backend.chunk_rows());
        rows.min(backend.max_buffer_len() / widest).max(1)
    }
}

/// One pass over the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassPlan {
    /// Its sequences, as places in the order.
    #[serde(skip)]
    pub places: Range<usize>,
    /// How many they are.
    pub sequences: usize,
    /// Rows that are computed.
    pub rows: usize,
}

/// A sweep before it begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SweepPlan {
    /// The passes.
    pub passes: Vec<PassPlan>,
    /// Rows of all sequences.
    pub rows_given: usize,
    /// Rows that are computed, by each lane; less where sequences begin alike, more where passes compute beginnings again.
    pub rows_computed: usize,
    /// Rows that go through a layer together.
    pub chunk_rows: usize,
    /// Bytes that one pass reads of the models' files.
    pub bytes_per_pass: u64,
    /// Bytes that all passes read.
    pub bytes_read: u64,
    /// Bytes of memory that will be taken at most, as estimated.
    pub peak_bytes: u64,
    /// Multiplications and additions of all lanes.
    pub flops: f64,
    /// Whether what was read leaves the system's file cache, because the models do not fit the memory anyway.
    pub evicts: bool,
    #[serde(skip)]
    pub(super) order: Order,
    #[serde(skip)]
    pub(super) chunk: ChunkLimits,
    #[serde(skip)]
    pub(super) head_tokens: usize,
    /// By lane: what progress counts of a row.
    #[serde(skip)]
    steps: Vec<usize>,
}

impl SweepPlan {
    /// Decides.
    ///
    /// # Errors
    /// [`EngineError::TooLittleMemory`] where not even the shortest pass fits the memory; it says what would.
    pub fn new<B: Backend>(backend: &B, lanes: &[Lane], sequences: &[Sequence], limits: &SweepLimits) -> Result<Self> {
        let ropes = lanes.iter().map(|lane| Rope::of(&lane.variant)).collect::<Result<Vec<_>>>()?;
        let ropes: Vec<&Rope> = ropes.iter().collect();
        let classes = LengthClasses::new(&ropes, sequences.iter().map(|sequence| sequence.scored.end));
        let paths = paths(sequences, |length| classes.first_position(&ropes, length));
        let order = Order::of(&paths);
        let sizes = Sizes::of(lanes, limits);
        let lengths: Vec<usize> = paths.iter().map(|path| path.tokens.len()).collect();
        let rows_given: usize = lengths.iter().sum();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let key_columns = lanes.iter().map(|lane| key_columns(lane.variant.hparams())).max().unwrap_or(1);

        let whole = Cut {
            pass_rows: limits.activation_bytes.min(limits.memory_bytes) / sizes.state.max(1),
            chunk_rows: limits.chunk_rows(backend, lanes),
        };
        let mut cut = whole;
        loop {
            cut.pass_rows = cut.pass_rows.min(rows_given).max(1);
            let key_rows = (2 * cut.chunk_rows).min(backend.max_buffer_len() / key_columns.max(1));
            let chunk = ChunkLimits { rows: cut.chunk_rows, key_rows };
            let passes: Vec<PassPlan> = order
                .cut(&lengths, cut.pass_rows)
                .into_iter()
                .map(|places| PassPlan { sequences: places.len(), rows: pass_rows(&order, &lengths, &places), places })
                .collect();
            let peak = passes.iter().map(|pass| sizes.peak(&paths, &order, pass, sequences, chunk)).max().unwrap_or(0);
            if peak <= limits.memory_bytes {
                let found = Found { order, passes, chunk, peak, rows_given, head_tokens: sizes.head_tokens };
                return Ok(Self::of(lanes, sequences, limits, found));
            }
            // First smaller chunks, as far as that costs little; then more passes; then the rest.
            let enough = cut.chunk_rows > 8 * FEWEST_ROWS && cut.chunk_rows * sizes.workspace > limits.memory_bytes / 4;
            let most = passes.iter().map(|pass| pass.rows).max().unwrap_or(0);
            if enough {
                cut.chunk_rows = (cut.chunk_rows / 2).max(8 * FEWEST_ROWS);
            } else if most > longest {
                cut.pass_rows = (most.min(cut.pass_rows) * 3 / 4).max(1);
            } else if cut.chunk_rows > FEWEST_ROWS {
                cut.chunk_rows = (cut.chunk_rows / 2).max(FEWEST_ROWS);
            } else {
                let mib = |bytes: usize| bytes.div_ceil(1 << 20);
                // The head takes a share of the memory: what is enough grows a little with what is given.
                let mut needed = mib(peak);
                loop {
                    let larger = SweepLimits { memory_bytes: needed << 20, ..*limits };
                    let sizes = Sizes::of(lanes, &larger);
                    let then = passes.iter().map(|pass| sizes.peak(&paths, &order, pass, sequences, chunk)).max().unwrap_or(0);
                    if mib(then) <= needed {
                        break;
                    }
                    needed = mib(then);
                }
                return Err(EngineError::TooLittleMemory {
                    model: lanes.first().map_or_else(String::new, |lane| lane.name.clone()),
                    given_mib: mib(limits.memory_bytes),
                    needed_mib: needed,
                    longest,
                });
            }
        }
    }

    fn of(lanes: &[Lane], sequences: &[Sequence], limits: &SweepLimits, found: Found) -> Self {
        let Found { order, passes, chunk, peak, rows_given, head_tokens } = found;
        let mut files: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for lane in lanes {
            let checkpoint = lane.variant.checkpoint();
            files.insert(checkpoint.path().to_owned(), checkpoint.total_bytes());
        }
        let bytes_per_pass: u64 = files.values().sum();
        let rows_computed = passes.iter().map(|pass| pass.rows).sum();
        Self {
            rows_given,
            rows_computed,
            chunk_rows: chunk.rows,
            bytes_per_pass,
            bytes_read: bytes_per_pass * passes.len() as u64,
            peak_bytes: peak as u64,
            flops: lanes.iter().map(|lane| flops(lane.variant.hparams(), lane, rows_computed, sequences, &order)).sum(),
            evicts: bytes_per_pass > limits.memory_bytes as u64,
            passes,
            order,
            chunk,
            head_tokens,
            steps: lanes.iter().map(|lane| lane.variant.hparams().block_count + 1).collect(),
        }
    }

    /// What progress counts for the last `lanes` lanes.
    pub(super) fn steps(&self, lanes: usize) -> u64 {
        self.passes.iter().map(|pass| self.steps_of(pass, lanes)).sum()
    }

    /// The same for one pass.
    pub(super) fn steps_of(&self, pass: &PassPlan, lanes: usize) -> u64 {
        (pass.rows * self.steps[self.steps.len() - lanes..].iter().sum::<usize>()) as u64
    }
}

/// A cut that fits.
struct Found {
    order: Order,
    passes: Vec<PassPlan>,
    chunk: ChunkLimits,
    peak: usize,
    rows_given: usize,
    head_tokens: usize,
}

/// What is tried.
#[derive(Clone, Copy)]
struct Cut {
    pass_rows: usize,
    chunk_rows: usize,
}

/// Rows that a pass computes.
fn pass_rows(order: &Order, lengths: &[usize], places: &Range<usize>) -> usize {
    let new = |place: usize| {
        let shared = if place == places.start { 0 } else { order.shared[place] };
        lengths[order.sequences[place]] - shared
    };
    places.clone().map(new).sum()
}

/// Numbers of a row of keys or of values, whichever are more.
fn key_columns(h: &HParams) -> usize {
    h.largest(|block| h.kv_heads(block) * h.key_width(block).max(h.value_width(block)))
}

/// Bytes of what lanes hold.
struct Sizes {
    /// Activations of a row, and keys and values that later blocks use, all lanes.
    state: usize,
    /// Temporary buffers of a row of a chunk, all shapes.
    workspace: usize,
    /// A row of keys and values, all shapes.
    keys: usize,
    /// What a mixer with a state keeps in a slot, all shapes.
    slot: usize,
    /// Weights: two blocks, and what was encoded for several lanes.
    blocks: usize,
    /// What blocks' inputs beside the stream are made of, for a token, all lanes.
    token: usize,
    /// A range of the different output matrices of all lanes, twice.
    head: usize,
    head_tokens: usize,
    lanes: usize,
}

impl Sizes {
    fn of(lanes: &[Lane], limits: &SweepLimits) -> Self {
        let mut shapes: Vec<&HParams> = lanes.iter().map(|lane| lane.variant.hparams()).collect();
        let state = shapes.iter().map(|h| (h.embedding_length + KvColumns::lent(h)) * size_of::<f32>()).sum();
        shapes.dedup();
        let sum = |f: &dyn Fn(&HParams) -> usize| shapes.iter().map(|h| f(h) * size_of::<f32>()).sum::<usize>();
        let heads = alike::heads(lanes);
        let own = lanes.iter().enumerate().filter(|(at, _)| heads[*at] == *at);
        let per_token: usize = own.map(|(_, lane)| output_row_bytes(lane)).sum();
        let vocab = lanes.first().map_or(1, |lane| lane.variant.hparams().vocab_size);
        let head_tokens = (limits.memory_bytes / 32 / per_token.max(1)).clamp(TILE, vocab.max(TILE));
        Self {
            state,
            workspace: sum(&|h| WorkspaceColumns::of(h).total()),
            keys: sum(&|h| KvColumns::largest(h).total()),
            slot: sum(&|h| StateColumns::of_model(h).map_or(0, StateColumns::total)),
            blocks: block_bytes(lanes),
            token: lanes.iter().map(token_bytes).sum(),
            head: 2 * head_tokens.min(vocab) * per_token,
            head_tokens,
            lanes: lanes.len(),
        }
    }

    /// Different tokens of a pass, where that matters.
    fn tokens(&self, paths: &[Path<'_>], order: &Order, pass: &PassPlan) -> usize {
        if self.token == 0 {
            return 0;
        }
        let places = pass.places.clone();
        let tokens = places.flat_map(|place| paths[order.sequences[place]].tokens.iter().copied());
        tokens.collect::<std::collections::HashSet<u32>>().len()
    }

    /// The most that a pass takes.
    fn peak(&self, paths: &[Path<'_>], order: &Order, pass: &PassPlan, sequences: &[Sequence], chunk: ChunkLimits) -> usize {
        let chunks = Chunks::of(&Forest::of(paths, order, pass.places.clone()), chunk);
        let most = |f: &dyn Fn(&super::chunk::ChunkLayout) -> usize| chunks.chunks.iter().map(f).max().unwrap_or(0);
        let (rows, joined) = (most(&|chunk| chunk.rows), most(&|chunk| chunk.key_rows));
        let scored: usize = pass.places.clone().map(|place| sequences[order.sequences[place]].scored.len()).sum();
        let all_scored: usize = sequences.iter().map(|sequence| sequence.scored.len()).sum();
        let kept = (joined + chunks.kept_rows) * self.keys + chunks.slots * self.slot;
        let layers = self.blocks + rows * self.workspace + kept + self.tokens(paths, order, pass) * self.token;
        // Targets are in no order of rows: a chunk may score more rows than it has.
        let head = self.head + scored.div_ceil(chunks.chunks.len().max(1)) * (2 * TILE * size_of::<f32>() + self.state);
        let scores = (all_scored + scored) * SCORE_BYTES * self.lanes;
        BASE_BYTES + pass.rows.max(scored) * self.state + layers.max(head) + scores
    }
}

/// Bytes of what a lane's blocks make their inputs beside the stream of, for a token: its embedding, and its rows in the tables
/// of two blocks.
fn token_bytes(lane: &Lane) -> usize {
    let width = lane.variant.hparams().layer_input_length;
    let checkpoint = lane.variant.checkpoint();
    let Some(tensor) = checkpoint.tensor_of(Role::TokenEmbd, 0).filter(|_| width > 0) else { return 0 };
    lane.variant.dtype(tensor).row_bytes(tensor.cols()).unwrap_or(0) + 2 * width * size_of::<f32>()
}

/// Bytes of a weight as it is held for products.
fn held_bytes(lane: &Lane, dtype: DType, bytes: usize) -> usize {
    match lane.arithmetic {
        Arithmetic::F32 => bytes,
        Arithmetic::Q8 if dtype.is_float() => bytes,
        // Panels beside the stored bytes that they are made from; what they take at most is held by a test of theirs.
        Arithmetic::Q8 => bytes + bytes / 4 * 5,
    }
}

/// Bytes of a row of the output matrix as a lane holds it.
fn output_row_bytes(lane: &Lane) -> usize {
    let checkpoint = lane.variant.checkpoint();
    let Some(tensor) = checkpoint.tensor_of(lane.variant.output_role(), 0) else { return 0 };
    let dtype = lane.variant.dtype(tensor);
    held_bytes(lane, dtype, dtype.row_bytes(tensor.cols()).unwrap_or(0))
}

/// The largest two blocks of any lanes that exist at a time, and what is encoded once for several lanes.
fn block_bytes(lanes: &[Lane]) -> usize {
    let mut largest = 0;
    let mut encoded: BTreeMap<usize, usize> = BTreeMap::new();
    for lane in lanes {
        let mut blocks: BTreeMap<usize, usize> = BTreeMap::new();
        for tensor in lane.variant.checkpoint().tensors() {
            let Some((_, Some(block))) = tensor.role() else { continue };
            let dtype = lane.variant.dtype(tensor);
            let bytes = dtype.row_bytes(tensor.cols()).unwrap_or(0) * tensor.rows();
            *blocks.entry(block).or_default() += held_bytes(lane, dtype, bytes);
            if dtype != tensor.dtype {
                *encoded.entry(block).or_default() += bytes;
            }
        }
        largest = largest.max(blocks.into_values().max().unwrap_or(0));
    }
    2 * largest + encoded.into_values().max().unwrap_or(0)
}

/// Multiplications and additions of one lane: of products with weights, of attention, and of what mixers with a state do to it.
fn flops(h: &HParams, lane: &Lane, rows: usize, sequences: &[Sequence], order: &Order) -> f64 {
    let checkpoint = lane.variant.checkpoint();
    let mut weights = 0.0;
    for tensor in checkpoint.tensors().iter().filter(|tensor| tensor.shape.len() > 1) {
        let Some((_, Some(_))) = tensor.role() else { continue };
        // Of the matrices of experts, a row meets some.
        let experts = tensor.shape.get(2).is_some_and(|&n| n == h.expert_count && n > 1);
        let share = if experts { h.expert_used_count as f64 / h.expert_count as f64 } else { 1.0 };
        weights += tensor.elements() as f64 * share;
    }
    let output = (h.vocab_size * h.embedding_length) as f64;
    let scored: usize = sequences.iter().map(|sequence| sequence.scored.len()).sum();
    // Rows that a sequence shares with the one before attend once for both.
    let up_to = |rows: usize| rows as f64 * (rows as f64 + 1.0) / 2.0;
    let own = |(&sequence, &shared): (&usize, &usize)| up_to(sequences[sequence].scored.end) - up_to(shared);
    let pairs: f64 = order.sequences.iter().zip(&order.shared).map(own).sum();
    let attends = |block: &usize| h.kv_heads(*block) > 0;
    let heads = |block: usize| h.head_count.of(block) * (h.key_width(block) + h.value_width(block));
    let attention = (0..h.block_count).filter(attends).map(heads).sum::<usize>() as f64 * pairs;
    // A state is decayed, added to and read; a delta net reads it twice.
    let state = |mixer: &Recurrent| match mixer.kind {
        RecurrentKind::DeltaNet => 4 * mixer.head_state(),
        RecurrentKind::Mamba2 | RecurrentKind::ShortConv => 3 * mixer.head_state(),
    };
    let states: usize = (0..h.block_count).filter_map(|block| h.recurrent_of(block)).map(state).sum();
    2.0 * ((weights + states as f64) * rows as f64 + output * scored as f64 + attention)
}

/// Multiplications and additions that a device does in a second, from a product that takes some tens of milliseconds on a
/// processor: for estimates.
///
/// # Errors
/// A device that fails.
pub fn flops_per_second<B: Backend>(backend: &B) -> Result<f64> {
    const ROWS: usize = 512;
    const SIDE: usize = 1024;
    let bytes = TensorBytes::Owned(1.0f32.to_le_bytes().repeat(SIDE * SIDE));
    let weight = backend.weight(HostTensor { dtype: DType::F32, rows: SIDE, cols: SIDE, bytes })?;
    let x = backend.upload(&vec![1.0; ROWS * SIDE])?;
    let mut out = backend.alloc(ROWS * SIDE)?;
    let mut best = f64::INFINITY;
    // The first time compiles kernels and touches memory.
    for _ in 0..4 {
        let begin = Instant::now();
        backend.matmul(&x, 0..ROWS, &weight, 0..SIDE, &mut out)?;
        backend.synchronize()?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(2.0 * (ROWS * SIDE * SIDE) as f64 / best)
}
