//! A job's models: their recipes and candidates, and what those are made with.

use std::path::Path;

use bitworth_quant::Recipe;
use bitworth_quant::message::Message;
use serde::{Deserialize, Serialize};

use super::forms::TomlTable;
use super::{FIT, MIN_CTX, above_zero, default_ctx};

/// A model, and what it is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The reference: a Hugging Face directory or a GGUF file, seen from the configuration's folder; or `hf:OWNER/NAME`
    /// on the hub, or `demo:PATH`.
    pub model: String,
    /// The recipes of which files are made: names, or paths of TOML files seen from the configuration's folder.
    #[serde(default)]
    pub recipes: Vec<String>,
    /// Other versions of the model: existing GGUF files and directories, your own or others', and `@RECIPE` for the model
    /// quantized on the fly, without a file.
    #[serde(default)]
    pub candidates: Vec<String>,
    /// What matters how much to the recipes' rounding.
    pub imatrix: Option<ImatrixSpec>,
    /// What the recipes named `RECIPE+fit` are fitted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitSpec>,
    /// Whether the reference goes by the model's name among the lanes, and not by the type of its weights.
    #[serde(skip_deserializing)]
    pub by_name: bool,
}

/// An importance matrix, as llama-quantize's `--imatrix`: a file made before, or a text to collect it on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImatrixSpec {
    /// The file (GGUF or .dat), seen from the configuration's folder.
    pub file: Option<String>,
    /// The text to collect it on from the reference, seen from the configuration's folder, or `demo:PATH`.
    pub text: Option<String>,
    /// Tokens in a window of the text.
    #[serde(default = "default_ctx")]
    pub ctx: usize,
    /// The number of windows [default: all].
    pub chunks: Option<usize>,
    /// The recipes that use it, those of candidates on the fly among them [default: all].
    pub recipes: Option<Vec<String>>,
}

impl TomlTable for ImatrixSpec {
    const TAKES: &'static str = "a table, as [imatrix] with file = \"imatrix.gguf\" or with text = \"calibration.txt\"";
}

impl ImatrixSpec {
    /// A file, for all recipes; `ctx` tokens are in a window of the text that measures them.
    pub fn of_file(file: &Path, ctx: usize) -> Self {
        Self { file: Some(file.display().to_string()), text: None, ctx, chunks: None, recipes: None }
    }
}

/// The texts that weights are fitted to, as `bitworth quantize` does it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitSpec {
    /// The files, seen from the configuration's folder, or `demo:PATH`.
    pub texts: Vec<String>,
    /// Tokens of them, at most; the same number of each text.
    #[serde(default = "default_fit_tokens")]
    pub tokens: usize,
    /// Tokens in a window.
    #[serde(default = "default_ctx")]
    pub ctx: usize,
    /// Whether the output matrix is fitted, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub output: bool,
}

impl TomlTable for FitSpec {
    const TAKES: &'static str = "a table, as [fit] with texts = [\"calibration.txt\"]";
}

impl FitSpec {
    /// What stands behind the name of a recipe whose weights are fitted.
    pub const MARK: &str = "+fit";

    /// Windows of each text: two at least, as one half is held out.
    pub fn windows(&self) -> usize {
        (self.tokens / self.texts.len().max(1) / self.ctx.max(1)).max(2)
    }

    /// Checks names and counts.
    ///
    /// # Errors
    /// No text, a window that is too short, no tokens.
    pub fn check(&self) -> Result<(), Message> {
        if self.texts.is_empty() || self.texts.iter().any(|text| text.trim().is_empty()) {
            return Err("fit: name at least one text, by its file".into());
        }
        if self.ctx < MIN_CTX || self.tokens == 0 {
            return Err(format!("fit: ctx must be {MIN_CTX} or more, and tokens above 0").into());
        }
        Ok(())
    }
}

/// A recipe's own name, and whether its weights are fitted (`q4_k_m+fit`).
pub fn fitted(name: &str) -> (&str, bool) {
    name.strip_suffix(FitSpec::MARK).map_or((name, false), |plain| (plain, true))
}

fn default_fit_tokens() -> usize {
    1 << 15
}

pub(super) fn check_recipes(model: &mut ModelSpec) -> Result<(), Message> {
    let is_fit = model.fit.is_some();
    let resolve = |name: &mut String, place: String| -> Result<(), Message> {
        let (plain, is_fitted) = fitted(name);
        let recipe = Recipe::find(plain).map_err(|e| Message::from(format!("{place}: ")).then(e.message()))?;
        if is_fitted && !is_fit {
            return Err(Message::from(format!("{place}: {name} is fitted to texts; name them with ")).then(FIT));
        }
        if is_fitted && recipe.only_copy {
            return Err(format!("{place}: {name}: {plain} changes no weights, so there is nothing to fit").into());
        }
        if !Recipe::is_path(plain) {
            *name = format!("{}{}", recipe.name, if is_fitted { FitSpec::MARK } else { "" });
        }
        Ok(())
    };
    for (i, name) in model.recipes.iter_mut().enumerate() {
        resolve(name, format!("recipes[{i}]"))?;
    }
    let mut on_the_fly = Vec::new();
    for candidate in &model.candidates {
        if let Some(name) = candidate.strip_prefix('@') {
            let mut name = name.to_owned();
            // As it was written: an argument has no number that its user knows.
            resolve(&mut name, candidate.clone())?;
            on_the_fly.push(name);
        }
    }
    if let Some(fit) = &model.fit {
        fit.check()?;
        let on_the_fly = model.candidates.iter().filter_map(|candidate| candidate.strip_prefix('@'));
        let mut names = model.recipes.iter().map(String::as_str).chain(on_the_fly).filter(|name| fitted(name).1);
        let twice = on_the_fly_twice(model);
        if let Some(name) = twice {
            return Err(format!("candidates: @{name} is among the recipes, too; leave one out").into());
        }
        if names.next().is_none() {
            let what = " is for recipes that are fitted, and none is: write q4_k_m+fit for q4_k_m with fitted weights";
            return Err(Message::from(FIT).then(what));
        }
    }
    for (key, names) in [("recipes", &model.recipes), ("candidates", &model.candidates)] {
        if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(format!("{key}: {} occurs twice", names[twice]).into());
        }
    }
    let Some(imatrix) = &mut model.imatrix else { return Ok(()) };
    for (i, name) in imatrix.recipes.iter_mut().flatten().enumerate() {
        resolve(name, format!("imatrix.recipes[{i}]"))?;
        if !model.recipes.contains(name) && !on_the_fly.contains(name) {
            return Err(format!("imatrix.recipes: {name} is none of the recipes of this run").into());
        }
    }
    if imatrix.file.is_some() == imatrix.text.is_some() {
        return Err("[imatrix]: give either a file that holds one or a text to collect it on".into());
    }
    if imatrix.ctx == 0 || u32::try_from(imatrix.ctx).is_err() {
        return Err(format!("imatrix.ctx must be from 1 to {}", u32::MAX).into());
    }
    if imatrix.chunks == Some(0) {
        return Err(above_zero("imatrix.chunks"));
    }
    Ok(())
}

/// A recipe that is to be fitted as a candidate and as a recipe: their files would have one name.
fn on_the_fly_twice(model: &ModelSpec) -> Option<&str> {
    let names = model.candidates.iter().filter_map(|candidate| candidate.strip_prefix('@'));
    names.filter(|name| fitted(name).1).find(|name| model.recipes.iter().any(|recipe| recipe == name))
}
