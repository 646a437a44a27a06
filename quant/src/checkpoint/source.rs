//! What a plan and the quantizer ask of a model, wherever it comes from.
//!
//! Absent: models on disk (see `container`, `known`).

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::gguf::Metadata;
use crate::tensor::Tensor;
use crate::tensor_bytes::TensorBytes;

/// Where a model comes from, which decides what "plain" means: which tensors stay F32, and the order in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelOrigin {
    /// A training checkpoint: plain recipes follow llama.cpp's converter, quantized ones llama-quantize on its F32 output.
    Safetensors,
    /// A GGUF file: all recipes follow llama-quantize.
    Gguf,
}

/// Tensors of a directory that are left out: those of no language model, of encoders of images or sound, and uncounted blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Tensors beside them of blocks that predict further tokens, which the configuration does not count.
    pub uncounted: usize,
}

/// What weights are read from: a [`Checkpoint`](super::Checkpoint), a [`Container`](super::Container), or a stand-in
/// for one.
pub trait Source: Sync {
    /// The file or directory, for errors.
    fn path(&self) -> &Path;
    /// The files that hold the model, which no output may replace; none where it is not on disk.
    fn files(&self) -> &[PathBuf];
    /// What its weights depend on beside its files: two sources of the same files with the same of this are the same.
    fn identity(&self) -> Vec<u8> {
        Vec::new()
    }
    /// All tensors, in the order in which they lie in the file.
    fn tensors(&self) -> &[Tensor];
    /// The same model's tensors as a file that is not quantized keeps them, where that is otherwise: what GGUF has a grid for,
    /// with the factors that belong to it. [`Self::read`] knows them by their types.
    fn kept_tensors(&self) -> &[Tensor] {
        &[]
    }
    /// The encoded bytes of `rows` of one of the tensors.
    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes>;
    /// `rows` of one of the tensors will be read before long.
    fn will_need(&self, _tensor: &Tensor, _rows: Range<usize>) {}
}

/// A model on disk that can be planned for and quantized, whether or not its architecture is known here.
pub trait Model: Source {
    /// The directory's name or the file's stem.
    fn name(&self) -> &str;
    /// What kind of file it came from, which decides what a plan for it keeps.
    fn origin(&self) -> ModelOrigin;
    /// The GGUF metadata, see [`Checkpoint::metadata`](super::Checkpoint::metadata).
    fn metadata(&self) -> &Metadata;
    /// The metadata for a file to be written, see [`Checkpoint::output_metadata`](super::Checkpoint::output_metadata).
    ///
    /// # Errors
    /// Where keys had to be left out.
    fn output_metadata(&self) -> Result<Metadata>;
    /// The model as a file that is not quantized keeps it, where that is otherwise (see [`Source::kept_tensors`]).
    fn kept(&self) -> Option<&dyn Model> {
        None
    }
    /// What was left out because it is of no language model.
    fn left_out(&self) -> LeftOut {
        LeftOut::default()
    }
}
