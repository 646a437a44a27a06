//! Figures of quality that others published: `configs/quality/*.toml`, one file a source. Read and checked here, judged
//! elsewhere.

use std::path::Path;

use bitworth_quant::{Error, Result};
use serde::Deserialize;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// The files that come with the program: name and text. A test compares this with the folder.
        pub const FILES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../configs/quality/", $name, ".toml")))),*];
    };
}

files!(
    "auto-round",
    "gemma-3-27b-qat-small",
    "gemma-3-4b-kv-cache",
    "gemma-3-r1984-27b-exl3",
    "gemma-3-unsloth-dynamic",
    "glm-5.1-aessedai",
    "gpt-oss-native",
    "ik-pull-83",
    "iq4-xs-pull-12557",
    "llama-1-k-quants",
    "llama-1-quantize-readme",
    "llama-2-70b-perplexity-readme",
    "llama-2-7b-perplexity-readme",
    "llama-3-70b-dranger003",
    "llama-3-8b-kv-cache",
    "llama-3-8b-perplexity-readme",
    "llama-3.1-70b-ik-discussion-8",
    "mistral-7b-ikawrakow",
    "mixtral-8x7b-pull-4406",
    "qwen3-30b-a3b-ikawrakow",
    "qwen3-30b-a3b-ubergarm",
    "qwen3.5-35b-a3b-secondary",
    "qwen3.5-4b-atomgradient",
    "salamandra-2b",
);

/// How far a figure can be trusted, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// By bitworth, on this model.
    Measured,
    /// Follows from how the file is made.
    Computed,
    /// Read in the source itself.
    Read,
    /// Read where somebody repeats it.
    Secondary,
    /// From memory.
    Recalled,
}

/// A value and the ends of its interval; all three the same where none is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FigureInterval {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl FigureInterval {
    /// A value without an interval.
    pub fn at(value: f64) -> Self {
        Self { value, low: value, high: value }
    }
}

/// What one source says of one model under one recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The model's name.
    pub model: String,
    /// The recipe, in lower case; other quantizers' schemes under their own names.
    pub recipe: String,
    /// Whether an importance matrix was used, where the source says.
    pub imatrix: Option<bool>,
    /// Types of a quantized KV cache; `None` for 16 bits.
    pub kv: Option<String>,
    /// Bits per weight of the file.
    pub bpw: Option<f64>,
    /// Perplexity over the unquantized model's.
    pub ppl_ratio: Option<FigureInterval>,
    /// Mean KL divergence, nats per token.
    pub kld: Option<FigureInterval>,
    /// Share of tokens with the same most probable successor.
    pub top1: Option<FigureInterval>,
    /// A task and the share of its items that are right.
    pub accuracy: Option<(String, FigureInterval)>,
    /// What else has to be known.
    pub note: Option<String>,
    /// Where it stands.
    pub source: String,
    /// When.
    pub date: String,
    /// How far it can be trusted.
    pub evidence: Evidence,
}

