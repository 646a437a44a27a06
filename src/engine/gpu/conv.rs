//! Causal convolution of each column along the rows of runs, an invocation per run and column. See `conv.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::GpuBuffer;
use super::pipeline::Kernel;
use crate::backend::{ConvFilter, Result, RunList};

pub(super) const KERNEL: Kernel =
    Kernel::plain("conv", include_str!("conv.wgsl"), &[false, false, false, true, true]).with_functions();
const LANES: usize = 64;
/// Columns of the widest filter.
const MAX_TAPS: usize = 16;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    channels: u32,
    weight_row_bytes: u32,
    /// The first run of this dispatch.
    run_first: u32,
    /// 1 where `bias` holds something.
    bias: u32,
    silu: u32,
}

pub(super) fn record(
    gpu: &Gpu,
    x: &mut GpuBuffer,
    filter: ConvFilter<'_, Gpu>,
    runs: &RunList<Gpu>,
    state: &mut GpuBuffer,
) -> Result<()> {
    let ConvFilter { weight, bias, silu } = filter;
    let (channels, taps) = (weight.rows, weight.cols);
    if !(2..=MAX_TAPS).contains(&taps) {
        let what = format!("conv: a filter of {taps} columns is none of 2 to {MAX_TAPS} (a defect of the caller)");
        return Err(gpu.errors.error(what));
    }
    let weights = weight.single_part(gpu, "conv")?;
    gpu.require("conv", "the buffer", x.len, runs.rows().saturating_mul(channels))?;
    gpu.require("conv", "the state", state.len, runs.slots().saturating_mul((taps - 1) * channels))?;
    if let Some(bias) = bias {
        gpu.require("conv", "the bias", bias.len, channels)?;
    }
    let constants = [("BEFORE", taps as u32 - 1)];
    let kernel = KERNEL.decoding(weight.dtype).with(&constants);
    for wave in &runs.waves {
        let params = Params {
            channels: channels as u32,
            weight_row_bytes: weight.row_bytes as u32,
            run_first: wave.start as u32,
            bias: u32::from(bias.is_some()),
            silu: u32::from(silu),
        };
        let rows: usize = runs.runs[wave.clone()].iter().map(|run| run.rows.len() + 1).sum();
        // A binding must have something; the weights are as good as anything.
        let bias = bias.map_or(weights, |bias| &bias.raw);
        let bindings = [weights, &runs.list.raw, bias, &state.raw, &x.raw];
        let groups = Groups::Grid(channels.div_ceil(LANES), wave.len());
        gpu.dispatch(&kernel, &params, &bindings, groups, (rows * channels * taps) as f64)?;
    }
    Ok(())
}
