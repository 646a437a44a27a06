//! Scores: the answers of a run that lm-evaluation-harness 0.4.13 made with a made-up model (`golden_extra/fake_run_*`) give its
//! figures, its samples and its hashes.

use bitworth_eval::job::Limit;
use bitworth_tasks::ask::{Ask, build};
use bitworth_tasks::evaluation::{About, Evaluation};
use bitworth_tasks::judge::judge;
use bitworth_tasks::results::{sample_line, task_entry};
use serde_json::{Map, Value};

use crate::common::{built_in, definition, lines, select_subject, shared, sources};

/// The draws of the golden run.
const DRAWS: usize = 1000;

/// Numbers of the same size, but for a relative difference of 1e-12; errors from draws 1e-9.
#[track_caller]
fn close(found: &Value, golden: &Value, key: &str) {
    let bound = if key.starts_with("perplexity_stderr") { 1e-9 } else { 1e-12 };
    match (found, golden) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= bound * b.abs(), "{key}: {a}, lm-eval {b}");
        }
        _ => assert_eq!(found, golden, "{key}"),
    }
}

#[test]
fn scores_and_samples_are_lm_evals() {
    let Some(folder) = shared("data/golden_extra") else { return };
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path()).unwrap();
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("fake_run_results.json")).unwrap()).unwrap();
    let names: Vec<&str> = golden["results"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut compared = (0, 0);
    for name in names.into_iter().filter(|name| *name != "mmlu_stem") {
        let samples = lines(&folder.join(format!("fake_run_samples_{name}.jsonl")));
        // The folder has one file for all subjects of MMLU but two.
        let Some(selection) = select_subject(name) else { continue };
        let task = definition(&selection.tasks[0]);
        let answers = recorded(&samples);
        let ask = Ask { limit: Limit::First(answers.len()), ..Ask::default() };
        let built = build(&task, &sources, &ask).unwrap();
        let judged = judge(&built, &answers, DRAWS).unwrap();
        assert_eq!(judged.samples.len(), samples.len(), "{name}");
        for (sample, golden) in judged.samples.iter().zip(&samples) {
            let line = sample_line(&built, sample, &answers[sample.at]).unwrap();
            assert!(line.keys().eq(golden.as_object().unwrap().keys()), "{name}: {:?}", line.keys());
            for (key, value) in &line {
                close(value, &golden[key], key);
            }
            compared.0 += 1;
        }
        let entry = task_entry(&built, &judged);
        let expected: &Map<String, Value> = golden["results"][name].as_object().unwrap();
        assert!(entry.keys().eq(expected.keys()), "{name}: {:?}", entry.keys());
        for (key, value) in &entry {
            close(value, &expected[key], key);
            compared.1 += 1;
        }
    }
    assert!(compared.0 > 1000 && compared.1 > 150, "{compared:?}");
}

/// The answers in samples, one list for each document.
fn recorded(samples: &[Value]) -> Vec<Vec<Value>> {
    let mut own: Vec<&Value> = Vec::new();
    for sample in samples {
        if !own.iter().any(|other| other["doc_id"] == sample["doc_id"]) {
            own.push(sample);
        }
    }
    let answers = |sample: &&Value| sample["resps"].as_array().unwrap().iter().map(|resps| resps[0].clone()).collect();
    own.iter().map(answers).collect()
}

#[test]
fn a_group_is_lm_evals() {
    let Some(folder) = shared("data/golden_extra") else { return };
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path()).unwrap();
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("fake_run_results.json")).unwrap()).unwrap();
    let selection = built_in(&["mmlu_stem"]);
    let (mut built, mut given) = (Vec::new(), Vec::new());
    for chosen in &selection.tasks {
        let answers = recorded(&lines(&folder.join(format!("fake_run_samples_{}.jsonl", chosen.name))));
        let ask = Ask { limit: Limit::First(answers.len()), ..Ask::default() };
        built.push(std::sync::Arc::new(build(&definition(chosen), &sources, &ask).unwrap()));
        given.push(answers);
    }
    let evaluation = Evaluation::new(&selection, &built, given, DRAWS).unwrap();
    assert_eq!(selection.tasks.len(), 19);
    let document = evaluation.document(&About::default()).unwrap();
    for key in ["versions", "n-shot", "higher_is_better", "group_subtasks"] {
        let found = document[key].as_object().unwrap();
        assert!(found.contains_key("mmlu_stem"), "{key}");
        assert!(found.keys().is_sorted(), "{key}");
        for (name, value) in found {
            assert_eq!(*value, golden[key][name], "{key} of {name}");
        }
    }
    assert!(["configs", "n-samples"].iter().all(|key| document[key].as_object().unwrap().len() == 19));
    let (found, expected) =
        (evaluation.entries["mmlu_stem"].as_object().unwrap(), golden["groups"]["mmlu_stem"].as_object().unwrap());
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    for (key, value) in found {
        close(value, &expected[key], key);
    }
}
