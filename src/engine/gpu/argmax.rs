//! The likeliest column of each row of logits, left on the device for the next embedding. A row is shared by as many workgroups
//! as it has parts. See `argmax.wgsl` and `argmax_join.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::GpuBuffer;
use super::pipeline::Kernel;
use crate::backend::{Choices, Result};

pub(super) const PARTS: Kernel = Kernel::plain("argmax", include_str!("argmax.wgsl"), &[false, true]);
pub(super) const JOIN: Kernel = Kernel::plain("argmax_join", include_str!("argmax_join.wgsl"), &[false, true, true]);
/// Columns of a part: a vocabulary of 128 thousand is one workgroup for each multiprocessor of a middling device.
const PART: usize = 2048;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PartParams {
    cols: u32,
    part: u32,
    parts: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct JoinParams {
    cols: u32,
    parts: u32,
    log_at: u32,
}

pub(super) fn record(gpu: &Gpu, logits: &GpuBuffer, [rows, cols]: [usize; 2], out: Choices<'_, Gpu>) -> Result<()> {
    let Choices { next, log, log_at } = out;
    gpu.require("argmax", "the logits", logits.len, rows.saturating_mul(cols))?;
    gpu.require("argmax", "the list of the next", next.host.len(), rows)?;
    gpu.require("argmax", "the log", log.host.len(), log_at.saturating_add(rows))?;
    gpu.require("argmax", "a row", cols, 1)?;
    let parts = cols.div_ceil(PART);
    let found = gpu.storage(rows * parts * size_of::<[u32; 2]>(), "the likeliest of each part")?;
    let params = PartParams { cols: cols as u32, part: PART as u32, parts: parts as u32 };
    gpu.dispatch(&PARTS, &params, &[&logits.raw, &found], Groups::Grid(parts, rows), (rows * cols) as f64)?;
    let params = JoinParams { cols: cols as u32, parts: parts as u32, log_at: log_at as u32 };
    gpu.dispatch(&JOIN, &params, &[&found, &next.raw, &log.raw], Groups::Grid(rows, 1), (rows * parts) as f64)?;
    // The largest that they may be: what operations check before they run.
    next.host[..rows].fill(cols as u32 - 1);
    log.host[log_at..log_at + rows].fill(cols as u32);
    Ok(())
}
