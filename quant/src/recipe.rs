//! Recipes: the file types of llama-quantize as data. A recipe is a default encoding and an ordered list of rules, of which
//! the first that fits a tensor decides. What is absent: walking a model's tensors and counting its layers (see `plan`).
//!
//! The rules restate what llama.cpp's `llama_tensor_get_type_impl` decides (src/llama-quant.cpp, b11434), so that files
//! equal those of llama-quantize. To add a file type is to add a row to [`Recipe::ALL`] and, where it mixes, its rules.

use crate::{DType, Error, Result};

/// What a tensor is for, as far as the choice of its encoding cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// The head: `output.weight`, or the token embedding of a model without one.
    Output,
    /// The token embedding of a model with a head of its own.
    TokenEmbd,
    /// Query projection.
    AttnQ,
    /// Key projection.
    AttnK,
    /// Value projection, or a fused one that holds the values (`attn_qkv`, `attn_kv_b`).
    AttnV,
    /// Output projection of attention.
    AttnOutput,
    /// Up projection of the MLP or of its experts.
    FfnUp,
    /// Gate projection of the MLP or of its experts.
    FfnGate,
    /// Down projection of the MLP or of its experts.
    FfnDown,
    /// Anything else.
    Other,
}

/// Whole names with a category.
const NAMED: [(&str, Category); 3] = [
    ("output.weight", Category::Output),
    ("token_embd.weight", Category::TokenEmbd),
    ("per_layer_token_embd.weight", Category::TokenEmbd),
];

/// Parts of names with a category; the first that occurs decides.
const PARTS: [(&str, Category); 9] = [
    ("attn_qkv.weight", Category::AttnV),
    ("attn_kv_b.weight", Category::AttnV),
    ("attn_v.weight", Category::AttnV),
    ("attn_k.weight", Category::AttnK),
    ("attn_q.weight", Category::AttnQ),
    ("attn_output.weight", Category::AttnOutput),
    ("ffn_up", Category::FfnUp),
    ("ffn_gate", Category::FfnGate),
    ("ffn_down", Category::FfnDown),
];

impl Category {
    /// The category that a tensor's GGUF name gives it, a tied head not considered.
    pub fn of(name: &str) -> Self {
        let named = NAMED.iter().find(|(whole, _)| *whole == name);
        let found = named.or_else(|| PARTS.iter().find(|(part, _)| name.contains(part)));
        found.map_or(Self::Other, |&(_, category)| category)
    }
}

/// All that a rule may ask about a tensor and its model.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// What the tensor is for.
    pub category: Category,
    /// Its row length in weights.
    pub cols: usize,
    /// Its number among the layers, counted as llama-quantize counts (see `plan`).
    pub layer: usize,
    /// Number of layers by the same count.
    pub layers: usize,
    /// The model.
    pub model: &'a ModelFacts,
}

/// What rules may ask about the model as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// `general.architecture`, as `llama`.
    pub arch: String,
    /// `{arch}.block_count`.
    pub block_count: usize,
    /// `{arch}.attention.head_count` of the first layer.
    pub head_count: usize,
    /// `{arch}.attention.head_count_kv` of the first layer.
    pub head_count_kv: usize,
    /// `{arch}.expert_count`, 0 where the model has none.
    pub expert_count: usize,
}

impl ModelFacts {
    /// Whether llama.cpp calls the model a 70B: by architecture and number of layers (its `load_arch_hparams`), for
    /// `llama` only with grouped queries, which tell Llama-2-70B from LLaMA-65B.
    fn is_70b(&self) -> bool {
        const LAYERS_OF_70B: [(&str, usize); 5] = [("llama", 80), ("qwen2", 80), ("deci", 80), ("olmo", 80), ("jais2", 68)];
        let known = LAYERS_OF_70B.contains(&(self.arch.as_str(), self.block_count));
        known && (self.arch != "llama" || self.head_count != self.head_count_kv)
    }
}

