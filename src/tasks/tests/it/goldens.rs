//! Requests, byte for byte those of lm-evaluation-harness 0.4.13 (`lm_eval_golden`, `golden_extra/random_fewshot_*`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use bitworth_eval::job::Limit;
use bitworth_tasks::ask::{Ask, arguments, build};
use bitworth_tasks::files::index::Index;
use bitworth_tasks::rows::DataSources;
use bitworth_tasks::rows::map::DataMap;
use bitworth_tasks::task::Definition;
use bitworth_text::chat::{ChatRole, Message};
use serde_json::Value;

use crate::common::{built_in, definition, lines, same_keys, select, shared, sources};

/// The documents of a golden file, asked in the same way, give the same lines.
#[track_caller]
fn check(file: &std::path::Path, sources: &Arc<DataSources>, without: &[&str]) -> usize {
    let mut golden = lines(file);
    for line in &mut golden {
        without.iter().for_each(|key| drop(line.as_object_mut().unwrap().shift_remove(*key)));
        // Where lm-evaluation-harness's own arguments stand, how text is generated is one of them; here it has a key.
        let options = line["requests"][0].as_array_mut().and_then(|request| request.pop_if(|last| last.is_object()));
        if let Some(options) = options {
            line["generation_kwargs"] = options;
        }
    }
    let name = golden[0]["task"].as_str().unwrap().to_owned();
    let selection = select(&[&name]).unwrap();
    let compared = compare(&definition(&selection.tasks[0]), sources, &golden);
    // Tasks that come with the program ask the same.
    if Index::read(&[]).unwrap().get(&name).is_some() {
        assert_eq!(compare(&definition(&built_in(&[&name]).tasks[0]), sources, &golden), compared);
    }
    compared
}

#[track_caller]
fn compare(task: &Arc<Definition>, sources: &Arc<DataSources>, golden: &[Value]) -> usize {
    let name = &task.config.task;
    let mut compared = 0;
    for shots in golden.iter().map(|line| line["num_fewshot"].as_u64().unwrap()).collect::<BTreeSet<_>>() {
        let own: Vec<&Value> = golden.iter().filter(|line| line["num_fewshot"] == shots).collect();
        let ask = Ask { num_fewshot: Some(shots as usize), limit: Limit::First(own.len()), ..Ask::default() };
        let built = build(task, sources, &ask).unwrap();
        assert_eq!(built.asked.len(), own.len(), "{name}");
        for (asked, golden) in built.asked.iter().zip(own) {
            assert_eq!(same_keys(&built.line(asked), golden), golden.to_string(), "{name}, document {}", asked.doc_id);
            compared += 1;
        }
    }
    compared
}

#[test]
fn requests_are_lm_evals() {
    let Some(folder) = shared("data/lm_eval_golden") else { return };
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path()).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    assert_eq!(files.len(), 21);
    let compared: usize = files.iter().map(|file| check(file, &sources, &[])).sum();
    assert_eq!(compared, 628);
}

#[test]
fn drawn_shots_are_lm_evals() {
    let Some(folder) = shared("data/golden_extra") else { return };
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path()).unwrap();
    for name in ["gsm8k_5", "gsm8k_2", "hellaswag_10", "arc_challenge_25", "winogrande_5", "boolq_3", "truthfulqa_mc1_0"] {
        assert_eq!(check(&folder.join(format!("random_fewshot_{name}.jsonl")), &sources, &["seed"]), 12, "{name}");
    }
}

