//! The configuration of `bitworth run`: which model, which recipes, what to measure. A TOML file, or the embedded demo.

use std::path::{Path, PathBuf};

use bitworth_quant::Recipe;
use serde::{Deserialize, Serialize};

use super::error::{At, Error, Result};
use super::models;

/// The run that needs nothing but the program.
const DEMO: &str = include_str!("../../configs/runs/demo.toml");

/// What to do in one run. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The reference: a Hugging Face directory or a GGUF file, seen from the configuration's folder; or `hf:OWNER/NAME`
    /// on the hub, or `demo:PATH`.
    pub model: String,
    /// The candidates, by recipe: a name, or the path of a TOML file seen from the configuration's folder.
    pub recipes: Vec<String>,
    /// What matters how much to the candidates' rounding.
    pub imatrix: Option<ImatrixConfig>,
    /// The text to score.
    pub text: Option<TextConfig>,
    /// The tasks to score.
    pub tasks: Option<TasksConfig>,
    /// What to time.
    pub speed: Option<SpeedConfig>,
}

/// An importance matrix, as llama-quantize's `--imatrix`: a file made before, or a text to collect it on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImatrixConfig {
    /// The file (GGUF or .dat), seen from the configuration's folder.
    pub file: Option<String>,
    /// The text to collect it on from the reference, seen from the configuration's folder, or `demo:PATH`.
    pub text: Option<String>,
    /// Tokens in a window of the text.
    #[serde(default = "default_ctx")]
    pub ctx: usize,
    /// Only so many windows.
    pub chunks: Option<usize>,
    /// The recipes that use it [default: all].
    pub recipes: Option<Vec<String>>,
}

/// A text and how it is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// The file, seen from the configuration's folder; or `hf:OWNER/NAME`
    /// on the hub, or `demo:PATH`.
    pub file: String,
    /// Tokens in a window.
    #[serde(default = "default_ctx")]
    pub ctx: usize,
    /// Only so many windows.
    pub chunks: Option<usize>,
    /// Tokens scored between two writes of records: what an interruption costs at most.
    #[serde(default = "default_pass_tokens")]
    pub pass_tokens: usize,
    /// Whether to score every token of the text once more, for bits per byte.
    #[serde(default = "default_true")]
    pub bits_per_byte: bool,
    /// Bits per byte of only so many windows [default: as `chunks`].
    pub bits_per_byte_chunks: Option<usize>,
}

/// Tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TasksConfig {
    /// Names of tasks that come with the program, or task files seen from the configuration's folder.
    pub names: Vec<String>,
    /// Only the first items of each.
    pub limit: Option<usize>,
    /// Whether they are asked as chats, in the model's chat template.
    #[serde(default)]
    pub chat: bool,
}

/// Timings; see [`super::timing::Workload`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SpeedConfig {
    #[serde(default = "default_ctx")]
    pub prompt: usize,
    #[serde(default = "default_generate")]
    pub generate: usize,
    #[serde(default)]
    pub depth: usize,
    #[serde(default = "default_batch")]
    pub batch: usize,
    #[serde(default = "default_repetitions")]
    pub repetitions: usize,
}

fn default_ctx() -> usize {
    512
}

fn default_pass_tokens() -> usize {
    1 << 16
}

fn default_true() -> bool {
    true
}

fn default_generate() -> usize {
    128
}

fn default_batch() -> usize {
    1
}

fn default_repetitions() -> usize {
    3
}

