//! The estimate where nobody measured: the logarithm of the divergence as a line in what is known of the file, with an offset per
//! model, fitted by ridge regression to all figures at hand. Pure and repeatable: the same figures give the same estimate.
//!
//! ln KLD = a + b bpw + c ln(bpw - 1) + d [importance matrix, below 6 bits] + e [legacy type] + offset of the model.
//! The range is what was seen when figures were left out: whole models for a model without figures, single figures for one with.

use std::collections::{BTreeMap, BTreeSet};

use bitworth_quant::DType;
use bitworth_quant::recipe::Recipe;

use super::figures::Figure;
use super::{Basis, Candidate, RangedValue, key};
use bitworth_eval::stats::quantile;

/// Terms that do not depend on the model.
const TERMS: usize = 5;
/// Weight of a model's offset against its residuals: their variance over that of offsets between models.
const RIDGE: f64 = 0.5;
/// Figures a model needs before its own residuals stand for its range.
const ENOUGH: usize = 3;
/// Bits per weight between which there are figures.
const BITS: (f64, f64) = (1.6, 9.0);
/// Logarithms of perplexity ratios below this are noise of the perplexity.
const LEAST_LOG_RATIO: f64 = 0.002;

/// A factor and its 80 % range, on a divergence.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    value: f64,
    low: f64,
    high: f64,
}

impl Range {
    pub(super) fn value(self, source: String) -> RangedValue {
        RangedValue { value: self.value, low: self.low, high: self.high, basis: Basis::Estimated, source }
    }
}

/// The fitted lines.
#[derive(Debug)]
pub struct Estimator {
    terms: [f64; TERMS],
    /// By the model's key: offset and number of figures.
    offsets: BTreeMap<String, (f64, usize)>,
    /// 10 and 90 % quantiles of ln(figure / estimate), for models without figures and with.
    new_model: (f64, f64),
    known_model: (f64, f64),
    /// ln KLD = first + second * ln(ln ratio), and the quantiles of what is left.
    from_ppl: (f64, f64, (f64, f64)),
}

/// A figure as the fit sees it.
#[derive(Debug, Clone)]
struct Point {
    model: String,
    x: [f64; TERMS],
    y: f64,
}

impl Estimator {
    /// Fits to `figures`; those of unknown recipes, of quantized caches and without divergence or perplexity do not count.
    pub fn fit(figures: &[Figure]) -> Self {
        let from_ppl = ppl_line(figures);
        let bits = nominal_bits(figures);
        let points: Vec<Point> = figures.iter().filter_map(|figure| point(figure, &bits, from_ppl)).collect();
        let (terms, offsets) = solve(&points);
        let count = |model: &str| points.iter().filter(|p| p.model == model).count();
        let offsets = offsets.into_iter().map(|(model, offset)| (model.clone(), (offset, count(&model)))).collect();
        Self { terms, offsets, new_model: without_models(&points), known_model: without_points(&points), from_ppl }
    }

    /// The divergence of a candidate that has no figure.
    pub fn estimate(&self, candidate: &Candidate) -> RangedValue {
        let x = terms(candidate.recipe, candidate.bpw, candidate.imatrix);
        let known = candidate.model.iter().find_map(|name| self.offsets.get(&key(name)));
        let line = dot(&self.terms, &x) + known.map_or(0.0, |(offset, _)| *offset);
        let (range, source) = match known {
            Some((_, n)) if *n >= ENOUGH => {
                (self.known_model, format!("from {n} figures of the same model and the course over bits per weight"))
            }
            _ => (self.new_model, format!("from the course over bits per weight of {} other models", self.offsets.len())),
        };
        Range { value: line.exp(), low: (line + range.0).exp(), high: (line + range.1).exp() }.value(source)
    }

    /// The divergence that goes with a ratio of perplexities; `None` where the ratio is too near to 1 to say.
    pub fn from_ppl_ratio(&self, ratio: f64) -> Option<Range> {
        let log = ratio.ln();
        if log < LEAST_LOG_RATIO {
            return None;
        }
        let (a, b, (low, high)) = self.from_ppl;
        let line = a + b * log.ln();
        Some(Range { value: line.exp(), low: (line + low).exp(), high: (line + high).exp() })
    }
}

/// What is known of a file without its model.
fn terms(recipe: &str, bpw: f64, imatrix: bool) -> [f64; TERMS] {
    let bpw = bpw.clamp(BITS.0, BITS.1);
    let imatrix = (imatrix || recipe.starts_with("iq")) && bpw < 6.0;
    let legacy = DType::from_name(recipe).is_some_and(is_legacy);
    [1.0, bpw, (bpw - 1.0).ln(), f64::from(u8::from(imatrix)), f64::from(u8::from(legacy))]
}

