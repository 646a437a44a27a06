//! What a recipe costs a model in quality: measured records first, then published figures of the same model and recipe, then an
//! estimate from other recipes and models, each marked as what it is.
//!
//! The loss is a mean KL divergence in nats per token. Perplexities count only against the same source's unquantized model, as
//! ratios. What makes different models comparable is a task score ([`scores`]); no perplexity crosses tokenizers.
//! Absent: files (figures are embedded or handed in), sizes and speeds.

pub mod estimate;
pub mod figures;
pub mod scores;

use std::path::Path;

use bitworth_quant::{DType, Result};
use serde::Serialize;

use estimate::Estimator;
use figures::{Evidence, Figure, FigureInterval};
use scores::PublishedScore;

/// Where a value comes from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// By construction: the file holds what was published.
    Exact,
    /// Measured by bitworth.
    Measured,
    /// Published for this model and recipe.
    Published,
    /// Concluded from other figures; the range holds 4 of 5 figures that were left out.
    Estimated,
}

impl Basis {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Measured => "measured",
            Self::Published => "published",
            Self::Estimated => "estimated",
        }
    }
}

/// A value, its range, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RangedValue {
    /// The value.
    pub value: f64,
    /// Lower end: of the 95 % interval if measured, of the 80 % range if estimated, the value itself if published without one.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// What kind of value.
    pub basis: Basis,
    /// The source, or what it was concluded from.
    pub source: String,
}

/// What a recipe costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Loss {
    /// Mean KL divergence from the unquantized model, nats per token.
    pub kld: RangedValue,
    /// Perplexity over the unquantized model's, where it is known.
    pub ppl_ratio: Option<RangedValue>,
    /// Share of tokens with the unquantized model's most probable successor, where it is known.
    pub top1: Option<RangedValue>,
}

/// One candidate, as quality sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Every name of the model.
    pub model: &'a [&'a str],
    /// The recipe's name.
    pub recipe: &'a str,
    /// Bits per weight of the file.
    pub bpw: f64,
    /// Whether it is made with an importance matrix.
    pub imatrix: bool,
}

/// All that is known.
#[derive(Debug)]
pub struct Quality {
    figures: Vec<Figure>,
    scores: Vec<PublishedScore>,
    estimator: Estimator,
}

impl Quality {
    /// The embedded figures and scores, together with `measured` ones.
    ///
    /// # Errors
    /// An embedded file that does not parse (a test reads them all).
    pub fn with(measured: Vec<Figure>) -> Result<Self> {
        let mut figures = measured;
        for (name, text) in figures::FILES {
            figures.extend(figures::parse(Path::new(&format!("configs/quality/{name}.toml")), text)?);
        }
        let estimator = Estimator::fit(&figures);
        Ok(Self { figures, scores: scores::embedded()?, estimator })
    }

    /// What `candidate`'s recipe costs.
    pub fn loss(&self, candidate: &Candidate) -> Loss {
        let mut known = self.matching(candidate);
        if is_unquantized(candidate.recipe) {
            // Published figures of 16 bits are the noise of how they were taken.
            known.retain(|figure| figure.evidence == Evidence::Measured);
        }
        let from = |get: fn(&Figure) -> Option<FigureInterval>| {
            known.iter().find_map(|figure| get(figure).map(|interval| stated(figure, interval)))
        };
        let ppl_ratio = from(|f| f.ppl_ratio);
        let kld = from(|f| f.kld).unwrap_or_else(|| self.unstated(candidate, ppl_ratio.as_ref()));
        Loss { kld, ppl_ratio, top1: from(|f| f.top1) }
    }

    /// Whether a figure says that this recipe holds `model` as it was published.
    pub fn is_native(&self, model: &[&str], recipe: &str) -> bool {
        let same = |f: &&Figure| names(model, &f.model) && f.recipe == recipe && f.evidence == Evidence::Computed;
        self.figures.iter().find(same).is_some_and(|f| f.kld.is_some_and(|kld| kld.value == 0.0))
    }

