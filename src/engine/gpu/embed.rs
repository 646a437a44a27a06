//! Rows of an encoded table, picked by index and decoded: token embeddings, and what is added to rows. See `embed.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuIndices, GpuWeight};
use super::pipeline::Kernel;
use crate::backend::Result;

const TEXT: Kernel = Kernel::plain("embed", include_str!("embed.wgsl"), &[false, false, true]);
/// The rows themselves.
pub(super) const EMBED: Kernel = TEXT.with(&[("ADD", 0)]);
/// The rows added to what stands there.
pub(super) const ADD_ROWS: Kernel = TEXT.with(&[("ADD", 1)]);
const LANES: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count: u32,
    cols: u32,
    row_bytes: u32,
    part_first: u32,
    part_rows: u32,
}

/// Records [`EMBED`] or [`ADD_ROWS`].
pub(super) fn record(
    gpu: &Gpu,
    kernel: Kernel<'static>,
    table: &GpuWeight,
    index: &GpuIndices,
    count: usize,
    out: &mut GpuBuffer,
) -> Result<()> {
    gpu.require("embed", "the index list", index.host.len(), count)?;
    gpu.require_below("embed", "token", &index.host[..count], table.rows)?;
    gpu.require("embed", "the output", out.len, count.saturating_mul(table.cols))?;
    for part in &table.parts {
        let params = Params {
            count: count as u32,
            cols: table.cols as u32,
            row_bytes: table.row_bytes as u32,
            part_first: part.rows.start as u32,
            part_rows: part.rows.len() as u32,
        };
        let groups = Groups::Linear((count * table.cols.div_ceil(4)).div_ceil(LANES));
        let work = (count * table.cols) as f64;
        gpu.dispatch(&kernel.decoding(table.dtype), &params, &[&part.raw, &index.raw, &out.raw], groups, work)?;
    }
    Ok(())
}