/// Whether files that are of one such encoding all through lose more than their bits let expect: blocks of 32 without scales of
/// scales, from before llama.cpp's k-quants.
fn is_legacy(dtype: DType) -> bool {
    match dtype {
        DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 => true,
        DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 => false,
        DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K => false,
        DType::IQ4_NL | DType::IQ4_XS | DType::IQ3_S | DType::IQ3_XXS => false,
        DType::IQ2_S | DType::IQ2_XS | DType::IQ2_XXS | DType::IQ1_M | DType::IQ1_S => false,
        DType::TQ1_0 | DType::TQ2_0 | DType::MXFP4 | DType::NVFP4 | DType::Q1_0 | DType::Q2_0 => false,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::F64 => false,
    }
}

/// Median bits per weight of each recipe of ours over the figures that state them.
fn nominal_bits(figures: &[Figure]) -> BTreeMap<&str, f64> {
    let mut bits: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for figure in figures {
        if let Some(bpw) = figure.bpw {
            bits.entry(&figure.recipe).or_default().push(bpw);
        }
    }
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        quantile(&all, 0.5)
    };
    bits.into_iter().filter_map(|(recipe, all)| Some((recipe, median(all)?))).collect()
}

fn point(figure: &Figure, bits: &BTreeMap<&str, f64>, (a, b, _): (f64, f64, (f64, f64))) -> Option<Point> {
    let ours = Recipe::all().iter().any(|recipe| recipe.name == figure.recipe);
    if !ours || super::is_unquantized(&figure.recipe) || figure.kv.is_some() {
        return None;
    }
    let y = match (figure.kld, figure.ppl_ratio) {
        (Some(kld), _) if kld.value > 0.0 => kld.value.ln(),
        (None, Some(ratio)) if ratio.value.ln() >= LEAST_LOG_RATIO => a + b * ratio.value.ln().ln(),
        _ => return None,
    };
    let bpw = figure.bpw.or_else(|| bits.get(figure.recipe.as_str()).copied())?;
    Some(Point { model: key(&figure.model), x: terms(&figure.recipe, bpw, figure.imatrix.unwrap_or(false)), y })
}

/// The line from ln(ln ratio) to ln KLD over the figures with both, and the 80 % range around it.
fn ppl_line(figures: &[Figure]) -> (f64, f64, (f64, f64)) {
    let both = |f: &Figure| match (f.kld, f.ppl_ratio) {
        (Some(kld), Some(ratio)) if kld.value > 0.0 && ratio.value.ln() >= LEAST_LOG_RATIO && f.kv.is_none() => {
            Some((ratio.value.ln().ln(), kld.value.ln()))
        }
        _ => None,
    };
    let points: Vec<(f64, f64)> = figures.iter().filter_map(both).collect();
    let n = points.len() as f64;
    let (x, y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>();
    let rest = points.iter().map(|p| (p.1 - y - slope * (p.0 - x), 1.0));
    (y - slope * x, slope, range(rest.collect()))
}

/// Ridge regression: the terms free, the offsets drawn towards 0.
fn solve(points: &[Point]) -> ([f64; TERMS], BTreeMap<String, f64>) {
    let models: Vec<&String> = points.iter().map(|p| &p.model).collect::<BTreeSet<_>>().into_iter().collect();
    let size = TERMS + models.len();
    let mut matrix = vec![vec![0.0; size + 1]; size];
    for p in points {
        let place = models.binary_search(&&p.model).expect("it was collected from these points");
        let row: Vec<(usize, f64)> = p.x.iter().copied().enumerate().chain([(TERMS + place, 1.0)]).collect();
        for &(i, a) in &row {
            for &(j, b) in &row {
                matrix[i][j] += a * b;
            }
            matrix[i][size] += a * p.y;
        }
    }
    for (i, row) in matrix.iter_mut().enumerate() {
        row[i] += if i < TERMS { 1e-6 } else { RIDGE };
    }
    let solution = eliminate(matrix);
    let terms = std::array::from_fn(|i| solution[i]);
    (terms, models.into_iter().cloned().zip(solution[TERMS..].iter().copied()).collect())
}

/// Gauss-Jordan on a symmetric positive definite system with its right side as the last column.
fn eliminate(mut m: Vec<Vec<f64>>) -> Vec<f64> {
    let n = m.len();
    for i in 0..n {
        let pivot = m[i].clone();
        for (k, row) in m.iter_mut().enumerate() {
            if k != i {
                let factor = row[i] / pivot[i];
                row[i..].iter_mut().zip(&pivot[i..]).for_each(|(a, b)| *a -= factor * b);
            }
        }
    }
    m.iter().enumerate().map(|(i, row)| row[n] / row[i]).collect()
}

/// The 80 % range of figures of models that the fit did not see, each model counting the same.
fn without_models(points: &[Point]) -> (f64, f64) {
    let models: BTreeSet<&String> = points.iter().map(|p| &p.model).collect();
    let mut rest = Vec::new();
    for model in models {
        let (out, others): (Vec<Point>, Vec<Point>) = points.iter().cloned().partition(|p| p.model == *model);
        let (terms, _) = solve(&others);
        rest.extend(out.iter().map(|p| (p.y - dot(&terms, &p.x), 1.0 / out.len() as f64)));
    }
    range(rest)
}

/// The 80 % range of figures that the fit did not see, of models of which it saw at least [`ENOUGH`] others.
fn without_points(points: &[Point]) -> (f64, f64) {
    let mut rest = Vec::new();
    for (i, p) in points.iter().enumerate() {
        let others: Vec<Point> = points.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, p)| p.clone()).collect();
        let count = others.iter().filter(|q| q.model == p.model).count();
        if count >= ENOUGH {
            let (terms, offsets) = solve(&others);
            rest.push((p.y - dot(&terms, &p.x) - offsets[&p.model], 1.0 / (count + 1) as f64));
        }
    }
    range(rest)
}

