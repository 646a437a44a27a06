//! Experiments with known truth: how often lanes that lose nothing are called worse, and lanes that do lose are.

use bitworth_quant::random::SplitMix64;

use super::{Paired, PairedItem, Verdict, holm, macro_mean, paired, verdict};

const LANES: usize = 3;
const MARGIN: f64 = 0.01;

/// One task: items, how many share a cluster, the share of items on which answers are a matter of luck.
struct Shape {
    items: usize,
    in_cluster: usize,
    unsure: f64,
}

/// A task of single items, one of passages, a small one, and one of few passages with next to no flips.
const TASKS: [Shape; 4] = [
    Shape { items: 250, in_cluster: 1, unsure: 0.2 },
    Shape { items: 240, in_cluster: 6, unsure: 0.25 },
    Shape { items: 60, in_cluster: 1, unsure: 0.1 },
    Shape { items: 60, in_cluster: 5, unsure: 0.06 },
];

/// One task's items for every lane. Whether an item is unsure is common to all, and an unsure cluster is mostly right or mostly
/// wrong at once, which each model draws anew; `loss` is the chance that a lane loses an answer that it had.
fn task(shape: &Shape, loss: f64, random: &mut SplitMix64) -> [Vec<PairedItem>; LANES] {
    let mut lanes = [const { Vec::new() }; LANES];
    for first in (0..shape.items).step_by(shape.in_cluster) {
        let luck: [f64; LANES + 1] = [(); LANES + 1].map(|()| if random.unit() < 0.5 { 0.2 } else { 0.8 });
        for _ in 0..shape.in_cluster {
            let unsure = random.unit() < shape.unsure;
            let known = random.unit() < 0.6;
            let mut answer = |model: usize| if unsure { random.unit() < luck[model] } else { known };
            let reference = answer(LANES);
            let answers: Vec<bool> = (0..LANES).map(&mut answer).collect();
            for (items, right) in lanes.iter_mut().zip(answers) {
                let right = right && random.unit() >= loss;
                let cluster = (shape.in_cluster > 1).then_some(first as u64);
                items.push(PairedItem { reference: f64::from(reference), lane: f64::from(right), cluster });
            }
        }
    }
    lanes
}

/// The comparisons of an experiment: every lane on every task.
fn comparisons(loss: f64, random: &mut SplitMix64) -> (Vec<Paired>, Vec<Vec<Vec<PairedItem>>>) {
    let tasks: Vec<_> = TASKS.iter().map(|shape| task(shape, loss, random)).collect();
    let by_lane: Vec<Vec<_>> = (0..LANES).map(|lane| tasks.iter().map(|task| task[lane].clone()).collect()).collect();
    (by_lane.iter().flatten().filter_map(|items| paired(items)).collect(), by_lane)
}

/// A lane's items of all tasks together, each with the same weight. Clusters of different tasks are different ones, whatever
/// their numbers.
fn pooled(tasks: &[Vec<PairedItem>]) -> Option<Paired> {
    let own = |(task, items): (usize, &Vec<PairedItem>)| {
        let number = |cluster: u64| ((task as u64) << 32) | cluster;
        items.iter().map(|item| PairedItem { cluster: item.cluster.map(number), ..*item }).collect::<Vec<_>>()
    };
    paired(&tasks.iter().enumerate().flat_map(own).collect::<Vec<_>>())
}

/// How many of the comparisons are called worse after Holm's correction.
fn worse(family: &[Paired]) -> usize {
    let adjusted = holm(&family.iter().map(|pair| pair.p_value).collect::<Vec<_>>());
    family.iter().zip(adjusted).filter(|(pair, p)| verdict(pair, *p, MARGIN) == Verdict::Worse).count()
}

#[test]
fn lanes_that_lose_nothing_are_seldom_called_worse() {
    let mut random = SplitMix64::new(2024);
    let (mut in_tasks, mut in_means, mut in_pools) = (0, 0, 0);
    for _ in 0..1000 {
        let (tasks, by_lane) = comparisons(0.0, &mut random);
        assert_eq!(tasks.len(), LANES * TASKS.len());
        let means: Vec<Paired> = tasks.chunks(TASKS.len()).filter_map(macro_mean).collect();
        let pools: Vec<Paired> = by_lane.iter().filter_map(|tasks| pooled(tasks)).collect();
        in_tasks += usize::from(worse(&tasks) > 0);
        in_means += usize::from(worse(&means) > 0);
        in_pools += usize::from(worse(&pools) > 0);
    }
    assert!(in_tasks <= 50 && in_means <= 50 && in_pools <= 50, "{in_tasks}, {in_means}, {in_pools} of 1000");
    // Half of what the level allows on either side falls to gains; a test that never speaks would be no test.
    assert!(in_tasks > 0 && in_means > 0 && in_pools > 0, "{in_tasks}, {in_means}, {in_pools} of 1000");
}

#[test]
fn lanes_that_lose_an_eighth_of_their_answers_are_called_worse() {
    let mut random = SplitMix64::new(7);
    let found: usize = (0..100)
        .map(|_| {
            let (_, by_lane) = comparisons(0.125, &mut random);
            worse(&by_lane.iter().filter_map(|tasks| pooled(tasks)).collect::<Vec<_>>())
        })
        .sum();
    assert!(found >= 95 * LANES, "{found} of {}", 100 * LANES);
}
