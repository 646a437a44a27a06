//! From the last hidden states to statistics: final norm, output matrix in tiles of the vocabulary, and the reductions that
//! turn each tile of logits into a few numbers per row on the device. Logits of the whole vocabulary exist only for those who
//! ask for them ([`logits`]).

use std::ops::Range;
use std::sync::Arc;

use super::backend::{Backend, HeadRow, Targets, TileShape};
use super::error::{EngineError, Result};
use super::forward::{self, Graph};
use super::model::{OutputBias, OutputHead, Reader, output_rows};
use super::supply::TensorRows;
use crate::prefetch::prefetch;

/// Tokens per vocabulary tile.
pub(super) const TILE: usize = 1024;

/// Log-probabilities of an earlier scoring, up to a constant in each row.
pub trait StoredLogProbs: Sync {
    /// Those of some neighbouring tokens behind scored row `row` of a sequence.
    ///
    /// # Errors
    /// What cannot be read.
    fn read(&self, sequence: usize, row: usize, tokens: Range<usize>, out: &mut [f32]) -> Result<()>;

    /// What tells them from all others.
    ///
    /// # Errors
    /// What cannot be read.
    fn identity(&self) -> Result<String>;
}

/// Rows to be scored together.
pub struct Scored<B: Backend> {
    /// By lane: their final hidden states behind the final norm, `[T, H]`; without lane 0 where that is stored.
    pub normed: Vec<B::Buffer>,
    /// `[T]`: what they should predict, in ascending order: rows of neighbouring targets share a product.
    pub targets: Vec<u32>,
    /// `[T]`: numbers of their sequences, and of the rows among the scored ones of the sequence.
    pub homes: Vec<(usize, usize)>,
}

/// The output matrices of lanes of which the first is the reference of the others, read a range of tokens at a time.
pub struct Head<'a, B: Backend> {
    /// Where it runs.
    pub backend: &'a B,
    /// By lane.
    pub graphs: &'a [Graph<B>],
    /// By lane.
    pub readers: &'a [Reader<'a>],
    /// Instead of lane 0's logits.
    pub reference: Option<&'a dyn StoredLogProbs>,
    /// By lane that has an output matrix: the first with the same one.
    pub alike: &'a [usize],
    /// Tokens whose rows of all output matrices are held at once (two such ranges are: one is read while one is used).
    pub tokens_at_once: usize,
}

