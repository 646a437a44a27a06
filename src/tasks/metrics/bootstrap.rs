//! The standard error of an aggregate by drawing documents again and again, with the very draws of lm-evaluation-harness:
//! rounds of at most 1000 draws, round `i` by CPython's generator with the seed `i`.
//!
//! Source: lm-evaluation-harness 0.4.13, `bootstrap_stderr`.

use bitworth_quant::message::Message;
use rayon::prelude::*;
use serde_json::Value;

use super::sample_deviation;
use crate::random::Random;

/// The most draws of one round.
const ROUND: usize = 1000;

/// The standard error of `of` over `values`, from `draws` drawn sets.
///
/// # Errors
/// An aggregate that fails on a drawn set.
pub fn error(of: impl Fn(&[Value]) -> Result<f64, Message> + Sync, values: &[Value], draws: usize) -> Result<f64, Message> {
    let round = ROUND.min(draws);
    if round == 0 {
        return Err("there are no draws".into());
    }
    let one = |seed: u64| -> Result<Vec<f64>, Message> {
        let mut random = Random::new(seed);
        let mut drawn = Vec::with_capacity(values.len());
        (0..round)
            .map(|_| {
                drawn.clear();
                drawn.extend((0..values.len()).map(|_| values[random.choice(values.len())].clone()));
                of(&drawn)
            })
            .collect()
    };
    let rounds: Vec<Vec<f64>> = (0..(draws / round) as u64).into_par_iter().map(one).collect::<Result<_, _>>()?;
    Ok(sample_deviation(&rounds.concat()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::metrics::find_aggregation;

    /// Expected: lm-evaluation-harness 0.4.13, `bootstrap_stderr(perplexity, xs, 2500)`.
    #[test]
    fn draws_are_lm_evals() {
        let values: Vec<Value> = (1..=7).map(|n| json!(-f64::from(n) * 0.3)).collect();
        let found = error(find_aggregation("perplexity").unwrap().of, &values, 2500).unwrap();
        assert!((found / 0.8057076525207526 - 1.0).abs() < 1e-12, "{found}");
    }
}
