//! Reads the tensors of one variant: whole ones, some rows, or their numbers. What is encoded on the fly is encoded here. Absent:
//! devices.

use std::ops::Range;

use bitworth_quant::DType;
use bitworth_quant::arch::Role;
use bitworth_quant::checkpoint::{Tensor, TensorBytes};
use rayon::prelude::*;

use crate::backend::{Arithmetic, HostTensor};
use crate::error::Result;
use crate::supply::Supply;
use crate::variant::Variant;

/// Reads the weights of one variant, for products in one arithmetic.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// What is read.
    pub variant: &'a Variant,
    /// How products are computed.
    pub arithmetic: Arithmetic,
    /// What it shares with other readers.
    pub supply: Option<&'a Supply>,
}

impl<'a> Reader<'a> {
    /// One that shares nothing.
    pub fn alone(variant: &'a Variant, arithmetic: Arithmetic) -> Self {
        Self { variant, arithmetic, supply: None }
    }

    /// The tensor of a role, if the model has it.
    pub(super) fn tensor(&self, role: Role, block: usize) -> Result<Option<HostTensor>> {
        let Some(tensor) = self.variant.checkpoint().tensor_of(role, block) else { return Ok(None) };
        self.rows(tensor, 0..tensor.rows()).map(Some)
    }

    /// Some rows of a tensor.
    pub(super) fn rows(&self, tensor: &Tensor, rows: Range<usize>) -> Result<HostTensor> {
        let dtype = self.variant.dtype(tensor);
        let bytes = match self.supply {
            Some(supply) => supply.rows(self.variant, tensor, rows.clone(), dtype)?,
            None => self.variant.encoded(tensor, rows.clone(), dtype)?,
        };
        Ok(HostTensor { dtype, rows: rows.len(), cols: tensor.cols(), bytes })
    }

    /// Rows of the tensor of a role that lie anywhere, in the order given.
    ///
    /// # Errors
    /// A tensor that is missing or cannot be read.
    pub fn picked(&self, role: Role, rows: &[u32]) -> Result<HostTensor> {
        let tensor = self.variant.require(role, 0)?;
        let dtype = self.variant.dtype(tensor);
        let one = |&row: &u32| self.variant.encoded(tensor, row as usize..row as usize + 1, dtype);
        let picked = rows.par_iter().map(one).collect::<Result<Vec<_>>>()?;
        let bytes = TensorBytes::Owned(picked.iter().flat_map(|bytes| bytes.iter().copied()).collect());
        Ok(HostTensor { dtype, rows: rows.len(), cols: tensor.cols(), bytes })
    }

    /// Some columns of such rows, as numbers: only the blocks of weights that these are in are decoded.
    pub(super) fn columns(&self, role: Role, rows: &[u32], cols: Range<usize>) -> Result<HostTensor> {
        let tensor = self.variant.require(role, 0)?;
        let dtype = self.variant.dtype(tensor);
        let (len, bytes) = (dtype.block_len(), dtype.block_bytes());
        let blocks = cols.start / len..cols.end.div_ceil(len);
        let skip = cols.start - blocks.start * len;
        let one = |&row: &u32| {
            let encoded = self.variant.encoded(tensor, row as usize..row as usize + 1, dtype)?;
            let mut numbers = vec![0.0; blocks.len() * len];
            dtype.decode_row(&encoded[blocks.start * bytes..blocks.end * bytes], &mut numbers);
            Ok(numbers[skip..skip + cols.len()].to_vec())
        };
        let picked = rows.par_iter().map(one).collect::<Result<Vec<Vec<f32>>>>()?;
        Ok(f32_tensor(rows.len(), cols.len(), &picked.concat()))
    }

    pub(super) fn require(&self, role: Role, block: usize) -> Result<HostTensor> {
        let tensor = self.variant.require(role, block)?;
        self.rows(tensor, 0..tensor.rows())
    }

    /// Divisors of the rotary frequencies (Llama 3), where the model has them.
    pub fn rope_freqs(&self) -> Result<Option<Vec<f32>>> {
        self.decoded(Role::RopeFreqs, 0)
    }

    /// LongRoPE's divisors for short and for long sequences, where the model has them.
    pub fn longrope_factors(&self) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        Ok(self.decoded(Role::RopeFactorsShort, 0)?.zip(self.decoded(Role::RopeFactorsLong, 0)?))
    }

    /// The numbers of the tensor of a role, if the model has it.
    pub(super) fn decoded(&self, role: Role, block: usize) -> Result<Option<Vec<f32>>> {
        Ok(self.tensor(role, block)?.map(|tensor| decode(&tensor)))
    }
}

pub(super) fn decode(tensor: &HostTensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.rows * tensor.cols];
    let row_bytes = tensor.bytes.len() / tensor.rows.max(1);
    for (row, out) in out.chunks_exact_mut(tensor.cols).enumerate() {
        tensor.dtype.decode_row(&tensor.bytes[row * row_bytes..][..row_bytes], out);
    }
    out
}

/// Numbers as a tensor of F32.
pub(super) fn f32_tensor(rows: usize, cols: usize, numbers: &[f32]) -> HostTensor {
    let bytes = TensorBytes::Owned(numbers.iter().flat_map(|v| v.to_le_bytes()).collect());
    HostTensor { dtype: DType::F32, rows, cols, bytes }
}
