//! Matrix product with encoded weights, `[T, K] x [N, K]^T -> [T, N]`. Two kernels that differ in how they share loads:
//! `matmul_tiled.wgsl` for graphics processors, `matmul_registers.wgsl` for adapters computed on the CPU.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuWeight, WeightRows};
use crate::backend::Result;

/// The parameters of all three product kernels.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    /// This dispatch's rows of x and of the output.
    row_first: u32,
    row_end: u32,
    /// Columns K.
    inner: u32,
    row_bytes: u32,
    /// The first weight row within the part, and how many follow.
    w_first: u32,
    cols: u32,
    /// Columns of the output, and the first that this part fills.
    out_cols: u32,
    out_first: u32,
}

impl Params {
    /// For the rows `rows` and the part's share `range` of the weight rows `w_rows`.
    pub fn new(rows: Range<usize>, w: &GpuWeight, part: &WeightRows, range: &Range<usize>, w_rows: &Range<usize>) -> Self {
        Self {
            row_first: rows.start as u32,
            row_end: rows.end as u32,
            inner: w.cols as u32,
            row_bytes: w.row_bytes as u32,
            w_first: (range.start - part.rows.start) as u32,
            cols: range.len() as u32,
            out_cols: w_rows.len() as u32,
            out_first: (range.start - w_rows.start) as u32,
        }
    }
}

pub(super) fn record(
    gpu: &Gpu,
    x: &GpuBuffer,
    rows: Range<usize>,
    w: &GpuWeight,
    w_rows: Range<usize>,
    out: &mut GpuBuffer,
) -> Result<()> {
    check("matmul", gpu, x, &rows, w, &w_rows, out)?;
    let shape = gpu.tuning.shape(rows.len(), w_rows.len());
    let kernel = gpu.tuning.matmul.kernel(w.cols).decoding(w.dtype).with(shape.constants);
    let (tile_rows, tile_cols) = shape.tile;
    for (part, range) in w.parts_in(w_rows.clone()) {
        let row_work = (range.len() * w.cols) as f64;
        let share = rows_within(gpu.tuning.work_limit, row_work, tile_rows);
        for row_first in rows.clone().step_by(share) {
            let row_end = rows.end.min(row_first + share);
            let params = Params::new(row_first..row_end, w, part, &range, &w_rows);
            let groups = Groups::Grid(range.len().div_ceil(tile_cols), (row_end - row_first).div_ceil(tile_rows));
            let work = row_work * (row_end - row_first) as f64;
            gpu.dispatch(&kernel, &params, &[&part.raw, &x.raw, &out.raw], groups, work)?;
        }
    }
    Ok(())
}

/// Rows that a dispatch has at least, where there are as many: fewer leave most of a device idle, and the largest matrices
/// times these are still a fraction of a second's work.
const FEWEST_ROWS: usize = 128;

/// The most rows, a multiple of `tile`, whose work stays below `limit`; [`FEWEST_ROWS`] at least, and no more than a grid has.
pub(super) fn rows_within(limit: f64, row_work: f64, tile: usize) -> usize {
    let tiles = (limit / (row_work * tile as f64).max(1.0)) as usize;
    tiles.clamp(FEWEST_ROWS.div_ceil(tile), 32768) * tile
}

/// The sizes of a matrix product, for [`record`] and for `matvec.rs`.
pub(super) fn check(
    op: &str,
    gpu: &Gpu,
    x: &GpuBuffer,
    rows: &Range<usize>,
    w: &GpuWeight,
    w_rows: &Range<usize>,
    out: &GpuBuffer,
) -> Result<()> {
    if w_rows.start > w_rows.end || w_rows.end > w.rows {
        return Err(gpu.errors.error(format!("{op}: weight rows {w_rows:?} of {} (a defect of the caller)", w.rows)));
    }
    gpu.require(op, "the input", x.len, rows.end.saturating_mul(w.cols))?;
    gpu.require(op, "the output", out.len, rows.end.saturating_mul(w_rows.len()))
}

#[cfg(test)]
mod tests {
    use super::rows_within;

    #[test]
    fn large_products_are_cut_between_tiles() {
        assert_eq!(rows_within(1e6, 1e3, 64), 960);
        assert_eq!(rows_within(1e6, 1e9, 64), 128);
        assert_eq!(rows_within(1e6, 1e9, 8), 128);
        assert_eq!(rows_within(1e12, 0.0, 4), 131_072);
    }
}
