//! How large the file is that a recipe makes of a model, and how much of it a token reads.
//!
//! From the plan that the quantizer would carry out and the header that it would write, so exact to the byte for a model whose
//! tensors and metadata are known. A shape has a vocabulary of its size but not its words, whose header is some megabytes
//! smaller than a published file's; its tensors are exact. A model with figures alone is estimated from the mean bits a weight
//! that the recipe gives one like it, and says so. Absent: memory beyond the file (see `memory`).

use std::path::Path;
use std::sync::Arc;

use super::file_size::{FileSize, TypeBytes};
use super::models::{self, ModelFigures, is_expert};
use bitworth_quant::gguf::Layout;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::{Imatrix, Plan, Recipe, Result};

/// Whose mean bits a weight stand in for those of a model without a shape.
const LIKE_DENSE: &str = "llama-8b";
const LIKE_MOE: &str = "qwen3-30b-a3b";

/// The recipe whose file a published name stands for, and whether it is just that: `UD-Q4_K_XL` is like `q4_k_m`, `MXFP4` is
/// `mxfp4_moe`. None for what is no file type of llama.cpp's.
pub fn recipe_like(name: &str) -> Option<(Arc<Recipe>, bool)> {
    let bare = name.split([' ', '(']).next().unwrap_or_default().to_ascii_lowercase();
    if let Ok(recipe) = Recipe::find(if bare == "mxfp4" { "mxfp4_moe" } else { &bare }) {
        return Some((recipe, bare.len() == name.len()));
    }
    // unsloth's mixes spend more bits on some tensors than the file type they are named after.
    let bare = bare.strip_prefix("ud-").unwrap_or(&bare);
    let stem = bare.strip_suffix("_xl").unwrap_or(bare);
    let without_k = stem.strip_suffix("_k").unwrap_or(stem);
    let larger = [bare.to_owned(), format!("{stem}_l"), format!("{stem}_m"), stem.to_owned(), format!("{without_k}_0")];
    larger.iter().find_map(|name| Recipe::find(name).ok()).map(|recipe| (recipe, false))
}

impl ModelFigures {
    /// The size of the file that `recipe` makes of this model. Computed once a recipe.
    ///
    /// # Errors
    /// As [`Plan::of`] and [`Layout::new`].
    pub fn size(&self, recipe: &Arc<Recipe>) -> Result<Arc<FileSize>> {
        let known = |sizes: &super::models::Sizes| {
            sizes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&recipe.name).cloned()
        };
        // A custom recipe may share its name with another.
        let keeps = Recipe::all().iter().any(|known| Arc::ptr_eq(known, recipe));
        if let Some(size) = known(&self.sizes).filter(|_| keeps) {
            return Ok(size);
        }
        let size = Arc::new(if self.has_shape() { self.planned(recipe)? } else { self.estimated(recipe)? });
        if keeps {
            let mut sizes = self.sizes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            sizes.insert(recipe.name.clone(), Arc::clone(&size));
        }
        Ok(size)
    }

    /// From the model's own tensors.
    fn planned(&self, recipe: &Arc<Recipe>) -> Result<FileSize> {
        let model = self.model.as_ref().expect("the model has a shape");
        // A file that is quantized already stands for its original, which has the same shapes.
        let options = PlanOptions { allow_requantize: true, ..PlanOptions::default() };
        let mut plan = Plan::of(model.as_ref(), recipe, &options)?;
        if plan.entries.iter().any(|entry| entry.needs_imatrix) {
            // There is no such file without a matrix; what it holds changes no type, but one entry must fit the model.
            let columns = |shape: &[usize]| shape.iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, n)| n).product::<usize>();
            let smallest = plan.entries.iter().min_by_key(|entry| columns(&entry.shape));
            let weights = smallest.map(|entry| (entry.source().to_owned(), vec![1.0; columns(&entry.shape)]));
            let imatrix = Some(Arc::new(Imatrix::new(Path::new("imatrix.gguf"), weights.into_iter().collect())));
            plan = Plan::of(model.as_ref(), recipe, &PlanOptions { imatrix, ..options })?;
        }
        let layout = Layout::new(model.path(), &plan.metadata(&model.output_metadata()?), &plan.specs())?;
        let has_output = plan.get("output.weight").is_some();
        let (experts, used) = (u64::from(self.experts), u64::from(self.experts_used));
        let mut types: Vec<TypeBytes> = Vec::new();
        let mut lookup_bytes = 0;
        for entry in &plan.entries {
            let bytes = entry.bytes();
            let looked_up = match entry.tensor.as_str() {
                "token_embd.weight" => has_output,
                name => name == "position_embd.weight",
            };
            let expert = experts > 0 && is_expert(&entry.tensor);
            let read = match (looked_up, expert) {
                (true, _) => bytes / entry.shape.last().copied().unwrap_or(1).max(1) as u64,
                (false, true) => bytes / experts * used,
                (false, false) => bytes,
            };
            lookup_bytes += if looked_up { bytes } else { 0 };
            let of_experts = if expert { read } else { 0 };
            match types.iter_mut().find(|t| t.dtype == entry.to) {
                Some(t) => {
                    t.bytes += bytes;
                    t.read += read;
                    t.read_experts += of_experts;
                }
                None => types.push(TypeBytes { dtype: entry.to, bytes, read, read_experts: of_experts }),
            }
        }
        types.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.dtype.name().cmp(b.dtype.name())));
        Ok(FileSize {
            recipe: recipe.name.clone(),
            file_bytes: layout.file_bytes(),
            tensor_bytes: plan.bytes(),
            weights: plan.weights(),
            types,
            lookup_bytes,
            exact: true,
            experts: self.experts,
            experts_used: self.experts_used,
        })
    }

    /// From the bits a weight of a model like it.
    fn estimated(&self, recipe: &Arc<Recipe>) -> Result<FileSize> {
        let like = models::find(if self.is_moe() { LIKE_MOE } else { LIKE_DENSE })?;
        let size = like.size(recipe)?;
        let header = size.file_bytes - size.tensor_bytes;
        let scale = self.params as f64 / size.weights as f64;
        let scaled = |bytes: u64, by: f64| (bytes as f64 * by).round() as u64;
        let tensor_bytes = scaled(size.tensor_bytes, scale);
        // Of the weights that take part, those of an embedding that is looked up are not read.
        let read = f64::from(8_u8).recip() * size.bits_per_weight() * self.active_params as f64;
        let share = read / size.read_per_token() as f64;
        let types = size.types.iter().map(|t| TypeBytes {
            dtype: t.dtype,
            bytes: scaled(t.bytes, scale),
            read: scaled(t.read, share),
            read_experts: scaled(t.read_experts, share),
        });
        Ok(FileSize {
            recipe: recipe.name.clone(),
            file_bytes: tensor_bytes + header,
            tensor_bytes,
            weights: self.params,
            types: types.collect(),
            lookup_bytes: scaled(
                size.lookup_bytes,
                f64::from(self.vocab) * f64::from(self.hidden) / (f64::from(like.vocab) * f64::from(like.hidden)),
            ),
            exact: false,
            experts: self.experts,
            experts_used: self.experts_used,
        })
    }
}
