//! Scores of tasks and of groups of tasks: each lane by itself and against its reference on the same items, with the correction
//! for many comparisons and a verdict. Absent: how they look.

use std::collections::{BTreeMap, BTreeSet};

use bitworth_eval::groups;
use bitworth_eval::record::ItemRecord;
use bitworth_eval::stats::{self, Estimate, MeanWithError, Paired, PairedItem, Verdict};
use serde::Serialize;

use crate::gathered::GatheredLane;

/// A lane's result in one task, or in all tasks of a group together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskScore {
    /// The task's or the group's name.
    pub name: String,
    /// The task's version; that of a group's tasks where all have the same.
    pub version: Option<String>,
    /// What an item's value is, where that is not simply right or wrong: metric and filter of lm-evaluation-harness.
    pub metric: Option<String>,
    /// Items.
    pub items: u64,
    /// Mean of the items' values: the share of right items, with Wilson's interval; of other values, and of items that share
    /// clusters, with Student's.
    pub accuracy: Estimate,
    /// Standard errors of this mean.
    pub error: MeanWithError,
    /// This lane against the reference, on the items that both have; `None` for the reference itself.
    pub against_reference: Option<TaskComparison>,
    /// How much probability the right choice has, where items have choices and one is right.
    pub choices: Option<ChoiceMeans>,
    /// The groups and tasks that a group is made of.
    pub members: Vec<TaskScore>,
}

/// A lane against its reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TaskComparison {
    /// The paired comparison of the items' values, with the p-value as it is by itself.
    #[serde(flatten)]
    pub paired: Paired,
    /// The p-value among all comparisons of lanes and tasks shown together (Holm 1979): of the tasks and groups that were
    /// named, and by themselves of the tasks within groups.
    pub p_adjusted: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// A scale that is finer than right and wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChoiceMeans {
    /// Mean of log P(right choice among the choices), in nats.
    pub log_p_gold: f64,
    /// Mean of Brier's score, from 0 (best) to 2.
    pub brier: f64,
    /// The first against the reference's.
    pub log_p_gold_difference: Option<Paired>,
    /// The second against the reference's.
    pub brier_difference: Option<Paired>,
}

/// How lanes are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// How far below the reference a lane may stay and count as good enough, in points of accuracy.
    pub margin: f64,
}

impl Default for Judgement {
    fn default() -> Self {
        Self { margin: bitworth_eval::job::DEFAULT_MARGIN }
    }
}

/// The items of one task under one lane.
type Items<'a> = BTreeMap<u32, &'a ItemRecord>;

/// Where a score comes from: one task, or groups and tasks.
struct Node<'a> {
    name: String,
    /// Whether a group's score is the plain mean over its tasks.
    is_macro: bool,
    /// The metric of the score, with its filter where that is said; `None` for what stands for the tasks.
    metric: Option<String>,
    /// Of a task.
    items: Option<&'a Items<'a>>,
    members: Vec<Node<'a>>,
}

impl<'a> Node<'a> {
    /// A task by itself.
    fn task(name: &str, metric: Option<String>, items: &'a Items<'a>) -> Self {
        Self { name: name.to_owned(), is_macro: false, metric, items: Some(items), members: Vec::new() }
    }

    /// The tasks of a lane as a tree: groups hold what was chosen through them.
    fn tree(lane: &'a GatheredLane<'a>) -> Vec<Self> {
        let mut roots: Vec<Self> = Vec::new();
        for (task, items) in &lane.items {
            let mut ways = groups::ways(items.values().next().and_then(|item| item.group.as_deref()));
            if ways.is_empty() {
                ways.push(Vec::new());
            }
            for way in ways {
                let mut level = &mut roots;
                for groups::Step { name, is_macro, metric } in way {
                    let place = level.iter().position(|node| node.items.is_none() && node.name == name).unwrap_or_else(|| {
                        level.push(Self { name, is_macro, metric, items: None, members: Vec::new() });
                        level.len() - 1
                    });
                    level = &mut level[place].members;
                }
                level.push(Self::task(task, None, items));
            }
        }
        roots
    }

    /// The items of all tasks below, of each once.
    fn leaves(&self) -> Vec<(&str, &'a Items<'a>)> {
        match self.items {
            Some(items) => vec![(self.name.as_str(), items)],
            None => {
                let mut seen = BTreeSet::new();
                let all = self.members.iter().flat_map(Self::leaves);
                all.filter(|(name, _)| seen.insert(*name)).collect()
            }
        }
    }
}

/// The metric and filter that a document has of a metric, where a filter is said of that one.
fn key_of<'a>(item: &'a ItemRecord, metric: &str) -> Option<&'a str> {
    let is_of = |key: &&str| *key == metric || key.strip_prefix(metric).is_some_and(|rest| rest.starts_with(','));
    item.scores.iter().map(|(key, _)| key.as_str()).find(is_of)
}

