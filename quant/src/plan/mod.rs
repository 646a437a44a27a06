//! Deciding what becomes which encoding, and why, before anything is done. A [`Plan`] is a plain value: it can be printed,
//! sized, compared and tested without a byte of weights. What is absent: the rules themselves (see `recipe`) and carrying a
//! plan out (see `quantize`).

mod decide;
mod importance;
mod kept;
mod layers;
mod metadata;
pub mod options;
mod show;
mod value;

use std::sync::Arc;

use crate::Result;
use crate::checkpoint::Model;
pub use crate::checkpoint::ModelOrigin;
use crate::recipe::{ModelFacts, Recipe};
pub use metadata::quantized_metadata;
pub use options::{PlanOptions, TensorType, parse_override_kv, parse_prune_layers};
pub use show::Named;
pub use value::{Plan, PlanEntry, PlanInput};

impl Plan {
    /// Decides for every tensor of the model.
    ///
    /// # Errors
    /// [`Error::Tensor`](crate::Error::Tensor) where a tensor is quantized already and would have to become another type
    /// (unless that is allowed), rows do not divide into the blocks of a type that nothing stands in for, the importance
    /// matrix has other sizes, or a tensor of a model with experts does not say its layer.
    /// [`Error::Option`](crate::Error::Option) where a choice does not fit the model, [`Error::File`](crate::Error::File) where
    /// the importance matrix is another model's.
    pub fn new(input: &PlanInput, recipe: &Arc<Recipe>, options: &PlanOptions) -> Result<Self> {
        options.check_pruning(input.model)?;
        let by_converter = recipe.is_plain() || options.as_converter && decide::converter_makes(recipe);
        let plain = by_converter && input.origin == ModelOrigin::Safetensors;
        let entries = if plain {
            if !recipe.is_plain() {
                options.check_for_converter(&recipe.name)?;
            }
            decide::converted(input, recipe, options)?
        } else {
            decide::quantized(input, &options.overridden(input.model)?, recipe, options)?
        };
        Ok(Self {
            recipe: Arc::clone(recipe),
            entries,
            keys: metadata::chosen_keys(options, input.model, plain),
            pruned: options.prune_layers.clone(),
            keeps_all: decide::keeps_all(input, recipe, options),
            imatrix: options.imatrix.clone().filter(|matrix| !matrix.is_empty()),
            plain,
        })
    }

    /// Decides for every tensor of a model on disk, as floats where its encoding is none of GGUF's.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of(model: &dyn Model, recipe: &Arc<Recipe>, options: &PlanOptions) -> Result<Self> {
        let facts = ModelFacts::of(model.metadata());
        let (path, origin) = (model.path(), model.origin());
        Self::new(&PlanInput { path, origin, model: &facts, tensors: model.tensors() }, recipe, options)
    }

    /// The form of the model that a file of this recipe keeps, if it is another.
    pub(crate) fn kept_of<'m>(model: &'m dyn Model, recipe: &Recipe, options: &PlanOptions) -> Option<&'m dyn Model> {
        let converted = model.origin() == ModelOrigin::Safetensors && (recipe.is_plain() || options.as_converter);
        model.kept().filter(|_| recipe.only_copy || converted)
    }

    /// [`Plan::of`] for a file, which keeps what need not be decoded (see [`Model::kept`]) where `recipe` does not quantize.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of_file(model: &dyn Model, recipe: &Arc<Recipe>, options: &PlanOptions) -> Result<Self> {
        let Some(kept) = Self::kept_of(model, recipe, options) else { return Self::of(model, recipe, options) };
        let facts = ModelFacts::of(kept.metadata());
        Self::new(
            &PlanInput { path: model.path(), origin: model.origin(), model: &facts, tensors: kept.tensors() },
            recipe,
            options,
        )
    }
}
