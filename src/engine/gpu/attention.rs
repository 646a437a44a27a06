//! Softmax attention over ragged spans, without a T x T matrix in memory. See `attention.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::matmul::rows_within;
use super::memory::GpuBuffer;
use super::pipeline::Kernel;
use super::storage::Storage;
use crate::backend::{AttentionInputs, AttentionShape, Result};

pub(super) const KERNEL: Kernel =
    Kernel::plain("attention", include_str!("attention.wgsl"), &[false, false, false, false, false, true]).with_functions();
pub(super) const JOIN: Kernel = Kernel::plain("attention_join", include_str!("attention_join.wgsl"), &[false, true]);
/// Keys of a part where a row's keys are split: a workgroup's work is then long beside its beginning. A multiple of 128.
pub(super) const PART_KEYS: usize = 256;
/// The most parts of a row; their keys are more where a row sees more than so many times [`PART_KEYS`].
const MOST_PARTS: usize = 64;
/// The widest head the kernel's registers and workgroup memory are laid out for.
const MAX_HEAD_DIM: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    /// Queries of one key/value head: rows times the query heads that share it; this dispatch's first and end.
    query_first: u32,
    query_end: u32,
    heads: u32,
    kv_heads: u32,
    /// Scale of the scores, in powers of two where they are not capped: scale * log2(e).
    scale: f32,
    /// The cap of the scores; 0 where they have none.
    softcap: f32,
    /// 1 where `sinks` hold something.
    sinks: u32,
    /// Where keys are split: parts of a row, workgroups for the heads of a row, and keys of a part at least.
    parts: u32,
    tiles: u32,
    part_keys: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct JoinParams {
    row_heads: u32,
    parts: u32,
}

/// How many queries share a workgroup. Both give the same bits; they differ in what they waste.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tile {
    /// 32 queries: prompts, where neighbours see nearly the same keys.
    Wide,
    /// 8 queries, skipping keys that none of them sees: decoding steps, scattered spans.
    Narrow,
}

impl Tile {
    #[cfg(test)]
    pub(super) const ALL: [Self; 2] = [Self::Wide, Self::Narrow];

    /// Few queries or gaps between neighbouring spans ask for the narrow tile.
    fn of(spans: &[[u32; 2]], queries: usize) -> Self {
        let gap = |pair: &[[u32; 2]]| pair[1][0] > pair[0][1] || pair[0][0] > pair[1][1];
        if queries < 32 || spans.windows(2).any(gap) { Self::Narrow } else { Self::Wide }
    }

    fn queries(self) -> usize {
        match self {
            Self::Wide => 32,
            Self::Narrow => 8,
        }
    }

