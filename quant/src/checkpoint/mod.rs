//! A model on disk, opened read-only and memory-mapped: a safetensors directory or a GGUF file behind one type.
//!
//! Tensors come under their GGUF names, in GGUF shapes, with rows permuted as GGUF wants them, whichever the source. What
//! is absent: decoding to f32 (see `formats`), choosing types (see `plan`) and running (the engine).

mod container;
mod gguf;
mod hf;
mod layout;
mod place;
mod runnable;
mod tensors;

use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::mmap::FileMap;

use crate::arch::{ArchSpec, BlockTraits, Role};
use crate::gguf::Metadata;
use crate::plan::Origin;
use crate::vocab::{self, Vocab};
use crate::{DType, Error, HParams, Result, mmap};
pub use container::Container;

/// Encoded bytes of a tensor or of some of its rows: a view into the mapped file where the file has them as they are
/// needed, else an own copy.
#[derive(Clone)]
pub enum TensorBytes {
    /// A range of a mapped file.
    Mapped(Arc<FileMap>, Range<usize>),
    /// Bytes made for this call (permuted rows, computed tensors, freshly quantized weights).
    Owned(Vec<u8>),
    /// The same, for several who need them.
    Shared(Arc<Vec<u8>>),
}

/// What becomes of pages of a mapped file that are no longer needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// They leave this process; the system may keep them and give them back without reading.
    Unmapped,
    /// They leave the system's file cache too, which has better use for the room where a model is larger than it.
    Evicted,
}

impl TensorBytes {
    /// Has the system read what is in a mapped file, in one go instead of page by page.
    pub fn populate(&self) {
        if let Self::Mapped(map, range) = self {
            mmap::populate(map, range);
        }
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, range) => &map[range.clone()],
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
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

/// What weights are read from: a [`Checkpoint`], a [`Container`], or a stand-in for one.
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
    fn origin(&self) -> Origin;
    /// The GGUF metadata, see [`Checkpoint::metadata`].
    fn metadata(&self) -> &Metadata;
    /// The metadata for a file to be written, see [`Checkpoint::output_metadata`].
    ///
    /// # Errors
    /// Where keys had to be left out.
    fn output_metadata(&self) -> Result<Metadata>;
}

/// Both are to be had from a [`Checkpoint`] and from a [`Container`] by methods of the same names.
macro_rules! is_a_source {
    ($type:ty) => {
        impl Source for $type {
            fn path(&self) -> &Path {
                self.path()
            }

            fn files(&self) -> &[PathBuf] {
                self.files()
            }

            fn tensors(&self) -> &[Tensor] {
                self.tensors()
            }

            fn identity(&self) -> Vec<u8> {
                self.computed_bytes()
            }

            fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
                self.read(tensor, rows)
            }

            fn will_need(&self, tensor: &Tensor, rows: Range<usize>) {
                self.will_need(tensor, rows);
            }
        }
    };
}
is_a_source!(Checkpoint);
is_a_source!(Container);

impl Model for Checkpoint {
    fn name(&self) -> &str {
        self.name()
    }

    fn origin(&self) -> Origin {
        self.origin()
    }

    fn metadata(&self) -> &Metadata {
        self.metadata()
    }

    fn output_metadata(&self) -> Result<Metadata> {
        self.output_metadata()
    }
}

impl Model for Container {
    fn name(&self) -> &str {
        self.name()
    }

    fn origin(&self) -> Origin {
        Origin::Gguf
    }

    fn metadata(&self) -> &Metadata {
        self.metadata()
    }

    fn output_metadata(&self) -> Result<Metadata> {
        Ok(self.metadata().clone())
    }
}

/// Opens what is to be planned for, quantized or converted: a Hugging Face directory as a [`Checkpoint`], a GGUF file as a
/// [`Container`], of any architecture.
///
/// # Errors
/// As [`Checkpoint::open`] and [`Container::open`].
pub fn open_model(path: &Path) -> Result<Box<dyn Model>> {
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    Ok(if about.is_dir() { Box::new(hf::open(path)?) } else { Box::new(Container::open(path)?) })
}

/// A model on disk.
pub struct Checkpoint {
    container: Container,
    arch: &'static ArchSpec,
    hparams: HParams,
    kind: Kind,
    vocab: OnceLock<Vocab>,
}