impl<B: Backend> Head<'_, B> {
    /// Scores rows: by lane and chunk of `scored`. `used` is told what was read for a range of tokens when that is done.
    ///
    /// # Errors
    /// A model that cannot be read, a device that fails, and whatever `used` returns.
    pub fn score(
        &self,
        scored: &[Scored<B>],
        mut used: impl FnMut(Vec<TensorRows>) -> Result<()>,
    ) -> Result<Vec<Vec<Vec<HeadRow>>>> {
        let backend = self.backend;
        let vocab = self.readers.first().map_or(0, |reader| reader.variant.hparams().vocab_size);
        let most = scored.iter().map(|chunk| chunk.targets.len()).max().unwrap_or(0);
        let walked = usize::from(self.reference.is_some())..self.readers.len();
        let mut biases: Vec<Option<OutputBias>> = (0..walked.start).map(|_| None).collect();
        for reader in &self.readers[walked.clone()] {
            biases.push(OutputBias::of(reader)?);
        }
        let mut chunks = scored.iter().map(|chunk| self.begin(chunk, &biases)).collect::<Result<Vec<_>>>()?;
        let tile = TILE.min(vocab).min((backend.max_buffer_len() / most.max(1)).max(1));
        let ranges: Vec<Range<usize>> = {
            let at_once = (self.tokens_at_once / tile).max(1) * tile;
            (0..vocab).step_by(at_once).map(|first| first..(first + at_once).min(vocab)).collect()
        };
        let mut reference = backend.alloc((most * tile).max(1))?;
        let mut candidate = backend.alloc(if self.graphs.len() > 1 { (most * tile).max(1) } else { 1 })?;
        let supply = self.readers.iter().find_map(|reader| reader.supply);
        let load = |tokens: Range<usize>| {
            let mut weights: Vec<Arc<B::Weight>> = Vec::with_capacity(walked.len());
            for (reader, &first) in self.readers[walked.clone()].iter().zip(self.alike) {
                let known = weights.get(first).cloned();
                weights
                    .push(known.map_or_else(|| Ok(output_rows(backend, reader, tokens.clone())?.weight), Ok::<_, EngineError>)?);
            }
            let read = supply.map(|supply| {
                supply.forget();
                supply.take_read()
            });
            Ok((tokens, weights, read.unwrap_or_default()))
        };
        prefetch(ranges.into_iter(), load, |(tokens, weights, read)| {
            for (chunk, state) in scored.iter().zip(&mut chunks).filter(|(chunk, _)| !chunk.targets.is_empty()) {
                for first in tokens.clone().step_by(tile) {
                    let part = first..(first + tile).min(tokens.end);
                    let rows = first - tokens.start..part.end - tokens.start;
                    let of_lane =
                        |bias: &Option<OutputBias>| bias.as_ref().map(|bias| bias.of_tokens(backend, part.clone())).transpose();
                    let part_biases = biases.iter().map(of_lane).collect::<Result<Vec<_>>>()?;
                    self.tile(chunk, state, part.clone(), [&mut reference, &mut candidate], |lane| {
                        let weight = lane.checked_sub(walked.start).map(|number| &weights[number]);
                        weight.map(|weight| (weight.as_ref(), rows.clone(), part_biases[lane].as_ref()))
                    })?;
                }
            }
            drop(weights);
            used(read)
        })?;
        let lane = |lane: usize| {
            let rows =
                |state: &Running<B>| Ok(state.lanes.get(lane).map(|one| backend.read_head(one)).transpose()?.unwrap_or_default());
            chunks.iter().map(rows).collect::<Result<Vec<_>>>()
        };
        (0..self.readers.len()).map(lane).collect()
    }

    /// What the first tile of a chunk needs.
    fn begin(&self, chunk: &Scored<B>, biases: &[Option<OutputBias>]) -> Result<Running<B>> {
        let (backend, rows) = (self.backend, chunk.targets.len());
        if rows == 0 {
            return Ok(Running { targets: backend.indices(&[0])?, logits: Vec::new(), lanes: Vec::new() });
        }
        let mut logits = Vec::with_capacity(self.readers.len());
        if let Some(stored) = self.reference {
            let mut targets = vec![0.0; rows];
            for ((&(sequence, row), &target), out) in chunk.homes.iter().zip(&chunk.targets).zip(targets.chunks_exact_mut(1)) {
                stored.read(sequence, row, target as usize..target as usize + 1, out)?;
            }
            logits.push(backend.upload(&targets)?);
        }
        let walked = usize::from(self.reference.is_some());
        let lanes = self.graphs.iter().zip(self.readers).zip(biases).skip(walked);
        for (((graph, reader), bias), normed) in lanes.zip(&chunk.normed) {
            logits.push(target_logits(backend, graph, (reader, bias.as_ref()), normed, &chunk.targets)?);
        }
        let states = self.readers.iter().map(|_| backend.head_state(rows)).collect::<std::result::Result<_, _>>()?;
        Ok(Running { targets: backend.indices(&chunk.targets)?, logits, lanes: states })
    }

    /// Takes the logits of some tokens into the statistics of a chunk; `weight` gives a lane's output matrix, the rows for these
    /// tokens and their bias, nothing for stored log-probabilities.
    fn tile<'w>(
        &self,
        chunk: &Scored<B>,
        state: &mut Running<B>,
        tokens: Range<usize>,
        [reference, candidate]: [&mut B::Buffer; 2],
        weight: impl Fn(usize) -> Option<(&'w B::Weight, Range<usize>, Option<&'w B::Weight>)>,
    ) -> Result<()>
    where
        B::Weight: 'w,
    {
        let (backend, rows) = (self.backend, chunk.targets.len());
        let shape = TileShape { rows, cols: tokens.len(), first_token: tokens.start as u32 };
        for lane in 0..self.readers.len() {
            let logits = if lane == 0 { &mut *reference } else { &mut *candidate };
            match (weight(lane), self.reference) {
                (Some((weight, weight_rows, bias)), _) => {
                    let normed = &chunk.normed[lane - usize::from(self.reference.is_some())];
                    backend.matmul(normed, 0..rows, weight, weight_rows, logits)?;
                    forward::finish_logits(backend, &self.graphs[lane], logits, [rows, tokens.len()], bias)?;
                }
                (None, Some(stored)) => {
                    let mut all = vec![0.0; rows * tokens.len()];
                    for (&(sequence, row), out) in chunk.homes.iter().zip(all.chunks_exact_mut(tokens.len())) {
                        stored.read(sequence, row, tokens.clone(), out)?;
                    }
                    *logits = backend.upload(&all)?;
                }
                (None, None) => continue,
            }
            let targets = Some(Targets { tokens: &state.targets, logits: &state.logits[lane] });
            if lane == 0 {
                backend.head_tile(reference, None, shape, targets, &mut state.lanes[0])?;
            } else {
                backend.head_tile(candidate, Some(reference), shape, targets, &mut state.lanes[lane])?;
            }
        }
        Ok(())
    }
}

