//! Adds rows of an encoded table, picked by index. See `add_rows.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::{GpuBuffer, GpuIndices, GpuWeight};
use super::pipeline::Kernel;
use crate::engine::backend::Result;

pub(super) const KERNEL: Kernel = Kernel::plain("add_rows", include_str!("add_rows.wgsl"), &[false, false, true]);
const LANES: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cols: u32,
    row_bytes: u32,
    part_first: u32,
    part_rows: u32,
}

pub(super) fn record(gpu: &Gpu, x: &mut GpuBuffer, rows: usize, table: &GpuWeight, index: &GpuIndices) -> Result<()> {
    gpu.require("add_rows", "the row list", index.host.len(), rows)?;
    gpu.require_below("add_rows", "row", &index.host[..rows], table.rows)?;
    gpu.require("add_rows", "the buffer", x.len, rows.saturating_mul(table.cols))?;
    for part in &table.parts {
        let params = Params {
            rows: rows as u32,
            cols: table.cols as u32,
            row_bytes: table.row_bytes as u32,
            part_first: part.rows.start as u32,
            part_rows: part.rows.len() as u32,
        };
        let groups = Groups::Linear((rows * table.cols.div_ceil(4)).div_ceil(LANES));
        let work = (rows * table.cols) as f64;
        gpu.dispatch(&KERNEL.decoding(table.dtype), &params, &[&part.raw, &index.raw, &x.raw], groups, work)?;
    }
    Ok(())
}
