//! Root-mean-square norm (Zhang and Sennrich 2019), a workgroup per row. See `rms_norm.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuWeight};
use super::pipeline::Kernel;
use crate::engine::backend::Result;

pub(super) const KERNEL: Kernel = Kernel::plain("rms_norm", include_str!("rms_norm.wgsl"), &[false, false, true]);

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}

pub(super) fn record(gpu: &Gpu, x: &GpuBuffer, rows: usize, gain: &GpuWeight, eps: f32, out: &mut GpuBuffer) -> Result<()> {
    let (cols, len) = (gain.cols, rows.saturating_mul(gain.cols));
    let weights = gain.single_row(gpu, "rms_norm", cols)?;
    gpu.require("rms_norm", "the input", x.len, len)?;
    gpu.require("rms_norm", "the output", out.len, len)?;
    let params = Params { rows: rows as u32, cols: cols as u32, eps };
    let bindings = [weights, &x.raw, &out.raw];
    gpu.dispatch(&KERNEL.decoding(gain.dtype), &params, &bindings, Groups::Linear(rows), 4.0 * len as f64)
}
