//! A plan as a value: what goes into it, what stands in it for one tensor, and what it amounts to.
//!
//! Absent: deciding (see `decide`).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::ModelOrigin;
use crate::gguf::{TensorSpec, Value};
use crate::message::Message;
use crate::recipe::{ModelFacts, Recipe};
use crate::tensor::Tensor;
use crate::{DType, Imatrix};

/// What a plan is made from: a model without its weights.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// The file or directory, for errors.
    pub path: &'a Path,
    /// What kind of file it is.
    pub origin: ModelOrigin,
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
    pub(super) keys: Vec<(String, Value)>,
    /// Blocks that are left out.
    pub(super) pruned: BTreeSet<usize>,
    /// The importance matrix that was taken into account.
    pub(super) imatrix: Option<Arc<Imatrix>>,
    /// Whether nothing changes but into which files it is cut.
    pub(super) keeps_all: bool,
    /// Whether the file is one that llama.cpp's converter would write.
    pub(super) plain: bool,
}

impl Plan {
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

    /// Matrices whose rows do not divide into the blocks of the recipe's encoding, and which another one stands in for.
    pub fn fell_back(&self) -> usize {
        let block = self.recipe.default.block_len();
        let fell = |e: &&PlanEntry| e.shape.len() > 1 && e.from != e.to && !e.shape[0].is_multiple_of(block);
        self.entries.iter().filter(fell).count()
    }

    /// What to say of a recipe whose encoding does not fit this model; `None` where it does.
    pub fn fall_back_note(&self) -> Option<String> {
        let (count, all) = (self.fell_back(), self.entries.iter().filter(|e| e.shape.len() > 1).count());
        let (recipe, default) = (&self.recipe.name, self.recipe.default);
        let which = if count == all { "all".to_owned() } else { format!("{count} of {all}") };
        (count > 0).then(|| {
            format!(
                "{recipe}: the rows of {which} matrices do not divide into {default} blocks of {}; other types stand in for it",
                default.block_len()
            )
        })
    }

    /// The tensors of the file to be written, in order.
    pub fn specs(&self) -> Vec<TensorSpec> {
        let spec = |e: &PlanEntry| TensorSpec { name: e.tensor.clone(), dtype: e.to, shape: e.shape.clone() };
        self.entries.iter().map(spec).collect()
    }
}
