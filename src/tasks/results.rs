//! Results in lm-evaluation-harness's form: the dictionary `results`, the lines of `samples_*.jsonl` with their hashes, and
//! groups. Absent: writing files.
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/evaluator.py`, `lm_eval/evaluator_utils.py`, `lm_eval/api/group.py`.

use std::sync::Arc;

use bitworth_quant::hex::hex;
use bitworth_quant::{Error, Result};
use bitworth_text::python::{self, JsonStyle};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::ask::{Arguments, Asked, Built, arguments};
use crate::files::config::OutputType;
use crate::files::index::{Group, Selection};
use crate::files::yaml::Node;
use crate::judge::{Judged, Sample, Score};
use crate::task::generation;

/// The entry of a task in `results`.
pub fn task_entry(built: &Built, judged: &Judged) -> Map<String, Value> {
    let config = &built.definition.config;
    let most = judged.scores.iter().map(|score| score.count).max().unwrap_or_default();
    let mut entry = Map::new();
    entry.insert("name".to_owned(), config.task.as_str().into());
    entry.insert("alias".to_owned(), config.alias.as_ref().unwrap_or(&config.task).as_str().into());
    entry.insert("sample_len".to_owned(), most.into());
    for Score { metric, filter, value, error, .. } in &judged.scores {
        entry.insert(format!("{metric},{filter}"), json!(value));
        entry.insert(format!("{metric}_stderr,{filter}"), error.map_or_else(|| "N/A".into(), |error| json!(error)));
    }
    entry
}

/// The entries of all tasks, then of groups in lm-evaluation-harness's order: members before the group that holds them.
///
/// # Errors
/// A group whose `aggregate_metric_list` is not understood.
pub fn entries_of<'a>(
    built: &[Arc<Built>],
    judged: impl Iterator<Item = &'a Judged>,
    selection: &Selection,
) -> Result<Map<String, Value>> {
    let one = |(built, judged): (&Arc<Built>, &Judged)| {
        (built.definition.config.task.clone(), Value::Object(task_entry(built, judged)))
    };
    let mut all: Map<String, Value> = built.iter().zip(judged).map(one).collect();
    for group in bottom_up(selection) {
        let entry = group_entry(group, selection, &all)?;
        all.insert(group.name.clone(), Value::Object(entry));
    }
    Ok(all)
}

/// Groups of groups, this deep at most: a selection of task files has fewer.
const MAX_DEPTH: usize = 32;

/// All groups, each once, members before the group that holds them.
fn bottom_up(selection: &Selection) -> Vec<&Group> {
    fn visit<'a>(group: &'a Group, selection: &'a Selection, depth: usize, found: &mut Vec<&'a Group>) {
        let is_found = |name: &str, found: &[&Group]| found.iter().any(|known| known.name == name);
        for member in &group.members {
            if let Some(inner) = group_named(selection, member)
                && depth < MAX_DEPTH
                && !is_found(member, found)
            {
                visit(inner, selection, depth + 1, found);
            }
        }
        if !is_found(&group.name, found) {
            found.push(group);
        }
    }
    let is_inner = |group: &Group| selection.groups.iter().any(|other| other.members.contains(&group.name));
    let mut found = Vec::new();
    selection.groups.iter().filter(|group| !is_inner(group)).for_each(|root| visit(root, selection, 0, &mut found));
    found
}

fn group_named<'a>(selection: &'a Selection, name: &str) -> Option<&'a Group> {
    selection.groups.iter().find(|group| group.name == name)
}

/// The names of all tasks below a group. One that several groups below it hold counts as often, as in lm-evaluation-harness.
fn leaves(group: &Group, selection: &Selection, depth: usize, found: &mut Vec<String>) {
    for member in &group.members {
        match group_named(selection, member) {
            Some(inner) if depth < MAX_DEPTH => leaves(inner, selection, depth + 1, found),
            Some(_) => {}
            None => found.push(member.clone()),
        }
    }
}

/// How a group makes one figure of a metric.
struct GroupMetric {
    metric: String,
    filters: Option<Vec<String>>,
    by_size: bool,
}

fn group_metrics(group: &Group) -> Result<Vec<GroupMetric>> {
    let fail = |what: &str| Error::file(&group.source.path, format!("group {}: aggregate_metric_list {what}", group.name));
    let items = match group.source.get("aggregate_metric_list") {
        None | Some(Node::Null) => return Ok(Vec::new()),
        Some(Node::List(items)) => items.clone(),
        Some(one @ Node::Map(_)) => vec![one.clone()],
        Some(_) => return Err(fail("must be a list of mappings")),
    };
    let one = |item: Node| {
        let metric = item.get("metric").and_then(Node::as_text).ok_or_else(|| fail("lacks the key metric"))?.to_owned();
        match item.get("aggregation") {
            None => {}
            Some(Node::Text(name)) if name == "mean" => {}
            Some(_) => return Err(fail("knows no aggregation but mean")),
        }
        let filters = match item.get("filter_list") {
            None | Some(Node::Null) => None,
            Some(Node::Text(one)) => Some(vec![one.clone()]),
            Some(Node::List(items)) => Some(items.iter().filter_map(|item| item.as_text().map(str::to_owned)).collect()),
            Some(_) => return Err(fail("has a filter_list that is no list of names")),
        };
        let by_size = match item.get("weight_by_size") {
            None => true,
            Some(Node::Bool(value)) => *value,
            Some(_) => return Err(fail("has a weight_by_size that is neither true nor false")),
        };
        Ok(GroupMetric { metric, filters, by_size })
    };
    items.into_iter().map(one).collect()
}

/// Whether a group has figures of its own.
pub(crate) fn has_figures(group: &Group) -> bool {
    group_metrics(group).is_ok_and(|metrics| !metrics.is_empty())
}

/// The figure that stands for a group where only one can.
pub(crate) struct GroupFigure {
    /// The metric.
    pub metric: String,
    /// The filter, where the group names some.
    pub filter: Option<String>,
    /// Whether it is weighted by the tasks' sizes, and not the plain mean over tasks.
    pub by_size: bool,
}

/// The figure that stands for a group, of those that it has: as of a task `acc_norm`, else `acc`, else the first, of metrics that
/// `is_common` finds in all its tasks where there are such.
pub(crate) fn group_figure(group: &Group, is_common: &dyn Fn(&str) -> bool) -> Option<GroupFigure> {
    let all = group_metrics(group).ok()?;
    let rank = |figure: &GroupMetric| {
        let order = ["acc_norm", "acc"].iter().position(|name| figure.metric == *name);
        (!is_common(&figure.metric), order.unwrap_or(2))
    };
    let GroupMetric { metric, filters, by_size } = all.into_iter().min_by_key(rank)?;
    Some(GroupFigure { metric, filter: filters.and_then(|filters| filters.into_iter().next()), by_size })
}

/// The names of all tasks below a group, each once.
pub(crate) fn tasks_below(group: &Group, selection: &Selection) -> Vec<String> {
    let mut found = Vec::new();
    leaves(group, selection, 0, &mut found);
    let mut seen = std::collections::HashSet::new();
    found.retain(|name| seen.insert(name.clone()));
    found
}

fn group_entry(group: &Group, selection: &Selection, all: &Map<String, Value>) -> Result<Map<String, Value>> {
    let alias = group.source.get("group_alias").and_then(Node::as_text).unwrap_or(&group.name);
    let mut entry = Map::new();
    entry.insert("alias".to_owned(), alias.into());
    entry.insert("name".to_owned(), group.name.as_str().into());
    let metrics = group_metrics(group)?;
    if metrics.is_empty() {
        return Ok(entry);
    }
    let mut names = Vec::new();
    leaves(group, selection, 0, &mut names);
    let tasks: Vec<&Map<String, Value>> = names.iter().filter_map(|name| all.get(name).and_then(Value::as_object)).collect();
    let size = |task: &Map<String, Value>| task.get("sample_len").and_then(Value::as_u64).unwrap_or_default();
    entry.insert("sample_len".to_owned(), tasks.iter().map(|task| size(task)).sum::<u64>().into());
    let mut counts = Map::new();
    for GroupMetric { metric, filters, by_size } in metrics {
        let filters = filters.unwrap_or_else(|| filters_of(&metric, &tasks));
        for filter in filters {
            let (key, error_key) = (format!("{metric},{filter}"), format!("{metric}_stderr,{filter}"));
            let having: Vec<_> = tasks.iter().filter_map(|task| Some((task, task.get(&key)?.as_f64()?))).collect();
            if having.is_empty() {
                tracing::warn!("group {}: no task has the figure {key}", group.name);
                continue;
            }
            let sizes: Vec<f64> = having.iter().map(|(task, _)| size(task) as f64).collect();
            let weights = if by_size { sizes.clone() } else { vec![1.0; sizes.len()] };
            let sum: f64 = having.iter().zip(&weights).map(|((_, value), weight)| value * weight).sum();
            entry.insert(key.clone(), json!(sum / weights.iter().sum::<f64>()));
            counts.insert(key, json!(sizes.iter().sum::<f64>() as u64));
            let errors: Option<Vec<f64>> = having.iter().map(|(task, _)| task.get(&error_key)?.as_f64()).collect();
            let error = errors.map(|errors| if by_size { pooled_error(&errors, &sizes) } else { plain_error(&errors) });
            entry.insert(error_key, error.map_or_else(|| "N/A".into(), |error| json!(error)));
        }
    }
    if !counts.is_empty() {
        entry.insert("sample_count".to_owned(), Value::Object(counts));
    }
    Ok(entry)
}

/// The filters under which tasks have a metric, in order.
fn filters_of(metric: &str, tasks: &[&Map<String, Value>]) -> Vec<String> {
    let prefix = format!("{metric},");
    let names = tasks.iter().flat_map(|task| task.keys()).filter_map(|key| key.strip_prefix(&prefix));
    names.map(str::to_owned).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// The standard error of a mean over tasks, weighted by size: of the pooled variance.
fn pooled_error(errors: &[f64], sizes: &[f64]) -> f64 {
    let total: f64 = sizes.iter().sum();
    let variance: f64 = errors.iter().zip(sizes).map(|(error, size)| (size - 1.0) * error.powi(2) * size).sum();
    (variance / (total - sizes.len() as f64) / total).sqrt()
}

/// The standard error of a plain mean over independent tasks.
fn plain_error(errors: &[f64]) -> f64 {
    errors.iter().map(|error| error.powi(2)).sum::<f64>().sqrt() / errors.len() as f64
}

/// A line of `samples_TASK.jsonl`; `answers` are the document's, as they were recorded.
///
/// # Errors
/// A target that cannot be made of the document.
pub fn sample_line(built: &Built, sample: &Sample, answers: &[Value]) -> Result<Map<String, Value>> {
    let asked = &built.asked[sample.at];
    let config = &built.definition.config;
    let listed = |answer: &Value| match (config.output_type, answer) {
        (OutputType::GenerateUntil, Value::Array(_)) => answer.clone(),
        (_, answer) => json!([answer]),
    };
    let style = JsonStyle { indent: Some(2), ..JsonStyle::default() };
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
    put("doc_id", asked.doc_id.into());
    put("doc", Value::Object(asked.doc.as_ref().clone()));
    put("target", asked.target.clone());
    put("arguments", asked.requests.iter().map(|request| with_options(built, request)).collect());
    put("resps", answers.iter().map(listed).collect());
    put("filtered_resps", sample.filtered.clone().into());
    put("filter", sample.filter.as_str().into());
    put("metrics", sample.figures.iter().map(|(name, _)| Value::from(name.as_str())).collect());
    put("doc_hash", hash(&python::json(&Value::Object(asked.doc.as_ref().clone()), style)).into());
    put("prompt_hash", hash(first_text(asked)).into());
    put("target_hash", hash(&python::str(&asked.target)).into());
    for (name, value) in &sample.figures {
        put(name, value.clone());
    }
    Ok(line)
}

fn with_options(built: &Built, request: &Arguments) -> Value {
    match request {
        Arguments::Prompt(prompt) => json!([prompt, generation(&built.definition.config)]),
        other => arguments(other),
    }
}

fn first_text(asked: &Asked) -> &str {
    match asked.requests.first() {
        Some(Arguments::Pair(text, _) | Arguments::Text(text) | Arguments::Prompt(text)) => text,
        None => "",
    }
}

/// SHA-256 in base 16.
pub fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::index::Index;

    const GROUPS: [(&str, &str); 2] = [
        (
            "first.yaml",
            "group: first\ntask:\n- a\n- b\n- {group: in1, task: [c, a], aggregate_metric_list: [{metric: acc}]}\n\
             - {group: in2, task: [b, b], aggregate_metric_list: [{metric: acc, weight_by_size: false}]}\n- d\n\
             aggregate_metric_list: [{metric: acc}]\n",
        ),
        ("second.yaml", "group: second\ntask: [e]\naggregate_metric_list: []\n"),
    ];

    fn selection() -> Selection {
        let dir = tempfile::tempdir().unwrap();
        let tasks = ["a", "b", "c", "d", "e"].map(|name| (format!("{name}.yaml"), format!("task: {name}")));
        let groups = GROUPS.map(|(name, text)| (name.to_owned(), text.to_owned()));
        for (name, text) in tasks.into_iter().chain(groups) {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let index = Index::of_folders(&[dir.path().to_owned()]).unwrap();
        index.select(&["first".to_owned(), "second".to_owned()]).unwrap()
    }

    /// Expected: a run of lm-evaluation-harness 0.4.13 on tasks with these figures in groups of this form.
    #[test]
    fn groups_follow_and_count_as_in_lm_eval() {
        let selection = selection();
        let names: Vec<&str> = bottom_up(&selection).into_iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["first::in1", "first::in2", "first", "second"]);
        assert!(bottom_up(&selection).into_iter().map(has_figures).eq([true, true, true, false]));
        let figures = [("a", 0.0), ("b", 0.5), ("c", 1.0 / 6.0), ("d", 1.0 / 6.0)];
        let one =
            |(name, acc): (&str, f64)| (name.to_owned(), json!({"sample_len": 6, "acc,none": acc, "acc_stderr,none": "N/A"}));
        let all: Map<String, Value> = figures.map(one).into_iter().collect();
        for (name, items, acc) in [("first", 36, 2.0 / 9.0), ("first::in1", 12, 1.0 / 12.0), ("first::in2", 6, 0.5)] {
            let entry = group_entry(group_named(&selection, name).unwrap(), &selection, &all).unwrap();
            assert_eq!(entry["sample_len"], items, "{name}");
            assert!((entry["acc,none"].as_f64().unwrap() - acc).abs() < 1e-12, "{name}: {entry:?}");
        }
        assert_eq!(tasks_below(group_named(&selection, "first").unwrap(), &selection), ["a", "b", "c", "d"]);
    }
}
