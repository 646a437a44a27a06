//! Rotary position embedding (Su et al. 2021) from a table of angles. See `rope.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuIndices};
use super::pipeline::Kernel;
use crate::backend::{Result, RopePairing, RopeShape};

pub(super) const KERNEL: Kernel = Kernel::plain("rope", include_str!("rope.wgsl"), &[true, false, false]);
const LANES: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    row_heads: u32,
    heads: u32,
    head_dim: u32,
    /// The first rotated component.
    first: u32,
    pairs: u32,
    /// From a pair's number to its first component, and from there to its second.
    first_step: u32,
    second_step: u32,
}

pub(super) fn record(gpu: &Gpu, x: &mut GpuBuffer, shape: RopeShape, table: &GpuBuffer, positions: &GpuIndices) -> Result<()> {
    let RopeShape { rows, heads, head_dim, first, dim, pairs } = shape;
    if dim % 2 != 0 || first.saturating_add(dim) > head_dim {
        let what = format!("rope: cannot rotate {dim} of a head's {head_dim} components from {first} on in pairs");
        return Err(gpu.errors.error(what));
    }
    gpu.require("rope", "the buffer", x.len, rows.saturating_mul(heads).saturating_mul(head_dim))?;
    gpu.require("rope", "the position list", positions.host.len(), rows)?;
    gpu.require_below("rope", "position", &positions.host[..rows], table.len.checked_div(dim).unwrap_or(usize::MAX))?;
    let half = (dim / 2) as u32;
    let (first_step, second_step) = match pairs {
        RopePairing::Adjacent => (2, 1),
        RopePairing::Halves => (1, half),
    };
    let (row_heads, heads, head_dim) = ((rows * heads) as u32, heads as u32, head_dim as u32);
    let params = Params { row_heads, heads, head_dim, first: first as u32, pairs: half, first_step, second_step };
    let rotations = row_heads as usize * half as usize;
    let bindings = [&x.raw, &table.raw, &positions.raw];
    gpu.dispatch(&KERNEL, &params, &bindings, Groups::Linear(rotations.div_ceil(LANES)), 6.0 * rotations as f64)
}