/// The figure of an item: that of a metric and filter, or what stands for the task.
fn figure(item: &ItemRecord, key: Option<&str>) -> Option<f64> {
    match key {
        None => item.value,
        Some(key) => item.scores.iter().find(|(own, _)| own == key).map(|(_, value)| *value),
    }
}

/// The scores of a lane; p-values are yet to be adjusted, see [`judge`].
pub fn scores(lane: &GatheredLane<'_>, reference: Option<&GatheredLane<'_>>) -> Vec<TaskScore> {
    let reference = reference.filter(|_| !lane.lane.is_reference);
    let mut scores: Vec<TaskScore> = Node::tree(lane).iter().flat_map(|node| of_node(node, reference)).collect();
    scores.sort_by(|a, b| a.name.cmp(&b.name));
    scores
}

/// A group whose tasks have no value in common has no score; its members then stand by themselves.
fn of_node(node: &Node<'_>, reference: Option<&GatheredLane<'_>>) -> Vec<TaskScore> {
    let members: Vec<TaskScore> = node.members.iter().flat_map(|member| of_node(member, reference)).collect();
    match score(node, reference) {
        Some(own) => vec![TaskScore { members, ..own }],
        None => members,
    }
}

fn score(node: &Node<'_>, reference: Option<&GatheredLane<'_>>) -> Option<TaskScore> {
    let leaves = node.leaves();
    let all = || leaves.iter().flat_map(|(_, items)| items.values().copied());
    let first = all().next()?;
    let key = match &node.metric {
        None => None,
        Some(metric) => Some(key_of(first, metric)?),
    };
    if all().any(|item| (key.is_none() && item.metric != first.metric) || figure(item, key).is_none()) {
        return None;
    }
    if node.is_macro && leaves.len() > 1 {
        return macro_score(node, key, &leaves, reference);
    }
    let mut clusters = Clusters::default();
    let (mut own, mut pairs) = (Vec::new(), Vec::new());
    let (mut fine, mut fine_pairs) = (Vec::new(), Vec::new());
    for (task, items) in &leaves {
        let others = reference.and_then(|reference| reference.items.get(*task));
        for (number, item) in *items {
            let value = figure(item, key).unwrap_or_default();
            let cluster = item.cluster.as_deref().map(|cluster| clusters.number(task, cluster));
            own.push((value, cluster));
            let other = others.and_then(|others| others.get(number));
            if let Some(reference) = other.and_then(|other| figure(other, key)) {
                pairs.push(PairedItem { reference, lane: value, cluster });
            }
            if let Some(scores) = choice_scores(item) {
                fine.push(scores);
                if let Some(other) = other.and_then(|other| choice_scores(other)) {
                    fine_pairs.push((other, scores, cluster));
                }
            }
        }
    }
    let error = stats::mean_with_error(&own)?;
    let comparison = stats::paired(&pairs).filter(|_| reference.is_some());
    let versions = all().all(|item| item.task_version == first.task_version);
    let choices = (fine.len() == own.len()).then(|| choice_means(&fine, &fine_pairs)).flatten();
    Some(TaskScore {
        name: node.name.clone(),
        version: versions.then(|| first.task_version.clone()),
        metric: key.map(str::to_owned).or_else(|| first.metric.clone()),
        items: own.len() as u64,
        accuracy: accuracy(&own, &error)?,
        error,
        against_reference: comparison.map(unjudged),
        choices,
        members: Vec::new(),
    })
}

/// The plain mean over tasks, as lm-evaluation-harness has it where `weight_by_size` is false.
fn macro_score<'a>(
    node: &Node<'_>,
    key: Option<&str>,
    leaves: &[(&str, &'a Items<'a>)],
    reference: Option<&GatheredLane<'_>>,
) -> Option<TaskScore> {
    let mut tasks = Vec::with_capacity(leaves.len());
    for &(name, items) in leaves {
        tasks.push(score(&Node::task(name, key.map(str::to_owned), items), reference)?);
    }
    let count = tasks.len() as f64;
    let mean = tasks.iter().map(|task| task.accuracy.value).sum::<f64>() / count;
    let joined = |of: fn(&MeanWithError) -> Option<f64>| {
        let squares: Option<f64> = tasks.iter().map(|task| of(&task.error).map(|error| error * error)).sum();
        squares.map(|squares| squares.sqrt() / count)
    };
    let error = MeanWithError {
        items: tasks.iter().map(|task| task.error.items).sum(),
        clusters: tasks.iter().map(|task| task.error.clusters).sum(),
        mean,
        standard_error: joined(|error| error.standard_error),
        clustered_error: joined(|error| error.clustered_error),
    };
    let pairs: Option<Vec<Paired>> = tasks.iter().map(|task| Some(task.against_reference.as_ref()?.paired)).collect();
    let paired = pairs.filter(|_| reference.is_some()).and_then(|pairs| stats::macro_mean(&pairs));
    let first = tasks.first()?;
    Some(TaskScore {
        name: node.name.clone(),
        version: tasks.iter().all(|task| task.version == first.version).then(|| first.version.clone()).flatten(),
        metric: first.metric.clone(),
        items: error.items,
        accuracy: Estimate { value: mean, interval: error.clustered_error.map(|error| stats::normal_interval(mean, error)) },
        error,
        against_reference: paired.map(unjudged),
        choices: None,
        members: Vec::new(),
    })
}

