//! The number by which a GGUF file says what its matrices are stored as.

use crate::DType;
use crate::tensor::Tensor;

/// `general.file_type` of an unquantized file (llama.cpp's `LLAMA_FTYPE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum FileType {
    /// All tensors F32.
    F32 = 0,
    /// Matrices F16.
    F16 = 1,
    /// Matrices BF16.
    Bf16 = 32,
    /// Experts MXFP4, whatever the other matrices are.
    Mxfp4Moe = 38,
    /// Matrices NVFP4, whatever the others are.
    Nvfp4 = 39,
}

impl FileType {
    /// The file type of what is stored, by the first matrix.
    pub fn of(tensors: &[Tensor]) -> Self {
        if tensors.iter().any(|t| t.dtype == DType::NVFP4) {
            return Self::Nvfp4;
        }
        if tensors.iter().any(|t| !t.dtype.is_float()) {
            return Self::Mxfp4Moe;
        }
        match tensors.iter().find(|t| t.shape.len() > 1).map(|t| t.dtype) {
            Some(DType::BF16) => Self::Bf16,
            Some(DType::F32) => Self::F32,
            _ => Self::F16,
        }
    }
}
