//! Deciding what becomes which encoding, and why, before anything is done. A [`Plan`] is a plain value: it can be printed,
//! sized, compared and tested without a byte of weights. What is absent: the rules themselves (see `recipe`) and carrying a
//! plan out (see `quantize`).

mod kept;
mod show;

use std::cmp::Ordering;
use std::path::Path;

use serde::Serialize;

use crate::checkpoint::Tensor;
use crate::gguf::TensorSpec;
use crate::recipe::{Category, ModelFacts, Recipe, Site, fitting};
use crate::{Checkpoint, DType, Error, Result};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanEntry {
    /// GGUF name.
    pub tensor: String,
    /// Shape as it will stand in the file, row length first.
    pub shape: Vec<usize>,
    /// Encoding in the source.
    pub from: DType,
    /// Encoding in the file to be written.
    pub to: DType,
    /// Why that one.
    pub reason: String,
}

impl PlanEntry {
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
    pub recipe: &'static Recipe,
    /// One entry per tensor.
    pub entries: Vec<PlanEntry>,
}

impl Plan {
    /// Decides for every tensor of the model.
    ///
    /// # Errors
    /// [`Error::Tensor`] where a tensor is quantized already and would have to become another type, or where a tensor of a
    /// model with experts does not say its layer.
    pub fn new(input: &PlanInput, recipe: &'static Recipe) -> Result<Self> {
        let entries = if recipe.default.is_float() && input.origin == Origin::Safetensors {
            input.tensors.iter().map(|t| converted(t, recipe.default)).collect()
        } else {
            quantized(input, recipe)?
        };
        Ok(Self { recipe, entries })
    }

