//! From the last hidden states to statistics: final norm, output matrix in tiles of the vocabulary, and the reductions that
//! turn each tile of logits into a few numbers per row on the device. Logits of the whole vocabulary exist only for those who
//! ask for them ([`logits`]).

use super::backend::{Backend, HeadRow, Targets, TileShape};
use super::error::Result;
use super::forward::{self, Graph};
use super::model::OutputHead;

/// Tokens per vocabulary tile.
const TILE: usize = 1024;

/// Scores the rows `scored` of `hidden` (one buffer per lane) against `targets`; lane 0 is the reference of the others.
pub fn score<B: Backend>(
    backend: &B,
    graphs: &[Graph<B>],
    heads: &[OutputHead<B>],
    hidden: &[&B::Buffer],
    scored: &[u32],
    targets: &[u32],
) -> Result<Vec<Vec<HeadRow>>> {
    let rows = scored.len();
    if rows == 0 {
        return Ok(vec![Vec::new(); graphs.len()]);
    }
    // Rows with one target side by side, as `target_logits` wants them; the scores go back to their places at the end.
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by_key(|&t| targets[t]);
    let by_target = |all: &[u32]| order.iter().map(|&t| all[t]).collect::<Vec<u32>>();
    let (scored, targets) = (backend.indices(&by_target(scored))?, by_target(targets));
    let mut normed = Vec::with_capacity(graphs.len());
    for ((graph, head), x) in graphs.iter().zip(heads).zip(hidden) {
        let width = graph.hparams().embedding_length;
        let mut picked = backend.alloc(rows * width)?;
        backend.gather(x, &scored, rows, width, &mut picked)?;
        let mut out = backend.alloc(rows * width)?;
        forward::norm(backend, graph, &picked, rows, &head.norm, &mut out)?;
        normed.push(out);
    }
    let vocab = heads.first().map_or(0, |head| head.output.rows.len());
    let tile = TILE.min(vocab).min((backend.max_buffer_len() / rows).max(1));
    let mut target_logits = Vec::with_capacity(graphs.len());
    for ((graph, head), normed) in graphs.iter().zip(heads).zip(&normed) {
        target_logits.push(self::target_logits(backend, graph, &head.output.weight, normed, &targets)?);
    }
    let targets = backend.indices(&targets)?;
    let mut states = graphs.iter().map(|_| backend.head_state(rows)).collect::<std::result::Result<Vec<_>, _>>()?;
    let mut reference = backend.alloc(rows * tile)?;
    let mut candidate = backend.alloc(if graphs.len() > 1 { rows * tile } else { 1 })?;
    for first in (0..vocab).step_by(tile) {
        let range = first..(first + tile).min(vocab);
        let shape = TileShape { rows, cols: range.len(), first_token: first as u32 };
        for (lane, state) in states.iter_mut().enumerate() {
            let weight = &heads[lane].output.weight;
            let logits = if lane == 0 { &mut reference } else { &mut candidate };
            backend.matmul(&normed[lane], 0..rows, weight, range.clone(), logits)?;
            forward::finish_logits(backend, &graphs[lane], logits, rows * range.len())?;
            let targets = Some(Targets { tokens: &targets, logits: &target_logits[lane] });
            if lane == 0 {
                backend.head_tile(&reference, None, shape, targets, state)?;
            } else {
                backend.head_tile(&candidate, Some(&reference), shape, targets, state)?;
            }
        }
    }
    let mut places = vec![0; rows];
    order.iter().enumerate().for_each(|(sorted, &t)| places[t] = sorted);
    let in_place = |rows: Vec<HeadRow>| places.iter().map(|&sorted| rows[sorted]).collect();
    Ok(states.iter().map(|state| backend.read_head(state).map(in_place)).collect::<std::result::Result<_, _>>()?)
}

/// The logit of each row's target, to the last bit what the tiles will hold, because it comes from the same operations: row t of
/// `normed` times row `weight_rows[t]` of `weight`. A product for each run of rows with the same target, so that rows in the order of
/// their targets are the fewest products. `[T, H], [T] -> [T]`
pub fn target_logits<B: Backend>(
    backend: &B,
    graph: &Graph<B>,
    weight: &B::Weight,
    normed: &B::Buffer,
    weight_rows: &[u32],
) -> Result<B::Buffer> {
    let mut logits = backend.alloc(weight_rows.len())?;
    let mut first = 0;
    for same in weight_rows.chunk_by(|a, b| a == b) {
        let row = same[0] as usize;
        backend.matmul(normed, first..first + same.len(), weight, row..row + 1, &mut logits)?;
        first += same.len();
    }
    forward::finish_logits(backend, graph, &mut logits, weight_rows.len())?;
    Ok(logits)
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
        forward::finish_logits(backend, graph, &mut part, rows * range.len())?;
        let part = backend.read(&part, 0..rows * range.len())?;
        for (all, part) in all.chunks_exact_mut(vocab).zip(part.chunks_exact(range.len())) {
            all[range.clone()].copy_from_slice(part);
        }
    }
    Ok(all)
}
