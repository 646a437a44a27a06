//! The multiple-choice knapsack: one of several choices for each unit, the least loss that a size allows. Walked along the
//! choices that the Lagrangian (loss + lambda bytes) has as its minima, from the smallest size on, then filled greedily (Sinha
//! and Zoltners 1979, "The Multiple-Choice Knapsack Problem"). At the sizes of that path the choice is the best there is; between
//! them it is off by less than one step of one unit.

/// What a unit takes and loses in one type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Its bytes.
    pub bytes: u64,
    /// What is lost by it.
    pub loss: f64,
}

/// What is wanted of all units together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The least loss within this many bytes.
    Bytes(u64),
    /// The fewest bytes whose loss is no more than this.
    Loss(f64),
}

/// Makes losses fall as bytes grow: neighbours that do not are averaged (isotonic regression by pooling adjacent violators: Ayer
/// et al. 1955). What is below zero is noise and becomes zero. The order of `choices` stays.
///
/// Choices of the same bytes are no neighbours, as bytes say nothing about which of them is better: the one that loses least
/// stands for all of them, and the others lose what they lost, but no less than it.
pub fn isotonic(choices: &mut [Cost]) {
    let mut by_size: Vec<usize> = (0..choices.len()).collect();
    by_size.sort_by(|&a, &b| order(choices[a], choices[b]));
    let levels: Vec<&[usize]> = by_size.chunk_by(|&a, &b| choices[a].bytes == choices[b].bytes).collect();
    // Pools of neighbours: sum of losses, and how many.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for level in &levels {
        pools.push((choices[level[0]].loss, 1));
        while let [.., (a, n), (b, m)] = pools[..] {
            if a / n as f64 >= b / m as f64 {
                break;
            }
            pools.truncate(pools.len() - 2);
            pools.push((a + b, n + m));
        }
    }
    let pooled = pools.into_iter().flat_map(|(sum, count)| std::iter::repeat_n((sum / count as f64).max(0.0), count));
    for (level, loss) in levels.into_iter().zip(pooled) {
        let (best, others) = (level[0], &level[1..]);
        choices[best].loss = loss;
        others.iter().for_each(|&i| choices[i].loss = choices[i].loss.max(loss));
    }
}

/// The number of a choice for each unit. `None` where no choice is small enough, or none loses as little, or a unit has none.
pub fn solve(units: &[Vec<Cost>], goal: Goal) -> Option<Vec<usize>> {
    let mut chosen = units.iter().map(|choices| smallest(choices)).collect::<Option<Vec<usize>>>()?;
    let all = |chosen: &[usize]| units.iter().zip(chosen).map(|(choices, &i)| choices[i]).collect::<Vec<_>>();
    let bytes = |chosen: &[usize]| all(chosen).iter().map(|choice| choice.bytes).sum::<u64>();
    let loss = |chosen: &[usize]| all(chosen).iter().map(|choice| choice.loss).sum::<f64>();
    let within = |chosen: &[usize]| match goal {
        Goal::Bytes(most) => bytes(chosen) <= most,
        Goal::Loss(most) => loss(chosen) <= most,
    };
    match goal {
        Goal::Bytes(_) => {
            if !within(&chosen) {
                return None;
            }
            // A step that does not fit ends the path of its unit; those of others may still fit.
            let mut ended = vec![false; units.len()];
            for step in path(units) {
                let before = chosen[step.unit];
                if ended[step.unit] {
                    continue;
                }
                chosen[step.unit] = step.to;
                if !within(&chosen) {
                    chosen[step.unit] = before;
                    ended[step.unit] = true;
                }
            }
            improve(units, &mut chosen, |from, to| from.loss - to.loss, |chosen| within(chosen));
        }
        Goal::Loss(_) => {
            for step in path(units) {
                if within(&chosen) {
                    break;
                }
                chosen[step.unit] = step.to;
            }
            if !within(&chosen) {
                return None;
            }
            improve(units, &mut chosen, |from, to| from.bytes as f64 - to.bytes as f64, |chosen| within(chosen));
        }
    }
    Some(chosen)
}

/// A unit goes over to its next choice on the path.
struct Step {
    unit: usize,
    to: usize,
    /// Loss that is saved for a byte.
    gain: f64,
}

/// The fewest bytes, and of those the least loss.
fn smallest(choices: &[Cost]) -> Option<usize> {
    (0..choices.len()).min_by(|&a, &b| order(choices[a], choices[b]))
}

fn order(a: Cost, b: Cost) -> std::cmp::Ordering {
    a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss))
}

/// The steps of all units along their lower convex hulls, the most gain for a byte first.
fn path(units: &[Vec<Cost>]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (unit, choices) in units.iter().enumerate() {
        let Some(mut at) = smallest(choices) else { continue };
        loop {
            let gain = |to: usize| {
                let (from, to) = (choices[at], choices[to]);
                (from.loss - to.loss) / to.bytes.saturating_sub(from.bytes) as f64
            };
            let larger =
                (0..choices.len()).filter(|&i| choices[i].bytes > choices[at].bytes && choices[i].loss < choices[at].loss);
            // Of equal ones the farthest, so that the path has no needless corners.
            let next = larger.max_by(|&a, &b| gain(a).total_cmp(&gain(b)).then(choices[a].bytes.cmp(&choices[b].bytes)));
            let Some(next) = next else { break };
            steps.push(Step { unit, to: next, gain: gain(next) });
            at = next;
        }
    }
    // Stable: steps of one unit stay in their order, in which gains fall.
    steps.sort_by(|a, b| b.gain.total_cmp(&a.gain));
    steps
}

/// Makes the change of one unit with the most gain that still fits, until there is none.
fn improve(units: &[Vec<Cost>], chosen: &mut [usize], gain: impl Fn(Cost, Cost) -> f64, fits: impl Fn(&[usize]) -> bool) {
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for (unit, choices) in units.iter().enumerate() {
            let before = chosen[unit];
            for (to, choice) in choices.iter().enumerate() {
                let gained = gain(choices[before], *choice);
                if gained > best.map_or(0.0, |(most, ..)| most) {
                    chosen[unit] = to;
                    if fits(chosen) {
                        best = Some((gained, unit, to));
                    }
                }
            }
            chosen[unit] = before;
        }
        match best {
            Some((_, unit, to)) => chosen[unit] = to,
            None => return,
        }
    }
}
