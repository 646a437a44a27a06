//! Copies some columns of a matrix to columns of another. See `copy_columns.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::device::{Gpu, Groups};
use super::memory::GpuBuffer;
use super::pipeline::Kernel;
use crate::backend::{ColumnCopy, Columns, Result};

pub(super) const KERNEL: Kernel = Kernel::plain("copy_columns", include_str!("copy_columns.wgsl"), &[false, true]);
const LANES: usize = 256;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    count: u32,
    from_stride: u32,
    from_first: u32,
    repeat: u32,
    to_stride: u32,
    to_first: u32,
}

pub(super) fn record(gpu: &Gpu, src: &GpuBuffer, dst: &mut GpuBuffer, copy: ColumnCopy) -> Result<()> {
    let ColumnCopy { from, to, rows, count, repeat } = copy;
    let inside = |columns: Columns| columns.first.saturating_add(count) <= columns.stride;
    if repeat == 0 || !inside(from) || !inside(to) {
        let what =
            format!("copy_columns: {count} columns from {from:?} to {to:?}, repeated {repeat} times (a defect of the caller)");
        return Err(gpu.errors.error(what));
    }
    gpu.require("copy_columns", "the source", src.len, rows.div_ceil(repeat).saturating_mul(from.stride))?;
    gpu.require("copy_columns", "the destination", dst.len, rows.saturating_mul(to.stride))?;
    let params = Params {
        rows: rows as u32,
        count: count as u32,
        from_stride: from.stride as u32,
        from_first: from.first as u32,
        repeat: repeat as u32,
        to_stride: to.stride as u32,
        to_first: to.first as u32,
    };
    let len = rows * count;
    gpu.dispatch(&KERNEL, &params, &[&src.raw, &dst.raw], Groups::Linear(len.div_ceil(LANES)), len as f64)
}

/// Records a copy of `len` numbers in one piece, whose places were checked.
pub(super) fn record_part(
    gpu: &Gpu,
    src: &GpuBuffer,
    src_at: usize,
    dst: &mut GpuBuffer,
    dst_at: usize,
    len: usize,
) -> Result<()> {
    let (count, from_first, to_first) = (len as u32, src_at as u32, dst_at as u32);
    let params = Params { rows: 1, count, from_stride: 0, from_first, repeat: 1, to_stride: 0, to_first };
    gpu.dispatch(&KERNEL, &params, &[&src.raw, &dst.raw], Groups::Linear(len.div_ceil(LANES)), len as f64)
}
