//! Task scores of models as they were published: what makes models with different tokenizers comparable. And what a divergence
//! takes from them.

use std::path::Path;

use bitworth_quant::{Error, Result};
use serde::{Deserialize, Serialize};

use super::RangedValue;
use super::figures::Evidence;

/// The one table, and its name in the folder.
const MMLU: (&str, &str) = ("configs/scores/mmlu.toml", include_str!("../../../configs/scores/mmlu.toml"));

/// The task of that table, by its name in records, too; a test compares.
pub const TASK: &str = "mmlu";

/// Share of right answers that guessing reaches in that task, which has four choices; a test compares the table.
pub const CHANCE: f64 = 0.25;

/// A model's published score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedScore {
    /// The model's name.
    pub model: String,
    /// The task.
    pub task: String,
    /// Share of right items.
    pub accuracy: f64,
    /// Share that guessing reaches.
    pub chance: f64,
    /// How it was taken, where not 5-shot with the base model.
    pub setting: Option<String>,
    /// Where it stands.
    pub source: String,
    /// Whether it is from memory.
    pub recalled: bool,
}

/// Divergence at which a share of 1/e of what a model knows beyond guessing is left, nats per token; and the exponent.
///
/// Fitted to 5-shot MMLU and divergence of six files of Gemma 3 27B (`configs/quality/gemma-3-unsloth-dynamic.toml`), one model's
/// figures: a test fits them again.
const SCALE: f64 = 0.99;
const EXPONENT: f64 = 1.78;

impl PublishedScore {
    /// The accuracy to expect after a divergence of `kld`: guessing + what is known * exp(-(kld / 0.99)^1.78).
    pub fn after(&self, kld: &RangedValue) -> RangedValue {
        let at = |kld: f64| self.chance + (self.accuracy - self.chance) * kept(kld);
        RangedValue { value: at(kld.value), low: at(kld.high), high: at(kld.low), basis: kld.basis, source: self.source.clone() }
    }
}

/// The share of what a model knows beyond guessing that is left.
pub fn kept(kld: f64) -> f64 {
    (-(kld.max(0.0) / SCALE).powf(EXPONENT)).exp()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    task: String,
    chance: f64,
    scores: Vec<ScoreEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreEntry {
    model: String,
    accuracy: f64,
    setting: Option<String>,
    source: String,
    evidence: Evidence,
}

/// The scores that come with the program.
///
/// # Errors
/// A table that does not parse, or has a score that is no share.
pub fn embedded() -> Result<Vec<PublishedScore>> {
    parse(Path::new(MMLU.0), MMLU.1)
}

fn parse(path: &Path, text: &str) -> Result<Vec<PublishedScore>> {
    let file: File = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
    let score = |row: ScoreEntry| {
        if !(file.chance..=1.0).contains(&row.accuracy) {
            let what = format!("{} is not a share between guessing ({}) and 1", row.accuracy, file.chance);
            return Err(Error::key(path, format!("scores of {}: accuracy", row.model), what));
        }
        let recalled = row.evidence == Evidence::Recalled;
        let (task, chance) = (file.task.clone(), file.chance);
        Ok(PublishedScore {
            model: row.model,
            task,
            accuracy: row.accuracy,
            chance,
            setting: row.setting,
            source: row.source,
            recalled,
        })
    };
    file.scores.into_iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quality::Quality;
    use crate::quality::figures::Figure;

    #[test]
    fn the_two_constants_follow_from_the_published_figures() {
        let quality = Quality::with(Vec::new()).unwrap();
        let gemma = |f: &&Figure| f.model == "Gemma-3-27b-it" && f.recipe.starts_with("ud-");
        let figures: Vec<_> = quality.figures().iter().filter(gemma).collect();
        let mut points = Vec::new();
        for f in &figures {
            let other = figures.iter().find(|g| g.recipe == f.recipe && g.accuracy.is_some());
            if let (Some(kld), Some(other)) = (f.kld, other) {
                points.push((kld.value, other.accuracy.as_ref().unwrap().1.value));
            }
        }
        assert_eq!(points.len(), 6, "{points:?}");
        // The unquantized score is not among them: the third unknown. Least squares over a grid.
        let mut best = (f64::INFINITY, 0.0, 0.0);
        for top in 700..760 {
            for scale in 60..200 {
                for exponent in 80..260 {
                    let (top, scale, exponent) = (f64::from(top) / 1e3, f64::from(scale) / 100.0, f64::from(exponent) / 100.0);
                    let error =
                        |(kld, acc): &(f64, f64)| (0.25 + (top - 0.25) * (-(kld / scale).powf(exponent)).exp() - acc).powi(2);
                    let sum: f64 = points.iter().map(error).sum();
                    if sum < best.0 {
                        best = (sum, scale, exponent);
                    }
                }
            }
        }
        assert!((best.1 - SCALE).abs() < 0.05 && (best.2 - EXPONENT).abs() < 0.1, "{best:?}");
    }

    #[test]
    fn guessing_is_as_the_table_says() {
        assert!(embedded().unwrap().iter().all(|score| score.chance == CHANCE && score.task == "mmlu"));
    }

    #[test]
    fn loss_goes_from_nothing_to_guessing() {
        assert_eq!(kept(0.0), 1.0);
        assert!(kept(0.03) > 0.99 && kept(0.5) > 0.6 && kept(0.5) < 0.8 && kept(5.0) < 1e-4);
    }

    #[test]
    fn scores_below_guessing_are_refused() {
        let text = "task = 't'\nchance = 0.25\n[[scores]]\nmodel = 'm'\naccuracy = 0.2\nsource = 's'\nevidence = 'read'";
        let error = parse(Path::new("s.toml"), text).unwrap_err().to_string();
        assert!(error.contains("s.toml: scores of m: accuracy: 0.2"), "{error}");
    }
}