/// A comparison before it is judged among others.
fn unjudged(paired: Paired) -> TaskComparison {
    TaskComparison { paired, p_adjusted: paired.p_value, verdict: Verdict::Undecided { items: None } }
}

/// Numbers for what items have in common, apart for each task.
#[derive(Default)]
struct Clusters<'a>(BTreeMap<(&'a str, String), u64>);

impl<'a> Clusters<'a> {
    fn number(&mut self, task: &'a str, cluster: &str) -> u64 {
        let next = self.0.len() as u64;
        *self.0.entry((task, cluster.to_owned())).or_insert(next)
    }
}

/// Wilson's interval for independent right and wrong items, Student's for others.
fn accuracy(values: &[(f64, Option<u64>)], error: &MeanWithError) -> Option<Estimate> {
    let binary = values.iter().all(|(value, _)| *value == 0.0 || *value == 1.0);
    if binary && error.clusters == error.items {
        return stats::wilson(values.iter().filter(|(value, _)| *value == 1.0).count() as u64, error.items);
    }
    Some(error.estimate())
}

fn choice_scores(item: &ItemRecord) -> Option<stats::ChoiceScores> {
    stats::choice_scores(&item.logprobs, item.gold? as usize)
}

type FinePair = (stats::ChoiceScores, stats::ChoiceScores, Option<u64>);

fn choice_means(own: &[stats::ChoiceScores], pairs: &[FinePair]) -> Option<ChoiceMeans> {
    let mean = |of: fn(&stats::ChoiceScores) -> f64| own.iter().map(of).sum::<f64>() / own.len() as f64;
    let paired = |of: fn(&stats::ChoiceScores) -> f64| {
        let pair =
            |(reference, lane, cluster): &FinePair| PairedItem { reference: of(reference), lane: of(lane), cluster: *cluster };
        stats::paired(&pairs.iter().map(pair).collect::<Vec<_>>())
    };
    let log_p_gold = |scores: &stats::ChoiceScores| scores.log_p_gold;
    let brier = |scores: &stats::ChoiceScores| scores.brier;
    (!own.is_empty()).then(|| ChoiceMeans {
        log_p_gold: mean(log_p_gold),
        brier: mean(brier),
        log_p_gold_difference: paired(log_p_gold),
        brier_difference: paired(brier),
    })
}

/// Adjusts the p-values of comparisons that are shown together and judges each; `runs` are the scores of all lanes of one run.
pub fn judge(runs: Vec<&mut Vec<TaskScore>>, judgement: Judgement) {
    let (mut shown, mut within) = (Vec::new(), Vec::new());
    for scores in runs {
        for score in scores {
            collect(&mut score.members, &mut within);
            shown.extend(&mut score.against_reference);
        }
    }
    for family in [shown, within] {
        let adjusted = stats::holm(&family.iter().map(|c| c.paired.p_value).collect::<Vec<_>>());
        for (comparison, p) in family.into_iter().zip(adjusted) {
            comparison.p_adjusted = p;
            comparison.verdict = stats::verdict(&comparison.paired, p, judgement.margin / 100.0);
        }
    }
}

fn collect<'a>(scores: &'a mut [TaskScore], into: &mut Vec<&'a mut TaskComparison>) {
    for score in scores {
        collect(&mut score.members, into);
        into.extend(&mut score.against_reference);
    }
}

/// A verdict in a word or a few.
pub(crate) fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Worse => "worse",
        Verdict::NotWorse => "not worse",
        Verdict::Undecided { .. } => "undecided",
    }
}

