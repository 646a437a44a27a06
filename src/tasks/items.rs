//! What records keep of a task's documents, and the answers that are made of them again: so results can be had of records as of a
//! model. Absent: writing records, statistics of them.

use std::sync::Arc;

use bitworth_eval::groups::{Step, Way};
use bitworth_eval::record::ItemRecord;
use bitworth_eval::request::Answer;
use bitworth_quant::Result;
use bitworth_quant::hex::hex;
use bitworth_text::python;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::ask::{Asked, Built};
use crate::files::config::{self, FilterConfig, MetricConfig, OutputType};
use crate::files::index::{Group, Selection};
use crate::files::yaml::Function;
use crate::judge::{Sample, judge};
use crate::task::Definition;
use crate::{metrics, requests, results};

/// Fields by which documents of known data sets belong together, as several are about one passage: data set and field.
const CLUSTERS: &[(&str, &str)] = &[
    ("aps/super_glue/boolq", "passage"),
    ("aps/super_glue/multirc", "paragraph"),
    ("aps/super_glue/record", "passage"),
    ("super_glue/boolq", "passage"),
    ("super_glue/multirc", "paragraph"),
    ("super_glue/record", "passage"),
    ("EleutherAI/race/high", "article"),
    ("EleutherAI/drop", "passage"),
    ("TAUR-Lab/MuSR", "narrative"),
];

/// The figure that stands for a task where only one can: metric and filter. That is `acc_norm` where the task has it, else
/// `acc`, else the first that has a figure for one document, each under the task's first filter that has it.
fn main_figure(built: &Built, samples: &[Sample]) -> Option<(String, String)> {
    // A loss must be less of what is good: where less is better, nothing stands for the task.
    let is_loss = |name: &str| built.definition.metrics.iter().any(|metric| metric.name == name && metric.is_loss());
    let first = |wanted: &dyn Fn(&str, &Value) -> bool| {
        samples.iter().find_map(|sample| {
            let found = sample.figures.iter().find(|(name, value)| wanted(name, value));
            found.map(|(name, _)| (name.clone(), sample.filter.clone()))
        })
    };
    let named = |metric: &'static str| first(&move |name, value| name == metric && number(value).is_some());
    named("acc_norm").or_else(|| named("acc")).or_else(|| first(&|name, value| number(value).is_some() && !is_loss(name)))
}

/// A figure that is one number.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        number => number.as_f64(),
    }
}

/// The version of a task's items: that of the task file, how many shots it was asked with, and whether as a chat.
pub fn version(built: &Built, is_chat: bool) -> String {
    let own = built.definition.config.metadata.get("version").map_or_else(|| "none".to_owned(), python::str);
    let chat = if is_chat { ", chat" } else { "" };
    format!("{own}, {}-shot{chat}", built.num_fewshot)
}

/// The ways through groups that a task was chosen by, in lm-evaluation-harness's order of groups; none where it was chosen by
/// itself. `definitions` are the tasks of the selection.
pub fn ways(selection: &Selection, definitions: &[Arc<Definition>], task: &str) -> Vec<Way> {
    let mut found = Vec::new();
    extend(selection, definitions, task, &Way::new(), &mut found);
    found
}

/// Every way to `inner`, with `behind` it the rest of the way.
fn extend(selection: &Selection, definitions: &[Arc<Definition>], inner: &str, behind: &Way, found: &mut Vec<Way>) {
    for (place, group) in selection.groups.iter().enumerate() {
        // No longer than there are groups.
        if !group.members.iter().any(|member| member == inner) || behind.len() >= selection.groups.len() {
            continue;
        }
        if selection.groups[..place].iter().any(|other| other.name == group.name) {
            continue;
        }
        let way: Way = std::iter::once(step(selection, definitions, group)).chain(behind.iter().cloned()).collect();
        match selection.groups.iter().any(|outer| outer.members.contains(&group.name)) {
            true => extend(selection, definitions, &group.name, &way, found),
            false => found.push(way),
        }
    }
}

/// A group with what its score is: of its own figures one, where it has some. The metric is named where it is not for certain
/// the one that stands for its tasks.
fn step(selection: &Selection, definitions: &[Arc<Definition>], group: &Group) -> Step {
    let below = results::tasks_below(group, selection);
    let tasks: Vec<&Definition> =
        definitions.iter().filter(|task| below.contains(&task.config.task)).map(|task| task.as_ref()).collect();
    let is_common = |metric: &str| {
        let has = |task: &Definition| task.metrics.iter().any(|own| own.name == metric && !own.is_loss());
        tasks.iter().all(|task| has(task))
    };
    let Some(figure) = results::group_figure(group, &is_common) else {
        return Step { name: group.name.clone(), is_macro: false, metric: None };
    };
    // Where less is better nothing counts, as of tasks.
    if tasks.iter().any(|task| task.metrics.iter().any(|own| own.name == figure.metric && own.is_loss())) {
        return Step { name: group.name.clone(), is_macro: !figure.by_size, metric: Some(String::new()) };
    }
    let stands_for = |task: &Definition| {
        let has = |metric: &str| task.metrics.iter().any(|own| own.name == metric);
        let is_certain = match figure.metric.as_str() {
            "acc_norm" => has("acc_norm"),
            "acc" => has("acc") && !has("acc_norm"),
            metric => task.metrics.len() == 1 && has(metric) && task.metrics[0].is_mean(),
        };
        is_certain && figure.filter.as_ref().is_none_or(|filter| task.filters.first().is_some_and(|own| own.name == *filter))
    };
    let metric = (!tasks.iter().all(|task| stands_for(task))).then(|| match &figure.filter {
        Some(filter) => format!("{},{filter}", figure.metric),
        None => figure.metric.clone(),
    });
    Step { name: group.name.clone(), is_macro: !figure.by_size, metric }
}

