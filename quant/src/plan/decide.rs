//! What llama-quantize makes of each tensor, in its order of precedence (`llama_tensor_get_type` in src/llama-quant.cpp,
//! b11434): names that are never quantized, types asked for by option, types by pattern, the recipe's rules, its default; then
//! what the row length allows. What is absent: the rules (see `recipe`).

use super::layers::{Layers, layer_in_name, visit_order};
use super::options::{ALLOW_REQUANTIZE, LEAVE_OUTPUT_TENSOR, OUTPUT_TENSOR_TYPE, PURE, TENSOR_TYPE, TOKEN_EMBEDDING_TYPE};
use super::{ModelOrigin, PlanEntry, PlanInput, PlanOptions, importance, kept};
use crate::message::Message;
use crate::recipe::{Category, ModelFacts, Recipe, TensorFacts, fitting};
use crate::tensor::Tensor;
use crate::{DType, Error, Result};

/// Why a tensor gets the recipe's default.
pub(super) const DEFAULT: &str = "the recipe's type";

/// Why a tensor of numbers that are no weights stays as it is.
const NO_WEIGHTS: &str = "numbers that are no weights";

/// A type and why.
type Decision = (DType, Message);

/// All that stays the same from tensor to tensor.
struct Decider<'a> {
    input: &'a PlanInput<'a>,
    /// The facts of the model, with the overridden ones.
    model: &'a ModelFacts,
    recipe: &'a Recipe,
    options: &'a PlanOptions,
    /// Whether the token embedding is the head too.
    tied: bool,
}

/// Decides for all tensors, in the order in which llama-quantize visits and writes them (with `--keep-split`, that of the
/// file).
pub(super) fn quantized(input: &PlanInput, model: &ModelFacts, recipe: &Recipe, options: &PlanOptions) -> Result<Vec<PlanEntry>> {
    let mut tensors: Vec<&Tensor> = input.tensors.iter().filter(|t| !pruned(options, &t.name)).collect();
    if !options.keep_split && !keeps_all(input, recipe, options) {
        tensors.sort_by(|a, b| visit_order(&a.name, &b.name));
    }
    let tied = !tensors.iter().any(|t| Category::of(&t.name) == Category::Output);
    let decider = Decider { input, model, recipe, options, tied };
    decider.check_patterns(&tensors)?;
    let mut layers = Layers::new(model, &tensors);
    let entries = tensors.into_iter().map(|t| decider.entry(&mut layers, t)).collect::<Result<Vec<_>>>()?;
    importance::refuse_another_models(input, options)?;
    Ok(entries)
}

/// Whether nothing of a file changes but into which files it is cut, as llama.cpp's gguf-split does it.
pub(super) fn keeps_all(input: &PlanInput, recipe: &Recipe, options: &PlanOptions) -> bool {
    recipe.only_copy && options.as_converter && input.origin == ModelOrigin::Gguf
}

/// Quantized types that llama.cpp's converter writes itself (`--outtype`).
const BY_CONVERTER: [DType; 3] = [DType::Q8_0, DType::TQ1_0, DType::TQ2_0];

/// Ternary files keep embedding and head as F16.
const TERNARY: [DType; 2] = [DType::TQ1_0, DType::TQ2_0];

/// Whether llama.cpp's converter makes files of that recipe, if not of floats.
pub(super) fn converter_makes(recipe: &Recipe) -> bool {
    BY_CONVERTER.iter().any(|dtype| dtype.name().eq_ignore_ascii_case(&recipe.name))
}

/// What llama.cpp's converter makes of all tensors for a file of floats or of [`BY_CONVERTER`], in its own order
/// (`prepare_tensors` in conversion/base.py, b11434).
pub(super) fn converted(input: &PlanInput, recipe: &Recipe, options: &PlanOptions) -> Result<Vec<PlanEntry>> {
    let entry = |t: &Tensor| -> Result<PlanEntry> {
        let category = Category::of(&t.name);
        let (to, why) = match kept::f32_by_converter(&t.name, t.shape.len()) {
            _ if t.dtype.is_carried() => (t.dtype, NO_WEIGHTS.into()),
            _ if !t.dtype.is_float() => (t.dtype, "quantized in the source".into()),
            Some(why) => (DType::F32, why.into()),
            None if recipe.only_copy => (t.dtype, "copied".into()),
            None => match by_option(options, category, &t.name) {
                Some(decision) => decision,
                None if TERNARY.contains(&recipe.default) && matches!(category, Category::TokenEmbd | Category::Output) => {
                    (DType::F16, "embedding and head of a ternary file".into())
                }
                None if t.cols().is_multiple_of(recipe.default.block_len()) => (recipe.default, DEFAULT.into()),
                None => (DType::F16, format!("rows of {} do not divide into {} blocks", t.cols(), recipe.default).into()),
            },
        };
        check_rows(input, t, to)?;
        let (tensor, renamed_from) = renamed(options, &t.name);
        Ok(PlanEntry { tensor, renamed_from, shape: t.shape.clone(), from: t.dtype, to, reason: why, needs_imatrix: false })
    };
    input.tensors.iter().filter(|t| !pruned(options, &t.name)).map(entry).collect()
}

