//! Which unit of a model gets which type, chosen by what each choice costs: the units ([`TensorUnit`]), what they would take in
//! each type, the choice at a given size or loss ([`solve()`]), and the recipe that says it. Absent: what a choice costs, which
//! is measured (see `bitworth-measure`).

mod solve;
mod write;

use std::sync::Arc;

pub use solve::{Cost, Goal, isotonic, solve};
pub use write::{recipe, tensor_types};

use crate::arch::Role;
use crate::checkpoint::Model;
use crate::gguf::alignment_of;
use crate::plan::{Plan, PlanEntry, PlanOptions};
use crate::recipe::{Recipe, ftype_of};
use crate::{DType, Error, Result};

/// Matrices of a block that get one type because they lose together: what attention compares, and what is multiplied.
const TIED: [(&str, &str); 9] = [
    ("attn_q", "attn_qk"),
    ("attn_k", "attn_qk"),
    ("ffn_gate", "ffn_gate_up"),
    ("ffn_up", "ffn_gate_up"),
    ("ffn_gate_exps", "ffn_gate_up_exps"),
    ("ffn_up_exps", "ffn_gate_up_exps"),
    ("ffn_gate_shexp", "ffn_gate_up_shexp"),
    ("ffn_up_shexp", "ffn_gate_up_shexp"),
    // Latent attention's two halves of one matrix.
    ("attn_k_b", "attn_v_b"),
];

/// Tensors that get one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorUnit {
    /// `attn_qk`, `ffn_gate_up`, or the name of its only tensor without block and `.weight`, as `attn_v` or `token_embd`.
    pub name: String,
    /// The block; `None` for embedding and head.
    pub block: Option<usize>,
    /// GGUF names.
    pub tensors: Vec<String>,
}

impl TensorUnit {
    /// As `blk.3.attn_qk`.
    pub fn full_name(&self) -> String {
        self.block.map_or_else(|| self.name.clone(), |block| format!("blk.{block}.{}", self.name))
    }

    /// The plan in which its tensors become what they do in `plan`, and all others stay as the source has them.
    #[must_use]
    pub fn alone(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        for entry in plan.entries.iter_mut().filter(|entry| !self.tensors.contains(&entry.tensor)) {
            entry.to = entry.from;
        }
        plan
    }

    /// What its tensors become in a plan.
    pub fn types(&self, plan: &Plan) -> Vec<DType> {
        self.tensors.iter().filter_map(|name| Some(plan.get(name)?.to)).collect()
    }

    /// Bytes that its tensors take in a file of a plan, with what is between tensors.
    pub fn bytes(&self, plan: &Plan, alignment: u64) -> u64 {
        self.tensors.iter().filter_map(|name| Some(plan.get(name)?.bytes().next_multiple_of(alignment))).sum()
    }
}

/// The plan that gives every tensor one type, as llama-quantize's `--pure`.
///
/// # Errors
/// As [`Plan::of`]; a type that llama.cpp has no file type of, or that is no quantized one.
pub fn alike(model: &dyn Model, dtype: DType, options: &PlanOptions) -> Result<Plan> {
    let ftype = ftype_of(dtype).filter(|_| !dtype.is_float());
    let ftype = ftype.ok_or_else(|| Error::file(model.path(), format!("{dtype} is no type that models are quantized to")))?;
    let recipe = Recipe { name: dtype.name().to_lowercase(), ftype, default: dtype, rules: Vec::new(), only_copy: false };
    Plan::of(model, &Arc::new(recipe), &PlanOptions { pure: true, ..options.clone() })
}

/// The units of a model whose types can be chosen, in the order of its tensors; `options` as the files will be made.
///
/// # Errors
/// As [`alike`]; a model without any.
pub fn units(model: &dyn Model, options: &PlanOptions) -> Result<Vec<TensorUnit>> {
    let plan = alike(model, DType::Q8_0, options)?;
    let mut units: Vec<TensorUnit> = Vec::new();
    let chosen = |entry: &&PlanEntry| entry.to == DType::Q8_0 && entry.from != entry.to && Role::parse(&entry.tensor).is_some();
    for entry in plan.entries.iter().filter(chosen) {
        let (block, stem) = parts(&entry.tensor);
        let name = TIED.iter().find(|(tensor, _)| *tensor == stem).map_or(stem, |(_, unit)| unit);
        match units.iter_mut().find(|unit| unit.block == block && unit.name == name) {
            Some(unit) => unit.tensors.push(entry.tensor.clone()),
            None => units.push(TensorUnit { name: name.to_owned(), block, tensors: vec![entry.tensor.clone()] }),
        }
    }
    match units.is_empty() {
        true => Err(Error::file(model.path(), "none of its tensors can be quantized")),
        false => Ok(units),
    }
}

/// The block of a tensor, and its name without that and `.weight`.
fn parts(name: &str) -> (Option<usize>, &str) {
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    let in_block = stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let in_block = in_block.and_then(|(block, stem)| Some((Some(block.parse().ok()?), stem)));
    in_block.unwrap_or((None, stem))
}

/// The alignment of tensors in files of a model.
///
/// # Errors
/// One that is none.
pub fn alignment(model: &dyn Model) -> Result<u64> {
    alignment_of(model.path(), model.metadata())
}

#[cfg(test)]
mod tests;
