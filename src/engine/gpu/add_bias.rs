//! Adds one row to every row. See `add_bias.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuWeight};
use super::pipeline::Kernel;
use crate::backend::Result;

pub(super) const KERNEL: Kernel = Kernel::plain("add_bias", include_str!("add_bias.wgsl"), &[false, true]);
const LANES: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
}

pub(super) fn record(gpu: &Gpu, x: &mut GpuBuffer, rows: usize, bias: &GpuWeight) -> Result<()> {
    let cols = bias.cols;
    let weights = bias.single_row(gpu, "add_bias", cols)?;
    gpu.require("add_bias", "the buffer", x.len, rows.saturating_mul(cols))?;
    let params = Params { rows: rows as u32, cols: cols as u32 };
    let groups = Groups::Linear((rows * cols.div_ceil(4)).div_ceil(LANES));
    gpu.dispatch(&KERNEL.decoding(bias.dtype), &params, &[weights, &x.raw], groups, (rows * cols) as f64)
}