/// The metric, with its filter where the task has several.
pub(crate) fn metric(score: &TaskScore) -> &str {
    let metric = score.metric.as_deref().unwrap_or("acc");
    metric.strip_suffix(",none").unwrap_or(metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::gather;
    use bitworth_eval::record::{Body, Record};
    use bitworth_eval::sample;

    /// By task, which of six items the lane gets right; items 0 and 1 share the cluster p0, 2 and 3 p1, and so on in both tasks.
    const RIGHT: [(&str, [f64; 6]); 2] = [("a", [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]), ("b", [1.0, 1.0, 0.0, 0.0, 1.0, 1.0])];

    /// A reference that is always right, and a lane, asked both tasks, with clusters or without.
    fn records(group: &str, clustered: bool) -> Vec<Record> {
        let mut records: Vec<Record> =
            sample::records().into_iter().filter(|record| record.as_lane().is_some()).take(2).collect();
        for origin in [records[0].origin.clone(), records[1].origin.clone()] {
            let is_reference = origin == records[0].origin;
            for (task, right) in RIGHT {
                for (number, value) in right.into_iter().enumerate() {
                    let item = ItemRecord {
                        task: task.to_owned(),
                        task_version: "1".to_owned(),
                        item: number as u32,
                        value: Some(if is_reference { 1.0 } else { value }),
                        group: Some(group.to_owned()),
                        cluster: clustered.then(|| format!("p{}", number / 2)),
                        ..ItemRecord::default()
                    };
                    records.push(Record { origin: origin.clone(), body: Body::Item(item) });
                }
            }
        }
        records
    }

    fn group(records: &[Record]) -> TaskScore {
        let gathered = gather(records).unwrap();
        let [reference, lane] = &gathered.lanes[..] else { panic!("two lanes") };
        let mut scores = scores(lane, Some(reference));
        assert_eq!(scores.len(), 1, "one group");
        scores.remove(0)
    }

    #[test]
    fn clusters_of_one_name_in_two_tasks_of_a_group_are_two() {
        let all = |number: fn(usize, usize) -> Option<u64>| {
            let pair = |task: usize, (i, lane): (usize, f64)| PairedItem { reference: 1.0, lane, cluster: number(task, i / 2) };
            let own =
                |(task, (_, right)): (usize, (&str, [f64; 6]))| right.into_iter().enumerate().map(move |one| pair(task, one));
            stats::paired(&RIGHT.into_iter().enumerate().flat_map(own).collect::<Vec<_>>()).unwrap()
        };
        let apart = group(&records("g", true));
        assert_eq!(apart.against_reference.unwrap().paired, all(|task, cluster| Some((3 * task + cluster) as u64)));
        assert_eq!((apart.error.items, apart.error.clusters), (12, 6));
        assert!(apart.members.iter().all(|task| task.error.clusters == 3) && apart.members.len() == 2);
        // Items without a cluster stay single.
        let single = group(&records("g", false));
        assert_eq!(single.against_reference.unwrap().paired, all(|_, _| None));
        assert_eq!(single.error.clusters, 12);
    }

    #[test]
    fn a_group_has_the_metric_that_it_names_under_every_way_to_a_task() {
        let mut records = records("g~metric=acc~macro|h~metric=acc,none", false);
        for (at, record) in records.iter_mut().enumerate() {
            if let Body::Item(item) = &mut record.body {
                let value = item.value.unwrap();
                item.metric = Some("acc_norm,none".to_owned());
                item.value = Some(f64::from(u8::from(at % 5 == 0)));
                item.scores = vec![("acc_norm,none".to_owned(), item.value.unwrap()), ("acc,none".to_owned(), value)];
            }
        }
        // One task has fewer items, so that the two means differ.
        records.retain(|record| !matches!(&record.body, Body::Item(item) if item.task == "b" && item.item >= 3));
        let gathered = gather(&records).unwrap();
        let scores = scores(&gathered.lanes[1], Some(&gathered.lanes[0]));
        assert!(scores.iter().map(|score| score.name.as_str()).eq(["g", "h"]));
        let [a, b] = [5.0 / 6.0, 2.0 / 3.0];
        for (score, mean) in scores.iter().zip([(a + b) / 2.0, 7.0 / 9.0]) {
            assert_eq!(score.metric.as_deref(), Some("acc,none"));
            assert!((score.accuracy.value - mean).abs() < 1e-12, "{score:?}");
            let difference = score.against_reference.unwrap().paired.difference.value;
            assert!((difference - (mean - 1.0)).abs() < 1e-12, "{score:?}");
            assert!(score.members.iter().all(|task| task.metric.as_deref() == Some("acc_norm,none")) && score.members.len() == 2);
        }
        // A metric that no item has: the tasks stand by themselves.
        records.iter_mut().for_each(|record| {
            if let Body::Item(item) = &mut record.body {
                item.group = Some("g~metric=mcc".to_owned());
            }
        });
        let gathered = gather(&records).unwrap();
        assert!(super::scores(&gathered.lanes[1], None).iter().map(|score| score.name.as_str()).eq(["a", "b"]));
    }
}