impl RunConfig {
    /// Reads a configuration; without a path, the embedded demo.
    ///
    /// # Errors
    /// A file that cannot be read; TOML that does not parse; an unknown key or recipe; nothing to compare. All name the file.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let (text, name, folder) = match path {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
                (text, path.display().to_string(), path.parent().map(Path::to_owned).unwrap_or_default())
            }
            None => (DEMO.to_owned(), "configs/runs/demo.toml (embedded)".to_owned(), PathBuf::new()),
        };
        Self::parse(&text, &folder).at(|| name)
    }

    fn parse(text: &str, folder: &Path) -> Result<Self> {
        let mut config: Self = toml::from_str(text).map_err(|e| Error::unfit(e.to_string().trim_end()))?;
        let resolve = |name: &mut String| -> Result<()> {
            if Recipe::is_path(name) {
                *name = folder.join(&*name).display().to_string();
            }
            let recipe = Recipe::find(name)?;
            if !Recipe::is_path(name) {
                name.clone_from(&recipe.name);
            }
            Ok(())
        };
        for (i, name) in config.recipes.iter_mut().enumerate() {
            resolve(name).at(|| format!("recipes[{i}]"))?;
        }
        for (i, name) in config.imatrix.iter_mut().filter_map(|imatrix| imatrix.recipes.as_mut()).flatten().enumerate() {
            resolve(name).at(|| format!("imatrix.recipes[{i}]"))?;
            if !config.recipes.contains(name) {
                return Err(Error::unfit(format!("imatrix.recipes: {name} is none of the recipes of this run")));
            }
        }
        if let Some(twice) = (1..config.recipes.len()).find(|&i| config.recipes[..i].contains(&config.recipes[i])) {
            return Err(Error::unfit(format!("recipes: {} occurs twice", config.recipes[twice])));
        }
        if config.text.is_none() && config.tasks.is_none() && config.speed.is_none() {
            return Err(Error::unfit("nothing to measure: give at least one of [text], [tasks] and [speed]"));
        }
        if config.text.as_ref().is_some_and(|text| text.pass_tokens == 0) {
            return Err(Error::unfit("text.pass_tokens must be above 0"));
        }
        let text = config.text.as_ref();
        if config.imatrix.as_ref().is_some_and(|imatrix| imatrix.file.is_some() == imatrix.text.is_some()) {
            return Err(Error::unfit("[imatrix]: give either a file that holds one or a text to collect it on"));
        }
        if config.imatrix.as_ref().is_some_and(|imatrix| imatrix.ctx == 0 || u32::try_from(imatrix.ctx).is_err()) {
            return Err(Error::unfit(format!("imatrix.ctx must be from 1 to {}", u32::MAX)));
        }
        for (key, count) in [
            ("imatrix.chunks", config.imatrix.as_ref().and_then(|i| i.chunks)),
            ("text.chunks", text.and_then(|t| t.chunks)),
            ("text.bits_per_byte_chunks", text.and_then(|t| t.bits_per_byte_chunks)),
            ("tasks.limit", config.tasks.as_ref().and_then(|t| t.limit)),
        ] {
            if count == Some(0) {
                return Err(Error::unfit(format!("{key} must be above 0; leave it out for all")));
            }
        }
        let from_here = |path: &mut String| {
            if models::is_path(path) {
                *path = folder.join(&*path).display().to_string();
            }
        };
        from_here(&mut config.model);
        if let Some(text) = &mut config.text {
            from_here(&mut text.file);
        }
        if let Some(imatrix) = &mut config.imatrix {
            imatrix.file.iter_mut().chain(&mut imatrix.text).for_each(from_here);
        }
        for task in config.tasks.iter_mut().flat_map(|tasks| &mut tasks.names).filter(|name| name.ends_with(".toml")) {
            from_here(task);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = RunConfig::parse(text, Path::new("")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} lacks {expected:?}");
    }

    #[test]
    fn the_embedded_demo_and_the_shipped_configurations_are_sound() {
        RunConfig::load(None).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/runs");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            // The others are for `bitworth advise` (`advise::request` reads them).
            if text.parse::<toml::Table>().unwrap().contains_key("model") {
                RunConfig::load(Some(&path)).unwrap();
            }
        }
    }

    #[test]
    fn paths_are_seen_from_the_configurations_folder() {
        let config =
            RunConfig::parse("model = \"m\"\nrecipes = []\n[text]\nfile = \"demo:data/eval.txt\"", Path::new("/a")).unwrap();
        assert_eq!(config.model, Path::new("/a").join("m").display().to_string());
        assert_eq!(config.text.unwrap().file, "demo:data/eval.txt");
        let config = RunConfig::parse("model = \"hf:o/n@v1\"\nrecipes = []\n[speed]", Path::new("/a")).unwrap();
        assert_eq!(config.model, "hf:o/n@v1");
    }

    #[test]
    fn mistakes_are_named() {
        check_error("model = \"m\"\nrecipes = [\"q9_9\"]\n[speed]", "q9_9");
        check_error("model = \"m\"\nrecipes = []\nrecipe = 1", "recipe");
        check_error("model = \"m\"\nrecipes = [\"q8_0\", \"Q8_0\"]\n[speed]", "twice");
        check_error("model = \"m\"\nrecipes = []", "nothing to measure");
        check_error("recipes = []\n[speed]", "model");
        check_error("model = \"m\"\nrecipes = []\n[text]\nfile = \"t\"\nctxx = 3", "ctxx");
    }
}
