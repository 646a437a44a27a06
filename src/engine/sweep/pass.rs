//! One pass: as many sequences as have room walk through all layers together, and through the head.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use bitworth_quant::checkpoint::Pages;
use bitworth_quant::{HParams, Progress};

use super::alike::{self, Alike};
use super::chunk::{ChunkLimits, Chunks, Piece};
use super::layers::{LayerError, RowError};
use super::plan::SweepPlan;
use super::prefix::{Forest, Order, Path, paths};
use super::state::{KeptLayer, State};
use super::{Lane, LaneScores, Reference, Scores, Sequence, StoredHidden, SweepLimits, SweepOptions, not_numbers};
use crate::backend::{Backend, HeadRow, RunList};
use crate::error::{EngineError, Result};
use crate::forward::{
    self, Batch, Chunked, Graph, KvCopies, KvPast, LayerSpace, Lent, Past, Positional, RowCount, Step, Workspace,
};
use crate::head::{self, Scored};
use crate::model::{BlockWeights, Embedding, LayerInput, Reader};
use crate::observe::Observer;
use crate::prefetch::prefetch;
use crate::rope::{LengthClasses, Rope};
use crate::state::{KvCache, KvColumns, RecurrentState, StateColumns};
use crate::supply::Supply;

/// What all passes have in common.
pub struct Walk<'a, B: Backend> {
    pub backend: &'a B,
    pub lanes: &'a [Lane],
    /// The lanes whose layers are computed.
    pub walked: Range<usize>,
    /// What these have in common.
    pub alike: Alike,
    pub supply: &'a Supply,
    pub chunk: ChunkLimits,
    /// What becomes of the pages of a layer that is done.
    pub pages: Pages,
    pub progress: &'a dyn Progress,
    pub stop: &'a AtomicBool,
    pub observer: Option<&'a dyn Observer<B>>,
    /// Whether the errors of activations are wanted.
    pub layers: bool,
}

impl<'a, B: Backend> Walk<'a, B> {
    /// Of one lane, with chunks that hold a sequence of `longest` tokens whole.
    pub fn alone(
        backend: &'a B,
        lanes: &'a [Lane],
        supply: &'a Supply,
        limits: &SweepLimits,
        longest: usize,
        progress: &'a dyn Progress,
        stop: &'a AtomicBool,
    ) -> Self {
        let rows = limits.chunk_rows(backend, lanes).max(longest);
        let chunk = ChunkLimits { rows, key_rows: usize::MAX };
        let pages = Pages::Unmapped;
        let (walked, alike) = (0..lanes.len(), Alike::of(lanes));
        Self { backend, lanes, walked, alike, supply, chunk, pages, progress, stop, observer: None, layers: false }
    }

    pub fn check_stop(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(EngineError::Interrupted) } else { Ok(()) }
    }

    /// How a lane's weights are read.
    fn reader(&self, lane: usize) -> Reader<'a> {
        let Lane { variant, arithmetic, .. } = &self.lanes[lane];
        Reader { variant, arithmetic: *arithmetic, supply: Some(self.supply) }
    }
}

/// Rows that go through a layer together, on the device.
pub struct Chunk<B: Backend> {
    /// Where its rows stand.
    pub batch: Batch<B>,
    tokens: Vec<u32>,
    key_rows: usize,
    copies: KvCopies,
    runs: RunList<B>,
    /// Scored rows and the tokens that they should predict.
    rows: Vec<u32>,
    targets: Vec<u32>,
    /// The same: places of sequences in the pass, and numbers among their scored rows.
    homes: Vec<(usize, usize)>,
}

impl<B: Backend> Chunk<B> {
    /// Brings the scored rows into the order of their targets, as the head wants them.
    fn sort(&mut self) {
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        order.sort_by_key(|&i| self.targets[i]);
        self.rows = order.iter().map(|&i| self.rows[i]).collect();
        self.homes = order.iter().map(|&i| self.homes[i]).collect();
        self.targets.sort_unstable();
    }
}

