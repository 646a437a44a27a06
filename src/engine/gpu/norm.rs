//! Root-mean-square norm (Zhang and Sennrich 2019) and layer norm (Ba et al. 2016), a workgroup per row. See `norm.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuWeight};
use super::pipeline::Kernel;
use crate::backend::{Norm, Result};

const KERNEL: Kernel = Kernel::plain("norm", include_str!("norm.wgsl"), &[false, false, true]);

/// The kernel of a kind of norm.
pub(super) const fn kernel(kind: Norm) -> Kernel<'static> {
    match kind {
        Norm::Rms => KERNEL.with(&[("CENTERED", 0)]),
        Norm::Layer => KERNEL.with(&[("CENTERED", 1)]),
    }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    gain_rows: u32,
    gain_row_bytes: u32,
    eps: f32,
}

pub(super) fn record(
    gpu: &Gpu,
    kind: Norm,
    x: &GpuBuffer,
    rows: usize,
    gain: &GpuWeight,
    eps: f32,
    out: &mut GpuBuffer,
) -> Result<()> {
    let (cols, len) = (gain.cols, rows.saturating_mul(gain.cols));
    let weights = gain.single_part(gpu, "norm")?;
    gpu.require("norm", "the input", x.len, len)?;
    gpu.require("norm", "the output", out.len, len)?;
    let params =
        Params { rows: rows as u32, cols: cols as u32, gain_rows: gain.rows as u32, gain_row_bytes: gain.row_bytes as u32, eps };
    let bindings = [weights, &x.raw, &out.raw];
    gpu.dispatch(&kernel(kind).decoding(gain.dtype), &params, &bindings, Groups::Linear(rows), 4.0 * len as f64)
}
