//! Matrix product for the few rows of a decoding step: the weights are streamed once for all of them. See `matvec.wgsl`.

use std::ops::Range;

use super::device::{Gpu, Groups};
use super::matmul::{Params, check};
use super::memory::{GpuBuffer, GpuWeight};
use super::pipeline::{Kernel, product_kernel, whole};
use crate::backend::Result;

/// The kernel for rows of x of `inner` numbers.
pub(super) fn kernel(inner: usize) -> Kernel<'static> {
    if whole(inner) {
        product_kernel!("matvec", "x_whole.wgsl", "matvec.wgsl")
    } else {
        product_kernel!("matvec_ragged", "x_ragged.wgsl", "matvec.wgsl")
    }
}

/// Output columns of one workgroup.
const COLS: usize = 4;
/// Weights that a lane decodes in a turn of the loop, sixteen of every output column.
pub(super) const LANE_WEIGHTS: u32 = 16 * COLS as u32;
/// Row counts the kernel is specialized for; others take the next larger one, and more than the last take several dispatches.
pub(super) const ROWS: [u32; 4] = [1, 2, 4, 8];
/// Rows of one dispatch.
pub(super) const MOST_ROWS: usize = ROWS[ROWS.len() - 1] as usize;

pub(super) fn record(
    gpu: &Gpu,
    x: &GpuBuffer,
    rows: Range<usize>,
    w: &GpuWeight,
    w_rows: Range<usize>,
    out: &mut GpuBuffer,
) -> Result<()> {
    check("matvec", gpu, x, &rows, w, &w_rows, out)?;
    for (part, range) in w.parts_in(w_rows.clone()) {
        for row_first in rows.clone().step_by(MOST_ROWS) {
            let row_end = rows.end.min(row_first + MOST_ROWS);
            let here = row_end - row_first;
            let specialized = ROWS.into_iter().find(|&count| count as usize >= here).unwrap_or(MOST_ROWS as u32);
            let params = Params::new(row_first..row_end, w, part, &range, &w_rows);
            let constants = [("ROWS", specialized)];
            let kernel = kernel(w.cols).decoding(w.dtype).with(&constants);
            let work = (range.len() * w.cols * here) as f64;
            let groups = Groups::Linear(range.len().div_ceil(COLS));
            gpu.dispatch(&kernel, &params, &[&part.raw, &x.raw, &out.raw], groups, work)?;
        }
    }
    Ok(())
}
