//! A model on disk, opened read-only and memory-mapped: a safetensors directory or a GGUF file behind one type.
//!
//! Tensors come under their GGUF names, in GGUF shapes, with rows permuted as GGUF wants them, whichever the source. What
//! is absent: decoding to f32 (see `formats`), choosing types (see `plan`) and running (the engine).

mod gguf;
mod hf;
mod tensors;

use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use memmap2::Mmap;

use crate::arch::{ArchSpec, Role};
use crate::gguf::Metadata;
use crate::plan::Origin;
use crate::vocab::Vocab;
use crate::{DType, Error, HParams, Result};

/// Encoded bytes of a tensor or of some of its rows: a view into the mapped file where the file has them as they are
/// needed, else an own copy.
#[derive(Clone)]
pub enum TensorBytes {
    /// A range of a mapped file.
    Mapped(Arc<Mmap>, Range<usize>),
    /// Bytes made for this call (permuted rows, computed tensors, freshly quantized weights).
    Owned(Vec<u8>),
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, range) => &map[range.clone()],
            Self::Owned(bytes) => bytes,
        }
    }
}

/// One tensor of a checkpoint, under its GGUF name.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// GGUF name, as `blk.0.attn_q.weight`.
    pub name: String,
    /// Encoding in the source.
    pub dtype: DType,
    /// Shape as GGUF stores it: `shape[0]` is the row length (columns), the last the slowest.
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Length of a row (input columns K of a matmul).
    pub fn cols(&self) -> usize {
        self.shape[0]
    }

    /// Number of rows: the product of all dimensions but the first.
    pub fn rows(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Number of weights.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// What the tensor is for, and its block; `None` for a name outside the table of roles.
    pub fn role(&self) -> Option<(Role, Option<usize>)> {
        Role::parse(&self.name)
    }
}

/// A model on disk.
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<PathBuf>,
    name: String,
    arch: &'static ArchSpec,
    hparams: HParams,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    stored: Vec<Stored>,
    index: HashMap<String, usize>,
    source: Source,
    vocab: OnceLock<Vocab>,
}

/// Where the model came from, for what is read only when asked for.
enum Source {
    /// A Hugging Face directory and its configuration.
    Hf(Box<crate::convert::config::Config>),
    /// A GGUF file.
    Gguf,
}

/// The bytes of one tensor.
struct Stored {
    row_bytes: usize,
    place: Place,
}

/// Where the bytes of a tensor are.
enum Place {
    /// In a mapped file, in the order needed.
    Mapped(Arc<Mmap>, Range<usize>),
    /// In a mapped file, with the two halves of each of `heads` heads to be interleaved.
    Interleaved { map: Arc<Mmap>, range: Range<usize>, heads: usize },
    /// Made from the configuration.
    Computed(Vec<u8>),
}

impl Checkpoint {
    /// Opens a Hugging Face directory, or a GGUF file (of a split model: any of its files). All names and shapes are
    /// checked here; the tokenizer is not, because a model can be scored on token ids without one.
    ///
    /// # Errors
    /// The path does not exist or holds no model; the architecture is unknown; a hyper-parameter is missing or not
    /// supported; a tensor is missing, unknown, or of another shape than the hyper-parameters give.
    pub fn open(path: &Path) -> Result<Self> {
        let about = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if about.is_dir() { hf::open(path) } else { gguf::open(path) }
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

    /// What kind of file it came from, which decides what a plan for it keeps.
    pub fn origin(&self) -> Origin {
        match self.source {
            Source::Hf(_) => Origin::Safetensors,
            Source::Gguf => Origin::Gguf,
        }
    }

    /// The architecture.
    pub fn arch(&self) -> &'static ArchSpec {
        self.arch
    }

    /// The hyper-parameters.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }

    /// The GGUF metadata: the file's own, or for a Hugging Face directory what llama.cpp's converter would write with the
    /// stored type as `--outtype`. Without the `tokenizer.*` keys where the tokenizer is not supported; ask
    /// [`Self::vocab`] for the reason, or use [`Self::output_metadata`].
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The metadata for a file to be written: [`Self::metadata`], but an error where keys had to be left out.
    ///
    /// # Errors
    /// Those of [`Self::vocab`], for a Hugging Face directory.
    pub fn output_metadata(&self) -> Result<Metadata> {
        if let Source::Hf(_) = self.source {
            self.vocab()?;
        }
        Ok(self.metadata.clone())
    }

