//! Which tensors cannot be quantized well without importance weights, and whether a matrix is this model's. What is absent:
//! reading matrices (see `imatrix`).

use std::path::Path;

use super::options::{IMATRIX, PlanOptions, TENSOR_TYPE};
use super::value::{Plan, PlanEntry, PlanInput};
use crate::message::Message;
use crate::recipe::{Category, Recipe};
use crate::tensor::Tensor;
use crate::{DType, Error, Result};

/// File type of llama-quantize's Q2_K_S.
const FTYPE_Q2_K_S: u32 = 21;

/// What llama-quantize does not make without weights, but for embedding and head (`tensor_requires_imatrix` in
/// src/llama-quant.cpp, b11434). What ggml's encoders never make without ([`DType::needs_importance`]) is refused there too.
const NOT_IN_LAYERS: [DType; 3] = [DType::IQ3_XXS, DType::IQ2_S, DType::IQ1_M];

/// Whether `entry` for `t` would be encoded to a type that needs importance weights, and has none.
pub(super) fn is_lacking(recipe: &Recipe, options: &PlanOptions, t: &Tensor, entry: &PlanEntry) -> Result<bool> {
    if entry.to == entry.from {
        return Ok(false);
    }
    let weights = options.importance().map(|matrix| matrix.weights_for(entry.source(), &t.shape)).transpose()?.flatten();
    let in_layers = !matches!(Category::of(&t.name), Category::TokenEmbd | Category::Output);
    let not_here = in_layers && (NOT_IN_LAYERS.contains(&entry.to) || (entry.to == DType::Q2_K && recipe.ftype == FTYPE_Q2_K_S));
    Ok(weights.is_none() && (not_here || entry.to.needs_importance()))
}

/// A matrix of which no entry is of any tensor was collected on another model.
pub(super) fn refuse_another_models(input: &PlanInput, options: &PlanOptions) -> Result<()> {
    let Some(matrix) = options.importance() else { return Ok(()) };
    if input.tensors.iter().any(|t| matrix.weights(&t.name).is_some()) {
        return Ok(());
    }
    let what = format!(
        "none of the {} entries of this importance matrix is of a tensor of {}; it is another model's",
        matrix.len(),
        input.path.display()
    );
    Err(Error::file(matrix.path(), what))
}

impl Plan {
    /// Refuses a plan with a tensor that llama-quantize would not make for lack of importance weights; `model` is the file it
    /// is made from. A plan that is only looked at may have such tensors.
    ///
    /// # Errors
    /// [`Error::Tensor`] for the first of them.
    pub fn check_importance(&self, model: &Path) -> Result<()> {
        let Some(entry) = self.entries.iter().find(|e| e.needs_imatrix) else { return Ok(()) };
        let remedy = match &self.imatrix {
            None => Message::from("give one with ").then(IMATRIX),
            Some(matrix) => {
                let path = matrix.path();
                let lacks = format!("{} has no entry for it, or one that was left out; name another type with ", path.display());
                Message::from(lacks).then(TENSOR_TYPE)
            }
        };
        let what = format!("would become {}, which is of use only with an importance matrix; ", entry.to);
        Err(Error::tensor(model, entry.source(), Message::from(what).then(remedy)))
    }
}
