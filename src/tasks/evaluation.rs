//! An evaluation as lm-evaluation-harness leaves it: the document of `results_*.json` and the lines of `samples_*.jsonl`. Absent:
//! where the answers come from.
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/evaluator.py`, `lm_eval/loggers/evaluation_tracker.py`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::{Error, Result};
use bitworth_text::python::{self, JsonStyle};
use chrono::DateTime;
use serde_json::{Map, Value, json};

use crate::ask::Built;
use crate::files::config::{KEYS, TaskConfig};
use crate::files::index::{Group, Selection};
use crate::files::yaml::Node;
use crate::judge::{Judged, judge};
use crate::results::{entries_of, has_figures, hash, sample_line};

/// The lines of one task's samples, behind its name.
pub type TaskSamples<'a> = (&'a str, Vec<Map<String, Value>>);

/// The tasks of one model with its answers, judged.
pub struct Evaluation<'a> {
    selection: &'a Selection,
    built: &'a [Arc<Built>],
    /// By task and document.
    answers: Vec<Vec<Vec<Value>>>,
    judged: Vec<Judged>,
    /// The entries of tasks and groups in `results`.
    pub entries: Map<String, Value>,
}

/// What was evaluated how.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The model's name.
    pub model: String,
    /// What an argument for the model would be: its path.
    pub model_args: String,
    /// `limit` as it was given.
    pub limit: Value,
    /// Draws of bootstrapped standard errors.
    pub bootstrap_draws: usize,
    /// The system message.
    pub system: Option<String>,
    /// Whether shots were turns of a chat.
    pub multiturn: bool,
    /// The chat template, where tasks were asked as chats.
    pub chat_template: Option<String>,
    /// When the evaluation began, in seconds since 1970.
    pub date: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl<'a> Evaluation<'a> {
    /// Judges the answers of one model to tasks, by document of every task as [`judge`] takes them.
    ///
    /// # Errors
    /// Answers that do not fit, or that a filter, metric or group cannot take.
    pub fn new(
        selection: &'a Selection,
        built: &'a [Arc<Built>],
        answers: Vec<Vec<Vec<Value>>>,
        bootstrap_draws: usize,
    ) -> Result<Self> {
        let judged = built.iter().zip(&answers).map(|(task, own)| judge(task, own, bootstrap_draws));
        let judged = judged.collect::<Result<Vec<_>>>()?;
        let entries = entries_of(built, judged.iter(), selection)?;
        Ok(Self { selection, built, answers, judged, entries })
    }

    /// The lines of each task's `samples_*.jsonl`, by the task's name.
    ///
    /// # Errors
    /// A target that cannot be made of a document.
    pub fn samples(&self) -> Result<Vec<TaskSamples<'a>>> {
        let one = |(i, task): (usize, &'a Arc<Built>)| {
            let lines = self.judged[i].samples.iter().map(|sample| sample_line(task, sample, &self.answers[i][sample.at]));
            Ok((task.definition.config.task.as_str(), lines.collect::<Result<Vec<_>>>()?))
        };
        self.built.iter().enumerate().map(one).collect()
    }

    /// The document of `results_*.json`: lm-evaluation-harness's keys, and `null` for what only PyTorch has.
    ///
    /// # Errors
    /// As [`Evaluation::samples`].
    pub fn document(&self, about: &About) -> Result<Value> {
        let is_group = |name: &str| self.selection.groups.iter().any(|group| group.name == name && has_figures(group));
        // In the order of the entries.
        let groups = self.entries.iter().filter(|(name, _)| is_group(name));
        let groups: Map<String, Value> = groups.map(|(name, entry)| (name.clone(), entry.clone())).collect();
        let members: Map<String, Value> =
            self.selection.groups.iter().map(|group| (group.name.clone(), json!(group.members))).collect();
        let mut document = json!({ "results": self.entries });
        if !groups.is_empty() {
            document["groups"] = Value::Object(groups);
        }
        document["group_subtasks"] = Value::Object(members);
        document["configs"] = sorted(self.of(|task, _| self.config(task)));
        let mut versions =
            self.of(|task, _| task.definition.config.metadata.get("version").cloned().unwrap_or_else(|| "Yaml".into()));
        let mut shots = self.of(|task, _| task.num_fewshot.into());
        let mut directions = self.of(|task, _| {
            let metrics = task.definition.metrics.iter();
            metrics.map(|metric| (metric.name.clone(), json!(metric.higher_is_better))).collect::<Map<_, _>>().into()
        });
        // Outer groups come first, as in lm-evaluation-harness: of inner groups, which have no entry yet, they take nothing.
        for group in &self.selection.groups {
            let name = || group.name.clone();
            versions.insert(name(), group_version(group).into());
            shots.extend(group_shots(group, &shots).map(|shots| (name(), shots)));
            directions.extend(group_directions(group, &directions).map(|directions| (name(), directions)));
        }
        document["versions"] = sorted(versions);
        document["n-shot"] = sorted(shots);
        document["higher_is_better"] = sorted(directions);
        let samples = self.of(|task, judged| {
            let effective = judged.scores.iter().map(|score| score.count).max().unwrap_or_default();
            json!({ "original": task.total, "effective": effective })
        });
        document["n-samples"] = Value::Object(samples);
        document["config"] = json!({
            "model": "bitworth", "model_args": about.model_args, "batch_size": null, "batch_sizes": [], "device": null,
            "use_cache": null, "limit": about.limit, "bootstrap_iters": about.bootstrap_draws, "gen_kwargs": null,
            "random_seed": 0, "numpy_seed": 1234, "torch_seed": 1234, "fewshot_seed": crate::ask::FEWSHOT_SEED,
        });
        let version = concat!("bitworth ", env!("CARGO_PKG_VERSION"), ", as lm-evaluation-harness 0.4.13");
        let mut put = |key: &str, value: Value| document[key] = value;
        put("git_hash", Value::Null);
        put("date", json!(about.date));
        put("pretty_env_info", Value::Null);
        put("transformers_version", Value::Null);
        put("lm_eval_version", version.into());
        put("upper_git_hash", Value::Null);
        for key in ["tokenizer_pad_token", "tokenizer_eos_token", "tokenizer_bos_token", "eot_token_id", "max_length"] {
            put(key, Value::Null);
        }
        put("task_hashes", self.hashes()?);
        put("model_source", "bitworth".into());
        put("model_name", about.model.as_str().into());
        put("model_name_sanitized", sanitized(&about.model).into());
        put("system_instruction", json!(about.system));
        put("system_instruction_sha", json!(about.system.as_deref().map(hash)));
        put("fewshot_as_multiturn", if about.multiturn { true.into() } else { Value::Null });
        put("chat_template", json!(about.chat_template));
        put("chat_template_sha", json!(about.chat_template.as_deref().map(hash)));
        put("total_evaluation_time_seconds", about.seconds.to_string().into());
        Ok(document)
    }

    /// Leaves `samples_*.jsonl` and `results_*.json` in the model's own folder below `folder`, and returns the files.
    ///
    /// # Errors
    /// As [`Evaluation::document`]; a file that cannot be written.
    pub fn write(&self, about: &About, folder: &Path) -> Result<Vec<PathBuf>> {
        let folder = folder.join(sanitized(&about.model));
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let date = date_id(about.date)?;
        let mut files = Vec::new();
        let mut write = |name: String, text: String| {
            let path = folder.join(name);
            write_whole(&path, text.as_bytes())?;
            files.push(path);
            Ok::<_, Error>(())
        };
        for (task, lines) in self.samples()? {
            let lines: String = lines.into_iter().map(file_line).collect();
            write(format!("samples_{}_{date}.jsonl", sanitized(task)), lines)?;
        }
        write(format!("results_{date}.json"), format!("{:#}", self.document(about)?))?;
        Ok(files)
    }

    fn of(&self, value: impl Fn(&Built, &Judged) -> Value) -> Map<String, Value> {
        let pairs = self.built.iter().zip(&self.judged);
        pairs.map(|(task, judged)| (task.definition.config.task.clone(), value(task, judged))).collect()
    }

    fn config(&self, task: &Built) -> Value {
        let chosen = self.selection.tasks.iter().find(|chosen| chosen.name == task.definition.config.task);
        // A task that stands in its group's file has that group's name in front.
        let is_inline = chosen.is_some_and(|chosen| {
            let holds = |group: &Group| {
                group.source.path == chosen.source.path
                    && chosen.name.strip_prefix(group.name.as_str()).is_some_and(|rest| rest.starts_with("::"))
            };
            self.selection.groups.iter().any(holds)
        });
        let entries = chosen.map_or(&[][..], |chosen| chosen.source.entries.as_slice());
        config(entries, &task.definition.config, task.num_fewshot, is_inline)
    }

    /// One hash for the documents, prompts and targets of each task.
    fn hashes(&self) -> Result<Value> {
        let part = |line: &Map<String, Value>| {
            let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
            text("doc_hash").to_owned() + text("prompt_hash") + text("target_hash")
        };
        let one = |(task, lines): (&str, Vec<Map<String, Value>>)| {
            (task.to_owned(), Value::from(hash(&lines.iter().map(part).collect::<String>())))
        };
        Ok(Value::Object(self.samples()?.into_iter().map(one).collect()))
    }
}

/// Keys of a task's file that only place it among others.
const PLACING: [&str; 3] = ["tag", "group", "task_list"];

/// What the entries of a task's file say, includes and groups followed, as lm-evaluation-harness shows it: with its defaults and
/// without what is null. Python functions stand there by their names.
fn config(entries: &[(String, Node)], own: &TaskConfig, num_fewshot: usize, is_inline: bool) -> Value {
    let entries = entries.iter().filter(|(key, _)| !PLACING.contains(&key.as_str()));
    let mut config: Map<String, Value> = entries.map(|(key, value)| (key.clone(), value.to_json())).collect();
    let told = config.remove("fewshot_config").unwrap_or_default();
    let of = |key: &str| config.get(key).cloned().unwrap_or_default();
    // Also a null that is told takes the task's own away.
    let shots = |key: &str, other: Value| told.get(key).cloned().unwrap_or(other);
    let fewshot = json!({
        "sampler": shots("sampler", "default".into()), "split": shots("split", of("fewshot_split")),
        "process_docs": shots("process_docs", of("process_docs")),
        "fewshot_indices": shots("fewshot_indices", Value::Null), "samples": shots("samples", Value::Null),
        "doc_to_text": shots("doc_to_text", of("doc_to_text")), "doc_to_choice": shots("doc_to_choice", of("doc_to_choice")),
        "doc_to_target": shots("doc_to_target", of("doc_to_target")), "gen_prefix": shots("gen_prefix", of("gen_prefix")),
        "fewshot_delimiter": shots("fewshot_delimiter", own.fewshot_delimiter.as_str().into()),
        "target_delimiter": shots("target_delimiter", own.target_delimiter.as_str().into()),
    });
    let defaults: [(&str, Value); 7] = [
        ("unsafe_code", own.unsafe_code.into()),
        ("description", own.description.as_str().into()),
        ("target_delimiter", own.target_delimiter.as_str().into()),
        ("fewshot_delimiter", own.fewshot_delimiter.as_str().into()),
        ("output_type", own.output_type.name().into()),
        ("repeats", own.repeats.into()),
        ("should_decontaminate", false.into()),
    ];
    for (key, value) in defaults {
        config.entry(key).or_insert(value);
    }
    config.insert("fewshot_config".to_owned(), fewshot);
    config.insert("generation_kwargs".to_owned(), json!(own.generation_kwargs));
    config.insert("num_fewshot".to_owned(), num_fewshot.into());
    // What has no keys becomes the value of one; a task that stands in its group's file has no file of its own to be named.
    let mut metadata = match config.remove("metadata") {
        None => Map::new(),
        Some(Value::Object(map)) => map,
        Some(other) => Map::from_iter([("_metadata".to_owned(), other)]),
    };
    if !is_inline {
        metadata.insert("config_source".to_owned(), own.path.display().to_string().into());
    }
    config.insert("metadata".to_owned(), Value::Object(metadata));
    let told = |key: &str| Some((key.to_owned(), config.get(key).filter(|value| !value.is_null())?.clone()));
    Value::Object(KEYS.into_iter().filter_map(told).collect())
}

/// In the order of the keys.
fn sorted(map: Map<String, Value>) -> Value {
    let mut pairs: Vec<(String, Value)> = map.into_iter().collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(pairs.into_iter().collect())
}

/// A group's version, as a text.
fn group_version(group: &Group) -> String {
    let version = group.source.get("metadata").and_then(|metadata| metadata.get("version"));
    version.map_or_else(|| "N/A".to_owned(), |version| python::str(&version.to_json()))
}

/// The number of shots of a group's direct members, where it is one.
fn group_shots(group: &Group, known: &Map<String, Value>) -> Option<Value> {
    let mut shots = group.members.iter().filter_map(|member| known.get(member));
    let first = shots.next()?;
    shots.all(|other| other == first).then(|| first.clone())
}

/// Whether more is better, for each metric of a group's direct members; `null` where they differ.
fn group_directions(group: &Group, known: &Map<String, Value>) -> Option<Value> {
    let mut all: Map<String, Value> = Map::new();
    let members = group.members.iter().filter_map(|member| known.get(member).and_then(Value::as_object));
    for (metric, direction) in members.flatten() {
        let common = all.entry(metric.clone()).or_insert_with(|| direction.clone());
        if *common != *direction {
            *common = Value::Null;
        }
    }
    (!all.is_empty()).then_some(Value::Object(all))
}

/// A line of samples as lm-evaluation-harness writes it into files: arguments by name, answers and targets as texts.
pub fn file_line(mut sample: Map<String, Value>) -> String {
    fn texts(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(texts).collect(),
            other => python::str(other).into(),
        }
    }
    let numbered = |name: &str, items: &Value, of: &dyn Fn(&Value) -> Value| -> Value {
        let items = items.as_array().into_iter().flatten().enumerate();
        Value::Object(items.map(|(i, item)| (format!("{name}_{i}"), of(item))).collect())
    };
    for (key, value) in &mut sample {
        *value = match key.as_str() {
            "arguments" => numbered("gen_args", value, &|item| numbered("arg", item, &Value::clone)),
            "resps" | "filtered_resps" => texts(value),
            "target" => python::str(value).into(),
            _ => continue,
        };
    }
    python::json(&Value::Object(sample), JsonStyle::default()) + "\n"
}

/// A model's name as lm-evaluation-harness names its folder: runs of what file systems do not like become `__`.
pub fn sanitized(name: &str) -> String {
    let mut out = String::new();
    let mut in_run = false;
    for c in name.chars() {
        let is_bad = matches!(c, '"' | '<' | '>' | ':' | '/' | '|' | '\\' | '?' | '*' | '[' | ']');
        if !is_bad {
            out.push(c);
        } else if !in_run {
            out.push_str("__");
        }
        in_run = is_bad;
    }
    out
}

/// A moment as lm-evaluation-harness writes it into the names of files: ISO 8601 in UTC with microseconds and `-` for `:`.
///
/// # Errors
/// A moment that is no date.
pub fn date_id(seconds: f64) -> Result<String> {
    let fail = || Error::file("date", format!("{seconds} seconds since 1970 are no date"));
    let micros = (seconds * 1e6).round();
    if !(0.0..1e17).contains(&micros) {
        return Err(fail());
    }
    let date = DateTime::from_timestamp_micros(micros as i64).ok_or_else(fail)?;
    Ok(date.format("%Y-%m-%dT%H-%M-%S%.6f").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::index::{Chosen, Index};
    use crate::files::source::TaskSource;
    use crate::files::yaml;

    // lm-evaluation-harness 0.4.13: `metadata` in the files of these groups.
    #[test]
    fn groups_that_come_with_the_program_have_lm_evals_versions() {
        for (name, version) in [
            ("mmlu", "2"),
            ("mmlu_stem", "2"),
            ("mmlu_other", "2"),
            ("mmlu_social_sciences", "2"),
            ("mmlu_humanities", "2"),
            ("blimp", "2.0"),
            ("leaderboard_gpqa", "N/A"),
            ("leaderboard_musr", "N/A"),
        ] {
            let selection = Index::read(&[]).unwrap().select(&[name.to_owned()]).unwrap();
            assert_eq!((selection.groups[0].name.as_str(), group_version(&selection.groups[0]).as_str()), (name, version));
        }
    }

    /// Expected: `configs` of runs of lm-evaluation-harness 0.4.13 on these tasks.
    #[test]
    fn tasks_are_shown_as_lm_eval_shows_them() {
        let shown = |text: &str, is_inline: bool| {
            let Node::Map(entries) = yaml::parse(text, &Arc::from(Path::new(""))).unwrap() else { panic!("no mapping") };
            let source = TaskSource { path: "k.yaml".into(), entries };
            let own = TaskConfig::new(&Chosen { name: "k".to_owned(), source: source.clone() }).unwrap();
            config(&source.entries, &own, 0, is_inline)
        };
        let defaults = json!({
            "task": "k", "unsafe_code": false, "description": "", "target_delimiter": " ", "fewshot_delimiter": "\n\n",
            "fewshot_config": {
                "sampler": "default", "split": null, "process_docs": null, "fewshot_indices": null, "samples": null,
                "doc_to_text": null, "doc_to_choice": null, "doc_to_target": null, "gen_prefix": null,
                "fewshot_delimiter": "\n\n", "target_delimiter": " ",
            },
            "num_fewshot": 0, "output_type": "generate_until",
            "generation_kwargs": {"temperature": 0.0, "do_sample": false, "max_gen_toks": 256, "until": ["\n\n"]},
            "repeats": 1, "should_decontaminate": false, "metadata": {"config_source": "k.yaml"},
        });
        let with = |more: Value| {
            let mut all = defaults.as_object().unwrap().clone();
            more.as_object().unwrap().iter().for_each(|(key, value)| drop(all.insert(key.clone(), value.clone())));
            all.retain(|_, value| !value.is_null());
            Value::Object(all)
        };
        assert_eq!(shown("task: k\ntag: [a, b]\ndoc_to_choice: null", false), defaults);
        assert!(shown("task: k", false).as_object().unwrap().keys().eq(defaults.as_object().unwrap().keys()));
        let metadata = json!({"metadata": {"_metadata": 3, "config_source": "k.yaml"}, "description": null});
        assert_eq!(shown("task: k\nmetadata: 3\ndescription: null", false), with(metadata));
        let metadata = json!({"metadata": {"_metadata": null, "config_source": "k.yaml"}});
        assert_eq!(shown("task: k\nmetadata: null", false), with(metadata));
        let options = json!({"generation_kwargs": {"temperature": 1.0, "until": ["\n\n"]}, "metadata": {}});
        assert_eq!(shown("task: k\ngeneration_kwargs: {temperature: 1}", true), with(options));
        let options = json!({"output_type": "multiple_choice", "generation_kwargs": null});
        assert_eq!(shown("task: k\noutput_type: multiple_choice", false), with(options));
        let shots = shown("task: k\ndoc_to_choice: [a]\nfewshot_config: {doc_to_choice: null}", false);
        assert_eq!((&shots["doc_to_choice"], &shots["fewshot_config"]["doc_to_choice"]), (&json!(["a"]), &Value::Null));
    }

    // lm-evaluation-harness 0.4.13, `_propagate_num_fewshot` and `_propagate_higher_is_better`.
    #[test]
    fn a_group_takes_what_its_members_have_in_common() {
        let selection = Index::read(&[]).unwrap().select(&["leaderboard_gpqa".to_owned()]).unwrap();
        let members = ["members", "two"].map(str::to_owned).to_vec();
        let group = Group { members, ..selection.groups[0].clone() };
        let known = |value: Value| value.as_object().unwrap().clone();
        assert_eq!(group_shots(&group, &known(json!({"members": 5, "two": 5, "other": 0}))), Some(json!(5)));
        assert_eq!(group_shots(&group, &known(json!({"members": 5, "two": 0}))), None);
        assert_eq!(group_shots(&group, &known(json!({"two": 3}))), Some(json!(3)));
        let directions = json!({"members": {"acc": true, "ppl": false}, "two": {"ppl": true, "f1": true}});
        let expected = json!({"acc": true, "ppl": null, "f1": true});
        assert_eq!(group_directions(&group, &known(directions)), Some(expected));
        assert_eq!(group_directions(&group, &Map::new()), None);
    }

    // Python: re.sub(r"[\"<>:/\|\\?\*\[\]]+", "__", name).
    #[test]
    fn names_of_models_become_names_of_folders() {
        for (name, expected) in [("a/b", "a__b"), ("hf::x//y", "hf__x__y"), ("q4_k_m", "q4_k_m"), ("[*]", "__"), ("", "")] {
            assert_eq!(sanitized(name), expected);
        }
    }

    // Python: datetime.fromtimestamp(t, timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds").
    #[test]
    fn moments_are_written_as_python_writes_them() {
        for (seconds, expected) in [
            (0.0, "1970-01-01T00-00-00.000000"),
            (951_782_400.0, "2000-02-29T00-00-00.000000"),
            (1_722_951_116.5, "2024-08-06T13-31-56.500000"),
            (1_795_879_623.25, "2026-11-28T15-27-03.250000"),
            (4_102_444_799.0, "2099-12-31T23-59-59.000000"),
        ] {
            assert_eq!(date_id(seconds).unwrap(), expected);
        }
        assert!(date_id(-1.0).is_err() && date_id(f64::NAN).is_err());
    }
}