    /// The task score of a model: measured on its unquantized weights, or published.
    pub fn score(&self, model: &[&str]) -> Option<PublishedScore> {
        let measured = self.figures.iter().filter(|figure| is_unquantized(&figure.recipe) && names(model, &figure.model));
        let mut measured = measured.filter_map(|figure| {
            let (model, source) = (figure.model.clone(), figure.source.clone());
            let (task, chance, accuracy) = (scores::TASK.to_owned(), scores::CHANCE, accuracy(figure)?.value);
            Some(PublishedScore { model, task, accuracy, chance, setting: None, source, recalled: false })
        });
        let published = || self.scores.iter().find(|score| names(model, &score.model)).cloned();
        measured.next().or_else(published)
    }

    /// The share of right answers in the task of the scores: as measured, or what the model's score lets expect after a
    /// divergence of `kld`.
    pub fn accuracy(&self, candidate: &Candidate, kld: &RangedValue) -> Option<RangedValue> {
        let measured = self.matching(candidate).into_iter().find_map(|figure| Some(stated(figure, accuracy(figure)?)));
        measured.or_else(|| self.score(candidate.model).map(|score| score.after(kld)))
    }

    /// The figures, measured ones first.
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// Figures of this model and recipe with unquantized activations and KV cache: measured before published, with the
    /// candidate's choice of importance matrix before others, read before repeated.
    fn matching(&self, candidate: &Candidate) -> Vec<&Figure> {
        let same = |f: &&Figure| f.kv.is_none() && f.recipe == candidate.recipe && names(candidate.model, &f.model);
        let mut known: Vec<&Figure> = self.figures.iter().filter(same).collect();
        known.sort_by_key(|f| {
            (f.evidence != Evidence::Measured, f.imatrix.is_some_and(|used| used != candidate.imatrix), f.evidence)
        });
        known
    }

    /// The divergence where nobody states it.
    fn unstated(&self, candidate: &Candidate, ppl_ratio: Option<&RangedValue>) -> RangedValue {
        if is_unquantized(candidate.recipe) {
            let source = "16 bits or more, as published".to_owned();
            return RangedValue { value: 0.0, low: 0.0, high: 0.0, basis: Basis::Exact, source };
        }
        if let Some(ratio) = ppl_ratio
            && let Some(range) = self.estimator.from_ppl_ratio(ratio.value)
        {
            return range.value(format!("from the perplexity of {}", ratio.source));
        }
        self.estimator.estimate(candidate)
    }
}

/// What was measured in the task of the scores.
fn accuracy(figure: &Figure) -> Option<FigureInterval> {
    let (task, share) = figure.accuracy.as_ref().filter(|_| figure.evidence == Evidence::Measured)?;
    (task == scores::TASK).then_some(*share)
}

fn stated(figure: &Figure, interval: FigureInterval) -> RangedValue {
    let basis = match figure.evidence {
        Evidence::Measured => Basis::Measured,
        Evidence::Computed => Basis::Exact,
        _ => Basis::Published,
    };
    let source = match (figure.imatrix, &figure.note) {
        (Some(true), _) => format!("{}, with an importance matrix", figure.source),
        (_, Some(note)) => format!("{}, {note}", figure.source),
        _ => figure.source.clone(),
    };
    RangedValue { value: interval.value, low: interval.low, high: interval.high, basis, source }
}

/// Whether a recipe leaves the weights in the 16 bits that models are published in.
pub fn is_unquantized(recipe: &str) -> bool {
    recipe == "copy" || DType::from_name(recipe).is_some_and(DType::is_float)
}

/// Whether `name` is one of `names`, whatever the case and the marks between words.
fn names(names: &[&str], name: &str) -> bool {
    let name = key(name);
    names.iter().any(|n| key(n) == name)
}