impl Decider<'_> {
    fn entry(&self, layers: &mut Layers, t: &Tensor) -> Result<PlanEntry> {
        let shape = without_trailing_ones(&t.shape);
        let (tensor, renamed_from) = renamed(self.options, &t.name);
        let (to, reason) = match self.kept(&t.name, shape.len()) {
            // llama-quantize copies those that its own models have, and fails at others.
            _ if t.dtype.is_carried() => (t.dtype, NO_WEIGHTS.into()),
            // From a training checkpoint, llama-quantize would meet what the converter makes of it.
            Some(why) if self.input.origin == ModelOrigin::Safetensors => (DType::F32, why),
            Some(why) => (t.dtype, why),
            None => self.quantized(layers, t, &tensor)?,
        };
        // What a checkpoint has in such a type is what was published; there is no original to go back to.
        let published = self.input.origin == ModelOrigin::Safetensors;
        if !t.dtype.is_float() && to != t.dtype && !published && !self.options.allow_requantize {
            let is = format!("is {} already and would become {to}; ", t.dtype);
            let remedy = "quantize from the F32, F16 or BF16 original, or allow the loss with ";
            let what = Message::from(is).then(remedy).then(ALLOW_REQUANTIZE);
            return Err(Error::tensor(self.input.path, &t.name, what));
        }
        let mut entry =
            PlanEntry { tensor, renamed_from, shape: shape.to_vec(), from: t.dtype, to, reason, needs_imatrix: false };
        entry.needs_imatrix = importance::is_lacking(self.recipe, self.options, t, &entry)?;
        Ok(entry)
    }

    /// Why a tensor is not quantized, if it is not.
    fn kept(&self, name: &str, n_dims: usize) -> Option<Message> {
        if self.recipe.only_copy {
            return Some("copied".into());
        }
        if self.options.leave_output_tensor && Category::of(name) == Category::Output {
            return Some(Message::from("left as it is by ").then(LEAVE_OUTPUT_TENSOR));
        }
        kept::never_quantized(&self.model.arch, name, n_dims).map(Message::from)
    }

    /// The type of a tensor that is not kept; `name` is the one it will have.
    fn quantized(&self, layers: &mut Layers, t: &Tensor, name: &str) -> Result<Decision> {
        if let Some((to, why)) = by_option(self.options, Category::of(name), name) {
            check_rows(self.input, t, to)?;
            return Ok((to, why));
        }
        if self.recipe.is_plain() {
            let why = match self.options.tensor_type(name) {
                Some(_) => "the recipe's type; types by pattern are for recipes that quantize",
                None => DEFAULT,
            };
            return Ok((self.recipe.default, why.into()));
        }
        let (wanted, why) = if let Some(by_pattern) = self.options.tensor_type(name) {
            (by_pattern.dtype, TENSOR_TYPE.with(&by_pattern.pattern))
        } else if self.options.pure {
            (self.recipe.default, Message::from("all alike by ").then(PURE))
        } else {
            self.by_rule(layers, t, name)?
        };
        match fitting(wanted, t.cols()) {
            Some(to) if to == wanted => Ok((to, why)),
            Some(to) => Ok((to, why.then(format!("; rows of {} do not divide into {wanted} blocks", t.cols())))),
            None => {
                let (cols, block) = (t.cols(), wanted.block_len());
                let what = format!(
                    "rows of {cols} do not divide into {wanted} blocks of {block}, and no other type is meant to stand in"
                );
                Err(Error::tensor(self.input.path, &t.name, Message::from(what).then("; name one with ").then(TENSOR_TYPE)))
            }
        }
    }

    fn by_rule(&self, layers: &mut Layers, t: &Tensor, name: &str) -> Result<Decision> {
        let category = match Category::of(name) {
            Category::TokenEmbd if self.tied => Category::Output,
            category => category,
        };
        if let (Category::Output, Some(to)) = (category, self.options.output_tensor_type) {
            return Ok((to, Message::from(OUTPUT_TENSOR_TYPE).then("; the embedding is the head too")));
        }
        let place = layers.visit(category, name);
        let of_mlp = matches!(category, Category::FfnUp | Category::FfnGate | Category::FfnDown);
        if of_mlp && place.layer.is_none() && self.recipe.asks_for_layers() {
            let what = format!("does not say its layer: its name should begin with blk.N, N below {}", self.model.block_count);
            return Err(Error::tensor(self.input.path, &t.name, what));
        }
        let site = TensorFacts {
            name,
            category,
            cols: t.cols(),
            weights: t.elements(),
            stacked: t.shape.get(2).is_some_and(|&n| n > 1),
            visit: place.visit,
            layer: place.layer,
            block: place.block,
            imatrix: self.options.importance().is_some(),
            model: self.model,
        };
        let rule = self.recipe.rule(&site);
        Ok(rule.map_or_else(|| (self.recipe.default, DEFAULT.into()), |rule| (rule.to, rule.why.as_ref().into())))
    }

    fn check_patterns(&self, tensors: &[&Tensor]) -> Result<()> {
        let names: Vec<String> = tensors.iter().map(|t| renamed(self.options, &t.name).0).collect();
        let is_kept = |i: usize| self.kept(&names[i], without_trailing_ones(&tensors[i].shape).len()).is_some();
        let may = |i: &usize| self.recipe.only_copy || !tensors[*i].dtype.is_carried() && !is_kept(*i);
        let (quantizable, others): (Vec<usize>, Vec<usize>) = (0..names.len()).partition(may);
        let of = |numbers: Vec<usize>| numbers.into_iter().map(|i| names[i].as_str()).collect::<Vec<_>>();
        self.options.check_patterns(&of(quantizable), &of(others))
    }
}

