//! The head's statistics, reduced on the device tile by tile. See `head.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuHeadState};
use super::pipeline::Kernel;
use crate::backend::{HeadRow, Result, Targets, TileShape};

pub(super) const KERNEL: Kernel = Kernel::plain("head", include_str!("head.wgsl"), &[false, false, false, false, true]);

/// What the device keeps of one row: all but `argmax` and `rank` as f32.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct RowState {
    max: f32,
    /// Sum of exp(l - max).
    sum: f32,
    target_logit: f32,
    argmax: u32,
    /// Tokens before the target so far.
    rank: u32,
    /// Sum of exp(l - max) * (l - max).
    moment: f32,
    reference_max: f32,
    /// Sum of exp(r - reference_max); 0 without a reference.
    reference_sum: f32,
    /// A number near the two lanes' common offset, chosen at the first tile; d = r - l - shift.
    shift: f32,
    /// Sum of exp(r - reference_max) * d.
    difference: f32,
    /// Sum of exp(r - reference_max) * (d + exp(-d) - 1).
    curvature: f32,
    /// Sum of exp(l - max) * -d.
    own_difference: f32,
    /// Sum of exp(l - max) * (-d + exp(d) - 1).
    own_curvature: f32,
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
    has_targets: u32,
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
    targets: Option<Targets<'_, Gpu>>,
    state: &mut GpuHeadState,
) -> Result<()> {
    let TileShape { rows, cols, first_token } = tile;
    let len = rows.saturating_mul(cols);
    gpu.require("head_tile", "the logits", logits.len, len)?;
    gpu.require("head_tile", "the reference", reference.map_or(len, |r| r.len), len)?;
    gpu.require("head_tile", "the target list", targets.as_ref().map_or(rows, |t| t.tokens.host.len()), rows)?;
    gpu.require("head_tile", "the targets' logits", targets.as_ref().map_or(rows, |t| t.logits.len), rows)?;
    gpu.require("head_tile", "the statistics", state.rows, rows)?;
    let params = Params {
        rows: rows as u32,
        cols: cols as u32,
        first_token,
        has_reference: u32::from(reference.is_some()),
        has_targets: u32::from(targets.is_some()),
    };
    // What is not there is bound to something and not read.
    let (tokens, target_logits) = targets.map_or((&logits.raw, &logits.raw), |t| (&t.tokens.raw, &t.logits.raw));
    let bindings = [&logits.raw, &reference.unwrap_or(logits).raw, tokens, target_logits, &state.raw];
    gpu.dispatch(&KERNEL, &params, &bindings, Groups::Linear(rows), 40.0 * len as f64)
}

pub(super) fn read(gpu: &Gpu, state: &GpuHeadState) -> Result<Vec<HeadRow>> {
    let words = size_of::<RowState>() / size_of::<u32>();
    let rows: Vec<RowState> = gpu.read_back(&state.raw, 0..state.rows * words).map(bytemuck_rows)?;
    Ok(rows.iter().map(finish).collect())
}

fn bytemuck_rows(words: Vec<u32>) -> Vec<RowState> {
    bytemuck::pod_collect_to_vec(&words)
}

/// The logarithms in f64. KL(p || q) = mean(d) + log(mean(exp(-d))), means under p, where d is log p - log q but for a constant;
/// with both near their limits 0 and 1, what is left of an error in mean(d) is its product with mean(d) itself.
fn finish(row: &RowState) -> HeadRow {
    let log_sum_exp = |max: f32, sum: f32| f64::from(max) + libm::log(sum.into());
    let own = log_sum_exp(row.max, row.sum);
    let (mut kld, mut reverse_kld) = (0.0, 0.0);
    if row.reference_sum > 0.0 {
        // Mean of r - l under the reference, of l - r under this lane, from that of d.
        let apart = f64::from(row.shift) - (log_sum_exp(row.reference_max, row.reference_sum) - own);
        kld = divergence(row.reference_sum, row.difference, row.curvature, apart);
        reverse_kld = divergence(row.sum, row.own_difference, row.own_curvature, -apart);
    }
    let entropy = libm::log(row.sum.into()) - f64::from(row.moment) / f64::from(row.sum);
    let (target_logit, argmax, rank) = (row.target_logit.into(), row.argmax, row.rank);
    HeadRow { log_sum_exp: own, target_logit, argmax, rank, entropy, kld, reverse_kld }
}

fn divergence(sum: f32, difference: f32, curvature: f32, apart: f64) -> f64 {
    let difference = f64::from(difference) / f64::from(sum);
    let excess = f64::from(curvature) / f64::from(sum) - difference; // mean(exp(-d)) - 1
    // Lanes far apart: exp(-d) is less exact than the textbook, for which the divergence is large enough.
    if excess.abs() < 0.5 { difference + libm::log1p(excess) } else { difference + apart }
}