/// What a walk takes from layer to layer, by lane that is walked.
pub struct Hidden<B: Backend> {
    /// By chunk: activations. None of a lane that has not parted from the first one.
    pub x: Vec<Vec<B::Buffer>>,
    /// By block and chunk: keys and values that later blocks use. Those of blocks before a lane parted are the first lane's.
    pub lent: Vec<BTreeMap<usize, Vec<KvCache<B>>>>,
}

impl<B: Backend> Hidden<B> {
    /// The activations of a lane, which may still be the first one's.
    fn of(&self, at: usize) -> &[B::Buffer] {
        if self.x[at].is_empty() { &self.x[0] } else { &self.x[at] }
    }
}

/// What the inputs are made of that blocks have beside the stream.
struct Inputs<B: Backend> {
    /// All tokens of the pass, each once, in order.
    known: Vec<u32>,
    /// By chunk: which of them its rows have.
    picks: Vec<B::Indices>,
    /// By lane that is walked: their embeddings, where its blocks have such inputs.
    embeddings: Vec<Option<Embedding<B>>>,
}

/// What a block is computed with.
struct Loaded<'l, B: Backend> {
    weights: &'l BlockWeights<B>,
    input: Option<&'l (LayerInput<B>, B::Weight)>,
    inputs: &'l Inputs<B>,
}

/// Some sequences on their way.
pub struct Pass<'w, 'a, B: Backend> {
    walk: &'w Walk<'a, B>,
    sequences: &'w [Sequence],
    order: &'w Order,
    places: Range<usize>,
    layout: Chunks,
    pub chunks: Vec<Chunk<B>>,
    /// By lane: the constants of its blocks.
    pub graphs: Vec<Graph<B>>,
}

impl<'w, 'a, B: Backend> Pass<'w, 'a, B> {
    /// Of the sequences at some places of an order.
    pub fn new(walk: &'w Walk<'a, B>, sequences: &'w [Sequence], order: &'w Order, places: Range<usize>) -> Result<Self> {
        let backend = walk.backend;
        let ropes = walk.lanes.iter().map(|lane| Rope::of(&lane.variant)).collect::<Result<Vec<_>>>()?;
        let ropes: Vec<&Rope> = ropes.iter().collect();
        let length = |place: usize| sequences[order.sequences[place]].scored.end;
        let classes = LengthClasses::new(&ropes, places.clone().map(length));
        let paths = paths(sequences, |length| classes.first_position(&ropes, length));
        let forest = Forest::of(&paths, order, places.clone());
        let layout = Chunks::of(&forest, walk.chunk);
        let mut graphs: Vec<Graph<B>> = Vec::with_capacity(walk.lanes.len());
        for (lane, rope) in walk.lanes.iter().zip(&ropes) {
            let known = walk.lanes.iter().zip(&graphs).find(|(known, _)| known.variant.is_of_one_model(&lane.variant));
            graphs.push(match known {
                Some((_, graph)) => graph.clone(),
                None => Graph::new(backend, &lane.variant, (*rope).clone(), &classes)?,
            });
        }
        let mut pass = Self { walk, sequences, order, places, layout, chunks: Vec::new(), graphs };
        pass.chunks = (0..pass.layout.chunks.len()).map(|number| pass.chunk(number, &paths)).collect::<Result<_>>()?;
        for place in 0..pass.places.len() {
            pass.aim(place);
        }
        pass.chunks.iter_mut().for_each(Chunk::sort);
        Ok(pass)
    }

    /// Numbers of its sequences, by place.
    pub fn numbers(&self) -> Vec<usize> {
        self.order.sequences[self.places.clone()].to_vec()
    }

    /// Where the rows of the sequence at a place of the pass stand.
    pub fn pieces(&self, place: usize) -> Vec<&Piece> {
        self.layout.path(place)
    }

