//! A model on disk, opened read-only and memory-mapped: a safetensors directory or a GGUF file behind one type.
//!
//! Tensors come under their GGUF names, in GGUF shapes, with rows permuted as GGUF wants them, whichever the source. What
//! is absent: decoding to f32 (see `formats`), choosing types (see `plan`) and running (the engine).

mod change;
mod container;
mod gguf;
mod hf;
mod known;
mod layout;
mod place;
mod rows;
mod runnable;
mod source;
mod tensors;
mod walk;

use std::path::Path;

pub use crate::packed::Adapter;
pub use crate::tensor::Tensor;
pub use crate::tensor_bytes::{Pages, TensorBytes};
use crate::{Error, Result};
pub use container::Container;
pub use known::{Checkpoint, Published};
pub use source::{LeftOut, Model, ModelOrigin, Source};

/// Opens what is to be planned for, quantized or converted: a Hugging Face directory as a [`Checkpoint`], a GGUF file as a
/// [`Container`], of any architecture.
///
/// # Errors
/// As [`Checkpoint::open`] and [`Container::open`].
pub fn open_model(path: &Path) -> Result<Box<dyn Model>> {
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    Ok(if about.is_dir() { Box::new(hf::open(path, &[])?) } else { Box::new(Container::open(path)?) })
}

impl Checkpoint {
    /// Opens a Hugging Face directory, or a GGUF file (of a split model: any of its files). All names and shapes are
    /// checked here; the tokenizer is not, because a model can be scored on token ids without one.
    ///
    /// # Errors
    /// The path does not exist or holds no model; the architecture is unknown; a hyper-parameter is missing or not
    /// understood; a tensor is missing, unknown, or of another shape than the hyper-parameters give.
    pub fn open(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if about.is_dir() { hf::open(path, &[]) } else { gguf::open(path) }
    }

    /// Opens a Hugging Face directory with LoRA adapters merged into its weights, which become floats where they are none.
    ///
    /// # Errors
    /// As [`Self::open`]; an adapter is of another model, or of a kind that is not supported.
    pub fn with_adapters(path: &Path, adapters: &[Adapter]) -> Result<Self> {
        hf::open(path, adapters)
    }
}
