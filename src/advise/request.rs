//! What a comparison is about: models, machines, recipes and needs, from a TOML file (`configs/runs/`) or from options. Only
//! values; nothing is looked up here.

use std::path::Path;

use bitworth_quant::{Error, Result};
use serde::{Deserialize, Serialize};

use super::rank::{Needs, Use};

/// Recipes where none are named: a ladder from 16 bits to 2.
pub const LADDER: [&str; 10] = ["f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "iq3_xxs", "q2_k", "iq2_xxs"];

/// Tokens of context where none are named.
pub const CONTEXT: u32 = 8192;

/// The largest context one can ask for, tokens.
const MAX_CONTEXT: u32 = 1 << 24;

/// A comparison.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdviceRequest {
    /// What the report is called.
    #[serde(default)]
    pub title: Option<String>,
    /// Models, by name.
    pub models: Vec<String>,
    /// Machines, by name.
    pub hardware: Vec<String>,
    /// Recipes, by name; [`LADDER`] where empty.
    #[serde(default)]
    pub recipes: Vec<String>,
    /// Tokens of context.
    #[serde(default = "default_context")]
    pub context: u32,
    /// chat, code or batch.
    #[serde(default, rename = "use")]
    pub purpose: Option<String>,
    /// Least decoding speed, tokens per second.
    #[serde(default)]
    pub min_tps: Option<f64>,
    /// Largest mean divergence, nats per token.
    #[serde(default)]
    pub max_kld: Option<f64>,
    /// Type of the KV cache.
    #[serde(default)]
    pub kv_type: Option<String>,
    /// Backend in place of each machine's usual one.
    #[serde(default)]
    pub backend: Option<String>,
    /// Whether files are made with an importance matrix.
    #[serde(default)]
    pub imatrix: bool,
}

fn default_context() -> u32 {
    CONTEXT
}

impl AdviceRequest {
    /// Reads a configuration; `path` is for messages.
    ///
    /// # Errors
    /// TOML that does not parse, an unknown key, a figure that cannot be meant.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let request: Self = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
        request.needs(|key, value, what| Error::key(path, key, format!("{value} {what}")))?;
        Ok(request)
    }

    /// The needs it states, checked; `wrong` makes the error from key, value and what is wrong.
    ///
    /// # Errors
    /// Nothing to compare, an unknown use, a figure that is negative or absurd.
    pub fn needs(&self, wrong: impl Fn(&'static str, String, &str) -> Error) -> Result<Needs> {
        for (key, list, remedy) in [
            ("models", &self.models, "names none; name at least one, as llama-3-70b"),
            ("hardware", &self.hardware, "names none; name at least one, as m2-ultra-64gb"),
        ] {
            if list.is_empty() {
                return Err(wrong(key, "[]".to_owned(), remedy));
            }
        }
        if self.context == 0 || self.context > MAX_CONTEXT {
            return Err(wrong("context", self.context.to_string(), "is no number of tokens from 1 to 16777216"));
        }
        let above_zero = |value: &f64, most: f64| *value > 0.0 && *value <= most;
        if let Some(tps) = self.min_tps.filter(|tps| !above_zero(tps, 1e5)) {
            return Err(wrong("min_tps", tps.to_string(), "is no speed: give tokens per second above 0, at most 100000"));
        }
        if let Some(kld) = self.max_kld.filter(|kld| !(*kld == 0.0 || above_zero(kld, 20.0))) {
            return Err(wrong("max_kld", kld.to_string(), "is no divergence: give nats per token from 0 to 20, as 0.05"));
        }
        let purpose = match self.purpose.as_deref() {
            None => Use::default(),
            Some(name) => match Use::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, purpose)) => *purpose,
                None => return Err(Error::unknown("use", name, Use::ALL.map(|(known, _)| known))),
            },
        };
        Ok(Needs { purpose, context: self.context, min_tps: self.min_tps, max_kld: self.max_kld })
    }

    /// The recipes, the ladder where none are named.
    pub fn recipes(&self) -> Vec<&str> {
        if self.recipes.is_empty() { LADDER.to_vec() } else { self.recipes.iter().map(String::as_str).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<AdviceRequest> {
        AdviceRequest::parse(Path::new("r.toml"), &format!("models = ['m']\nhardware = ['a']\n{rest}"))
    }

    #[test]
    fn a_request_needs_no_more_than_models_and_machines() {
        let request = parse("").unwrap();
        assert_eq!((request.context, request.recipes().len()), (CONTEXT, LADDER.len()));
        assert_eq!(parse("recipes = ['q8_0']\nuse = 'code'").unwrap().recipes(), ["q8_0"]);
    }

    #[track_caller]
    fn refuse(rest: &str, expected: &str) {
        let error = parse(rest).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn figures_that_cannot_be_meant_are_refused() {
        refuse("min_tps = -3", "r.toml: min_tps: -3 is no speed");
        refuse("min_tps = nan", "min_tps: NaN is no speed");
        refuse("max_kld = -0.1", "max_kld: -0.1 is no divergence");
        refuse("context = 0", "context: 0 is no number of tokens");
        refuse("use = 'chess'", "unknown use \"chess\"; known: chat, code, batch");
        refuse("min-tps = 3", "unknown field `min-tps`");
        let error = AdviceRequest::parse(Path::new("r.toml"), "models = []\nhardware = ['a']").unwrap_err().to_string();
        assert!(error.contains("models: [] names none"), "{error}");
    }

    #[test]
    fn the_shipped_comparisons_are_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/runs");
        let mut found = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            if text.parse::<toml::Table>().unwrap().contains_key("hardware") {
                AdviceRequest::parse(&path, &text).unwrap();
                found += 1;
            }
        }
        assert!(found > 0);
    }

    #[test]
    fn every_recipe_of_the_ladder_is_known() {
        for recipe in LADDER {
            bitworth_quant::recipe::Recipe::find(recipe).unwrap();
        }
    }
}
