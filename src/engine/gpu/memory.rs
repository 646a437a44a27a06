//! What lives on the device: numbers, index lists, weights, head statistics. Weights stay encoded as stored; what does not
//! fit into one binding is split between rows.

use std::ops::Range;

use bitworth_quant::DType;

use super::device::Gpu;
use super::storage::Storage;
use crate::backend::{HostTensor, Result};

/// f32 numbers.
pub struct GpuBuffer {
    pub(super) raw: Storage,
    pub(super) len: usize,
}

/// u32 numbers, with a copy on the host by which operations check them before they run: of what the device chose, the largest
/// that it may be.
pub struct GpuIndices {
    pub(super) raw: Storage,
    pub(super) host: Vec<u32>,
}

/// An encoded matrix.
pub struct GpuWeight {
    pub(super) dtype: DType,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Bytes from one row to the next on the device.
    pub(super) row_bytes: usize,
    pub(super) parts: Vec<WeightRows>,
}

/// Some rows of a matrix in a buffer of their own.
pub(super) struct WeightRows {
    pub raw: Storage,
    pub rows: Range<usize>,
}

/// Running head statistics, one `State` a row (see `head.wgsl`).
pub struct GpuHeadState {
    pub(super) raw: Storage,
    pub(super) rows: usize,
}

impl Gpu {
    pub(super) fn alloc_numbers(&self, len: usize) -> Result<GpuBuffer> {
        let raw = self.storage(len.saturating_mul(4), "activations")?;
        Ok(GpuBuffer { raw, len })
    }

    pub(super) fn upload_numbers(&self, data: &[f32]) -> Result<GpuBuffer> {
        let buffer = self.alloc_numbers(data.len())?;
        self.write(&buffer.raw, 0, bytemuck::cast_slice(data))?;
        Ok(buffer)
    }

    pub(super) fn upload_indices(&self, data: &[u32]) -> Result<GpuIndices> {
        let raw = self.storage(size_of_val(data), "an index list")?;
        self.write(&raw, 0, bytemuck::cast_slice(data))?;
        Ok(GpuIndices { raw, host: data.to_vec() })
    }

    pub(super) fn upload_weight(&self, tensor: &HostTensor) -> Result<GpuWeight> {
        let HostTensor { dtype, rows, cols, .. } = *tensor;
        let stored_row = dtype.row_bytes(cols).ok_or_else(|| {
            self.errors.error(format!("a tensor of {cols} columns is not a whole number of {} blocks", dtype.name()))
        })?;
        if stored_row.checked_mul(rows) != Some(tensor.bytes.len()) {
            let (name, bytes) = (dtype.name(), tensor.bytes.len());
            return Err(self.errors.error(format!("a {name} tensor of {rows} x {cols} does not take {bytes} bytes")));
        }
        // Decoders read sixteen weights at a time; block formats have whole blocks, floating-point rows are filled up with zeros.
        let row_bytes = if dtype.is_float() { dtype.block_bytes() * cols.next_multiple_of(16) } else { stored_row };
        let padding = 16; // four words at a time of a row's last bytes, and the rounding of the buffer
        let rows_per_part = (self.max_binding_bytes - padding) / row_bytes.max(1);
        if rows_per_part == 0 {
            return Err(self.errors.error(format!("one row of {row_bytes} bytes exceeds the device's binding limit")));
        }
        let starts = (0..rows).step_by(rows_per_part);
        let ranges = starts.map(|start| start..rows.min(start + rows_per_part));
        let parts = ranges.map(|range| self.upload_part(tensor, stored_row, row_bytes, padding, range)).collect::<Result<_>>()?;
        Ok(GpuWeight { dtype, rows, cols, row_bytes, parts })
    }

    fn upload_part(
        &self,
        tensor: &HostTensor,
        stored: usize,
        row_bytes: usize,
        padding: usize,
        rows: Range<usize>,
    ) -> Result<WeightRows> {
        let raw = self.storage(rows.len() * row_bytes + padding, "weights")?;
        let bytes = &tensor.bytes[rows.start * stored..rows.end * stored];
        if stored == row_bytes {
            self.write(&raw, 0, bytes)?;
        } else {
            let mut padded = vec![0; rows.len() * row_bytes];
            for (row, from) in padded.chunks_exact_mut(row_bytes).zip(bytes.chunks_exact(stored)) {
                row[..stored].copy_from_slice(from);
            }
            self.write(&raw, 0, &padded)?;
        }
        Ok(WeightRows { raw, rows })
    }
}

impl GpuWeight {
    /// The parts that hold rows of `range`, each with the rows it contributes.
    pub(super) fn parts_in(&self, range: Range<usize>) -> impl Iterator<Item = (&WeightRows, Range<usize>)> {
        let overlap = move |part: &WeightRows| part.rows.start.max(range.start)..part.rows.end.min(range.end);
        self.parts.iter().map(move |part| (part, overlap(part))).filter(|(_, rows)| !rows.is_empty())
    }

    /// The buffer of a small matrix (the gains of norms).
    pub(super) fn single_part(&self, gpu: &Gpu, op: &str) -> Result<&Storage> {
        match &self.parts[..] {
            [part] => Ok(&part.raw),
            parts => Err(gpu.errors.error(format!("{op}: a weight in {} parts where one is needed", parts.len()))),
        }
    }

    /// The buffer of a matrix of one row (a bias).
    pub(super) fn single_row(&self, gpu: &Gpu, op: &str, cols: usize) -> Result<&Storage> {
        match (&self.parts[..], self.rows, self.cols) {
            ([part], 1, have) if have == cols => Ok(&part.raw),
            (_, rows, have) => Err(gpu.errors.error(format!("{op}: a weight of {rows} x {have} where 1 x {cols} is needed"))),
        }
    }
}
