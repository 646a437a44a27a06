//! Operations number by number, in place: gates, functions of one number, the residual sum. See `gate.wgsl`, `map.wgsl` and
//! `add.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::GpuBuffer;
use super::pipeline::Kernel;
use crate::backend::{Gate, Map, Result};

const GATE: Kernel = Kernel::plain("gate", include_str!("gate.wgsl"), &[true, false]).with_functions();
const MAP: Kernel = Kernel::plain("map", include_str!("map.wgsl"), &[true]).with_functions();
pub(super) const ADD: Kernel = Kernel::plain("add", include_str!("add.wgsl"), &[true, false]);
const LANES: usize = 256;

/// What [`GATE`] reads.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct GateParams {
    len: u32,
}

/// What [`ADD`] reads.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    len: u32,
    value: f32,
}

/// What [`MAP`] reads.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MapParams {
    len: u32,
    values: [f32; 4],
}

/// The kernel of a gate.
pub(super) const fn gate_kernel(f: Gate) -> Kernel<'static> {
    match f {
        Gate::Silu => GATE.with(&[("KIND", 0)]),
        Gate::Gelu => GATE.with(&[("KIND", 1)]),
        Gate::ClampedSilu => GATE.with(&[("KIND", 2)]),
        Gate::Sigmoid => GATE.with(&[("KIND", 3)]),
        Gate::Product => GATE.with(&[("KIND", 4)]),
    }
}

/// The kernel of a function, and its parameters.
pub(super) const fn map_kernel(f: Map) -> (Kernel<'static>, [f32; 4]) {
    match f {
        Map::Gelu => (MAP.with(&[("KIND", 0)]), [0.0; 4]),
        Map::Scale(factor) => (MAP.with(&[("KIND", 1)]), [factor, 0.0, 0.0, 0.0]),
        Map::Softcap(cap) => (MAP.with(&[("KIND", 2)]), [cap, 0.0, 0.0, 0.0]),
        Map::Silu => (MAP.with(&[("KIND", 3)]), [0.0; 4]),
        Map::ReluSquared => (MAP.with(&[("KIND", 4)]), [0.0; 4]),
        Map::Xielu { alpha_p, alpha_n, beta, eps } => (MAP.with(&[("KIND", 5)]), [alpha_p, alpha_n, beta, eps]),
    }
}

/// Records a gate over the first `len` numbers of `gate` (changed) and `up`.
pub(super) fn record_gate(gpu: &Gpu, f: Gate, gate: &mut GpuBuffer, up: &GpuBuffer, len: usize) -> Result<()> {
    record(gpu, gate_kernel(f), GateParams { len: len as u32 }, gate, up, len)
}

/// Records `x + factor * y` over the first `len` numbers of `x` (changed) and `y`.
pub(super) fn record_add(gpu: &Gpu, x: &mut GpuBuffer, y: &GpuBuffer, factor: f32, len: usize) -> Result<()> {
    record(gpu, ADD, Params { len: len as u32, value: factor }, x, y, len)
}

fn record<P: Pod>(gpu: &Gpu, kernel: Kernel, params: P, x: &mut GpuBuffer, y: &GpuBuffer, len: usize) -> Result<()> {
    gpu.require(kernel.name, "the first operand", x.len, len)?;
    gpu.require(kernel.name, "the second operand", y.len, len)?;
    let groups = Groups::Linear(len.div_ceil(LANES));
    gpu.dispatch(&kernel, &params, &[&x.raw, &y.raw], groups, len as f64)
}

/// Records a function of one number over the first `len` numbers of `x`.
pub(super) fn record_map(gpu: &Gpu, f: Map, x: &mut GpuBuffer, len: usize) -> Result<()> {
    let (kernel, values) = map_kernel(f);
    gpu.require(kernel.name, "the operand", x.len, len)?;
    let groups = Groups::Linear(len.div_ceil(LANES));
    gpu.dispatch(&kernel, &MapParams { len: len as u32, values }, &[&x.raw], groups, len as f64)
}