impl Built {
    /// SHA-256, in hexadecimal, over all that is asked and how it is judged, wherever the task file lies.
    pub fn identity(&self) -> String {
        let config = &self.definition.config;
        let name = |function: &Function| json!(["function", function.name]);
        let named = |function: &Result<String, Function>| function.as_ref().map_or_else(name, |text| json!(text));
        let step = |step: &config::Step| {
            let functions: Vec<Value> = step.functions.iter().map(|(key, function)| json!([key, function.name])).collect();
            json!([named(&step.function), step.options, functions])
        };
        let filter = |filter: &FilterConfig| json!([filter.name, filter.steps.iter().map(step).collect::<Vec<_>>()]);
        let metric = |metric: &MetricConfig| {
            json!([named(&metric.metric), metric.aggregation.as_ref().map(named), metric.hf_evaluate, metric.options])
        };
        let filters = config.filter_list.as_ref().map(|filters| filters.iter().map(filter).collect::<Vec<_>>());
        let judged = json!([
            config.output_type.name(),
            config.process_results.as_ref().map(name),
            config.metric_list.as_ref().map(|metrics| metrics.iter().map(metric).collect::<Vec<_>>()),
            filters,
            config.generation_kwargs,
            config.repeats,
            config.cluster,
        ]);
        let mut hash = Sha256::new();
        hash.update(judged.to_string());
        for asked in &self.asked {
            hash.update(format!("{:?}", (asked.doc_id, &asked.requests, &asked.choices)));
            hash.update(json!([asked.gold, asked.target]).to_string());
        }
        hex(&hash.finalize())
    }
}

/// What records keep of every document that was asked; `answers` are those to [`requests::requests`].
///
/// # Errors
/// Answers that do not fit, or that a filter or metric cannot take.
pub fn records(built: &Built, answers: &[Answer], version: &str, group: Option<&str>) -> Result<Vec<ItemRecord>> {
    let by_document = requests::answers(built, answers)?;
    let judged = judge(built, &by_document, 0)?;
    let main = main_figure(built, &judged.samples);
    let mut rest = answers;
    let mut records = Vec::with_capacity(built.asked.len());
    for asked in &built.asked {
        let (own, behind) = rest.split_at(asked.requests.len());
        rest = behind;
        records.push(record(built, asked, own, version, group));
    }
    for Sample { at, filter, figures, .. } in &judged.samples {
        let record = &mut records[*at];
        let numbers = figures.iter().filter_map(|(name, value)| Some((format!("{name},{filter}"), number(value)?)));
        record.scores.extend(numbers);
    }
    for (asked, record) in built.asked.iter().zip(&mut records) {
        match &main {
            Some((metric, filter)) => {
                let key = format!("{metric},{filter}");
                record.value = record.scores.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
                record.metric = Some(key);
            }
            // Metrics of all documents together, as Matthews's correlation, say nothing of one; which choice was right does.
            None if built.definition.config.output_type == OutputType::MultipleChoice => {
                let choices = asked.choices.as_ref().map_or(0, Vec::len);
                let chosen = metrics::argmax(record.logprobs.get(..choices).unwrap_or_default());
                record.value = Some(f64::from(u8::from(python::equal(&asked.gold, &json!(chosen)))));
                record.metric = Some("acc,none".to_owned());
            }
            None => {}
        }
    }
    Ok(records)
}

fn record(built: &Built, asked: &Asked, answers: &[Answer], version: &str, group: Option<&str>) -> ItemRecord {
    let config = &built.definition.config;
    let scores =
        || answers.iter().filter_map(|answer| if let Answer::Loglikelihood(score) = answer { Some(score) } else { None });
    let text = answers.iter().find_map(|answer| if let Answer::Text(text) = answer { Some(text.clone()) } else { None });
    let gold = asked.gold.as_u64().and_then(|gold| u32::try_from(gold).ok());
    ItemRecord {
        task: config.task.clone(),
        task_version: version.to_owned(),
        item: asked.doc_id as u32,
        logprobs: scores().map(|score| score.logprob).collect(),
        greedy: text.is_none().then(|| scores().map(|score| score.is_greedy).collect()),
        text,
        // With requests of another kind beside the choices no place among them is meant.
        gold: gold.filter(|gold| asked.choices.as_ref().map(Vec::len) == Some(answers.len()) && (*gold as usize) < answers.len()),
        group: group.map(str::to_owned),
        cluster: cluster(built, asked),
        ..ItemRecord::default()
    }
}

