//! Softmax attention over ragged spans, without a T x T matrix in memory. See `attention.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::matmul::rows_within;
use super::memory::{GpuBuffer, GpuIndices};
use super::pipeline::Kernel;
use crate::backend::{AttentionInputs, AttentionShape, Result};

pub(super) const KERNEL: Kernel =
    Kernel::plain("attention", include_str!("attention.wgsl"), &[false, false, false, false, false, true]).with_functions();
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
    pub(super) fn constants(self, head_dim: usize, value_dim: usize) -> [(&'static str, u32); 6] {
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
        ]
    }
}

pub(super) fn record(
    gpu: &Gpu,
    inputs: AttentionInputs<'_, Gpu>,
    rows: usize,
    shape: AttentionShape,
    out: &mut GpuBuffer,
) -> Result<()> {
    let AttentionInputs { q, k, v, spans, sinks } = inputs;
    let AttentionShape { heads, kv_heads, head_dim, value_dim, scale, softcap } = shape;
    let widths = 1..=MAX_HEAD_DIM;
    if kv_heads == 0 || heads % kv_heads != 0 || !widths.contains(&head_dim) || !widths.contains(&value_dim) {
        let heads = format!("{heads} query heads over {kv_heads} key heads of width {head_dim}, values of {value_dim}");
        let what = format!("attention: cannot compute {heads} (whole groups, widths up to {MAX_HEAD_DIM})");
        return Err(gpu.errors.error(what));
    }
    let spans_here = check(gpu, [q, k, v], spans, rows, shape, out)?;
    let group = heads / kv_heads;
    let tile = Tile::of(spans_here, rows * group);
    let constants = tile.constants(head_dim, value_dim);
    if let Some(sinks) = sinks {
        gpu.require("attention", "the sinks", sinks.len, heads)?;
    }
    let kernel = KERNEL.with(&constants);

    let queries = rows * group;
    let keys: f64 = spans_here.iter().map(|span| f64::from(span[1] - span[0])).sum();
    let query_work = ((head_dim + value_dim) * kv_heads) as f64 * keys / rows.max(1) as f64;
    let share = rows_within(gpu.tuning.work_limit, query_work, tile.queries());
    for query_first in (0..queries).step_by(share) {
        let query_end = queries.min(query_first + share);
        let params = Params {
            query_first: query_first as u32,
            query_end: query_end as u32,
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            scale: if softcap > 0.0 { scale } else { scale * std::f32::consts::LOG2_E },
            softcap,
            sinks: u32::from(sinks.is_some()),
        };
        let here = query_end - query_first;
        let groups = Groups::Grid(here.div_ceil(tile.queries()), kv_heads);
        // A binding must have something; the queries are as good as anything.
        let sinks = sinks.map_or(&q.raw, |sinks| &sinks.raw);
        let bindings = [&q.raw, &k.raw, &v.raw, &spans.raw, sinks, &out.raw];
        gpu.dispatch(&kernel, &params, &bindings, groups, query_work * here as f64)?;
    }
    Ok(())
}

/// The spans of the rows, after all sizes and every span have been checked.
fn check<'a>(
    gpu: &Gpu,
    [q, k, v]: [&GpuBuffer; 3],
    spans: &'a GpuIndices,
    rows: usize,
    shape: AttentionShape,
    out: &GpuBuffer,
) -> Result<&'a [[u32; 2]]> {
    let row_heads = rows.saturating_mul(shape.heads);
    gpu.require("attention", "the query buffer", q.len, row_heads.saturating_mul(shape.head_dim))?;
    gpu.require("attention", "the output", out.len, row_heads.saturating_mul(shape.value_dim))?;
    gpu.require("attention", "the span list", spans.host.len(), rows.saturating_mul(2))?;
    let (spans, _) = spans.host[..2 * rows].as_chunks::<2>();
    let kv_rows = (k.len / (shape.kv_heads * shape.head_dim)).min(v.len / (shape.kv_heads * shape.value_dim));
    let Some([start, end]) = spans.iter().find(|[start, end]| start >= end || *end as usize > kv_rows) else { return Ok(spans) };
    let what = format!("attention: span {start}..{end} is empty or past the {kv_rows} key rows (a defect of the caller)");
    Err(gpu.errors.error(what))
}

#[cfg(test)]
mod tests {
    use super::Tile;

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
