//! A recipe as a value: its rules, and which of them decides about a tensor.
//!
//! Absent: the recipes there are (see `mixes`, `custom`).

use std::borrow::Cow;

use regex::Regex;

use super::facts::{Category, TensorFacts};
use super::when::When;
use crate::DType;

/// One rule: tensors of this category become `to` where all conditions hold.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Which tensors it is about; all where there is none.
    pub on: Option<Category>,
    /// The tensor's name must contain a match.
    pub name: Option<Regex>,
    /// All of these must hold.
    pub when: Cow<'static, [When]>,
    /// The encoding they get.
    pub to: DType,
    /// Why, for the plan's reader.
    pub why: Cow<'static, str>,
}

impl Rule {
    /// A rule known when the program is built.
    pub(super) const fn fixed(on: Option<Category>, when: &'static [When], to: DType, why: &'static str) -> Self {
        Self { on, name: None, when: Cow::Borrowed(when), to, why: Cow::Borrowed(why) }
    }

    fn fits(&self, site: &TensorFacts, default: DType) -> bool {
        self.on.is_none_or(|category| category == site.category)
            && self.name.as_ref().is_none_or(|pattern| pattern.is_match(site.name))
            && self.when.iter().all(|when| when.holds(site, default))
    }
}

/// One quantized or plain file type, of llama-quantize or custom.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its name in lower case, as `q4_k_m`.
    pub name: String,
    /// `general.file_type` of the files it makes (llama.cpp's `llama_ftype`).
    pub ftype: u32,
    /// The encoding of every tensor that no rule names.
    pub default: DType,
    /// The rules; the first that fits decides.
    pub rules: Vec<Rule>,
    /// Whether every tensor stays as it is (llama-quantize's COPY), whatever `default` says.
    pub only_copy: bool,
}

impl Recipe {
    /// How file names end, before `.gguf`: `Q4_K_M`.
    pub fn file_stem_suffix(&self) -> String {
        self.name.to_ascii_uppercase()
    }

    /// The first rule that fits, if any does.
    pub fn rule(&self, site: &TensorFacts) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.fits(site, self.default))
    }

    /// Whether a rule asks for the layer as llama-quantize counts those of the MLP.
    pub(crate) fn asks_for_layers(&self) -> bool {
        self.rules.iter().flat_map(|rule| rule.when.iter()).any(|when| matches!(when, When::Layer(_)))
    }

    /// Whether it makes what llama.cpp's converter makes: floats, and no tensor treated apart.
    pub(crate) fn is_plain(&self) -> bool {
        self.default.is_float() && self.rules.is_empty()
    }
}
