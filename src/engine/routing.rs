//! Which experts a token goes to and with what weights, from the router's scores. Pure; on the host, so that every device
//! chooses alike, in f64, so that hardly ever a rounding decides.
//!
//! Absent: computing scores and experts (see `forward`).

use bitworth_quant::arch::Gating;
use bitworth_quant::hparams::Routing;

/// The tokens of a step sorted by the expert that they go to.
#[derive(Debug, Clone, PartialEq)]
pub struct Routes {
    /// For each slot the token (row) that goes there; slots of one expert lie together, in the order of the rows.
    pub rows: Vec<u32>,
    /// For each slot its expert.
    pub experts: Vec<u32>,
    /// The experts that have slots, with those slots.
    pub groups: Vec<(usize, std::ops::Range<usize>)>,
    /// `[T, used]`: the slots of each row, by ascending expert.
    pub slots: Vec<u32>,
    /// `[T, used]`: their weights.
    pub weights: Vec<f32>,
}

impl Routes {
    /// For each slot its weight.
    pub fn slot_weights(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.slots.len()];
        self.slots.iter().zip(&self.weights).for_each(|(&slot, &weight)| weights[slot as usize] = weight);
        weights
    }
}

/// Sends each row of `scores [T, experts]` to `used` experts. `bias [experts]` takes part in the choice and not in the weights.
pub fn route(scores: &[f32], experts: usize, used: usize, bias: Option<&[f32]>, routing: &Routing) -> Routes {
    let rows = scores.len() / experts;
    let chosen: Vec<Vec<(usize, f32)>> = scores.chunks_exact(experts).map(|row| choose(row, used, bias, routing)).collect();
    let mut counts = vec![0usize; experts];
    for &(expert, _) in chosen.iter().flatten() {
        counts[expert] += 1;
    }
    let mut groups = Vec::new();
    let mut next = vec![0usize; experts];
    let mut begin = 0;
    for (expert, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
        groups.push((expert, begin..begin + count));
        next[expert] = begin;
        begin += count;
    }
    let mut routes = Routes {
        rows: vec![0; rows * used],
        experts: vec![0; rows * used],
        groups,
        slots: Vec::with_capacity(rows * used),
        weights: Vec::with_capacity(rows * used),
    };
    for (row, chosen) in chosen.iter().enumerate() {
        for &(expert, weight) in chosen {
            let slot = next[expert];
            next[expert] += 1;
            routes.rows[slot] = row as u32;
            routes.experts[slot] = expert as u32;
            routes.slots.push(slot as u32);
            routes.weights.push(weight);
        }
    }
    routes
}

