//! The head's statistics, reduced on the device tile by tile. See `head.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuHeadState, GpuIndices};
use super::pipeline::Kernel;
use crate::engine::backend::{HeadRow, Result, TileShape};

pub(super) const KERNEL: Kernel = Kernel::plain("head", include_str!("head.wgsl"), &[false, false, false, true]);

/// What the device keeps of one row: all but `argmax` as f32.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RowState {
    max: f32,
    /// Sum of exp(l - max).
    sum: f32,
    target_logit: f32,
    argmax: u32,
    reference_max: f32,
    /// Sum of exp(r - reference_max); 0 without a reference.
    reference_sum: f32,
    /// A number near the two lanes' common offset, chosen at the first tile; d = r - l - shift.
    shift: f32,
    /// Sum of exp(r - reference_max) * d.
    difference: f32,
    /// Sum of exp(r - reference_max) * (d + exp(-d) - 1).
    curvature: f32,
}

/// Below every logit. Finite, because shaders may not assume that infinity works.
const NOTHING_YET: f32 = -3.0e38;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    first_token: u32,
    has_reference: u32,
}

pub(super) fn new_state(gpu: &Gpu, rows: usize) -> Result<GpuHeadState> {
    let fresh = RowState { max: NOTHING_YET, reference_max: NOTHING_YET, target_logit: f32::NAN, ..RowState::zeroed() };
    let raw = gpu.storage(rows.saturating_mul(size_of::<RowState>()), "head statistics")?;
    gpu.write(&raw, 0, bytemuck::cast_slice(&vec![fresh; rows]))?;
    Ok(GpuHeadState { raw, rows })
}

pub(super) fn record(
    gpu: &Gpu,
    logits: &GpuBuffer,
    reference: Option<&GpuBuffer>,
    tile: TileShape,
    targets: &GpuIndices,
    state: &mut GpuHeadState,
) -> Result<()> {
    let TileShape { rows, cols, first_token } = tile;
    let len = rows.saturating_mul(cols);
    gpu.require("head_tile", "the logits", logits.len, len)?;
    gpu.require("head_tile", "the reference", reference.map_or(len, |r| r.len), len)?;
    gpu.require("head_tile", "the target list", targets.host.len(), rows)?;
    gpu.require("head_tile", "the statistics", state.rows, rows)?;
    let params = Params { rows: rows as u32, cols: cols as u32, first_token, has_reference: u32::from(reference.is_some()) };
    let bindings = [&logits.raw, &reference.unwrap_or(logits).raw, &targets.raw, &state.raw];
    gpu.dispatch(&KERNEL, &params, &bindings, Groups::Linear(rows), 32.0 * len as f64)
}

pub(super) fn read(gpu: &Gpu, state: &GpuHeadState) -> Result<Vec<HeadRow>> {
    let words = size_of::<RowState>() / size_of::<u32>();
    let rows: Vec<RowState> = gpu.read_back(&state.raw, 0..state.rows * words).map(bytemuck_rows)?;
    Ok(rows.iter().map(finish).collect())
}

fn bytemuck_rows(words: Vec<u32>) -> Vec<RowState> {
    bytemuck::pod_collect_to_vec(&words)
}

/// The logarithms in f64. KL(r || l) = mean(d) + log(mean(exp(-d))), means under the reference's distribution; with both
/// near their limits 0 and 1, what is left of an error in mean(d) is its product with mean(d) itself.
fn finish(row: &RowState) -> HeadRow {
    let log_sum_exp = |max: f32, sum: f32| f64::from(max) + libm::log(sum.into());
    let own = log_sum_exp(row.max, row.sum);
    let kld = if row.reference_sum > 0.0 {
        let mean = |sum: f32| f64::from(sum) / f64::from(row.reference_sum);
        let difference = mean(row.difference);
        let excess = mean(row.curvature) - difference; // mean(exp(-d)) - 1
        if excess.abs() < 0.5 {
            difference + libm::log1p(excess)
        } else {
            // Lanes far apart: exp(-d) is less exact than the textbook, for which the divergence is large enough.
            difference + f64::from(row.shift) - (log_sum_exp(row.reference_max, row.reference_sum) - own)
        }
    } else {
        0.0
    };
    HeadRow { log_sum_exp: own, target_logit: row.target_logit.into(), argmax: row.argmax, kld }
}