impl Figure {
    /// A figure that says nothing yet.
    pub fn new(model: &str, recipe: &str, evidence: Evidence, source: &str) -> Self {
        Self {
            model: model.to_owned(),
            recipe: recipe.to_owned(),
            imatrix: None,
            kv: None,
            bpw: None,
            ppl_ratio: None,
            kld: None,
            top1: None,
            accuracy: None,
            note: None,
            source: source.to_owned(),
            date: String::new(),
            evidence,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    source: String,
    date: String,
    evidence: Evidence,
    corpus: Option<String>,
    figures: Vec<FigureEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FigureEntry {
    model: String,
    recipe: String,
    imatrix: Option<String>,
    kv: Option<String>,
    bpw: Option<f64>,
    ppl: Option<f64>,
    ppl_base: Option<f64>,
    ppl_ratio: Option<f64>,
    kld: Option<f64>,
    top1: Option<f64>,
    task: Option<String>,
    accuracy: Option<f64>,
    date: Option<String>,
    note: Option<String>,
}

/// Reads a file of figures; `path` is for messages.
///
/// # Errors
/// TOML that does not parse, an unknown key, a figure out of its range: each with the file and the row.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Figure>> {
    let file: File = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
    let source = match &file.corpus {
        Some(corpus) => format!("{} ({corpus})", file.source),
        None => file.source.clone(),
    };
    file.figures.into_iter().map(|row| row.figure(path, &source, &file.date, file.evidence)).collect()
}

impl FigureEntry {
    fn figure(self, path: &Path, source: &str, date: &str, evidence: Evidence) -> Result<Figure> {
        let place = |key: &str| format!("figures of {} {}: {key}", self.model, self.recipe);
        let within = |key: &str, value: Option<f64>, low: f64, high: f64| match value {
            Some(v) if !(low..=high).contains(&v) => {
                Err(Error::key(path, place(key), format!("{v} is outside {low} to {high}; correct the figure or leave it out")))
            }
            value => Ok(value),
        };
        let bpw = within("bpw", self.bpw, 1.0, 32.0)?;
        let ppl = within("ppl", self.ppl, 1.0, 1e6)?;
        let base = within("ppl_base", self.ppl_base, 1.0, 1e6)?;
        let ratio = within("ppl_ratio", self.ppl_ratio, 0.5, 1e4)?;
        let kld = within("kld", self.kld, 0.0, 20.0)?;
        let top1 = within("top1", self.top1, 0.0, 1.0)?;
        let accuracy = within("accuracy", self.accuracy, 0.0, 1.0)?;
        let ratio = match (ratio, ppl, base) {
            (ratio, None, None) => ratio,
            (None, Some(ppl), Some(base)) => Some(ppl / base),
            _ => return Err(Error::key(path, place("ppl_ratio"), "give either ppl_ratio or both ppl and ppl_base")),
        };
        let accuracy = match (self.task, accuracy) {
            (None, None) => None,
            (Some(task), Some(accuracy)) => Some((task, FigureInterval::at(accuracy))),
            _ => return Err(Error::key(path, place("task"), "task and accuracy go together")),
        };
        Ok(Figure {
            imatrix: self.imatrix.map(|text| text != "none"),
            kv: self.kv.filter(|kv| kv != "f16/f16"),
            bpw,
            ppl_ratio: ratio.map(FigureInterval::at),
            kld: kld.map(FigureInterval::at),
            top1: top1.map(FigureInterval::at),
            accuracy,
            note: self.note,
            date: self.date.unwrap_or_else(|| date.to_owned()),
            ..Figure::new(&self.model, &self.recipe, evidence, source)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_in_the_table_and_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/quality");
        let stem = |entry: std::fs::DirEntry| entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(|entry| stem(entry.unwrap())).collect();
        names.sort();
        assert_eq!(names, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "FILES and configs/quality differ");
        for (name, text) in FILES {
            assert!(!parse(Path::new(name), text).unwrap().is_empty(), "{name}");
        }
    }

    #[track_caller]
    fn refuse(row: &str, expected: &str) {
        let text = format!("source = 's'\ndate = '2024'\nevidence = 'read'\n[[figures]]\nmodel = 'm'\nrecipe = 'q8_0'\n{row}");
        let error = parse(Path::new("x.toml"), &text).unwrap_err().to_string();
        assert!(error.contains("x.toml") && error.contains(expected), "{error}");
    }

    #[test]
    fn absurd_figures_are_refused_with_the_row() {
        refuse("kld = -0.1", "figures of m q8_0: kld: -0.1 is outside 0 to 20");
        refuse("kld = nan", "kld: NaN is outside");
        refuse("top1 = 97.6", "top1: 97.6 is outside 0 to 1");
        refuse("bpw = 0", "bpw: 0 is outside");
        refuse("ppl = 6.2", "give either ppl_ratio or both");
        refuse("accuracy = 0.5", "task and accuracy go together");
        refuse("klds = 0.5", "unknown field `klds`");
    }
}
