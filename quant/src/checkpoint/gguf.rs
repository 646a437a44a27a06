//! Opens a GGUF file as a [`Container`], and as a [`Checkpoint`] where its architecture is known. Absent: the file format
//! itself (see `crate::gguf`).

use std::path::Path;
use std::sync::OnceLock;

use super::container::{Container, Parts};
use super::known::{Checkpoint, Kind, OtherParts};
use super::place::{Place, Span, Stored};
use super::tensors;
use crate::gguf::{GgufFile, Metadata, Value};
use crate::tensor::{Tensor, TensorBytes};
use crate::{Error, HParams, Result, arch};

/// Opens the file at `path`, or all files of a split model.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let container = open_container(path)?;
    let arch = arch::find_gguf(architecture(path, container.metadata())?)
        .map_err(|unknown| Error::key(path, "general.architecture", unknown.to_string()))?;
    let hparams = HParams::from_metadata(path, arch, container.metadata())?;
    tensors::check_known(path, arch, &hparams, container.tensors())?;
    tensors::check_complete(path, arch, &hparams, &container)?;
    Ok(Checkpoint { container, arch, hparams, kind: Kind::Gguf, other_parts: OtherParts::default(), vocab: OnceLock::new() })
}

/// The file's stem; of a split model without the number of the part.
fn model_name(path: &Path, files: usize) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = stem.rsplit_once("-of-").filter(|(_, count)| files > 1 && is_number(count));
    let name = whole.and_then(|(rest, _)| rest.rsplit_once('-')).filter(|(_, number)| is_number(number));
    name.map_or_else(|| stem.to_string(), |(name, _)| name.to_owned())
}

/// The architecture that the file names.
fn architecture<'a>(path: &Path, metadata: &'a Metadata) -> Result<&'a str> {
    const KEY: &str = "general.architecture";
    match metadata.get(KEY) {
        Some(Value::String(name)) => Ok(name),
        Some(_) => Err(Error::key(path, KEY, "is not a string")),
        None => Err(Error::key(path, KEY, "is missing; this GGUF file holds no model")),
    }
}

impl Container {
    /// Opens a GGUF file of any architecture (of a split model: any of its files). What a plan asks of it must be there: the
    /// number of its blocks, unless it is one that llama.cpp quantizes without (`clip`, the projectors of multimodal models).
    ///
    /// # Errors
    /// It is no GGUF file, or a broken one, or holds no model.
    pub fn open(path: &Path) -> Result<Self> {
        let container = open_container(path)?;
        let arch = architecture(path, container.metadata())?;
        let key = format!("{arch}.block_count");
        if arch != "clip" && container.metadata().u64(&key).is_none() {
            return Err(Error::key(path, key, "is missing or no number"));
        }
        Ok(container)
    }
}

/// Opens the same without a look at the architecture.
fn open_container(path: &Path) -> Result<Container> {
    let mut file = GgufFile::open(path)?;
    let mut found = Vec::with_capacity(file.tensors.len());
    for entry in &file.tensors {
        let tensor = Tensor { name: entry.name.clone(), dtype: entry.dtype, shape: entry.shape.clone() };
        let place = match file.bytes(entry) {
            TensorBytes::Mapped(map, range) => Place::Mapped(Span { map, range }),
            TensorBytes::Owned(bytes) => Place::Computed(bytes),
            TensorBytes::Shared(bytes) => Place::Computed(bytes.to_vec()),
        };
        let stored = Stored::new(file.file_of(entry), &tensor, place)?;
        found.push((tensor, stored));
    }
    Container::new(Parts {
        path: path.to_owned(),
        files: file.files().map(Path::to_path_buf).collect(),
        name: model_name(path, file.files().count()),
        metadata: std::mem::take(&mut file.metadata),
        tensors: found,
    })
}