/// Where the model came from, for what is read only when asked for.
enum Kind {
    /// A Hugging Face directory and its configuration.
    Hf(Box<crate::convert::config::Config>),
    /// A GGUF file.
    Gguf,
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
        if about.is_dir() { hf::open(path) } else { gguf::open(path) }
    }

    /// The directory or file it was opened by.
    pub fn path(&self) -> &Path {
        self.container.path()
    }

    /// The files that hold the weights.
    pub fn files(&self) -> &[PathBuf] {
        self.container.files()
    }

    /// The directory's name or the file's stem.
    pub fn name(&self) -> &str {
        self.container.name()
    }

    /// What kind of file it came from, which decides what a plan for it keeps.
    pub fn origin(&self) -> Origin {
        match self.kind {
            Kind::Hf(_) => Origin::Safetensors,
            Kind::Gguf => Origin::Gguf,
        }
    }

    /// The architecture.
    pub fn arch(&self) -> &'static ArchSpec {
        self.arch
    }

    /// What the model's block computes, for those who run it.
    ///
    /// # Errors
    /// [`Error::Key`] where the model can be converted, quantized and inspected, but not run, because what one of its keys asks
    /// for is not supported.
    pub fn block_traits(&self) -> Result<&'static BlockTraits> {
        runnable::block_traits(self.path(), self.arch, self.metadata())
    }

    /// The hyper-parameters.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }

    /// The GGUF metadata: the file's own, or for a Hugging Face directory what llama.cpp's converter would write with the
    /// stored type as `--outtype`. Without the `tokenizer.*` keys where the tokenizer is not supported; ask
    /// [`Self::vocab`] for the reason, or use [`Self::output_metadata`].
    pub fn metadata(&self) -> &Metadata {
        self.container.metadata()
    }

    /// The metadata for a file to be written: [`Self::metadata`], but an error where keys had to be left out.
    ///
    /// # Errors
    /// Those of [`Self::vocab`], for a Hugging Face directory.
    pub fn output_metadata(&self) -> Result<Metadata> {
        if let Kind::Hf(_) = self.kind {
            // What is written must be readable.
            self.vocab()?.to_tokenizer_json()?;
        }
        Ok(self.metadata().clone())
    }

    /// The vocabulary.
    ///
    /// # Errors
    /// The tokenizer's files or keys are missing or broken, or of a kind that is not supported.
    pub fn vocab(&self) -> Result<&Vocab> {
        if let Some(vocab) = self.vocab.get() {
            return Ok(vocab);
        }
        if let Kind::Hf(config) = &self.kind
            && self.metadata().get(vocab::key::MODEL).is_none()
        {
            // The keys were left out; here is why.
            vocab::hf::add_keys(&vocab::hf::Model::of(config), &mut Metadata::new())?;
        }
        let vocab = Vocab::from_metadata(self.path(), self.metadata())?;
        Ok(self.vocab.get_or_init(|| vocab))
    }

    /// The tokenizer in the form of the `tokenizers` crate: a Hugging Face directory's own `tokenizer.json`, or where there
    /// is none one rebuilt from the vocabulary.
    ///
    /// # Errors
    /// There is none, it is broken, or of a kind that is not supported.
    pub fn tokenizer_json(&self) -> Result<serde_json::Value> {
        if let Kind::Hf(_) = self.kind
            && let Some(json) = vocab::hf::tokenizer_json(self.path())?
        {
            return Ok(serde_json::Value::Object(json));
        }
        self.vocab()?.to_tokenizer_json()
    }

    /// All tensors, in the order in which the converter writes them, or in file order.
    pub fn tensors(&self) -> &[Tensor] {
        self.container.tensors()
    }

    /// The tensor of a GGUF name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.container.tensor(name)
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
        let tensor = self.tensor(name).ok_or_else(|| Error::tensor(self.path(), name, "is missing"))?;
        tensors::check_shape(self.path(), name, &tensor.shape, shape)?;
        Ok(tensor)
    }

    /// The encoded bytes of `rows` of one of this checkpoint's tensors: a view into the file where it has them in this
    /// order, else a copy.
    ///
    /// # Errors
    /// [`Error::Tensor`] where the tensor is not of this checkpoint or has fewer rows.
    pub fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
        self.container.read(tensor, rows)
    }

    /// Has the system begin to read `rows` of one of this checkpoint's tensors. A request only: what cannot be asked for is
    /// read when it is needed.
    pub(crate) fn will_need(&self, tensor: &Tensor, rows: Range<usize>) {
        self.container.will_need(tensor, rows);
    }

    /// Says that `rows` of one of this checkpoint's tensors are not needed for now. They may be read again. A request only.
    pub fn release(&self, tensor: &Tensor, rows: Range<usize>, pages: Pages) {
        self.container.release(tensor, rows, pages);
    }

    /// The bytes of the tensors that are in none of the files.
    fn computed_bytes(&self) -> Vec<u8> {
        self.container.computed_bytes()
    }

    /// The encoded bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        self.container.total_bytes()
    }

    /// The weights of all tensors together, as llama.cpp counts them (`rope_freqs.weight` included).
    pub fn parameter_count(&self) -> u64 {
        self.tensors().iter().map(Tensor::elements).sum()
    }
}
