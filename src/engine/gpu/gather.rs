//! Picks rows. See `gather.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuIndices};
use super::pipeline::Kernel;
use crate::backend::Result;

pub(super) const KERNEL: Kernel = Kernel::plain("gather", include_str!("gather.wgsl"), &[false, false, true]);
const LANES: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count: u32,
    cols: u32,
}

pub(super) fn record(gpu: &Gpu, x: &GpuBuffer, rows: &GpuIndices, count: usize, cols: usize, out: &mut GpuBuffer) -> Result<()> {
    gpu.require("gather", "the row list", rows.host.len(), count)?;
    gpu.require_below("gather", "row", &rows.host[..count], x.len.checked_div(cols).unwrap_or(usize::MAX))?;
    gpu.require("gather", "the output", out.len, count.saturating_mul(cols))?;
    let params = Params { count: count as u32, cols: cols as u32 };
    let (len, bindings) = (count * cols, [&x.raw, &rows.raw, &out.raw]);
    gpu.dispatch(&KERNEL, &params, &bindings, Groups::Linear(len.div_ceil(LANES)), len as f64)
}