/// A condition of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The architecture is this one.
    Arch(&'static str),
    /// The model has exactly so many experts.
    Experts(usize),
    /// llama.cpp calls the model a 70B.
    Is70b,
    /// The row is not a whole number of blocks of the recipe's default encoding.
    UnevenRow,
    /// In the first eighth of the layers, the last eighth, or every third layer between (llama.cpp's `use_more_bits`).
    MoreBits,
    /// In the first n-th of the layers, rounded down.
    FirstPart(usize),
}

impl When {
    fn holds(self, site: &Site, default: DType) -> bool {
        let (i, n) = (site.layer, site.layers);
        match self {
            Self::Arch(name) => site.model.arch == name,
            Self::Experts(count) => site.model.expert_count == count,
            Self::Is70b => site.model.is_70b(),
            Self::UnevenRow => !site.cols.is_multiple_of(default.block_len()),
            Self::MoreBits => i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2,
            Self::FirstPart(parts) => i < n / parts,
        }
    }
}

/// One rule of a mix: tensors of this role become `to` where all conditions hold.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Which tensors it is about.
    pub category: Category,
    /// All of these must hold.
    pub when: &'static [When],
    /// The encoding they get.
    pub to: DType,
    /// Why, for the plan's reader.
    pub why: &'static str,
}

const fn rule(category: Category, when: &'static [When], to: DType, why: &'static str) -> Rule {
    Rule { category, when, to, why }
}

/// One quantized or plain file type.
#[derive(Debug)]
pub struct Recipe {
    /// Its name in lower case, as `q4_k_m`.
    pub name: &'static str,
    /// `general.file_type` of the files it makes (llama.cpp's `llama_ftype`).
    pub ftype: u32,
    /// The encoding of every tensor that no rule names.
    pub default: DType,
    /// The rules, in groups that recipes share; the first that fits decides.
    pub mix: &'static [&'static [Rule]],
}

/// The head matters more than any other tensor of its size.
const HEAD: &[Rule] = &[
    rule(Category::Output, &[When::Arch("falcon")], DType::Q8_0, "head of a falcon"),
    rule(Category::Output, &[When::UnevenRow], DType::Q8_0, "head whose rows are not whole blocks"),
    rule(Category::Output, &[], DType::Q6_K, "head"),
];

/// Keys and values are a small part of a model with eight experts.
const EIGHT_EXPERTS: &[Rule] = &[
    rule(Category::AttnV, &[When::Experts(8)], DType::Q8_0, "values of a model with 8 experts"),
    rule(Category::AttnK, &[When::Experts(8)], DType::Q8_0, "keys of a model with 8 experts"),
];

const Q4_K_M: &[Rule] = &[
    rule(Category::AttnV, &[When::MoreBits], DType::Q6_K, "values of a layer that gets more bits"),
    rule(Category::AttnV, &[When::Is70b], DType::Q5_K, "values of a 70B, shared by 8 heads"),
    rule(Category::FfnDown, &[When::Arch("falcon"), When::FirstPart(16)], DType::Q6_K, "ffn_down of a falcon's first layers"),
    rule(
        Category::FfnDown,
        &[When::Arch("falcon"), When::MoreBits],
        DType::Q5_K,
        "ffn_down of a falcon's layer that gets more bits",
    ),
    rule(Category::FfnDown, &[When::Arch("falcon")], DType::Q4_K, "ffn_down of a falcon"),
    rule(Category::FfnDown, &[When::MoreBits], DType::Q6_K, "ffn_down of a layer that gets more bits"),
    rule(Category::AttnOutput, &[When::Arch("falcon")], DType::Q4_K, "attention output of a falcon"),
    rule(Category::AttnOutput, &[When::Experts(8)], DType::Q5_K, "attention output of a model with 8 experts"),
];