/// The statistics of a chunk while tiles pass by.
struct Running<B: Backend> {
    targets: B::Indices,
    /// By lane: the targets' logits.
    logits: Vec<B::Buffer>,
    /// By lane.
    lanes: Vec<B::HeadState>,
}

/// The logit of each row's target, to the last bit what the tiles will hold, because it comes from the same operations: a few
/// products of rows with what some of them want, of which the targets' columns are picked. `targets` ascend.
/// `[T, H], [T] -> [T]`
fn target_logits<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    (reader, bias): (&Reader<'_>, Option<&OutputBias>),
    normed: &B::Buffer,
    targets: &[u32],
) -> Result<B::Buffer> {
    let mut tokens = targets.to_vec();
    tokens.dedup();
    let picked = backend.matrix(reader.picked(reader.variant.output_role(), &tokens)?, reader.arithmetic)?;
    let TargetProducts { parts, width, places } = TargetProducts::of(targets, backend.max_buffer_len());
    let mut products = backend.alloc(targets.len() * width)?;
    for (rows, columns) in parts {
        backend.matmul(normed, rows, &picked, columns, &mut products)?;
    }
    let mut logits = backend.alloc(targets.len())?;
    backend.gather(&products, &backend.indices(&places)?, targets.len(), 1, &mut logits)?;
    // One row, of which each column is a target.
    let bias = bias.map(|bias| bias.of_tokens(backend, targets.iter().map(|&token| token as usize))).transpose()?;
    forward::finish_logits(backend, graph, &mut logits, [1, targets.len()], bias.as_ref())?;
    Ok(logits)
}

/// How the targets of a chunk are computed. A product of all rows with all different targets would mostly be of rows with what
/// others want, one for each target mostly of waiting. Rows of neighbouring targets lie together, so that few products of equal
/// width take a part of the rows with a part of the targets each.
#[derive(Debug, PartialEq, Eq)]
struct TargetProducts {
    /// Rows, and which of the different targets they are multiplied with: `width` each.
    parts: Vec<(Range<usize>, Range<usize>)>,
    width: usize,
    /// By row: where its own target's logit stands among the products `[T, width]`.
    places: Vec<u32>,
}

