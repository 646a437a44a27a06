//! Weighted sums of rows: what the experts of a token say together. See `combine.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::GpuBuffer;
use super::pipeline::Kernel;
use crate::backend::{CombineShape, Result, Terms};

pub(super) const KERNEL: Kernel = Kernel::plain("combine", include_str!("combine.wgsl"), &[false, false, false, true]);
const LANES: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    per_row: u32,
    cols: u32,
    accumulate: u32,
}

pub(super) fn record(gpu: &Gpu, terms: Terms<'_, Gpu>, shape: CombineShape, out: &mut GpuBuffer) -> Result<()> {
    let Terms { x, slots, weights } = terms;
    let CombineShape { rows, per_row, cols, accumulate } = shape;
    let (count, len) = (rows.saturating_mul(per_row), rows.saturating_mul(cols));
    gpu.require("combine", "the slot list", slots.host.len(), count)?;
    gpu.require_below("combine", "slot", &slots.host[..count], x.len.checked_div(cols).unwrap_or(usize::MAX))?;
    gpu.require("combine", "the weights", weights.len, count)?;
    gpu.require("combine", "the output", out.len, len)?;
    let params = Params { rows: rows as u32, per_row: per_row as u32, cols: cols as u32, accumulate: u32::from(accumulate) };
    let bindings = [&x.raw, &slots.raw, &weights.raw, &out.raw];
    gpu.dispatch(&KERNEL, &params, &bindings, Groups::Linear(len.div_ceil(LANES)), (len * per_row) as f64)
}
