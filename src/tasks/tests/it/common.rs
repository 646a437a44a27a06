//! Where the golden data is, and a data map for the splits that it was made of.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_tasks::files::config::TaskConfig;
use bitworth_tasks::files::index::{Chosen, Index, Selection};
use bitworth_tasks::files::yaml::Node;
use bitworth_tasks::rows::DataSources;
use bitworth_tasks::rows::map::DataMap;
use bitworth_tasks::task::Definition;
use serde_json::{Map, Value, json};

use crate::skip::skip;

/// A file or folder of the golden data beside the repository (`../shared`, or `BITWORTH_SHARED`).
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("BITWORTH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    skip("golden data (../shared, or what BITWORTH_SHARED names)", &format!("{} is missing", found.display()));
    None
}

/// Lines of a JSON-lines file.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Which rows stand for which split of which data set.
struct Split {
    path: &'static str,
    name: Option<&'static str>,
    split: &'static str,
    file: &'static str,
    rows: std::ops::Range<usize>,
}

const fn split(
    path: &'static str,
    name: Option<&'static str>,
    split: &'static str,
    file: &'static str,
    rows: std::ops::Range<usize>,
) -> Split {
    Split { path, name, split, file, rows }
}

const ALL: std::ops::Range<usize> = 0..usize::MAX;

/// The splits that the goldens were made of (`golden_extra/mkgold.py` says which rows; whole files serve the others as well).
fn splits() -> Vec<Split> {
    let mut splits = vec![
        split("openai/gsm8k", Some("main"), "train", "gsm8k/train_first200.jsonl", ALL),
        split("openai/gsm8k", Some("main"), "test", "gsm8k/test.jsonl", 0..60),
        split("Rowan/hellaswag", None, "train", "hellaswag/validation.jsonl", 5000..5200),
        split("Rowan/hellaswag", None, "validation", "hellaswag/validation.jsonl", 0..60),
        split("allenai/winogrande", Some("winogrande_xl"), "train", "winogrande/validation.jsonl", 600..800),
        split("allenai/winogrande", Some("winogrande_xl"), "validation", "winogrande/validation.jsonl", 0..60),
        split("aps/super_glue", Some("boolq"), "train", "boolq/validation.jsonl", 1000..1200),
        split("aps/super_glue", Some("boolq"), "validation", "boolq/validation.jsonl", 0..60),
        split("truthfulqa/truthful_qa", Some("multiple_choice"), "validation", "truthfulqa/mc_task.jsonl", 0..60),
        split("EleutherAI/lambada_openai", Some("default"), "test", "lambada_openai/test_first2576.jsonl", 0..60),
        split("baber/piqa", None, "validation", "piqa/validation.jsonl", ALL),
        split("tau/commonsense_qa", None, "validation", "commonsense_qa/validation.jsonl", ALL),
        split("EleutherAI/wikitext_document_level", Some("wikitext-2-raw-v1"), "test", "wikitext2/wiki.test.pages.jsonl", ALL),
        split("juletxara/mgsm", Some("en"), "train", "mgsm/mgsm_en.jsonl", 200..208),
        split("juletxara/mgsm", Some("en"), "test", "mgsm/mgsm_en.jsonl", 0..60),
        split("juletxara/mgsm", Some("zh"), "test", "mgsm/mgsm_zh.jsonl", 0..60),
    ];
    for (name, folder) in [("ARC-Easy", "arc_easy"), ("ARC-Challenge", "arc_challenge")] {
        let files = [(folder, "validation"), (folder, "test")].map(|(folder, split)| match (folder, split) {
            ("arc_easy", "test") => "arc_easy/test.jsonl",
            ("arc_easy", _) => "arc_easy/validation.jsonl",
            (_, "test") => "arc_challenge/test.jsonl",
            _ => "arc_challenge/validation.jsonl",
        });
        splits.push(split("allenai/ai2_arc", Some(name), "train", files[0], ALL));
        splits.push(split("allenai/ai2_arc", Some(name), "validation", files[0], ALL));
        splits.push(split("allenai/ai2_arc", Some(name), "test", files[1], 0..60));
    }
    splits
}

