//! Custom recipes, in TOML: a base recipe or a default encoding, and rules that go before those of the base.
//!
//! ```toml
//! name = "q4_k_m_q8"          # ends the file names: MODEL-Q4_K_M_Q8.gguf
//! base = "q4_k_m"             # or: default = "q4_k"
//!
//! [[rule]]                    # the first rule that fits a tensor decides
//! category = ["attn_k", "attn_v"]
//! to = "q8_0"
//! why = "keys and values"
//! ```
//!
//! Absent: conditions that need the architecture (llama.cpp's own rules have them, see `mixes`).

use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use super::builtin::ftype_of;
use super::facts::Category;
use super::rule::{Recipe, Rule};
use super::when::{LayerSpan, When};
use crate::message::Message;
use crate::{DType, Error, Result};

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomRecipe {
    name: String,
    base: Option<String>,
    default: Option<String>,
    #[serde(default, rename = "rule")]
    rules: Vec<CustomRule>,
}

/// A rule. All keys that are given must hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomRule {
    /// What the tensor is for.
    category: Option<OneOrMore>,
    /// A regular expression that the tensor's GGUF name must contain a match of.
    name: Option<String>,
    /// The first and the last block, both included, counted from 0.
    blocks: Option<(usize, usize)>,
    /// The first n-th of the blocks.
    first_part: Option<usize>,
    /// The last n-th of the blocks.
    last_part: Option<usize>,
    /// The blocks to which llama.cpp's mixes give more bits: the outer eighths and every third one between.
    #[serde(default)]
    more_bits: bool,
    /// Whether the tensor holds the matrices of several experts.
    experts: Option<bool>,
    /// The fewest weights.
    min_weights: Option<u64>,
    /// The most weights.
    max_weights: Option<u64>,
    /// The encoding.
    to: String,
    /// For the plan's reader.
    why: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected one or a list of output, token_embd, attn_q, attn_k, attn_v, attn_output, ffn_up, ffn_gate, ffn_down, \
         other"
)]
enum OneOrMore {
    One(Category),
    More(Vec<Category>),
}

/// Reads the recipe in `text`; `path` is for messages.
pub(super) fn parse(path: &Path, text: &str) -> Result<Recipe> {
    let own: CustomRecipe = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
    let name = own.name.to_ascii_lowercase();
    check_name(&name).map_err(|what| Error::file(path, what))?;
    let base = match (&own.base, &own.default) {
        (Some(base), None) if Recipe::is_path(base) => Err("base must be one of llama.cpp's recipes, not a file".into()),
        (Some(base), None) => {
            Recipe::find(base).map(|base| (*base).clone()).map_err(|e| Message::from("base: ").then(e.message()))
        }
        (None, Some(default)) => plain_base(default),
        _ => Err("give either base = \"RECIPE\" or default = \"TYPE\"".into()),
    };
    let base = base.map_err(|what| Error::file(path, what))?;
    if base.only_copy {
        return Err(Error::file(path, "base: copy leaves every tensor as it is, so that no rule could have an effect"));
    }
    let mut rules = Vec::new();
    for (i, rule) in own.rules.into_iter().enumerate() {
        rules.extend(rule.into_rules().map_err(|what| Error::file(path, Message::from(format!("rule {}: ", i + 1)).then(what)))?);
    }
    rules.extend(base.rules);
    Ok(Recipe { name, ftype: base.ftype, default: base.default, rules, only_copy: false })
}

/// The name becomes part of file names and stands beside those of llama.cpp's recipes.
fn check_name(name: &str) -> Result<(), Message> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(format!("name {name:?} may hold letters, digits, '_' and '-' only: it becomes part of file names").into());
    }
    match Recipe::find(name) {
        Ok(recipe) => Err(format!("name {name:?} is llama.cpp's recipe {}; choose another", recipe.name).into()),
        Err(_) => Ok(()),
    }
}

/// A recipe without rules, of the file type that llama.cpp gives files with mostly this type.
fn plain_base(name: &str) -> Result<Recipe, Message> {
    let default = dtype("default", name)?;
    let ftype = ftype_of(default).ok_or_else(|| format!("default: llama.cpp has no file type of {default}"))?;
    Ok(Recipe { name: String::new(), ftype, default, rules: Vec::new(), only_copy: false })
}

fn dtype(key: &str, name: &str) -> Result<DType, Message> {
    let unknown = || Error::unknown("type", name, DType::ALL.iter().map(|d| d.name()));
    DType::from_name(name).ok_or_else(|| Message::from(format!("{key}: ")).then(unknown().message()))
}

