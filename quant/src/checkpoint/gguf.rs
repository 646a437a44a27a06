//! Opens a GGUF file as a [`Container`], and as a [`Checkpoint`] where its architecture is known. Absent: the file format
//! itself (see `crate::gguf`).

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::container::{Container, Parts};
use super::known::{Checkpoint, Kind};
use super::place::{Place, Stored};
use super::rows::PackedRows;
use super::source::LeftOut;
use super::tensors;
use crate::arch::{ArchSpec, TensorRule};
use crate::gguf::{GgufFile, Metadata, Value};
use crate::mmap::Span;
use crate::packed::Factored;
use crate::tensor::Tensor;
use crate::tensor_bytes::TensorBytes;
use crate::{DType, Error, HParams, Result, arch};

/// Opens the file at `path`, or all files of a split model.
pub(super) fn open(path: &Path) -> Result<Checkpoint> {
    let as_it_is = open_container(path)?;
    let arch = arch::find_gguf(architecture(path, as_it_is.metadata())?)
        .map_err(|unknown| Error::key(path, "general.architecture", unknown.to_string()))?;
    let hparams = HParams::from_metadata(path, arch, as_it_is.metadata())?;
    let (container, kept) = match with_factors(&as_it_is, arch)? {
        Some(decoded) => (decoded, Some(as_it_is)),
        None => (as_it_is, None),
    };
    tensors::check_known(path, arch, &hparams, container.tensors())?;
    tensors::check_complete(path, arch, &hparams, &container, TensorRule::hf_name)?;
    Ok(Checkpoint {
        container,
        kept,
        arch,
        hparams,
        kind: Kind::Gguf,
        left_out: LeftOut::default(),
        published: None,
        vocab: OnceLock::new(),
    })
}

/// Factors on the weights of a matrix, and on what is multiplied by them (llama.cpp's names; the latter change nothing where
/// activations are not quantized).
const FACTORS: [&str; 2] = [".scale", ".input_scale"];

/// The same model with factors multiplied into their weights; `None` where there are none.
fn with_factors(file: &Container, arch: &'static ArchSpec) -> Result<Option<Container>> {
    let stem = |t: &Tensor| {
        let stem = FACTORS.iter().find_map(|end| t.name.strip_suffix(end))?;
        // Some architectures have such tensors of their own.
        let is_factor = arch.match_gguf(&t.name).is_none() && file.tensor(&format!("{stem}.weight")).is_some();
        is_factor.then(|| stem.to_owned())
    };
    if file.tensors().iter().all(|t| stem(t).is_none()) {
        return Ok(None);
    }
    let mut tensors = Vec::with_capacity(file.tensors().len());
    for (tensor, stored) in file.stored().filter(|(tensor, _)| stem(tensor).is_none()) {
        let name = tensor.name.strip_suffix(".weight").map(|stem| format!("{stem}{}", FACTORS[0]));
        let factors = name.and_then(|name| file.tensor(&name)).filter(|factors| stem(factors).is_some());
        let (Some(factors), Some(rows)) = (factors, stored.span()) else {
            tensors.push((tensor.clone(), stored.clone()));
            continue;
        };
        let matrices = tensor.shape.get(2).copied().unwrap_or(1);
        if factors.dtype != DType::F32 || factors.rows() != 1 || ![1, matrices].contains(&factors.cols()) {
            let what =
                format!("is {} of the shape {:?}, but must be F32, one number or {matrices}", factors.dtype, factors.shape);
            return Err(Error::tensor(file.path(), &factors.name, what));
        }
        let mut values = vec![0.0; factors.cols()];
        DType::F32.decode_row(&file.read(factors, 0..1)?, &mut values);
        let matrix_rows = tensor.shape.get(1).copied().unwrap_or(1);
        let packed = Factored {
            rows,
            dtype: tensor.dtype,
            cols: tensor.cols(),
            row_bytes: stored.row_bytes,
            matrix_rows,
            factors: values,
        };
        let decoded = Tensor { dtype: DType::F32, ..tensor.clone() };
        let rows = PackedRows::of(Arc::new(packed), tensor.cols(), tensor.cols() * tensor.rows());
        let stored = Stored::new(file.path(), &decoded, Place::Packed(rows))?;
        tensors.push((decoded, stored));
    }
    let parts = Parts {
        path: file.path().to_owned(),
        files: file.files().to_vec(),
        name: file.name().to_owned(),
        metadata: file.metadata().clone(),
        tensors,
    };
    Container::new(parts).map(Some)
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
