//! Metadata and tensors without a look at what they mean: all that quantizing and inspecting a GGUF file need, so that those
//! work for architectures that no table here has. Absent: hyper-parameters, and the checks that a model is whole.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::place::Stored;
use super::source::{Model, ModelOrigin, Source};
use crate::gguf::Metadata;
use crate::tensor::Tensor;
use crate::tensor_bytes::{Pages, TensorBytes};
use crate::{Error, Result};

/// The files of a model, opened and mapped.
pub struct Container {
    path: PathBuf,
    files: Vec<PathBuf>,
    name: String,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    stored: Vec<Stored>,
    index: HashMap<String, usize>,
}

/// The parts of a [`Container`], as those who open files find them.
pub(super) struct Parts {
    pub(super) path: PathBuf,
    pub(super) files: Vec<PathBuf>,
    pub(super) name: String,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<(Tensor, Stored)>,
}

impl Container {
    /// # Errors
    /// A tensor is there twice.
    pub(super) fn new(parts: Parts) -> Result<Self> {
        let Parts { path, files, name, metadata, tensors } = parts;
        let (tensors, stored): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
        let index = index(&path, &tensors)?;
        Ok(Self { path, files, name, metadata, tensors, stored, index })
    }

    /// The directory or file it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold the weights.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The directory's name or the file's stem.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub(super) fn set_metadata(&mut self, metadata: Metadata) {
        self.metadata = metadata;
    }

    /// The tensors with where their bytes are.
    pub(super) fn stored(&self) -> impl Iterator<Item = (&Tensor, &Stored)> {
        self.tensors.iter().zip(&self.stored)
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of a GGUF name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The encoded bytes of `rows` of one of the tensors: a view into the file where it has them in this order, else a copy.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the tensor is not of this container or has fewer rows.
    pub fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
        Source::read(self, tensor, rows)
    }

    /// Says that `rows` of one of the tensors are not needed for now. They may be read again. A request only.
    pub(crate) fn release(&self, tensor: &Tensor, rows: Range<usize>, pages: Pages) {
        if let Some(&i) = self.index.get(&tensor.name) {
            self.stored[i].release(&self.tensors[i], rows, pages);
        }
    }

    /// The encoded bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().zip(&self.stored).map(|(t, s)| t.rows() as u64 * s.row_bytes as u64).sum()
    }
}

// The traits' methods are written on the fields, so that none can come to call itself.

impl Source for Container {
    fn path(&self) -> &Path {
        &self.path
    }

    fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn identity(&self) -> Vec<u8> {
        self.stored.iter().flat_map(|stored| stored.computed().iter().copied()).collect()
    }

    fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
        let i = *self.index.get(&tensor.name).ok_or_else(|| Error::tensor(&self.path, &tensor.name, "is missing"))?;
        let own = &self.tensors[i];
        if rows.start > rows.end || rows.end > own.rows() {
            let what = format!("has {} rows; rows {} to {} were asked for", own.rows(), rows.start, rows.end);
            return Err(Error::tensor(&self.path, &own.name, what));
        }
        Ok(self.stored[i].read(own, rows))
    }

    fn will_need(&self, tensor: &Tensor, rows: Range<usize>) {
        if let Some(&i) = self.index.get(&tensor.name) {
            self.stored[i].will_need(&self.tensors[i], rows);
        }
    }
}

impl Model for Container {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self) -> ModelOrigin {
        ModelOrigin::Gguf
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn output_metadata(&self) -> Result<Metadata> {
        Ok(self.metadata.clone())
    }
}

/// Position of every tensor by name.
fn index(path: &Path, tensors: &[Tensor]) -> Result<HashMap<String, usize>> {
    let mut index = HashMap::with_capacity(tensors.len());
    for (i, tensor) in tensors.iter().enumerate() {
        if index.insert(tensor.name.clone(), i).is_some() {
            return Err(Error::tensor(path, &tensor.name, "occurs twice"));
        }
    }
    Ok(index)
}