    /// The kernel's constants for key and value heads of those widths.
    pub(super) fn constants(self, head_dim: usize, value_dim: usize, split: bool) -> [(&'static str, u32); 8] {
        let queries = self.queries() as u32;
        let lanes = if self == Self::Wide && value_dim > 128 { 128 } else { 64 };
        // Invocations along a head, four components each: a power of two, so that they divide the workgroup evenly.
        let across = (value_dim.div_ceil(4).next_power_of_two() as u32).max(lanes / queries);
        [
            ("HEAD_DIM", head_dim as u32),
            ("VALUE_DIM", value_dim as u32),
            ("QUERIES", queries),
            // Every invocation computes the scores of 4 queries and 4 keys.
            ("KEYS", lanes * 16 / queries),
            ("LANES", lanes),
            ("ACROSS", across),
            ("SPLIT", u32::from(split)),
            ("MOST_PARTS", MOST_PARTS as u32),
        ]
    }
}

/// Records attention of any rows. A row's sums run over all its keys in order.
pub(super) fn record(
    gpu: &Gpu,
    inputs: AttentionInputs<'_, Gpu>,
    rows: usize,
    shape: AttentionShape,
    out: &mut GpuBuffer,
) -> Result<()> {
    let AttentionShape { heads, kv_heads, head_dim, value_dim, .. } = shape;
    let spans = check(gpu, &inputs, rows, shape, out)?;
    let queries = rows * heads / kv_heads;
    let tile = Tile::of(spans, queries);
    let constants = tile.constants(head_dim, value_dim, false);
    let kernel = KERNEL.with(&constants);
    let query_work = ((head_dim + value_dim) * kv_heads) as f64 * keys(spans) / rows.max(1) as f64;
    let share = rows_within(gpu.tuning.work_limit, query_work, tile.queries());
    let whole = params(&inputs, shape, queries);
    for query_first in (0..queries).step_by(share) {
        let query_end = queries.min(query_first + share);
        let params = Params { query_first: query_first as u32, query_end: query_end as u32, ..whole };
        let here = query_end - query_first;
        let groups = Groups::Grid(here.div_ceil(tile.queries()), kv_heads);
        gpu.dispatch(&kernel, &params, &bindings(&inputs, &out.raw), groups, query_work * here as f64)?;
    }
    Ok(())
}

/// Records attention of the few rows of a decoding step. Where one of them sees many keys, each row's are split between
/// workgroups, which would otherwise be as few as there are heads of keys; a row with few keys has one part, and so the sums that
/// it has without a split.
pub(super) fn record_few(
    gpu: &Gpu,
    inputs: AttentionInputs<'_, Gpu>,
    rows: usize,
    shape: AttentionShape,
    out: &mut GpuBuffer,
) -> Result<()> {
    let AttentionShape { heads, kv_heads, head_dim, value_dim, .. } = shape;
    let spans = check(gpu, &inputs, rows, shape, out)?;
    let longest = spans.iter().map(|span| (span[1] - span[0]) as usize).max().unwrap_or(0);
    if longest <= PART_KEYS {
        return record(gpu, inputs, rows, shape, out);
    }
    let parts = spans.iter().map(|span| parts((span[1] - span[0]) as usize)).max().unwrap_or(1);
    let (tile, row_heads) = (Tile::Narrow, rows * heads);
    let tiles = (heads / kv_heads).div_ceil(tile.queries());
    let found = gpu.storage(row_heads * parts * (value_dim + 2) * size_of::<f32>(), "attention to parts of the keys")?;
    let constants = tile.constants(head_dim, value_dim, true);
    let (parts, tiles, part_keys) = (parts as u32, tiles as u32, PART_KEYS as u32);
    let params = Params { parts, tiles, part_keys, ..params(&inputs, shape, rows * heads / kv_heads) };
    let groups = Groups::Grid(rows * (tiles * parts) as usize, kv_heads);
    let work = ((head_dim + value_dim) * heads) as f64 * keys(spans);
    gpu.dispatch(&KERNEL.with(&constants), &params, &bindings(&inputs, &found), groups, work)?;
    let constants = [("VALUE_DIM", value_dim as u32)];
    let join = JoinParams { row_heads: row_heads as u32, parts };
    let work = (row_heads * value_dim) as f64 * f64::from(parts);
    gpu.dispatch(&JOIN.with(&constants), &join, &[&found, &out.raw], Groups::Linear(row_heads), work)
}

/// Parts of a row that sees so many keys, as the kernel cuts them.
fn parts(keys: usize) -> usize {
    keys.div_ceil(PART_KEYS.max(keys.div_ceil(MOST_PARTS * 128) * 128))
}

/// Keys that all rows see.
fn keys(spans: &[[u32; 2]]) -> f64 {
    spans.iter().map(|span| f64::from(span[1] - span[0])).sum()
}

/// For all queries, without a split.
fn params(inputs: &AttentionInputs<'_, Gpu>, shape: AttentionShape, queries: usize) -> Params {
    let AttentionShape { heads, kv_heads, scale, softcap, .. } = shape;
    Params {
        query_first: 0,
        query_end: queries as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        scale: if softcap > 0.0 { scale } else { scale * std::f32::consts::LOG2_E },
        softcap,
        sinks: u32::from(inputs.sinks.is_some()),
        parts: 1,
        tiles: 1,
        part_keys: 0,
    }
}

fn bindings<'a>(inputs: &AttentionInputs<'a, Gpu>, out: &'a Storage) -> [&'a Storage; 6] {
    let AttentionInputs { q, k, v, spans, sinks } = *inputs;
    // A binding must have something; the queries are as good as anything.
    let sinks = sinks.map_or(&q.raw, |sinks| &sinks.raw);
    [&q.raw, &k.raw, &v.raw, &spans.raw, sinks, out]
}

