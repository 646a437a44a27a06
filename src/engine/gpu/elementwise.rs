//! Operations number by number, in place: SwiGLU's activation and the residual sum. See `swiglu.wgsl` and `add.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::GpuBuffer;
use super::pipeline::Kernel;
use crate::engine::backend::Result;

pub(super) const SWIGLU: Kernel = Kernel::plain("swiglu", include_str!("swiglu.wgsl"), &[true, false]);
pub(super) const ADD: Kernel = Kernel::plain("add", include_str!("add.wgsl"), &[true, false]);
const LANES: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    len: u32,
}

/// Records `kernel` over the first `len` numbers of `x` (changed) and `y`.
pub(super) fn record(gpu: &Gpu, kernel: Kernel, x: &mut GpuBuffer, y: &GpuBuffer, len: usize) -> Result<()> {
    gpu.require(kernel.name, "the first operand", x.len, len)?;
    gpu.require(kernel.name, "the second operand", y.len, len)?;
    let groups = Groups::Linear(len.div_ceil(LANES));
    gpu.dispatch(&kernel, &Params { len: len as u32 }, &[&x.raw, &y.raw], groups, len as f64)
}