impl TargetProducts {
    /// The most products where the targets fit into as many tiles; otherwise each tile is a product.
    const PARTS: usize = 3;
    /// Different targets that are one product anyway: a tile of the products' kernels.
    const FEW: usize = 64;

    /// For `targets` in ascending order; a buffer holds `largest` numbers.
    fn of(targets: &[u32], largest: usize) -> Self {
        let groups: Vec<usize> = targets.chunk_by(|a, b| a == b).map(<[u32]>::len).collect();
        let different = groups.len();
        let width = different.div_ceil(Self::PARTS).clamp(Self::FEW, TILE).min(largest / targets.len().max(1));
        let width = width.clamp(1, different.max(1));
        let (mut parts, mut places, mut first) = (Vec::new(), Vec::with_capacity(targets.len()), 0);
        for (part, groups) in groups.chunks(width).enumerate() {
            // The last part takes columns of the one before it where its own are fewer.
            let columns = (part * width).min(different - width);
            let rows = first..first + groups.iter().sum::<usize>();
            for (column, &count) in groups.iter().enumerate() {
                let column = part * width + column - columns;
                places.extend((0..count).map(|i| ((first + i) * width + column) as u32));
                first += count;
            }
            parts.push((rows, columns..columns + width));
        }
        Self { parts, width, places }
    }
}

/// All logits of the first `rows` rows of `hidden`: `[rows, V]`.
pub fn logits<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    head: &OutputHead<B>,
    hidden: &B::Buffer,
    rows: usize,
) -> Result<Vec<f32>> {
    let mut normed = backend.alloc(rows * graph.hparams().embedding_length)?;
    forward::norm(backend, graph, hidden, rows, &head.norm, &mut normed)?;
    let vocab = head.output.rows.len();
    let mut all = vec![0.0; rows * vocab];
    let tile = TILE.min(vocab).min((backend.max_buffer_len() / rows).max(1));
    let mut part = backend.alloc(rows * tile)?;
    for first in (0..vocab).step_by(tile) {
        let range = first..(first + tile).min(vocab);
        backend.matmul(&normed, 0..rows, &head.output.weight, range.clone(), &mut part)?;
        let bias = head.bias.as_ref().map(|bias| bias.of_tokens(backend, range.clone())).transpose()?;
        forward::finish_logits(backend, graph, &mut part, [rows, range.len()], bias.as_ref())?;
        let part = backend.read(&part, 0..rows * range.len())?;
        for (all, part) in all.chunks_exact_mut(vocab).zip(part.chunks_exact(range.len())) {
            all[range.clone()].copy_from_slice(part);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::TargetProducts;

    #[test]
    fn every_target_is_computed_with_its_row_in_few_products() {
        for (rows, repeat) in [(1, 1), (5, 1), (64, 1), (65, 1), (200, 3), (762, 2), (2048, 1), (2048, 7), (3072, 1)] {
            let targets: Vec<u32> = (0..rows).map(|row| 3 * (row / repeat)).collect();
            let found = TargetProducts::of(&targets, usize::MAX);
            assert!(found.parts.len() <= TargetProducts::PARTS, "{rows} rows: {} products", found.parts.len());
            check(&found, &targets);
            let narrow = TargetProducts::of(&targets, 2 * rows as usize);
            assert!(narrow.width <= 2);
            check(&narrow, &targets);
        }
        check(&TargetProducts::of(&[], 100), &[]);
    }

    fn check(found: &TargetProducts, targets: &[u32]) {
        let mut tokens = targets.to_vec();
        tokens.dedup();
        assert_eq!(found.places.len(), targets.len());
        let mut covered = 0;
        for (rows, columns) in &found.parts {
            assert_eq!((rows.start, columns.len()), (covered, found.width));
            covered = rows.end;
            for row in rows.clone() {
                let place = found.places[row] as usize;
                assert_eq!(place / found.width, row);
                assert_eq!(tokens[columns.start + place % found.width], targets[row]);
            }
        }
        assert_eq!(covered, targets.len());
    }
}