    /// Decides for every tensor of a checkpoint.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of(checkpoint: &Checkpoint, recipe: &'static Recipe) -> Result<Self> {
        let h = checkpoint.hparams();
        let model = ModelFacts {
            arch: checkpoint.arch().name.to_owned(),
            block_count: h.block_count,
            head_count: h.head_count,
            head_count_kv: h.head_count_kv,
            // Checkpoints of models with experts are refused on opening.
            expert_count: 0,
        };
        let (path, origin) = (checkpoint.path(), checkpoint.origin());
        Self::new(&PlanInput { path, origin, model: &model, tensors: checkpoint.tensors() }, recipe)
    }

    /// The entry for the tensor of that name.
    pub fn get(&self, tensor: &str) -> Option<&PlanEntry> {
        self.entries.iter().find(|e| e.tensor == tensor)
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

/// What llama.cpp's converter makes of a tensor for a file of floats.
fn converted(t: &Tensor, wanted: DType) -> PlanEntry {
    let (to, reason) = match kept::f32_by_converter(&t.name, t.shape.len()) {
        Some(why) => (DType::F32, why),
        None => (wanted, "the recipe's type"),
    };
    PlanEntry { tensor: t.name.clone(), shape: t.shape.clone(), from: t.dtype, to, reason: reason.to_owned() }
}

/// What llama-quantize makes of all tensors, in the order in which it visits and writes them.
fn quantized(input: &PlanInput, recipe: &'static Recipe) -> Result<Vec<PlanEntry>> {
    let mut tensors: Vec<&Tensor> = input.tensors.iter().collect();
    tensors.sort_by(|a, b| visit_order(&a.name, &b.name));
    let tied = !tensors.iter().any(|t| Category::of(&t.name) == Category::Output);
    let mut layers = Layers::new(input, &tensors);
    tensors.into_iter().map(|t| quantized_entry(input, recipe, tied, &mut layers, t)).collect()
}

fn quantized_entry(input: &PlanInput, recipe: &'static Recipe, tied: bool, layers: &mut Layers, t: &Tensor) -> Result<PlanEntry> {
    let shape = without_trailing_ones(&t.shape);
    let entry = |to, reason: String| PlanEntry { tensor: t.name.clone(), shape: shape.to_vec(), from: t.dtype, to, reason };
    if let Some(why) = kept::never_quantized(&t.name, shape.len()) {
        let to = if input.origin == Origin::Safetensors { DType::F32 } else { t.dtype };
        return Ok(entry(to, why.to_owned()));
    }
    let chosen = if recipe.default.is_float() {
        entry(recipe.default, "the recipe's type".to_owned())
    } else {
        let category = match Category::of(&t.name) {
            Category::TokenEmbd if tied => Category::Output,
            category => category,
        };
        let (layer, layers) = layers.visit(input, category, &t.name)?;
        let rule = recipe.rule(&Site { category, cols: t.cols(), layer, layers, model: input.model });
        let (wanted, why) = rule.map_or((recipe.default, "the recipe's type"), |r| (r.to, r.why));
        let to = fitting(wanted, t.cols());
        let short = || format!("{why}; rows of {} do not divide into {} blocks", t.cols(), wanted.name());
        entry(to, if to == wanted { why.to_owned() } else { short() })
    };
    if !t.dtype.is_float() && chosen.to != t.dtype {
        let what = format!("is {} already and would become {}; quantize from the F32, F16 or BF16 original", t.dtype, chosen.to);
        return Err(Error::tensor(input.path, &t.name, what));
    }
    Ok(chosen)
}

/// ggml does not know a trailing dimension of 1 from none, so llama-quantize does not write it.
fn without_trailing_ones(shape: &[usize]) -> &[usize] {
    let kept = shape.iter().rposition(|&d| d != 1).map_or(1, |last| last + 1);
    &shape[..kept]
}

/// llama.cpp's `weight_name_comparer`: by layer, tensors of no layer first, then by the bytes of the name.
fn visit_order(a: &str, b: &str) -> Ordering {
    (layer_in_name(a), a).cmp(&(layer_in_name(b), b))
}

/// The number in `blk.<number>`.
fn layer_in_name(name: &str) -> Option<usize> {
    let tail = name.strip_prefix("blk.")?;
    let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
    tail[..digits].parse().ok()
}

/// Which layer a tensor counts as. llama-quantize does not read it from the name but counts tensors of the same category as it
/// visits them, except for MLP tensors of models with experts, whose experts it may meet in any order.
struct Layers {
    /// Number of layers by the hyper-parameters.
    block_count: usize,
    /// Number of tensors that hold values: fewer than layers where some layers have none.
    attn_v: usize,
    /// Visits so far, by category.
    visited: Vec<(Category, usize)>,
}

impl Layers {
    fn new(input: &PlanInput, tensors: &[&Tensor]) -> Self {
        let attn_v = tensors.iter().filter(|t| Category::of(&t.name) == Category::AttnV).count();
        Self { block_count: input.model.block_count, attn_v, visited: Vec::new() }
    }

    /// The layer a tensor of this category and name counts as, and the number of layers by that count.
    fn visit(&mut self, input: &PlanInput, category: Category, name: &str) -> Result<(usize, usize)> {
        let layers = match category {
            Category::AttnV => self.attn_v,
            Category::FfnUp | Category::FfnGate | Category::FfnDown => self.block_count,
            _ => return Ok((0, self.block_count)),
        };
        if category != Category::AttnV && input.model.expert_count > 1 {
            let layer = layer_in_name(name).filter(|&l| l < layers).ok_or_else(|| {
                let what = format!("does not say its layer: its name should begin with blk.N, N below {layers}");
                Error::tensor(input.path, name, what)
            })?;
            return Ok((layer, layers));
        }
        Ok((self.count(category), layers))
    }

    /// How many tensors of this category were visited before.
    fn count(&mut self, category: Category) -> usize {
        if !self.visited.iter().any(|(r, _)| *r == category) {
            self.visited.push((category, 0));
        }
        let mut counts = self.visited.iter_mut().filter(|(r, _)| *r == category);
        counts.next().map_or(0, |(_, count)| std::mem::replace(count, *count + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_visited_by_layer_then_name() {
        let mut names = ["blk.10.attn_k.weight", "output.weight", "blk.2.ffn_up.weight", "blk.2.attn_q.weight", "blkx", "a"];
        names.sort_by(|a, b| visit_order(a, b));
        assert_eq!(names, ["a", "blkx", "output.weight", "blk.2.attn_q.weight", "blk.2.ffn_up.weight", "blk.10.attn_k.weight"]);
    }

    #[test]
    fn trailing_ones_are_no_dimensions() {
        let check = |shape: &[usize], expected: &[usize]| assert_eq!(without_trailing_ones(shape), expected);
        check(&[8, 4, 1, 1], &[8, 4]);
        check(&[8, 1, 4], &[8, 1, 4]);
        check(&[8, 1], &[8]);
        check(&[1, 1], &[1]);
    }
}