/// The type that an option names for the head or the embedding. A separate table of embeddings for each layer follows the
/// option for the embedding too, unless a pattern names it.
fn by_option(options: &PlanOptions, category: Category, name: &str) -> Option<Decision> {
    let named_otherwise = || name == "per_layer_token_embd.weight" && options.tensor_type(name).is_some();
    match category {
        Category::TokenEmbd if !named_otherwise() => Some((options.token_embedding_type?, TOKEN_EMBEDDING_TYPE.into())),
        Category::Output => Some((options.output_tensor_type?, OUTPUT_TENSOR_TYPE.into())),
        _ => None,
    }
}

/// What an option names is taken as it is: nothing stands in where the rows do not divide.
fn check_rows(input: &PlanInput, t: &Tensor, to: DType) -> Result<()> {
    if t.cols().is_multiple_of(to.block_len()) {
        return Ok(());
    }
    let what = format!("rows of {} do not divide into {to} blocks of {}; choose another type for it", t.cols(), to.block_len());
    Err(Error::tensor(input.path, &t.name, what))
}

/// ggml does not know a trailing dimension of 1 from none, so llama-quantize does not write it.
fn without_trailing_ones(shape: &[usize]) -> &[usize] {
    let kept = shape.iter().rposition(|&d| d != 1).map_or(1, |last| last + 1);
    &shape[..kept]
}

fn pruned(options: &PlanOptions, name: &str) -> bool {
    layer_in_name(name).is_some_and(|block| options.prune_layers.contains(&block))
}

/// The name a tensor will have where blocks before its own are pruned, and then the one it had.
fn renamed(options: &PlanOptions, name: &str) -> (String, Option<String>) {
    let Some(block) = layer_in_name(name) else { return (name.to_owned(), None) };
    let gone = options.prune_layers.range(..block).count();
    if gone == 0 {
        return (name.to_owned(), None);
    }
    (name.replacen(&format!("blk.{block}"), &format!("blk.{}", block - gone), 1), Some(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_ones_are_no_dimensions() {
        let check = |shape: &[usize], expected: &[usize]| assert_eq!(without_trailing_ones(shape), expected);
        check(&[8, 4, 1, 1], &[8, 4]);
        check(&[8, 1, 4], &[8, 1, 4]);
        check(&[8, 1], &[8]);
        check(&[1, 1], &[1]);
    }
}
