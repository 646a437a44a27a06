//! The recurrences of mixers with a state: a workgroup takes some columns of the state of a head through all rows of a run. See
//! `recur.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::GpuBuffer;
use super::pipeline::Kernel;
use crate::backend::{RecurInputs, RecurShape, Recurrence, Result, RunList};

pub(super) const KERNEL: Kernel =
    Kernel::plain("recur", include_str!("recur.wgsl"), &[false, false, false, false, false, false, true, true]).with_functions();
/// Numbers of a state that a workgroup holds: the 16 KiB of memory that every device has.
const STATE: usize = 4096;
/// Most columns of a workgroup.
const MAX_COLUMNS: usize = 64;
/// How much longer a row takes than its multiply-adds in a product would: each waits for the one before. An estimate.
const WAITING: f64 = 8.0;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    heads: u32,
    key_heads: u32,
    value_dim: u32,
    /// 1 where the keys of a head are tiled.
    tiled: u32,
    /// The first run of the wave, and the parts of it that this dispatch takes.
    run_first: u32,
    part_first: u32,
    part_end: u32,
    dt_min: f32,
    dt_max: f32,
}

/// The kernel's constants for keys of that width.
pub(super) fn constants(kind: Recurrence, key_dim: usize) -> [(&'static str, u32); 3] {
    let columns = (STATE / key_dim).min(MAX_COLUMNS);
    let kind = match kind {
        Recurrence::Delta => 0,
        Recurrence::Scan { .. } => 1,
    };
    [("KIND", kind), ("KEY_DIM", key_dim as u32), ("COLUMNS", columns as u32)]
}

pub(super) fn record(
    gpu: &Gpu,
    inputs: RecurInputs<'_, Gpu>,
    shape: RecurShape,
    runs: &RunList<Gpu>,
    state: &mut GpuBuffer,
    values: &mut GpuBuffer,
) -> Result<()> {
    let RecurShape { kind, heads, key_heads, key_dim, value_dim, tiled } = shape;
    if key_heads == 0 || heads % key_heads != 0 || !(1..=STATE).contains(&key_dim) {
        let what =
            format!("recur: cannot compute {heads} heads over {key_heads} keys of width {key_dim} (a defect of the caller)");
        return Err(gpu.errors.error(what));
    }
    check(gpu, &inputs, shape, runs, [state, values])?;
    let constants = constants(kind, key_dim);
    let kernel = KERNEL.with(&constants);
    let columns = constants[2].1 as usize;
    let (dt_min, dt_max) = match kind {
        Recurrence::Delta => (0.0, 0.0),
        // Shaders may not assume that infinity works.
        Recurrence::Scan { dt_min, dt_max } => (dt_min.max(f32::MIN), dt_max.min(f32::MAX)),
    };
    let RecurInputs { q, k, gate, beta, parameters } = inputs;
    // A binding must have something; the other gate is as good as anything.
    let bindings = [q, k, gate, beta.unwrap_or(gate), parameters, state, values].map(|buffer| &buffer.raw);
    let bindings: Vec<_> = std::iter::once(&runs.list.raw).chain(bindings).collect();
    for wave in &runs.waves {
        let longest = runs.runs[wave.clone()].iter().map(|run| run.rows.len() + 1).max().unwrap_or(1);
        let part_work = WAITING * (longest * key_dim * columns * 3) as f64;
        let share = (gpu.tuning.work_limit / part_work).max(1.0) as usize;
        let parts = wave.len() * heads * value_dim.div_ceil(columns);
        for part_first in (0..parts).step_by(share) {
            let part_end = parts.min(part_first.saturating_add(share));
            let params = Params {
                heads: heads as u32,
                key_heads: key_heads as u32,
                value_dim: value_dim as u32,
                tiled: u32::from(tiled),
                run_first: wave.start as u32,
                part_first: part_first as u32,
                part_end: part_end as u32,
                dt_min,
                dt_max,
            };
            let here = part_end - part_first;
            gpu.dispatch(&kernel, &params, &bindings, Groups::Linear(here), part_work * here as f64)?;
        }
    }
    Ok(())
}

fn check(
    gpu: &Gpu,
    inputs: &RecurInputs<'_, Gpu>,
    shape: RecurShape,
    runs: &RunList<Gpu>,
    [state, values]: [&GpuBuffer; 2],
) -> Result<()> {
    let RecurShape { kind, heads, key_heads, key_dim, value_dim, .. } = shape;
    let rows = runs.rows();
    gpu.require("recur", "the queries", inputs.q.len, rows.saturating_mul(key_heads * key_dim))?;
    gpu.require("recur", "the keys", inputs.k.len, rows.saturating_mul(key_heads * key_dim))?;
    gpu.require("recur", "the gates", inputs.gate.len, rows.saturating_mul(heads))?;
    if kind == Recurrence::Delta {
        gpu.require("recur", "the betas", inputs.beta.map_or(0, |beta| beta.len), rows.saturating_mul(heads))?;
    }
    gpu.require("recur", "the parameters", inputs.parameters.len, 3 * heads)?;
    gpu.require("recur", "the state", state.len, runs.slots().saturating_mul(heads * key_dim * value_dim))?;
    gpu.require("recur", "the values", values.len, rows.saturating_mul(heads * value_dim))
}
