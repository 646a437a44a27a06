//! `bitworth eval` with task files of lm-evaluation-harness's form, written here: requests, recorded answers, a model, bad input.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::{json, run};

const TASK: &str = "task: colours\ndataset_path: our/colours\ntest_split: test\noutput_type: multiple_choice\n\
    doc_to_text: \"The colour of {{ thing.strip() }} is\"\ndoc_to_choice: \"{{ [good, bad] }}\"\ndoc_to_target: 0\ntag: [plain]\n\
    fewshot_config: {sampler: first_n, samples: [{thing: snow, good: white, bad: black}]}\n\
    metric_list: [{metric: acc}, {metric: acc_norm}]\n\
    metadata: {version: 2}\n";
const ROWS: &str = "{\"thing\": \"grass \", \"good\": \"green\", \"bad\": \"red\"}\n\
    {\"thing\": \"the sky\", \"good\": \"blue\", \"bad\": \"brown\"}\n";
const MAP: &str = "[[map]]\npath = 'our/colours'\nsplit = 'test'\nfile = 'rows.jsonl'\n";
const GROUP: &str = "group: all\ntask: [plain]\naggregate_metric_list: [{metric: acc, weight_by_size: false}]\n";

/// A folder with one task, its group and its rows.
fn folder(task: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tasks")).unwrap();
    for (name, text) in [("tasks/colours.yaml", task), ("tasks/all.yaml", GROUP), ("rows.jsonl", ROWS), ("map.toml", MAP)] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

const WITH: [&str; 4] = ["--include-path", "tasks", "--data-map", "map.toml"];

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn requests_are_written_and_answers_are_judged() {
    let dir = folder(TASK);
    let asked = [&["eval", "--tasks", "colours", "--num-fewshot", "1", "--requests-out", "r.jsonl"][..], &WITH].concat();
    let told = json(dir.path(), &asked);
    assert_eq!((&told["documents"], &told["requests"]), (&json!(2), &json!(4)));
    let line = &lines(&dir.path().join("r.jsonl"))[0];
    let context = "The colour of snow is white\n\nThe colour of grass is";
    assert_eq!(line["requests"], json!([[context, " green"], [context, " red"]]));
    assert_eq!((&line["gold"], &line["choices"], &line["num_fewshot"]), (&json!(0), &json!(["green", "red"]), &json!(1)));

    let answers = "{\"task\": \"colours\", \"doc_id\": 0, \"answers\": [[-1.0, true], [-2.0, false]]}\n\
         {\"task\": \"colours\", \"doc_id\": 1, \"answers\": [[-3.0, false], [-2.5, false]]}\n";
    std::fs::write(dir.path().join("a.jsonl"), answers).unwrap();
    let judged = [&["eval", "--tasks", "all", "--answers", "a.jsonl", "--output-path", "out"][..], &WITH].concat();
    let told = json(dir.path(), &judged);
    let entry = &told["results"]["colours"];
    assert_eq!((&entry["acc,none"], &entry["acc_stderr,none"], &entry["sample_len"]), (&json!(0.5), &json!(0.5), &json!(2)));
    // By characters, "brown" at -2.5 over 5 is better than "blue" at -3 over 4.
    assert_eq!((&entry["acc_norm,none"], &told["groups"]["all"]["acc,none"]), (&json!(0.5), &json!(0.5)));
    let sample = &lines(&dir.path().join("out/samples_colours.jsonl"))[1];
    assert_eq!(
        (&sample["acc"], &sample["filtered_resps"][0], &sample["target"]),
        (&json!(0.0), &json!([-3.0, false]), &json!(0))
    );
    assert!(dir.path().join("out/results.json").is_file());
}

#[test]
fn a_model_answers_all_tasks_on_all_lanes() {
    let dir = folder(TASK);
    let asked =
        [&["eval", "demo:demo-model", "@q4_0", "--tasks", "plain", "--device", "cpu", "--limit", "0.5"][..], &WITH].concat();
    let told = json(dir.path(), &asked);
    let lanes = told["results"].as_object().unwrap();
    assert_eq!(lanes.len(), 2, "{told}");
    for lane in lanes.values() {
        assert_eq!(lane["colours"]["sample_len"], 1);
        assert!(lane["colours"]["acc,none"].is_f64());
    }
}

#[test]
fn a_folder_is_checked() {
    let dir = folder(TASK);
    std::fs::write(dir.path().join("tasks/twin.yaml"), TASK.replace("colours", "twin") + "process_docs: !function utils.own\n")
        .unwrap();
    std::fs::write(dir.path().join("tasks/image.yaml"), TASK.replace("colours", "image") + "doc_to_image: picture\n").unwrap();
    std::fs::write(dir.path().join("tasks/key.yaml"), TASK.replace("colours", "key") + "colour: red\n").unwrap();
    let told = json(dir.path(), &["eval", "--check", "--include-path", "tasks"]);
    assert_eq!(told["counts"], json!({ "broken": 1, "needs a twin": 1, "not text": 1, "runs": 1 }));
    assert_eq!(told["total"], 4);
}

/// Exit code 2, one line that names what is wrong, and no file.
#[track_caller]
fn check_error(task: &str, args: &[&str], expected: &[&str]) {
    let dir = folder(task);
    std::fs::write(dir.path().join("bad.jsonl"), "{\"task\": \"colours\", \"doc_id\": 0, \"answers\": [[-1.0, true]]}\n")
        .unwrap();
    let output = run(dir.path(), &[&["eval"][..], args, &WITH].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    for part in expected {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
    assert!(!dir.path().join("r.jsonl").exists());
}

#[test]
fn bad_input_is_named() {
    let out = ["--tasks", "colours", "--requests-out", "r.jsonl"];
    check_error(TASK, &["--tasks", "colour", "--requests-out", "r.jsonl"], &["colour", "colours"]);
    check_error(&TASK.replace("thing.strip()", "nothing"), &out, &["colours.yaml", "task colours", "document 0", "undefined"]);
    check_error(&TASK.replace("{{ thing", "{{ | thing"), &out, &["colours.yaml", "doc_to_text", "syntax error"]);
    check_error(&(TASK.to_owned() + "colour: red\n"), &out, &["colours.yaml", "\"colour\" is unknown"]);
    check_error(&(TASK.to_owned() + "include: ../../x\n"), &out, &["colours.yaml", "leads out of the folder"]);
    check_error(&TASK.replace("metric: acc}", "metric: accuracy}"), &out, &["\"accuracy\" is unknown", "acc_norm"]);
    check_error(&TASK.replace("test_split: test", "test_split: other"), &out, &["\"other\"", "--data-map"]);
    check_error(TASK, &["--tasks", "colours", "--num-fewshot", "3", "--requests-out", "r.jsonl"], &["3 shots", "--num-fewshot"]);
    check_error(
        TASK,
        &["--tasks", "colours", "--samples", "{\"colours\": [7]}", "--requests-out", "r.jsonl"],
        &["--samples", "7"],
    );
    check_error(TASK, &["--tasks", "colours", "--answers", "bad.jsonl"], &["document 0", "1 answers came to 2 requests"]);
    check_error(TASK, &["--tasks", "colours", "--limit", "1.5", "--requests-out", "r.jsonl"], &["between 0 and 1"]);
    let endless = "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}";
    check_error(&TASK.replace("{{ thing.strip() }}", endless), &out, &["document 0", "reasonable time"]);
}