/// What a document has in common with others: the field that the task file's `cluster` names, or one known of the data set.
fn cluster(built: &Built, asked: &Asked) -> Option<String> {
    let config = &built.definition.config;
    let path = config.dataset_path.as_deref().unwrap_or_default();
    let whole = format!("{path}/{}", config.dataset_name.as_deref().unwrap_or_default());
    let known = || CLUSTERS.iter().find(|(set, _)| *set == path || *set == whole).map(|(_, field)| *field);
    let field = config.cluster.as_deref().or_else(known)?;
    match asked.doc.get(field)? {
        Value::Null => None,
        value => Some(python::str(value)).filter(|text| !text.is_empty()),
    }
}

/// The answers of which records were made, by document, as [`judge`] takes them.
///
/// # Errors
/// A document without a record, or with that of other requests.
pub fn answers<'a>(built: &Built, records: impl Iterator<Item = &'a ItemRecord>) -> Result<Vec<Vec<Value>>> {
    let records: std::collections::HashMap<u32, &ItemRecord> = records.map(|record| (record.item, record)).collect();
    let one = |asked: &Asked| {
        let fail = |what: &str| built.definition.fail(format!("document {}: {what}", asked.doc_id));
        let record = records.get(&(asked.doc_id as u32)).ok_or_else(|| fail("it has no record"))?;
        let kind = built.definition.config.output_type;
        let greedy = |place: usize| record.greedy.as_ref().and_then(|greedy| greedy.get(place)).copied().unwrap_or_default();
        let own: Vec<Value> = match (kind, &record.text) {
            (OutputType::GenerateUntil, Some(text)) => vec![requests::text_answer(built, text)?],
            (OutputType::GenerateUntil, None) => Vec::new(),
            (OutputType::LoglikelihoodRolling, _) => record.logprobs.iter().map(|logprob| json!(logprob)).collect(),
            _ => record.logprobs.iter().enumerate().map(|(i, logprob)| json!([logprob, greedy(i)])).collect(),
        };
        match own.len() == asked.requests.len() {
            true => Ok(own),
            false => Err(fail("its record is of other requests")),
        }
    };
    built.asked.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use bitworth_eval::groups::text;

    use super::*;
    use crate::files::config::TaskConfig;
    use crate::files::index::Index;

    #[test]
    fn ways_say_which_figure_a_group_has() {
        let dir = tempfile::tempdir().unwrap();
        let task = "test_split: t\noutput_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: c\ndoc_to_target: 0\n";
        let group =
            |name: &str, members: &str, list: &str| format!("group: {name}\ntask: [{members}]\naggregate_metric_list: {list}\n");
        let files = [
            ("both.yaml", format!("task: both\n{task}metric_list: [{{metric: acc}}, {{metric: acc_norm}}, {{metric: mcc}}]")),
            ("one.yaml", format!("task: one\n{task}metric_list: [{{metric: acc}}, {{metric: brier_score}}]")),
            ("alone.yaml", format!("task: alone\n{task}")),
            ("mac.yaml", group("mac", "both, one", "[{metric: acc, weight_by_size: false}]")),
            ("sized.yaml", group("sized", "both, one", "[{metric: acc_norm}, {metric: acc, filter_list: [none]}]")),
            ("plain.yaml", group("plain", "one", "[{metric: acc}]")),
            ("bare.yaml", "group: bare\ntask: [mac, one]\n".to_owned()),
            ("loss.yaml", group("loss", "one", "[{metric: brier_score}]")),
        ];
        for (name, text) in &files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let index = Index::of_folders(&[dir.path().to_owned()]).unwrap();
        let ways_of = |names: &[&str], task: &str| {
            let selection = index.select(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
            let of = |chosen| match Definition::new(TaskConfig::new(chosen).unwrap()) {
                Ok(definition) => Arc::new(definition),
                Err(refusal) => panic!("{refusal}"),
            };
            let definitions: Vec<Arc<Definition>> = selection.tasks.iter().map(of).collect();
            text(&ways(&selection, &definitions, task)).unwrap_or_default()
        };
        assert_eq!(ways_of(&["mac"], "both"), "mac~metric=acc~macro");
        // Only some of the tasks have acc_norm.
        assert_eq!(ways_of(&["mac", "sized"], "both"), "mac~metric=acc~macro|sized~metric=acc,none");
        assert_eq!(ways_of(&["plain"], "one"), "plain", "what stands for the task stands for the group");
        assert_eq!(ways_of(&["mac", "bare"], "one"), "bare/mac~metric=acc~macro|bare");
        assert_eq!(ways_of(&["loss"], "one"), "loss~metric=");
        assert_eq!(ways_of(&["alone", "mac"], "alone"), "");
    }
}
