//! Opens a GGUF file as a [`Checkpoint`]. Absent: the container itself (see `crate::gguf`).

use std::path::Path;
use std::sync::OnceLock;

use super::{Checkpoint, Place, Source, Stored, Tensor, TensorBytes, tensors};
use crate::gguf::{GgufFile, Value};
use crate::{Error, HParams, Result, arch};

/// Opens the file at `path`, or all files of a split model.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let mut file = GgufFile::open(path)?;
    let arch = match file.metadata.get("general.architecture") {
        Some(Value::String(name)) => arch::find_gguf(name)?,
        Some(_) => return Err(Error::key(path, "general.architecture", "is not a string")),
        None => return Err(Error::key(path, "general.architecture", "is missing; this GGUF file holds no model")),
    };
    let hparams = HParams::from_metadata(path, arch, &file.metadata)?;
    let mut list = Vec::with_capacity(file.tensors.len());
    let mut stored = Vec::with_capacity(file.tensors.len());
    for entry in &file.tensors {
        let tensor = Tensor { name: entry.name.clone(), dtype: entry.dtype, shape: entry.shape.clone() };
        let place = match file.bytes(entry) {
            TensorBytes::Mapped(map, range) => Place::Mapped(map, range),
            TensorBytes::Owned(bytes) => Place::Computed(bytes),
        };
        stored.push(Stored::new(file.file_of(entry), &tensor, place)?);
        list.push(tensor);
    }
    let index = tensors::index(path, &list)?;
    tensors::check_known(path, arch, &hparams, &list)?;
    tensors::check_complete(path, arch, &hparams, &index)?;
    Ok(Checkpoint {
        path: path.to_owned(),
        files: file.files().map(Path::to_path_buf).collect(),
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        arch,
        hparams,
        metadata: std::mem::take(&mut file.metadata),
        tensors: list,
        stored,
        index,
        source: Source::Gguf,
        vocab: OnceLock::new(),
    })
}