/// 10 and 90 % quantiles of weighted values, widened so that the estimate itself is always inside.
fn range(mut rest: Vec<(f64, f64)>) -> (f64, f64) {
    rest.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = rest.iter().map(|r| r.1).sum();
    let at = |share: f64| {
        let mut sum = 0.0;
        let reached = rest.iter().find(|r| {
            sum += r.1;
            sum >= share * total
        });
        reached.or(rest.last()).map_or(0.0, |r| r.0)
    };
    (at(0.1).min(0.0), at(0.9).max(0.0))
}

fn dot(a: &[f64; TERMS], b: &[f64; TERMS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::figures;
    use super::*;

    fn all_figures() -> Vec<Figure> {
        let parse = |(name, text): &(&str, &str)| figures::parse(Path::new(name), text).unwrap();
        figures::FILES.iter().flat_map(parse).collect()
    }

    fn candidate<'a>(model: &'a [&'a str], recipe: &'a str, bpw: f64) -> Candidate<'a> {
        Candidate { model, recipe, bpw, imatrix: false }
    }

    #[test]
    fn figures_of_a_model_that_was_left_out_lie_within_the_range() {
        let (out, others): (Vec<Figure>, Vec<Figure>) = all_figures().into_iter().partition(|f| f.model == "Llama-2-7B");
        let estimator = Estimator::fit(&others);
        assert_eq!(out.len(), 4);
        for figure in out {
            let kld = figure.kld.unwrap().value;
            let range = estimator.estimate(&candidate(&["Llama-2-7B"], &figure.recipe, figure.bpw.unwrap()));
            assert!(range.low < kld && kld < range.high, "{}: {kld} in {range:?}", figure.recipe);
            assert!(range.source.contains("other models"), "{}", range.source);
        }
    }

    #[test]
    fn fewer_bits_cost_more_and_a_models_own_figures_narrow_the_range() {
        let estimator = Estimator::fit(&all_figures());
        let at = |recipe, bpw| estimator.estimate(&candidate(&["Yi-34B"], recipe, bpw)).value;
        let ladder =
            [at("q8_0", 8.5), at("q6_k", 6.56), at("q5_k_m", 5.7), at("q4_k_m", 4.85), at("q3_k_m", 3.9), at("q2_k", 3.1)];
        assert!(ladder.windows(2).all(|pair| pair[0] < pair[1]), "{ladder:?}");
        let width = |model| {
            let range = estimator.estimate(&candidate(&[model], "q3_k_l", 4.3));
            range.high / range.low
        };
        assert!(width("Llama-3-70B") < width("Yi-34B"), "{} {}", width("Llama-3-70B"), width("Yi-34B"));
    }

    #[test]
    fn models_with_large_losses_at_other_recipes_are_expected_to_lose_more() {
        let estimator = Estimator::fit(&all_figures());
        let at = |model| estimator.estimate(&candidate(&[model], "iq3_m", 3.7)).value;
        assert!(at("Llama-3-8B") > 1.5 * at("LLaMA-1-7B"));
    }

    #[test]
    fn elimination_solves() {
        let solution = eliminate(vec![vec![4.0, 1.0, 6.0], vec![1.0, 3.0, 7.0]]);
        assert!((solution[0] - 1.0).abs() < 1e-12 && (solution[1] - 2.0).abs() < 1e-12, "{solution:?}");
    }
}