/// The experts of one token with their weights, by ascending expert.
fn choose(scores: &[f32], used: usize, bias: Option<&[f32]>, routing: &Routing) -> Vec<(usize, f32)> {
    if routing.gating == Gating::SparseMixer {
        return choose_one_by_one(scores, used, f64::from(routing.jitter));
    }
    let values: Vec<f64> = match routing.gating {
        Gating::Softmax => softmax(scores.iter().map(|&s| f64::from(s))),
        Gating::Sigmoid => scores.iter().map(|&s| logistic(f64::from(s))).collect(),
        Gating::SoftmaxOfChosen | Gating::SparseMixer => scores.iter().map(|&s| f64::from(s)).collect(),
    };
    let mut rank = values.clone();
    if let Some(bias) = bias {
        rank.iter_mut().zip(bias).for_each(|(rank, &bias)| *rank += f64::from(bias));
    }
    if routing.groups_used < routing.groups {
        keep_groups(&mut rank, routing);
    }
    let mut chosen = largest(&rank, used);
    chosen.sort_unstable();
    let mut weights: Vec<f64> = chosen.iter().map(|&expert| values[expert]).collect();
    if routing.gating == Gating::SoftmaxOfChosen {
        weights = softmax(weights.into_iter());
    } else if routing.normalizes {
        let sum: f64 = weights.iter().sum::<f64>() + f64::from(routing.sum_epsilon);
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    let scale = f64::from(routing.scale);
    chosen.into_iter().zip(weights).map(|(expert, weight)| (expert, (weight * scale) as f32)).collect()
}

/// The same where the next expert is the best of those that remain, and its weight its share of a softmax over those of them
/// whose scores are near its own: `(best - s) / max(|s|, best) <= 2 jitter` (Liu et al. 2024, "GRIN: GRadient-INformed MoE", as
/// `modeling_phimoe.py` of transformers 5.24 has it).
fn choose_one_by_one(scores: &[f32], used: usize, jitter: f64) -> Vec<(usize, f32)> {
    let mut remaining: Vec<f64> = scores.iter().map(|&s| f64::from(s)).collect();
    let mut chosen = Vec::with_capacity(used);
    for _ in 0..used {
        let Some(&expert) = largest(&remaining, 1).first() else { break };
        let best = remaining[expert];
        // Nothing by nothing is no distance.
        let is_far = |score: f64| (best - score) / score.abs().max(best) > 2.0 * jitter;
        let near = remaining.iter().filter(|&&score| score > f64::NEG_INFINITY && !is_far(score));
        let sum: f64 = near.map(|score| libm::exp(score - best)).sum();
        chosen.push((expert, (1.0 / sum) as f32));
        remaining[expert] = f64::NEG_INFINITY;
    }
    chosen.sort_unstable_by_key(|&(expert, _)| expert);
    chosen
}

/// Puts the experts outside of the best groups out of reach. A group is as good as its best expert, or with sigmoids as the sum
/// of its best two (DeepSeek-AI 2024).
fn keep_groups(rank: &mut [f64], routing: &Routing) {
    let size = rank.len() / routing.groups;
    let of_group = match routing.gating {
        Gating::Sigmoid => 2,
        Gating::Softmax | Gating::SoftmaxOfChosen | Gating::SparseMixer => 1,
    };
    let score = |group: &[f64]| largest(group, of_group.min(size)).into_iter().map(|i| group[i]).sum::<f64>();
    let scores: Vec<f64> = rank.chunks_exact(size).map(score).collect();
    let kept = largest(&scores, routing.groups_used);
    for (number, group) in rank.chunks_exact_mut(size).enumerate() {
        if !kept.contains(&number) {
            group.fill(f64::NEG_INFINITY);
        }
    }
}

/// The places of the `count` largest; among equals the first.
fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

fn softmax(scores: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let max = scores.clone().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.map(|s| libm::exp(s - max)).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// The logistic function for weights of experts. As all of routing it is computed here in f64, whatever the device: there are few
/// of them. The one of `cpu/math.rs` is for whole rows: made of f32 operations that vectorize, it has other bits.
pub fn sigmoid(x: f32) -> f32 {
    logistic(f64::from(x)) as f32
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(gating: Gating, normalizes: bool) -> Routing {
        Routing { gating, normalizes, sum_epsilon: 1e-20, scale: 1.0, groups: 1, groups_used: 1, jitter: 0.01 }
    }

    #[track_caller]
    fn check(scores: &[f32], used: usize, bias: Option<&[f32]>, routing: &Routing, expected: &[(usize, f64)]) {
        let found = choose(scores, used, bias, routing);
        assert_eq!(found.iter().map(|c| c.0).collect::<Vec<_>>(), expected.iter().map(|c| c.0).collect::<Vec<_>>());
        for ((_, found), (_, expected)) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-7, "{found} is not {expected}");
        }
    }

    /// Probabilities 0.1, 0.2, 0.3, 0.4.
    fn logs() -> [f32; 4] {
        [0.1f32, 0.2, 0.3, 0.4].map(f32::ln)
    }

    #[test]
    fn the_likeliest_are_chosen_and_weighted_as_the_gating_says() {
        check(&logs(), 2, None, &routing(Gating::Softmax, false), &[(2, 0.3), (3, 0.4)]);
        check(&logs(), 2, None, &routing(Gating::Softmax, true), &[(2, 3.0 / 7.0), (3, 4.0 / 7.0)]);
        check(&logs(), 2, None, &routing(Gating::SoftmaxOfChosen, false), &[(2, 3.0 / 7.0), (3, 4.0 / 7.0)]);
        check(&[0.0; 4], 1, None, &routing(Gating::Sigmoid, false), &[(0, 0.5)]);
        let scaled = Routing { scale: 2.5, ..routing(Gating::Sigmoid, true) };
        check(&[0.0; 4], 2, None, &scaled, &[(0, 1.25), (1, 1.25)]);
        // What is added to the sum counts beside small sigmoids; here it is as large as the only one.
        check(&[0.0; 4], 1, None, &routing(Gating::Sigmoid, true), &[(0, 1.0)]);
        check(&[0.0; 4], 1, None, &Routing { sum_epsilon: 0.5, ..routing(Gating::Sigmoid, true) }, &[(0, 0.5)]);
    }

    /// Values by `sparsemixer` of transformers 5.24.
    #[test]
    fn one_after_the_other_is_chosen_among_those_near_it() {
        let by = |jitter| Routing { jitter, ..routing(Gating::SparseMixer, false) };
        check(&[1.0, 0.99, 0.5, -2.0], 2, None, &by(0.01), &[(0, 0.502_499_979), (1, 1.0)]);
        check(&[-1.0, -1.01, -1.5, -3.0], 2, None, &by(0.01), &[(0, 0.502_499_979), (1, 1.0)]);
        check(&[0.0, -0.001, 0.0, -2.0], 2, None, &by(0.01), &[(0, 0.5), (2, 1.0)]);
        check(&[1.0, 0.9, 0.7, -0.2], 2, None, &by(0.2), &[(0, 0.377_978_141), (1, 0.549_833_997)]);
        check(&[0.5, 1.0, 2.5, 3.0], 2, None, &by(0.01), &[(2, 1.0), (3, 1.0)]);
        check(&[1.0, 1.0, 1.0, 0.5], 2, None, &by(0.0), &[(0, 1.0 / 3.0), (1, 0.5)]);
    }

    #[test]
    fn a_bias_chooses_but_does_not_weigh() {
        check(&[0.0; 4], 1, Some(&[0.0, 0.0, 0.1, 0.0]), &routing(Gating::Sigmoid, false), &[(2, 0.5)]);
    }

    #[test]
    fn groups_limit_the_choice() {
        let by = |gating| Routing { groups: 2, groups_used: 1, ..routing(gating, false) };
        let scores = [3.0, -9.0, 2.0, 2.5];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        check(&scores, 2, None, &by(Gating::Sigmoid), &[(2, sigmoid(2.0)), (3, sigmoid(2.5))]);
        let softmax: Vec<f64> = softmax(scores.iter().map(|&s| f64::from(s)));
        check(&scores, 2, None, &by(Gating::Softmax), &[(0, softmax[0]), (1, softmax[1])]);
        // Negative ranks inside are better than anything outside.
        check(&[-5.0, -5.0, 0.0, 0.0], 2, Some(&[9.0, -9.0, 0.0, 0.0]), &by(Gating::Sigmoid), &[(2, 0.5), (3, 0.5)]);
    }

    #[test]
    fn rows_are_sorted_by_expert_and_find_their_slots() {
        let scores = [[0.0f32, 1.0, 2.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]].concat();
        let routes = route(&scores, 3, 2, None, &routing(Gating::Softmax, true));
        assert_eq!(routes.groups, [(0, 0..1), (1, 1..4), (2, 4..6)]);
        assert_eq!(routes.rows, [1, 0, 1, 2, 0, 2]);
        assert_eq!(routes.experts, [0, 1, 1, 1, 2, 2]);
        assert_eq!(routes.slots, [1, 4, 0, 2, 3, 5]);
        for (i, &slot) in routes.slots.iter().enumerate() {
            assert_eq!(routes.rows[slot as usize] as usize, i / 2);
            assert_eq!(routes.slot_weights()[slot as usize].to_bits(), routes.weights[i].to_bits());
        }
        assert!(routes.weights.chunks(2).all(|w| (w[0] + w[1] - 1.0).abs() < 1e-6));
    }
}