const fn recipe(name: &'static str, ftype: u32, default: DType, mix: &'static [&'static [Rule]]) -> Recipe {
    Recipe { name, ftype, default, mix }
}

impl Recipe {
    /// Every recipe, from most to fewest bits.
    pub const ALL: &'static [Self] = &[
        recipe("f32", 0, DType::F32, &[]),
        recipe("bf16", 32, DType::BF16, &[]),
        recipe("f16", 1, DType::F16, &[]),
        recipe("q8_0", 7, DType::Q8_0, &[]),
        recipe("q6_k", 18, DType::Q6_K, &[HEAD, EIGHT_EXPERTS]),
        recipe("q4_k_m", 15, DType::Q4_K, &[HEAD, EIGHT_EXPERTS, Q4_K_M]),
        recipe("q4_0", 2, DType::Q4_0, &[HEAD, EIGHT_EXPERTS]),
    ];

    /// The recipe of that name, whatever its case.
    ///
    /// # Errors
    /// [`Error::Unknown`] with all names.
    pub fn find(name: &str) -> Result<&'static Self> {
        let found = Self::ALL.iter().find(|r| r.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::unknown("recipe", name, Self::ALL.iter().map(|r| r.name)))
    }

    /// How file names end, before `.gguf`: `Q4_K_M`.
    pub fn file_stem_suffix(&self) -> String {
        self.name.to_ascii_uppercase()
    }

    /// The first rule that fits, if any does.
    pub fn rule(&self, site: &Site) -> Option<&'static Rule> {
        let rules = self.mix.iter().copied().flatten();
        rules.into_iter().find(|r| r.category == site.category && r.when.iter().all(|w| w.holds(site, self.default)))
    }
}

/// What stands in for an encoding whose blocks do not divide a tensor's rows: the one of 32-weight blocks with about as many
/// bits (llama.cpp's `tensor_type_fallback`). Where even those do not divide the rows, F16.
const FALLBACKS: [(DType, DType); 3] = [(DType::Q4_K, DType::Q5_0), (DType::Q5_K, DType::Q5_1), (DType::Q6_K, DType::Q8_0)];

/// The encoding that rows of `cols` weights get where `wanted` is wanted.
pub fn fitting(wanted: DType, cols: usize) -> DType {
    let fits = |dtype: DType| cols.is_multiple_of(dtype.block_len());
    let smaller_blocks = || FALLBACKS.iter().find(|(from, _)| *from == wanted).map(|&(_, to)| to);
    if fits(wanted) { wanted } else { smaller_blocks().filter(|&to| fits(to)).unwrap_or(DType::F16) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_file_types_are_unique() {
        for (i, a) in Recipe::ALL.iter().enumerate() {
            for b in &Recipe::ALL[i + 1..] {
                assert!(a.name != b.name && a.ftype != b.ftype, "{} and {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn a_recipe_is_found_whatever_the_case() {
        for recipe in Recipe::ALL {
            assert_eq!(Recipe::find(&recipe.file_stem_suffix()).unwrap().name, recipe.name);
        }
        let error = Recipe::find("q4_k_x").unwrap_err().to_string();
        assert!(error.contains("q4_k_x") && error.contains("q4_k_m") && error.contains("bf16"), "{error}");
    }

    #[test]
    fn categories_follow_names() {
        let check = |name, category| assert_eq!(Category::of(name), category, "{name}");
        check("output.weight", Category::Output);
        check("blk.3.attn_output.weight", Category::AttnOutput);
        check("token_embd.weight", Category::TokenEmbd);
        check("blk.0.attn_qkv.weight", Category::AttnV);
        check("blk.0.attn_v.weight", Category::AttnV);
        check("blk.0.attn_v.bias", Category::Other);
        check("blk.10.ffn_down_exps.weight", Category::FfnDown);
        check("blk.10.ffn_gate_shexp.weight", Category::FfnGate);
        check("output_norm.weight", Category::Other);
    }

    #[test]
    fn rows_that_do_not_divide_fall_back() {
        let check = |wanted, cols, expected| assert_eq!(fitting(wanted, cols), expected, "{wanted} at {cols} columns");
        check(DType::Q4_K, 4096, DType::Q4_K);
        check(DType::Q4_K, 576, DType::Q5_0);
        check(DType::Q5_K, 576, DType::Q5_1);
        check(DType::Q6_K, 576, DType::Q8_0);
        check(DType::Q6_K, 100, DType::F16);
        check(DType::Q4_0, 100, DType::F16);
    }
}
