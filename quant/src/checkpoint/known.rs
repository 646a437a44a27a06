//! A model on disk whose architecture is known: hyper-parameters, the tensors by their roles, the vocabulary.
//!
//! Absent: opening it (see `hf`, `gguf`) and reading bytes (see `container`).

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::container::Container;
use super::source::{LeftOut, Model, ModelOrigin, Source};
use super::{runnable, tensors};
use crate::arch::{ArchSpec, BlockTraits, Role};
use crate::convert::config::Config;
use crate::gguf::Metadata;
use crate::tensor::Tensor;
use crate::tensor_bytes::{Pages, TensorBytes};
use crate::vocab::{self, Vocab};
use crate::{Error, HParams, Result};

/// A model on disk.
pub struct Checkpoint {
    pub(super) container: Container,
    /// See [`Model::kept`].
    pub(super) kept: Option<Container>,
    pub(super) arch: &'static ArchSpec,
    pub(super) hparams: HParams,
    pub(super) kind: Kind,
    pub(super) left_out: LeftOut,
    pub(super) published: Option<Published>,
    pub(super) vocab: OnceLock<Vocab>,
}

/// Where the model came from, for what is read only when asked for.
pub(super) enum Kind {
    /// A Hugging Face directory and its configuration.
    Hf(Box<Config>),
    /// A GGUF file.
    Gguf,
}

/// How the weights of a directory are stored that are not all floats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What the field calls the ways (`fp8`, `int4`, `bf16`, ...) and how many weights each has, most first.
    pub types: Vec<(String, u64)>,
    /// Bytes of all weights as they are stored, scales included.
    pub bytes: u64,
}

impl Checkpoint {
    /// How the weights are stored, where some are stored otherwise than as floats or as GGUF has them: they are computed with as
    /// the floats that they stand for.
    pub fn published(&self) -> Option<&Published> {
        self.published.as_ref()
    }

    /// What was left out because it is of no language model.
    pub fn left_out(&self) -> LeftOut {
        self.left_out
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
    pub fn origin(&self) -> ModelOrigin {
        Model::origin(self)
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
        Model::output_metadata(self)
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
            vocab::hf::add_keys(&vocab::TokenizerInput::of(config), &mut Metadata::new())?;
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

    /// The template of a Hugging Face directory's chats where it stands in a file of its own, which is what transformers takes;
    /// with the newlines that Python reads.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn template_file(&self) -> Result<Option<String>> {
        match self.kind {
            Kind::Hf(_) => vocab::template_file(self.path()),
            Kind::Gguf => Ok(None),
        }
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
        self.form_of(tensor).read(tensor, rows)
    }

    /// Says that `rows` of one of this checkpoint's tensors are not needed for now. They may be read again. A request only.
    pub fn release(&self, tensor: &Tensor, rows: Range<usize>, pages: Pages) {
        self.form_of(tensor).release(tensor, rows, pages);
    }

    /// The form that has a tensor of this name and type.
    fn form_of(&self, tensor: &Tensor) -> &Container {
        let has = |form: &&Container| form.tensor(&tensor.name).is_some_and(|own| own.dtype == tensor.dtype);
        self.kept.as_ref().filter(|kept| !has(&&self.container) && has(kept)).unwrap_or(&self.container)
    }

    /// The bytes of all tensors together, as they are stored.
    pub fn total_bytes(&self) -> u64 {
        self.published.as_ref().map_or_else(|| self.container.total_bytes(), |published| published.bytes)
    }

    /// The weights of all tensors together, as llama.cpp counts them (`rope_freqs.weight` included).
    pub fn parameter_count(&self) -> u64 {
        self.tensors().iter().map(Tensor::elements).sum()
    }
}

// The traits' methods are written on the fields, so that none can come to call itself.

impl Source for Checkpoint {
    fn path(&self) -> &Path {
        Source::path(&self.container)
    }

    fn files(&self) -> &[PathBuf] {
        Source::files(&self.container)
    }

    fn identity(&self) -> Vec<u8> {
        Source::identity(&self.container)
    }

    fn tensors(&self) -> &[Tensor] {
        Source::tensors(&self.container)
    }

    fn kept_tensors(&self) -> &[Tensor] {
        self.kept.as_ref().map_or(&[], Container::tensors)
    }

    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
        Source::read(self.form_of(tensor), tensor, rows)
    }

    fn will_need(&self, tensor: &Tensor, rows: Range<usize>) {
        Source::will_need(self.form_of(tensor), tensor, rows);
    }
}

impl Model for Checkpoint {
    fn name(&self) -> &str {
        Model::name(&self.container)
    }

    fn origin(&self) -> ModelOrigin {
        match self.kind {
            Kind::Hf(_) => ModelOrigin::Safetensors,
            Kind::Gguf => ModelOrigin::Gguf,
        }
    }

    fn metadata(&self) -> &Metadata {
        Model::metadata(&self.container)
    }

    fn kept(&self) -> Option<&dyn Model> {
        self.kept.as_ref().map(|kept| kept as &dyn Model)
    }

    fn left_out(&self) -> LeftOut {
        self.left_out
    }

    fn output_metadata(&self) -> Result<Metadata> {
        if let Kind::Hf(_) = self.kind {
            // What is written must be readable.
            self.vocab()?.to_tokenizer_json()?;
        }
        Ok(self.metadata().clone())
    }
}