    /// The vocabulary.
    ///
    /// # Errors
    /// The tokenizer's files or keys are missing or broken, or of a kind that is not supported.
    pub fn vocab(&self) -> Result<&Vocab> {
        if let Some(vocab) = self.vocab.get() {
            return Ok(vocab);
        }
        let vocab = match &self.source {
            Source::Gguf => Vocab::from_metadata(&self.path, &self.metadata)?,
            Source::Hf(config) => {
                let mut keys = Metadata::new();
                crate::vocab::hf::add_keys(config, &mut keys)?;
                Vocab::from_metadata(&self.path, &keys)?
            }
        };
        Ok(self.vocab.get_or_init(|| vocab))
    }

    /// The tokenizer in the form of the `tokenizers` crate: a Hugging Face directory's own `tokenizer.json`, or one rebuilt
    /// from a GGUF file's vocabulary.
    ///
    /// # Errors
    /// There is none, it is broken, or of a kind that is not supported.
    pub fn tokenizer_json(&self) -> Result<serde_json::Value> {
        match &self.source {
            Source::Hf(_) => crate::vocab::hf::tokenizer_json(&self.path).map(serde_json::Value::Object),
            Source::Gguf => self.vocab()?.to_tokenizer_json(),
        }
    }

    /// All tensors, in the order in which the converter writes them, or in file order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of a GGUF name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The tensor of a role; `block` does not matter to roles that exist once.
    pub fn tensor_of(&self, role: Role, block: usize) -> Option<&Tensor> {
        self.tensor(&role.gguf_name(block))
    }

    /// The tensor of a GGUF name, which must have `shape`.
    ///
    /// # Errors
    /// [`Error::Tensor`] where it is missing or has another shape.
    pub fn require(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let tensor = self.tensor(name).ok_or_else(|| Error::tensor(&self.path, name, "is missing"))?;
        tensors::check_shape(&self.path, name, &tensor.shape, shape)?;
        Ok(tensor)
    }

    /// The encoded bytes of `rows` of one of this checkpoint's tensors: a view into the file where it has them in this
    /// order, else a copy.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the tensor is not of this checkpoint or has fewer rows.
    pub fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
        let i = *self.index.get(&tensor.name).ok_or_else(|| Error::tensor(&self.path, &tensor.name, "is missing"))?;
        let own = &self.tensors[i];
        if rows.start > rows.end || rows.end > own.rows() {
            let what = format!("has {} rows; rows {} to {} were asked for", own.rows(), rows.start, rows.end);
            return Err(Error::tensor(&self.path, &own.name, what));
        }
        Ok(self.stored[i].read(own, rows))
    }

    /// The encoded bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().zip(&self.stored).map(|(t, s)| t.rows() as u64 * s.row_bytes as u64).sum()
    }

    /// The weights of all tensors together, as llama.cpp counts them (`rope_freqs.weight` included).
    pub fn parameter_count(&self) -> u64 {
        self.tensors.iter().map(Tensor::elements).sum()
    }
}

impl Stored {
    /// `path` is for messages.
    fn new(path: &Path, tensor: &Tensor, place: Place) -> Result<Self> {
        let row_bytes = tensor.dtype.row_bytes(tensor.cols()).ok_or_else(|| {
            let what = format!("rows of {} weights are not whole blocks of {}", tensor.cols(), tensor.dtype);
            Error::tensor(path, &tensor.name, what)
        })?;
        Ok(Self { row_bytes, place })
    }

    /// `rows` lie within the tensor.
    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> TensorBytes {
        let part = rows.start * self.row_bytes..rows.end * self.row_bytes;
        match &self.place {
            Place::Mapped(map, range) => TensorBytes::Mapped(Arc::clone(map), range.start + part.start..range.start + part.end),
            Place::Computed(bytes) => TensorBytes::Owned(bytes[part].to_vec()),
            Place::Interleaved { map, range, heads } => {
                let bytes = &map[range.clone()];
                // Of a bias, which is one row, the elements are permuted; of a matrix, the rows.
                let unit_bytes = if tensor.shape.len() == 1 { self.row_bytes / tensor.cols() } else { self.row_bytes };
                let head_units = bytes.len() / unit_bytes / heads;
                let mut out = Vec::with_capacity(part.len());
                for unit in part.start / unit_bytes..part.end / unit_bytes {
                    let from = tensors::interleaved_from(unit, head_units) * unit_bytes;
                    out.extend_from_slice(&bytes[from..from + unit_bytes]);
                }
                TensorBytes::Owned(out)
            }
        }
    }
}