/// The spans of the rows, after all sizes and every span have been checked.
fn check<'a>(
    gpu: &Gpu,
    inputs: &AttentionInputs<'a, Gpu>,
    rows: usize,
    shape: AttentionShape,
    out: &GpuBuffer,
) -> Result<&'a [[u32; 2]]> {
    let AttentionInputs { q, k, v, spans, sinks } = *inputs;
    let AttentionShape { heads, kv_heads, head_dim, value_dim, .. } = shape;
    let widths = 1..=MAX_HEAD_DIM;
    if kv_heads == 0 || heads % kv_heads != 0 || !widths.contains(&head_dim) || !widths.contains(&value_dim) {
        let heads = format!("{heads} query heads over {kv_heads} key heads of width {head_dim}, values of {value_dim}");
        let what = format!("attention: cannot compute {heads} (whole groups, widths up to {MAX_HEAD_DIM})");
        return Err(gpu.errors.error(what));
    }
    let row_heads = rows.saturating_mul(heads);
    gpu.require("attention", "the query buffer", q.len, row_heads.saturating_mul(head_dim))?;
    gpu.require("attention", "the output", out.len, row_heads.saturating_mul(value_dim))?;
    gpu.require("attention", "the span list", spans.host.len(), rows.saturating_mul(2))?;
    gpu.require("attention", "the sinks", sinks.map_or(heads, |sinks| sinks.len), heads)?;
    let (spans, _) = spans.host[..2 * rows].as_chunks::<2>();
    let kv_rows = (k.len / (kv_heads * head_dim)).min(v.len / (kv_heads * value_dim));
    let Some([start, end]) = spans.iter().find(|[start, end]| start >= end || *end as usize > kv_rows) else { return Ok(spans) };
    let what = format!("attention: span {start}..{end} is empty or past the {kv_rows} key rows (a defect of the caller)");
    Err(gpu.errors.error(what))
}

#[cfg(test)]
mod tests {
    use super::{MOST_PARTS, Tile, parts};

    #[test]
    fn a_row_has_as_many_parts_as_its_keys_fill_and_no_more_than_64() {
        for (keys, expected) in [(1, 1), (256, 1), (257, 2), (4096, 16), (16384, 64), (16385, 43), (1 << 20, 64)] {
            assert_eq!(parts(keys), expected, "{keys}");
        }
        assert!((1..200_000).step_by(37).all(|keys| parts(keys) <= MOST_PARTS));
    }

    #[test]
    fn neighbours_with_gaps_between_their_keys_get_narrow_tiles() {
        let causal: Vec<_> = (0..64).map(|t| [0, t + 1]).collect();
        assert_eq!(Tile::of(&causal, 64), Tile::Wide);
        let packed: Vec<_> = (0..64).map(|t| [t / 32 * 32, t + 1]).collect();
        assert_eq!(Tile::of(&packed, 64), Tile::Wide);
        let scattered: Vec<_> = (0..64).map(|t| [t * 100, t * 100 + 7]).collect();
        assert_eq!(Tile::of(&scattered, 64), Tile::Narrow);
        assert_eq!(Tile::of(&causal[..2], 6), Tile::Narrow);
    }
}