impl CustomRule {
    /// One rule for each category.
    fn into_rules(self) -> Result<Vec<Rule>, Message> {
        let to = dtype("to", &self.to)?;
        let name = self.name.map(|pattern| Regex::new(&pattern)).transpose().map_err(|e| format!("name: {e}"))?;
        let mut when = Vec::new();
        if let Some((first, last)) = self.blocks {
            if first > last {
                return Err(format!("blocks = [{first}, {last}]: the first comes after the last").into());
            }
            when.push(When::Block(LayerSpan::Range(first, last)));
        }
        for (key, parts, part) in
            [("first_part", self.first_part, LayerSpan::First as fn(_) -> _), ("last_part", self.last_part, LayerSpan::Last)]
        {
            match parts {
                Some(0) => return Err(format!("{key} = 0: give the number of parts, as 8 for an eighth").into()),
                Some(parts) => when.push(When::Block(part(parts))),
                None => {}
            }
        }
        when.extend(self.more_bits.then_some(When::Block(LayerSpan::MoreBits)));
        when.extend(self.experts.map(When::Stacked));
        when.extend(self.min_weights.map(When::MinWeights));
        when.extend(self.max_weights.map(When::MaxWeights));
        let why = self.why.unwrap_or_else(|| "a rule of the recipe".to_owned());
        let rule = |on| Rule { on, name: name.clone(), when: when.clone().into(), to, why: why.clone().into() };
        Ok(match self.category {
            None => vec![rule(None)],
            Some(OneOrMore::One(category)) => vec![rule(Some(category))],
            Some(OneOrMore::More(categories)) => categories.into_iter().map(|category| rule(Some(category))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Recipe> {
        parse(Path::new("r.toml"), text)
    }

    #[track_caller]
    fn check_error(text: &str, expected: &[&str]) {
        let error = read(text).unwrap_err().to_string();
        assert!(error.starts_with("r.toml: "), "{error}");
        for part in expected {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    #[test]
    fn own_rules_go_before_those_of_the_base() {
        let base = Recipe::find("q4_k_m").unwrap();
        let own =
            read("name = \"Mine\"\nbase = \"q4_k_m\"\n[[rule]]\ncategory = [\"attn_k\", \"output\"]\nto = \"q8_0\"").unwrap();
        assert_eq!((own.name.as_str(), own.ftype, own.default), ("mine", base.ftype, base.default));
        assert_eq!(own.rules.len(), base.rules.len() + 2);
        assert_eq!(own.rules[1].on, Some(Category::Output));
        assert_eq!(own.file_stem_suffix(), "MINE");
        let plain = read("name = \"m\"\ndefault = \"Q4_K\"").unwrap();
        assert_eq!((plain.default, plain.ftype, plain.rules.len()), (DType::Q4_K, 15, 0));
    }

    #[test]
    fn mistakes_are_named() {
        check_error("name = \"a\"", &["either base", "or default"]);
        check_error("name = \"a\"\nbase = \"q4_0\"\ndefault = \"q4_0\"", &["either base"]);
        check_error("base = \"q4_0\"", &["missing field `name`"]);
        check_error("name = \"a/b\"\nbase = \"q4_0\"", &["a/b", "file names"]);
        check_error("name = \"Q4_K\"\nbase = \"q4_0\"", &["q4_k_m", "choose another"]);
        check_error("name = \"a\"\nbase = \"q9\"", &["base: ", "q9", "q4_k_m"]);
        check_error("name = \"a\"\nbase = \"b.toml\"", &["not a file"]);
        check_error("name = \"a\"\nbase = \"copy\"", &["no rule could have an effect"]);
        check_error("name = \"a\"\ndefault = \"q9\"", &["default: ", "q9", "Q4_K"]);
        check_error("name = \"a\"\nbase = \"q4_0\"\nbits = 3", &["unknown field `bits`", "`base`", "`rule`"]);
        let rule = |keys: &str| format!("name = \"a\"\nbase = \"q4_0\"\n[[rule]]\n{keys}");
        check_error(&rule("to = \"q8_0\"\nlayer = 3"), &["unknown field `layer`", "`blocks`", "`more_bits`", "line 5"]);
        check_error(&rule("category = \"attn_k\""), &["missing field `to`"]);
        check_error(&rule("to = \"q9\""), &["rule 1: to: ", "q9", "Q4_K"]);
        check_error(&rule("to = \"q8_0\"\nname = \"(\""), &["rule 1: name: "]);
        check_error(&rule("to = \"q8_0\"\ncategory = \"attn\""), &["category", "attn_output", "line 5"]);
        check_error(&rule("to = \"q8_0\"\nblocks = [4, 2]"), &["rule 1: blocks = [4, 2]"]);
        check_error(&rule("to = \"q8_0\"\nfirst_part = 0"), &["rule 1: first_part = 0"]);
    }
}