/// Local files and a map for everything that the goldens were made of, in a folder of the test's own.
pub fn sources(dir: &Path) -> Option<Arc<DataSources>> {
    let data = shared("data")?;
    let mut map = String::new();
    let mut entry = |path: &str, name: Option<&str>, split: &str, file: &Path, more: &str| {
        let name = name.map(|name| format!("name = {name:?}\n")).unwrap_or_default();
        write!(map, "[[map]]\npath = {path:?}\n{name}split = {split:?}\nfile = {file:?}\n{more}\n").unwrap();
    };
    for (number, Split { path, name, split, file, rows }) in splits().into_iter().enumerate() {
        let text = std::fs::read_to_string(data.join(file)).unwrap();
        let own = dir.join(format!("{number}.jsonl"));
        let taken: Vec<&str> = text.lines().skip(rows.start).take(rows.end - rows.start).collect();
        std::fs::write(&own, taken.join("\n")).unwrap();
        let more = if path == "aps/super_glue" { "set = { label = '{{ answer | int }}' }" } else { "" };
        entry(path, name, split, &own, more);
    }
    let subjects: std::collections::BTreeSet<String> =
        lines(&data.join("mmlu/dev.jsonl")).iter().map(|row| row["subject"].as_str().unwrap().to_owned()).collect();
    for subject in &subjects {
        let more = format!("where = {{ subject = {subject:?} }}");
        entry("cais/mmlu", Some(subject), "dev", &data.join("mmlu/dev.jsonl"), &more);
        entry("cais/mmlu", Some(subject), "test", &data.join("mmlu/test_first80_per_subject.jsonl"), &more);
    }
    for name in ["boolean_expressions", "date_understanding", "object_counting"] {
        entry("SaylorTwift/bbh", Some(name), "test", &data.join(format!("bbh/{name}.json")), "field = 'examples'");
    }
    let blimp = data.join("blimp/blimp_first75.jsonl");
    entry("nyu-mll/blimp", Some("adjunct_island"), "train", &blimp, "where = { UID = 'adjunct_island' }");
    let path = dir.join("map.toml");
    std::fs::write(&path, map).unwrap();
    Some(Arc::new(DataSources { map: Some(DataMap::read(&path).unwrap()), data_sets: None }))
}

/// Tasks of lm-evaluation-harness's own files.
pub fn select(names: &[&str]) -> Option<Selection> {
    let folder = shared("data/lm_eval_tasks")?;
    let index = Index::read(&[folder]).unwrap();
    Some(index.select(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap())
}

/// Tasks that come with the program.
pub fn built_in(names: &[&str]) -> Selection {
    Index::read(&[]).unwrap().select(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

/// A task of the golden run. Of MMLU's subjects there are two files; the others are those with another subject, as
/// lm-evaluation-harness has them.
pub fn select_subject(name: &str) -> Option<Selection> {
    let Some(subject) = name.strip_prefix("mmlu_") else { return select(&[name]) };
    let mut selection = select(&["mmlu_abstract_algebra"])?;
    let task = &mut selection.tasks[0];
    task.name = name.to_owned();
    let words = subject.replace('_', " ");
    for (key, value) in &mut task.source.entries {
        if let Node::Text(text) = value {
            *text = match key.as_str() {
                "task" => name.to_owned(),
                "dataset_name" | "task_alias" => subject.to_owned(),
                "description" => text.replace("abstract algebra", &words),
                _ => continue,
            };
        }
    }
    Some(selection)
}

/// A task ready to be asked.
#[track_caller]
pub fn definition(chosen: &Chosen) -> Arc<Definition> {
    let config = TaskConfig::new(chosen).unwrap();
    Arc::new(Definition::new(config).unwrap_or_else(|refusal| panic!("{}: {refusal}", chosen.name)))
}

/// The keys of `golden` of a line, as one text: bytes are compared.
pub fn same_keys(line: &Map<String, Value>, golden: &Value) -> String {
    let keys = golden.as_object().unwrap().keys();
    let taken: Map<String, Value> = keys.map(|key| (key.clone(), line.get(key).cloned().unwrap_or(json!("missing")))).collect();
    Value::Object(taken).to_string()
}
