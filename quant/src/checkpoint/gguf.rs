//! Opens a GGUF file as a [`Container`], and as a [`Checkpoint`] where its architecture is known. Absent: the file format
//! itself (see `crate::gguf`).

use std::path::Path;
use std::sync::OnceLock;

use super::container::Parts;
use super::place::{Place, Span, Stored};
use super::{Checkpoint, Container, Source, Tensor, TensorBytes, tensors};
use crate::gguf::{GgufFile, Value};
use crate::{Error, HParams, Result, arch};

/// Opens the file at `path`, or all files of a split model.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let container = open_container(path)?;
    let arch = match container.metadata().get("general.architecture") {
        Some(Value::String(name)) => arch::find_gguf(name)?,
        Some(_) => return Err(Error::key(path, "general.architecture", "is not a string")),
        None => return Err(Error::key(path, "general.architecture", "is missing; this GGUF file holds no model")),
    };
    let hparams = HParams::from_metadata(path, arch, container.metadata())?;
    tensors::check_known(path, arch, &hparams, container.tensors())?;
    tensors::check_complete(path, arch, &hparams, &container)?;
    Ok(Checkpoint { container, arch, hparams, source: Source::Gguf, vocab: OnceLock::new() })
}

/// Opens the same without a look at the architecture.
pub(super) fn open_container(path: &Path) -> Result<Container> {
    let mut file = GgufFile::open(path)?;
    let mut found = Vec::with_capacity(file.tensors.len());
    for entry in &file.tensors {
        let tensor = Tensor { name: entry.name.clone(), dtype: entry.dtype, shape: entry.shape.clone() };
        let place = match file.bytes(entry) {
            TensorBytes::Mapped(map, range) => Place::Mapped(Span { map, range }),
            TensorBytes::Owned(bytes) => Place::Computed(bytes),
        };
        let stored = Stored::new(file.file_of(entry), &tensor, place)?;
        found.push((tensor, stored));
    }
    Container::new(Parts {
        path: path.to_owned(),
        files: file.files().map(Path::to_path_buf).collect(),
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        metadata: std::mem::take(&mut file.metadata),
        tensors: found,
    })
}
