//! Importance matrices: for each tensor, how much each of its input columns matters (the mean squared activation that met
//! it), and the [`Sums`] that it is made of. Files of llama.cpp's `llama-imatrix` are read and written, GGUF and the older format
//! alike. What is absent: running a model to collect one, and using it (see `formats` and `quantize`).

mod read;
mod stats;
mod sums;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::gguf::Value;
use crate::message::Setting;
use crate::recipe::Category;
use crate::{Error, Result};

/// The parts of names of [`Imatrix::without`].
pub const EXCLUDE_WEIGHTS: Setting = Setting::new("exclude_weights");
/// The parts of names of [`Imatrix::only`].
pub const INCLUDE_WEIGHTS: Setting = Setting::new("include_weights");

pub use stats::{InputChange, LayerStats, TensorStats, layer_stats, tensor_stats};
pub use sums::{Entry, Sums};
pub use write::ImatrixFormat;

/// llama-quantize keeps strings that it adds to the metadata in 128 bytes with a closing zero.
const MAX_METADATA_BYTES: usize = 127;

/// An importance matrix as read from a file.
#[derive(Debug, Clone)]
pub struct Imatrix {
    /// The file it came from.
    path: PathBuf,
    /// By tensor name: one weight per column, for tensors of experts one run of columns after another.
    entries: BTreeMap<String, Vec<f32>>,
    /// The names of the texts it was collected on.
    datasets: Vec<String>,
    /// On how many chunks of text, 0 where the file does not say.
    chunk_count: u32,
}

impl Imatrix {
    /// One from values at hand.
    pub fn new(path: &Path, entries: BTreeMap<String, Vec<f32>>) -> Self {
        Self { path: path.to_owned(), entries, datasets: Vec::new(), chunk_count: 0 }
    }

    /// Reads a file of `llama-imatrix`: GGUF (`general.type` "imatrix"), or the older format without a magic number. Sums are
    /// divided by their counts, as llama-quantize divides them; experts that no token reached weigh 1 in every column.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Gguf`], [`Error::Key`], [`Error::Tensor`] and [`Error::File`] where the file is broken, holds no
    /// matrix, or a weight is negative, infinite or not a number.
    pub fn open(path: &Path) -> Result<Self> {
        let matrix = read::open(path)?.into_means(path);
        matrix.entries.iter().try_for_each(|(name, weights)| check_weights(path, name, weights))?;
        Ok(matrix)
    }

    /// The same under another name, which files made with it hold in place of the path it was read from.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.path = name.into();
        self
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the texts it was collected on.
    pub fn datasets(&self) -> &[String] {
        &self.datasets
    }

    /// On how many chunks of text it was collected, 0 where the file does not say.
    pub fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    /// How many tensors have an entry.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no tensor has one.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The weights of the columns of `tensor` (of all its experts, one after another); `None` where it has no entry.
    pub fn weights(&self, tensor: &str) -> Option<&[f32]> {
        self.entries.get(tensor).map(Vec::as_slice)
    }

    /// Without the entries of tensors in whose name one of `parts` occurs (llama-quantize's `--exclude-weights`).
    ///
    /// # Errors
    /// [`Error::Option`] for a part that no entry's name has.
    pub fn without(mut self, parts: &[String]) -> Result<Self> {
        self.check_parts(EXCLUDE_WEIGHTS, parts)?;
        self.entries.retain(|name, _| !parts.iter().any(|part| name.contains(part.as_str())));
        Ok(self)
    }

    /// Only the entries of tensors in whose name one of `parts` occurs (llama-quantize's `--include-weights`).
    ///
    /// # Errors
    /// [`Error::Option`] for a part that no entry's name has.
    pub fn only(mut self, parts: &[String]) -> Result<Self> {
        self.check_parts(INCLUDE_WEIGHTS, parts)?;
        self.entries.retain(|name, _| parts.iter().any(|part| name.contains(part.as_str())));
        Ok(self)
    }

    fn check_parts(&self, setting: Setting, parts: &[String]) -> Result<()> {
        match parts.iter().find(|part| !self.entries.keys().any(|name| name.contains(part.as_str()))) {
            Some(part) => {
                let what = format!("occurs in the name of no entry of {}", self.path.display());
                Err(Error::option(setting, part, what))
            }
            None => Ok(()),
        }
    }

    /// The weights of the columns of a tensor of this `shape` (row length first): [`Imatrix::weights`], of the right number. As
    /// llama-quantize does, weights that do not fit the token embedding are left aside: what some programs collect there are
    /// token numbers.
    ///
    /// # Errors
    /// [`Error::Tensor`] where there is not one weight for each column of each matrix of the tensor.
    pub fn weights_for(&self, tensor: &str, shape: &[usize]) -> Result<Option<&[f32]>> {
        let Some(weights) = self.weights(tensor) else { return Ok(None) };
        let (cols, matrices) = (shape[0], shape.iter().skip(2).product::<usize>());
        if cols.checked_mul(matrices) == Some(weights.len()) {
            return Ok(Some(weights));
        }
        if Category::of(tensor) == Category::TokenEmbd {
            return Ok(None);
        }
        let of = if matrices == 1 { String::new() } else { format!(" in each of {matrices} matrices") };
        let what =
            format!("has {} weights, but the model's has {cols} columns{of}; the matrix is another model's", weights.len());
        Err(Error::tensor(&self.path, tensor, what))
    }

    /// What llama-quantize writes about the matrix into the files that it made with it, in its order.
    pub fn metadata(&self) -> Vec<(&'static str, Value)> {
        let mut keys = Vec::new();
        if self.is_empty() {
            return keys;
        }
        keys.push(("quantize.imatrix.file", Value::String(cut(&self.path.to_string_lossy()))));
        if let Some(dataset) = self.datasets.first() {
            keys.push(("quantize.imatrix.dataset", Value::String(cut(dataset))));
        }
        keys.push(("quantize.imatrix.entries_count", Value::U32(self.len() as u32)));
        if self.chunk_count > 0 {
            keys.push(("quantize.imatrix.chunks_count", Value::U32(self.chunk_count)));
        }
        keys
    }
}

/// As many whole characters as llama-quantize keeps bytes.
fn cut(text: &str) -> String {
    let end = (0..=text.len().min(MAX_METADATA_BYTES)).rev().find(|&i| text.is_char_boundary(i));
    text[..end.unwrap_or(0)].to_owned()
}

/// Weights are means of squares: neither below zero nor infinite.
fn check_weights(path: &Path, name: &str, weights: &[f32]) -> Result<()> {
    match weights.iter().position(|w| !w.is_finite() || *w < 0.0) {
        None => Ok(()),
        Some(i) => {
            let what =
                format!("weight {i} is {}, but a mean of squares is finite and not negative; collect it again", weights[i]);
            Err(Error::tensor(path, name, what))
        }
    }
}
