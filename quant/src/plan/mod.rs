//! Deciding what becomes which encoding, and why, before anything is done. A [`Plan`] is a plain value: it can be printed,
//! sized, compared and tested without a byte of weights. What is absent: the rules themselves (see `recipe`) and carrying a
//! plan out (see `quantize`).

pub mod choices;
mod decide;
mod importance;
mod kept;
mod layers;
mod metadata;
mod show;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{Model, Tensor};
use crate::gguf::{TensorSpec, Value};
use crate::message::Message;
use crate::recipe::{ModelFacts, Recipe};
use crate::{DType, Imatrix, Result};
pub use choices::{Choices, TensorType, parse_override_kv, parse_prune_layers};
pub use metadata::quantized_metadata;
pub use show::Named;

/// Where a model comes from, which decides what "plain" means: which tensors stay F32, and the order in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A training checkpoint: plain recipes follow llama.cpp's converter, quantized ones llama-quantize on its F32 output.
    Safetensors,
    /// A GGUF file: all recipes follow llama-quantize.
    Gguf,
}

/// What a plan is made from: a model without its weights.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// The file or directory, for errors.
    pub path: &'a Path,
    /// What kind of file it is.
    pub origin: Origin,
    /// What rules may ask about the model.
    pub model: &'a ModelFacts,
    /// Its tensors under their GGUF names, in the order of the file or of the converter.
    pub tensors: &'a [Tensor],
}

/// What one tensor becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanEntry {
    /// GGUF name.
    pub tensor: String,
    /// Its name in the source, where blocks before its own are pruned.
    pub renamed_from: Option<String>,
    /// Shape as it will stand in the file, row length first.
    pub shape: Vec<usize>,
    /// Encoding in the source.
    pub from: DType,
    /// Encoding in the file to be written.
    pub to: DType,
    /// Why that one.
    pub reason: Message,
    /// Whether llama-quantize would refuse it: the encoding needs importance weights, and there are none for this tensor.
    pub needs_imatrix: bool,
}

impl PlanEntry {
    /// The tensor's name in the source, under which its weights and its importance stand.
    pub fn source(&self) -> &str {
        self.renamed_from.as_deref().unwrap_or(&self.tensor)
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.shape.iter().map(|&d| d as u64).product()
    }

    /// Size in the file to be written, padding not included.
    pub fn bytes(&self) -> u64 {
        self.weights() / self.to.block_len() as u64 * self.to.block_bytes() as u64
    }
}

/// What every tensor of a model becomes under one recipe, in the order in which the file will hold them.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The recipe.
    pub recipe: Arc<Recipe>,
    /// One entry per tensor.
    pub entries: Vec<PlanEntry>,
    /// Keys to be set in the metadata, see [`Plan::metadata`].
    keys: Vec<(String, Value)>,
    /// Blocks that are left out.
    pruned: BTreeSet<usize>,
    /// The importance matrix that was taken into account.
    imatrix: Option<Arc<Imatrix>>,
    /// Whether the file is one that llama.cpp's converter would write.
    plain: bool,
}

impl Plan {
    /// Decides for every tensor of the model.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) where a tensor is quantized already and would have to become another type
    /// (unless that is allowed), rows do not divide into the blocks of a type that nothing stands in for, the importance
    /// matrix has other sizes, or a tensor of a model with experts does not say its layer.
    /// [`Error::Option`](crate::Error::Option) where a choice does not fit the model, [`Error::File`](crate::Error::File) where
    /// the importance matrix is another model's.
    pub fn new(input: &PlanInput, recipe: &Arc<Recipe>, choices: &Choices) -> Result<Self> {
        choices.check_pruning(input.model)?;
        let by_converter = recipe.is_plain() || choices.as_converter && decide::converter_makes(recipe);
        let plain = by_converter && input.origin == Origin::Safetensors;
        let entries = if plain {
            if !recipe.is_plain() {
                choices.check_for_converter(&recipe.name)?;
            }
            decide::converted(input, recipe, choices)?
        } else {
            decide::quantized(input, &choices.overridden(input.model)?, recipe, choices)?
        };
        Ok(Self {
            recipe: Arc::clone(recipe),
            entries,
            keys: metadata::chosen_keys(choices, input.model, plain),
            pruned: choices.prune_layers.clone(),
            imatrix: choices.imatrix.clone().filter(|matrix| !matrix.is_empty()),
            plain,
        })
    }

    /// Decides for every tensor of a model on disk.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of(model: &dyn Model, recipe: &Arc<Recipe>, choices: &Choices) -> Result<Self> {
        let facts = ModelFacts::of(model.metadata());
        let (path, origin) = (model.path(), model.origin());
        Self::new(&PlanInput { path, origin, model: &facts, tensors: model.tensors() }, recipe, choices)
    }

    /// The entry for the tensor of that name.
    pub fn get(&self, tensor: &str) -> Option<&PlanEntry> {
        self.entries.iter().find(|e| e.tensor == tensor)
    }

    /// The importance matrix that was taken into account, with which tensors are to be encoded.
    pub fn imatrix(&self) -> Option<&Imatrix> {
        self.imatrix.as_deref()
    }

    /// Bytes of all tensors together, without header and padding.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(PlanEntry::bytes).sum()
    }

    /// Weights of all tensors together.
    pub fn weights(&self) -> u64 {
        self.entries.iter().map(PlanEntry::weights).sum()
    }

    /// Mean bits per weight over the whole model, scales included.
    pub fn bits_per_weight(&self) -> f64 {
        8.0 * self.bytes() as f64 / self.weights() as f64
    }

    /// The tensors of the file to be written, in order.
    pub fn specs(&self) -> Vec<TensorSpec> {
        let spec = |e: &PlanEntry| TensorSpec { name: e.tensor.clone(), dtype: e.to, shape: e.shape.clone() };
        self.entries.iter().map(spec).collect()
    }
}