/// Tasks that come with the program and are about other data: made-up rows, and what lm-evaluation-harness 0.4.13 asks about them
/// with its own files. All of a question's answers are the same text in GPQA's, because it shuffles them anew in every run.
#[test]
fn tasks_that_come_with_the_program_ask_what_lm_eval_asks() {
    let mut names = BTreeSet::new();
    for line in include_str!("built_in.jsonl").lines() {
        let golden: Value = serde_json::from_str(line).unwrap();
        let name = golden["task"].as_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let of = golden["name"].as_str().map(|name| format!("name = {name:?}\n")).unwrap_or_default();
        let mut map = String::new();
        for (split, rows) in golden["splits"].as_object().unwrap() {
            let file = dir.path().join(format!("{split}.json"));
            std::fs::write(&file, rows.to_string()).unwrap();
            write!(map, "[[map]]\npath = {}\n{of}split = {split:?}\nfile = {file:?}\n", golden["path"]).unwrap();
        }
        let path = dir.path().join("map.toml");
        std::fs::write(&path, map).unwrap();
        let sources = Arc::new(DataSources { map: Some(DataMap::read(&path).unwrap()), data_sets: None });
        let task = definition(&built_in(&[name]).tasks[0]);
        assert_eq!(compare(&task, &sources, golden["expected"].as_array().unwrap()), 2, "{name}");
        let metrics = task.metrics.iter().map(|metric| (metric.name.clone(), Value::from(metric.higher_is_better)));
        assert_eq!(Value::Object(metrics.collect()).to_string(), golden["metrics"].to_string(), "{name}: its metrics in order");
        assert_eq!(task.config.metadata["version"], golden["version"], "{name}");
        names.insert(name.to_owned());
    }
    assert_eq!(names.len(), 20);
}

/// The chat goldens were made with a template that writes every turn between two marks, and a system message of its own where
/// there is none, which is taken from the golden itself.
#[test]
fn chats_are_lm_evals() {
    let Some(folder) = shared("data/golden_extra") else { return };
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path()).unwrap();
    let names = [
        "mmlu_world_religions_0",
        "mmlu_world_religions_5_multi",
        "mmlu_world_religions_5_sys",
        "arc_easy_0",
        "gsm8k_cot_8_multi",
        "gsm8k_cot_8",
        "winogrande_0",
        "hellaswag_0",
        "lambada_openai_0",
    ];
    let own_system = {
        let line = &lines(&folder.join("chat_smollm2_arc_easy_0.jsonl"))[0];
        let text = line["requests"][0][0].as_str().unwrap().to_owned();
        text.split_inclusive("<|im_end|>\n").next().unwrap().to_owned()
    };
    for name in names {
        let golden = lines(&folder.join(format!("chat_smollm2_{name}.jsonl")));
        let selection = select(&[golden[0]["task"].as_str().unwrap()]).unwrap();
        let own_system = own_system.clone();
        let render = move |messages: &[Message], goes_on: bool| {
            let mut text = if messages[0].role == ChatRole::System { String::new() } else { own_system.clone() };
            for message in messages {
                let role = match message.role {
                    ChatRole::System => "system",
                    ChatRole::User => "user",
                    ChatRole::Assistant => "assistant",
                };
                text += &format!("<|im_start|>{role}\n{}<|im_end|>\n", message.content);
            }
            Ok(text + if goes_on { "" } else { "<|im_start|>assistant\n" })
        };
        let ask = Ask {
            num_fewshot: Some(golden[0]["num_fewshot"].as_u64().unwrap() as usize),
            limit: Limit::First(golden.len()),
            system: golden[0]["system"].as_str().map(str::to_owned),
            multiturn: golden[0]["multiturn"] == true,
            chat: Some(Arc::new(render)),
        };
        let built = build(&definition(&selection.tasks[0]), &sources, &ask).unwrap();
        assert_eq!((built.asked.len(), golden.len()), (6, 6));
        for (asked, golden) in built.asked.iter().zip(&golden) {
            for (request, golden) in asked.requests.iter().zip(golden["requests"].as_array().unwrap()) {
                let mut golden = golden.as_array().unwrap().clone();
                golden.pop_if(|last| last.is_object());
                assert_eq!(arguments(request), Value::Array(golden), "{name}, document {}", asked.doc_id);
            }
            assert_eq!(asked.requests.len(), golden["requests"].as_array().unwrap().len());
        }
    }
}