/// Letters, digits and points of a name, in lower case.
fn key(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric() || *c == '.').flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(model: &str, recipe: &str, bpw: f64, imatrix: bool) -> Loss {
        Quality::with(Vec::new()).unwrap().loss(&Candidate { model: &[model], recipe, bpw, imatrix })
    }

    #[test]
    fn published_figures_of_the_same_model_and_recipe_come_before_estimates() {
        // llama.cpp's tools/perplexity/README.md.
        let without = loss("llama-3-8b", "q4_k_m", 4.9, false);
        assert_eq!((without.kld.value, without.kld.basis), (0.031273, Basis::Published));
        assert_eq!(without.top1.unwrap().value, 0.91901);
        assert_eq!(loss("llama-3-8b", "q4_k_m", 4.9, true).kld.value, 0.028152);
        let ratio = without.ppl_ratio.unwrap().value;
        assert!((ratio - 6.407115 / 6.231636).abs() < 1e-12, "{ratio}");
    }

    #[test]
    fn measured_figures_come_before_published_ones() {
        let measured = Figure {
            kld: Some(FigureInterval { value: 0.05, low: 0.04, high: 0.06 }),
            ..Figure::new("Llama-3-8B", "q4_k_m", Evidence::Measured, "runs/x")
        };
        let quality = Quality::with(vec![measured]).unwrap();
        let candidate = Candidate { model: &["llama-3-8b"], recipe: "q4_k_m", bpw: 4.9, imatrix: true };
        let kld = quality.loss(&candidate).kld;
        assert_eq!((kld.value, kld.low, kld.basis, kld.source.as_str()), (0.05, 0.04, Basis::Measured, "runs/x"));
    }

    #[test]
    fn measured_accuracies_come_before_expected_ones() {
        let figure = |recipe: &str, task: &str, value: f64| Figure {
            accuracy: Some((task.to_owned(), FigureInterval { value, low: value - 0.05, high: value + 0.05 })),
            ..Figure::new("mine", recipe, Evidence::Measured, "runs/x")
        };
        let of = |figures: Vec<Figure>, recipe: &str| {
            let quality = Quality::with(figures).unwrap();
            let candidate = Candidate { model: &["mine"], recipe, bpw: 4.9, imatrix: false };
            quality.accuracy(&candidate, &quality.loss(&candidate).kld)
        };
        assert_eq!(of(Vec::new(), "q4_k_m"), None, "nobody published it");
        let measured = of(vec![figure("q4_k_m", scores::TASK, 0.5)], "q4_k_m").unwrap();
        assert_eq!((measured.value, measured.low, measured.basis), (0.5, 0.45, Basis::Measured));
        assert_eq!(of(vec![figure("q4_k_m", "facts", 0.5)], "q4_k_m"), None, "another task compares no models");
        // That of the unquantized model is what a divergence takes from.
        let expected = of(vec![figure("bf16", scores::TASK, 0.6)], "q4_k_m").unwrap();
        assert!(0.25 < expected.value && expected.value < 0.6 && expected.basis == Basis::Estimated, "{expected:?}");
        assert_eq!(scores::embedded().unwrap()[0].task, scores::TASK);
    }

    #[test]
    fn a_published_perplexity_alone_gives_an_estimate_of_the_divergence() {
        let loss = loss("Llama-3-70B", "q4_k_m", 4.8, false);
        assert_eq!(loss.ppl_ratio.as_ref().unwrap().basis, Basis::Published);
        assert_eq!(loss.kld.basis, Basis::Estimated);
        assert!(loss.kld.source.contains("perplexity"), "{}", loss.kld.source);
        // ln 1.048 is 0.047; divergence and logarithm of the ratio go together.
        assert!(loss.kld.low < 0.047 && 0.047 < loss.kld.high, "{:?}", loss.kld);
    }

    #[test]
    fn models_that_nobody_measured_get_a_wide_range_and_a_mark() {
        let kld = loss("no-such-model", "q4_k_m", 4.85, false).kld;
        assert_eq!(kld.basis, Basis::Estimated);
        assert!(kld.low > 0.0 && kld.low < kld.value && kld.value < kld.high && kld.high / kld.low > 3.0, "{kld:?}");
    }

    #[test]
    fn what_was_published_is_lossless() {
        assert_eq!(loss("gpt-oss-120b", "mxfp4_moe", 4.3, false).kld.basis, Basis::Exact);
        assert_eq!(loss("Yi-34B", "f16", 16.0, false).kld.value, 0.0);
        let quality = Quality::with(Vec::new()).unwrap();
        assert!(quality.is_native(&["gpt-oss-120b"], "mxfp4_moe") && !quality.is_native(&["Yi-34B"], "mxfp4_moe"));
    }
}