    fn chunk(&self, number: usize, paths: &[Path<'_>]) -> Result<Chunk<B>> {
        let laid = &self.layout.chunks[number];
        let (mut tokens, mut positions, mut angles) = (Vec::new(), Vec::new(), Vec::new());
        for piece in &self.layout.pieces[laid.pieces.clone()] {
            let path = &paths[piece.sequence];
            tokens.extend_from_slice(&path.tokens[piece.rows.clone()]);
            for position in piece.rows.clone() {
                positions.push(position as u32);
                angles.push(path.class + position as u32);
            }
        }
        let positional = Positional::of(self.walk.lanes.iter().map(|lane| lane.variant.hparams()));
        let batch = Batch::new(self.walk.backend, &positions, &angles, &laid.spans, &positional)?;
        let (key_rows, copies, runs) = (laid.key_rows, laid.copies.clone(), RunList::new(self.walk.backend, &laid.runs)?);
        Ok(Chunk { batch, tokens, key_rows, copies, runs, rows: Vec::new(), targets: Vec::new(), homes: Vec::new() })
    }

    /// Notes what the sequence at a place wants of the rows of chunks.
    fn aim(&mut self, place: usize) {
        let sequence = &self.sequences[self.order.sequences[self.places.start + place]];
        let pieces: Vec<Piece> = self.layout.path(place).into_iter().cloned().collect();
        for piece in pieces {
            let (start, end) = (piece.rows.start.max(sequence.scored.start), piece.rows.end.min(sequence.scored.end));
            let chunk = &mut self.chunks[piece.chunk];
            for position in start..end {
                // Where only hidden states are wanted, the last row predicts nothing.
                let target = sequence.tokens.get(position + 1).copied().unwrap_or(0);
                chunk.rows.push((piece.first + position - piece.rows.start) as u32);
                chunk.targets.push(target);
                chunk.homes.push((place, position - sequence.scored.start));
            }
        }
    }

    /// What goes into the first layer.
    pub fn embed(&self) -> Result<Hidden<B>> {
        let backend = self.walk.backend;
        let (known, picks) = self.tokens()?;
        let mut hidden = Vec::with_capacity(self.walk.walked.len());
        for lane in self.walk.walked.clone() {
            self.walk.check_stop()?;
            if self.walk.alike.parts(lane - self.walk.walked.start) > 0 {
                hidden.push(Vec::new());
                continue;
            }
            let embedding = Embedding::of_tokens(backend, &self.walk.reader(lane), &known)?;
            let width = self.graphs[lane].hparams().embedding_length;
            let one = |(chunk, picks): (&Chunk<B>, &B::Indices)| {
                let mut x = backend.alloc(chunk.batch.rows * width)?;
                forward::embed(backend, &self.graphs[lane], &embedding, picks, &chunk.batch, &mut x)?;
                Ok(x)
            };
            hidden.push(self.chunks.iter().zip(&picks).map(one).collect::<Result<Vec<_>>>()?);
        }
        let lent = hidden.iter().map(|_| BTreeMap::new()).collect();
        Ok(Hidden { x: hidden, lent })
    }

    /// All tokens of the pass, each once, and which of them the rows of each chunk have.
    fn tokens(&self) -> Result<(Vec<u32>, Vec<B::Indices>)> {
        let mut known: Vec<u32> = self.chunks.iter().flat_map(|chunk| chunk.tokens.iter().copied()).collect();
        known.sort_unstable();
        known.dedup();
        let place = |token: &u32| known.binary_search(token).unwrap_or(0) as u32;
        let picks: Vec<Vec<u32>> = self.chunks.iter().map(|chunk| chunk.tokens.iter().map(place).collect()).collect();
        let picks = picks.iter().map(|picks| Ok(self.walk.backend.indices(picks)?)).collect::<Result<Vec<_>>>()?;
        Ok((known, picks))
    }

    /// What blocks' inputs beside the stream are made of, where a lane has such blocks.
    fn inputs(&self) -> Result<Inputs<B>> {
        let has = |lane: usize| self.graphs[lane].hparams().layer_input_length > 0;
        let walked = self.walk.walked.clone();
        let (known, picks) = if walked.clone().any(has) { self.tokens()? } else { (Vec::new(), Vec::new()) };
        let embedding = |lane: usize| Embedding::of_tokens(self.walk.backend, &self.walk.reader(lane), &known);
        let embeddings = walked.map(|lane| has(lane).then(|| embedding(lane)).transpose()).collect::<Result<_>>()?;
        Ok(Inputs { known, picks, embeddings })
    }

    /// Runs the blocks from `first` on, of all lanes that are walked; `behind` is called when all lanes have one behind them.
    pub fn layers(
        &self,
        hidden: &mut Hidden<B>,
        first: usize,
        mut behind: impl FnMut(usize, &Hidden<B>) -> Result<()>,
    ) -> Result<()> {
        let Walk { walked, supply, alike, .. } = self.walk;
        let blocks = |at: usize| self.graphs[walked.start + at].hparams().block_count;
        let depth = (0..walked.len()).map(blocks).max().unwrap_or(0);
        let mut jobs: Vec<Job> = Vec::new();
        for block in first..depth {
            jobs.extend(alike.groups(block, |at| block < blocks(at)).into_iter().map(|lanes| Job { block, lanes, ends: false }));
            jobs.iter_mut().last().into_iter().for_each(|last| last.ends = true);
        }
        let mut spaces: Vec<(HParams, Space<B>)> = Vec::new();
        let mut done = Vec::new();
        let readers: Vec<Reader<'_>> = walked.clone().map(|lane| self.walk.reader(lane)).collect();
        let inputs = self.inputs()?;
        let load = |job: Job| {
            let reader = &readers[job.lanes[0]];
            let weights = BlockWeights::load(self.walk.backend, reader, job.block)?;
            let input = LayerInput::load(self.walk.backend, reader, job.block, &inputs.known)?;
            if job.ends {
                supply.forget();
            }
            Ok((job, weights, input, supply.take_read()))
        };
        let mut entered = None;
        prefetch(jobs.into_iter(), load, |(job, weights, input, read)| {
            let block = job.block;
            if entered != Some(block) {
                self.part(hidden, block)?;
                entered = Some(block);
            }
            for &at in &job.lanes {
                let loaded = Loaded { weights: &weights, input: input.as_ref(), inputs: &inputs };
                self.block(hidden, block, at, loaded, &mut spaces)?;
            }
            drop(weights);
            read.iter().for_each(|part| part.release(Pages::Unmapped));
            done.extend(read);
            if job.ends {
                for (at, lent) in hidden.lent.iter_mut().enumerate() {
                    lent.retain(|&of, _| self.graphs[walked.start + at].hparams().lends_keys(of, block));
                }
                if self.walk.pages == Pages::Evicted {
                    done.iter().for_each(|part| part.release(Pages::Evicted));
                }
                done.clear();
                behind(block, hidden)?;
            }
            Ok(())
        })?;
        self.part(hidden, depth)
    }

    /// Gives the lanes that part from the first one in a block (or behind the last) activations of their own.
    fn part(&self, hidden: &mut Hidden<B>, block: usize) -> Result<()> {
        let Walk { backend, walked, alike, .. } = self.walk;
        for at in (1..walked.len()).filter(|&at| alike.parts(at) == block && block > 0) {
            let width = self.graphs[walked.start + at].hparams().embedding_length;
            for (number, chunk) in self.chunks.iter().enumerate() {
                let mut own = backend.alloc(chunk.batch.rows * width)?;
                backend.copy(&hidden.x[0][number], 0, &mut own, 0, chunk.batch.rows * width)?;
                hidden.x[at].push(own);
            }
        }
        Ok(())
    }

    /// Runs one block of one lane.
    fn block(
        &self,
        hidden: &mut Hidden<B>,
        block: usize,
        at: usize,
        loaded: Loaded<'_, B>,
        spaces: &mut Vec<(HParams, Space<B>)>,
    ) -> Result<()> {
        let Walk { backend, walked, alike, observer, progress, .. } = self.walk;
        let Loaded { weights, input, inputs } = loaded;
        let graph = &self.graphs[walked.start + at];
        let h = graph.hparams();
        let Space { workspace, kept, joined, states, inputs: input_space } = self.space(spaces, h)?;
        let Hidden { x, lent } = &mut *hidden;
        let lender = h.kv_blocks.get(block).map_or(at, |&of| if alike.has_own(at, of) { at } else { 0 });
        // Those that have not parted are done with the first one.
        let with_it = (1..walked.len()).filter(|&other| at == 0 && !alike.has_own(other, block)).count();
        let mut given: Vec<KvCache<B>> = Vec::new();
        let mut first = 0;
        for (number, (chunk, x)) in self.chunks.iter().zip(&mut x[at]).enumerate() {
            self.walk.check_stop()?;
            let rows = chunk.batch.rows;
            let lent = h.kv_blocks.get(block).and_then(|of| lent[lender].get(of)?.get(number));
            let lent = match lent {
                Some(kv) => Lent::Taken(kv),
                None if h.lends_keys(block, block) => {
                    given.push(KvCache::new(*backend, KvColumns::of(h, block), rows)?);
                    given.last_mut().map_or(Lent::No, Lent::Given)
                }
                None => Lent::No,
            };
            let (backend, observer) = (*backend, *observer);
            let step = Step { backend, graph, batch: &chunk.batch, rows: RowCount::Many, observer, first };
            first += rows;
            let beside = match (input, &inputs.embeddings[at], &mut *input_space) {
                (Some((input, table)), Some(embedding), Some(space)) => {
                    let picks = &inputs.picks[number];
                    forward::embed(backend, graph, embedding, picks, &chunk.batch, &mut space.embedded)?;
                    backend.embed(table, picks, rows, &mut space.input)?;
                    forward::layer_input(&step, input, space)?;
                    Some(&space.input)
                }
                _ => None,
            };
            let kv = KvPast::Chunked(Chunked { kept, joined, copies: &chunk.copies, lent });
            let past = Past { kv, states: states.as_mut(), runs: &chunk.runs, input: beside };
            forward::block(&step, weights, past, workspace, x)?;
            progress.advance((rows * (1 + with_it)) as u64);
        }
        if !given.is_empty() {
            lent[at].insert(block, given);
        }
        Ok(())
    }

    /// Temporary buffers for a model's shape; lanes of one shape share them.
    fn space<'s>(&self, all: &'s mut Vec<(HParams, Space<B>)>, h: &HParams) -> Result<&'s mut Space<B>> {
        let at = match all.iter().position(|(shape, _)| shape == h) {
            Some(at) => at,
            None => {
                let backend = self.walk.backend;
                let rows = self.chunks.iter().map(|chunk| chunk.batch.rows).max().unwrap_or(0);
                let joined = self.chunks.iter().map(|chunk| chunk.key_rows).max().unwrap_or(0);
                let workspace = Workspace::new(backend, h, rows)?;
                let columns = KvColumns::largest(h);
                let kept = KvCache::new(backend, columns, self.layout.kept_rows.max(1))?;
                let joined = KvCache::new(backend, columns, joined.max(1))?;
                let states = StateColumns::of_model(h).map(|columns| RecurrentState::new(backend, columns, self.layout.slots));
                let (states, inputs) = (states.transpose()?, LayerSpace::new(backend, h, rows)?);
                all.push((h.clone(), Space { workspace, kept, joined, states, inputs }));
                all.len() - 1
            }
        };
        Ok(&mut all[at].1)
    }

    /// Walks, and scores; with state, from where an earlier walk ended.
    pub fn score(&self, plan: &SweepPlan, options: &SweepOptions<'_>, state: Option<(&State, usize)>) -> Result<Scores> {
        let walk = self.walk;
        let depth = walk.walked.clone().map(|lane| self.graphs[lane].hparams().block_count).max().unwrap_or(0);
        let found = match state {
            Some((state, number)) => state.layer(number, |kept| self.take_up(kept, depth))?,
            None => None,
        };
        let (mut hidden, first, mut errors) = match found {
            Some((block, hidden, errors)) => {
                let rows: usize = self.chunks.iter().map(|chunk| chunk.batch.rows).sum();
                walk.progress.advance((rows * walk.walked.len() * (block + 1)) as u64);
                (hidden, block + 1, errors)
            }
            None => (self.embed()?, 0, Vec::new()),
        };
        self.layers(&mut hidden, first, |block, hidden| {
            if walk.layers {
                errors.extend(self.row_errors(block, hidden)?);
            }
            match state {
                Some((state, number)) if block + 1 < depth => state.keep(number, block, &errors, |take| self.each(hidden, take)),
                _ => Ok(()),
            }
        })?;
        let lanes = self.head(hidden, plan, options)?;
        Ok(Scores { lanes, layers: self.layer_errors(&errors) })
    }

    /// What an earlier walk kept behind a block, of as many as `depth`: the block, what goes into the next one, and errors up to
    /// there.
    fn take_up(&self, mut kept: KeptLayer, depth: usize) -> Result<(usize, Hidden<B>, Vec<RowError>)> {
        let block = kept.block(depth)?;
        let hidden = self.upload(block, |len| kept.numbers(len))?;
        Ok((block, hidden, kept.finish()?))
    }

    /// Scores by lane and place.
    fn head(&self, mut hidden: Hidden<B>, plan: &SweepPlan, options: &SweepOptions<'_>) -> Result<Vec<LaneScores>> {
        let walk = self.walk;
        let backend = walk.backend;
        let mut norms = Vec::with_capacity(walk.lanes.len());
        for lane in 0..walk.lanes.len() {
            norms.push(crate::model::output_norm(backend, &walk.reader(lane))?);
        }
        let width = self.graphs.first().map_or(0, |graph| graph.hparams().embedding_length);
        let room = |&number: &usize| vec![0.0; self.sequences[number].scored.len() * width];
        let mut taken: Vec<Vec<f32>> = options.hidden.map_or(Vec::new(), |_| self.numbers().iter().map(room).collect());
        // Final hidden states become normed ones, chunk by chunk.
        let mut scored = Vec::with_capacity(self.chunks.len());
        for (number, chunk) in self.chunks.iter().enumerate() {
            let mut normed = Vec::with_capacity(walk.lanes.len());
            for (lane, norm) in norms.iter().enumerate() {
                let width = self.graphs[lane].hparams().embedding_length;
                let picked = match (lane, options.reference) {
                    (0, Reference::LogProbs(_)) => continue,
                    (0, Reference::Hidden(stored)) => backend.upload(&self.stored(chunk, stored, width)?)?,
                    _ => {
                        // An empty buffer takes its place.
                        let x = std::mem::replace(&mut hidden.x[lane - walk.walked.start][number], backend.alloc(1)?);
                        let rows = backend.indices(&chunk.rows)?;
                        let mut picked = backend.alloc((chunk.rows.len() * width).max(1))?;
                        if !chunk.rows.is_empty() {
                            backend.gather(&x, &rows, chunk.rows.len(), width, &mut picked)?;
                        }
                        picked
                    }
                };
                if lane == 0 && options.hidden.is_some() {
                    self.gather(chunk, &picked, width, &mut taken)?;
                }
                let mut out = backend.alloc((chunk.rows.len() * width).max(1))?;
                if !chunk.rows.is_empty() {
                    forward::norm(backend, &self.graphs[lane], &picked, chunk.rows.len(), norm, &mut out)?;
                }
                normed.push(out);
            }
            let homes = chunk.homes.iter().map(|&(place, row)| (self.order.sequences[self.places.start + place], row)).collect();
            scored.push(Scored { normed, targets: chunk.targets.clone(), homes });
        }
        drop(hidden);
        if let Some(take) = options.hidden {
            self.numbers().into_iter().zip(taken).try_for_each(|(number, rows)| take(number, &rows))?;
        }
        let readers: Vec<Reader<'_>> = (0..walk.lanes.len()).map(|lane| walk.reader(lane)).collect();
        let reference = if let Reference::LogProbs(stored) = options.reference { Some(stored) } else { None };
        let (graphs, alike) = (&self.graphs[..], &alike::heads(&walk.lanes[usize::from(reference.is_some())..])[..]);
        let head = head::Head { backend, graphs, readers: &readers, reference, alike, tokens_at_once: plan.head_tokens };
        let rows = head.score(&scored, |read| {
            read.iter().for_each(|part| part.release(walk.pages));
            walk.check_stop()
        })?;
        let empty = |place: usize| vec![None; self.sequences[self.order.sequences[self.places.start + place]].scored.len()];
        let mut lanes = Vec::with_capacity(walk.lanes.len());
        for (lane, chunks) in walk.lanes.iter().zip(rows) {
            let mut scores: Vec<Vec<Option<HeadRow>>> = (0..self.places.len()).map(empty).collect();
            for (chunk, rows) in self.chunks.iter().zip(chunks) {
                if rows.iter().any(|row| !row.log_sum_exp.is_finite() || row.target_logit.is_nan()) {
                    return Err(not_numbers(lane));
                }
                for (&(place, row), score) in chunk.homes.iter().zip(rows) {
                    scores[place][row] = Some(score);
                }
            }
            lanes.push(scores.into_iter().map(|rows| rows.into_iter().flatten().collect()).collect());
        }
        let rows: usize = self.chunks.iter().map(|chunk| chunk.batch.rows).sum();
        walk.progress.advance((rows * walk.walked.len()) as u64);
        Ok(lanes)
    }

    /// The stored hidden states of a chunk's scored rows.
    fn stored(&self, chunk: &Chunk<B>, stored: &dyn StoredHidden, width: usize) -> Result<Vec<f32>> {
        let mut sequences: HashMap<usize, Vec<f32>> = HashMap::new();
        let mut rows = Vec::with_capacity(chunk.homes.len() * width);
        for &(place, row) in &chunk.homes {
            let sequence = match sequences.entry(place) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(stored.rows(self.order.sequences[self.places.start + place])?),
            };
            rows.extend_from_slice(&sequence[row * width..(row + 1) * width]);
        }
        Ok(rows)
    }

    /// Puts the final hidden states of a chunk's scored rows where they belong in `all`, by place.
    fn gather(&self, chunk: &Chunk<B>, picked: &B::Buffer, width: usize, all: &mut [Vec<f32>]) -> Result<()> {
        let rows = self.walk.backend.read(picked, 0..chunk.rows.len() * width)?;
        for (&(place, row), x) in chunk.homes.iter().zip(rows.chunks_exact(width)) {
            all[place][row * width..(row + 1) * width].copy_from_slice(x);
        }
        Ok(())
    }

    /// The activations of a chunk of a lane (of those that are walked).
    pub fn read(&self, lane: usize, chunk: usize, x: &B::Buffer) -> Result<Vec<f32>> {
        let width = self.graphs[self.walk.walked.start + lane].hparams().embedding_length;
        Ok(self.walk.backend.read(x, 0..self.chunks[chunk].batch.rows * width)?)
    }

    /// All that is taken from layer to layer behind a block, as numbers: by lane that has parted from the first one, chunk by
    /// chunk.
    pub fn each(&self, hidden: &Hidden<B>, mut take: impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        for (lane, (x, lent)) in hidden.x.iter().zip(&hidden.lent).enumerate() {
            let h = self.graphs[self.walk.walked.start + lane].hparams();
            for (number, x) in x.iter().enumerate() {
                take(&self.read(lane, number, x)?)?;
                for (&block, chunks) in lent {
                    let (columns, rows) = (KvColumns::of(h, block), self.chunks[number].batch.rows);
                    take(&self.walk.backend.read(&chunks[number].k, 0..rows * columns.k)?)?;
                    take(&self.walk.backend.read(&chunks[number].v, 0..rows * columns.v)?)?;
                }
            }
        }
        Ok(())
    }

    /// The same from numbers, asked for by their count.
    pub fn upload(&self, block: usize, mut numbers: impl FnMut(usize) -> Result<Vec<f32>>) -> Result<Hidden<B>> {
        let backend = self.walk.backend;
        let mut hidden = Hidden { x: Vec::new(), lent: Vec::new() };
        for lane in self.walk.walked.clone() {
            let h = self.graphs[lane].hparams();
            let at = lane - self.walk.walked.start;
            let own = |of: usize| self.walk.alike.has_own(at, of);
            let lenders: Vec<usize> = (0..=block).filter(|&of| h.lends_keys(of, block) && own(of)).collect();
            let (mut x, mut lent) = (Vec::new(), BTreeMap::new());
            for chunk in self.chunks.iter().filter(|_| own(block)) {
                let rows = chunk.batch.rows;
                x.push(backend.upload(&numbers(rows * h.embedding_length)?)?);
                for &of in &lenders {
                    let columns = KvColumns::of(h, of);
                    let (k, v) = (numbers(rows * columns.k)?, numbers(rows * columns.v)?);
                    let kv = KvCache { k: backend.upload(&k)?, v: backend.upload(&v)? };
                    lent.entry(of).or_insert_with(Vec::new).push(kv);
                }
            }
            hidden.x.push(x);
            hidden.lent.push(lent);
        }
        Ok(hidden)
    }

    /// The error of every row of every lane but the first.
    fn row_errors(&self, block: usize, hidden: &Hidden<B>) -> Result<Vec<RowError>> {
        let mut errors = Vec::new();
        for chunk in 0..self.chunks.len() {
            let reference = self.read(0, chunk, &hidden.x[0][chunk])?;
            for (lane, graph) in self.graphs.iter().enumerate().skip(1) {
                let own = self.read(lane, chunk, &hidden.of(lane)[chunk])?;
                errors.push(RowError::of(lane, block, chunk, &reference, &own, graph.hparams().embedding_length));
            }
        }
        Ok(errors)
    }

    /// Errors by sequence.
    fn layer_errors(&self, errors: &[RowError]) -> Vec<LayerError> {
        let mut all = Vec::new();
        let mut ends: Vec<(usize, usize)> = errors.iter().map(|error| (error.lane, error.block)).collect();
        ends.sort_unstable();
        ends.dedup();
        for (lane, block) in ends {
            let mine: Vec<&RowError> = errors.iter().filter(|error| (error.lane, error.block) == (lane, block)).collect();
            for place in 0..self.places.len() {
                let sequence = self.order.sequences[self.places.start + place];
                let mut sum = LayerError { lane, block, sequence, rows: 0, error: 0.0, reference: 0.0 };
                for piece in self.pieces(place) {
                    if let Some(error) = mine.iter().find(|error| error.chunk == piece.chunk) {
                        sum.add(&error.rows[piece.first..piece.first + piece.rows.len()]);
                    }
                }
                all.push(sum);
            }
        }
        all
    }
}

/// A block of some lanes with the same weights.
struct Job {
    block: usize,
    /// Numbers among the lanes that are walked.
    lanes: Vec<usize>,
    /// Whether it is the last one of its block.
    ends: bool,
}

/// Buffers that the blocks of one shape use.
struct Space<B: Backend> {
    workspace: Workspace<B>,
    kept: KvCache<B>,
    joined: KvCache<B>,
    states: Option<RecurrentState<B>>,
    inputs: Option<LayerSpace<B>>,
}
