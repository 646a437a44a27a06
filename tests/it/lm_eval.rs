//! `bitworth eval` with task files of lm-evaluation-harness's form, written here: requests, recorded answers, a model, bad input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    let files = left(dir.path(), "out/answers");
    let sample = &lines(&files["samples_colours"])[1];
    assert_eq!(
        (&sample["acc"], &sample["filtered_resps"][0], &sample["target"]),
        (&json!(0.0), &json!(["-3.0", "False"]), &json!("0"))
    );
    // lm-evaluation-harness 0.4.13, `EvaluationTracker.save_results_samples`.
    assert_eq!(sample["arguments"]["gen_args_1"], json!({ "arg_0": "The colour of the sky is", "arg_1": " brown" }));
    let left: Value = serde_json::from_str(&std::fs::read_to_string(&files["results"]).unwrap()).unwrap();
    assert_eq!((&left["results"], &left["n-shot"]["colours"]), (&told["results"], &json!(0)));
    // lm-evaluation-harness 0.4.13's keys, in its order.
    let keys = [
        "results",
        "groups",
        "group_subtasks",
        "configs",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
        "config",
        "git_hash",
        "date",
        "pretty_env_info",
        "transformers_version",
        "lm_eval_version",
        "upper_git_hash",
        "tokenizer_pad_token",
        "tokenizer_eos_token",
        "tokenizer_bos_token",
        "eot_token_id",
        "max_length",
        "task_hashes",
        "model_source",
        "model_name",
        "model_name_sanitized",
        "system_instruction",
        "system_instruction_sha",
        "fewshot_as_multiturn",
        "chat_template",
        "chat_template_sha",
        "total_evaluation_time_seconds",
    ];
    assert!(left.as_object().unwrap().keys().eq(keys), "{left}");
}

/// The files that were left in a folder, by their names without the date.
fn left(dir: &Path, folder: &str) -> BTreeMap<String, PathBuf> {
    let files = std::fs::read_dir(dir.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let stem = |path: &Path| path.file_name().unwrap().to_str().unwrap().rsplit_once('_').unwrap().0.to_owned();
    files.map(|path| (stem(&path), path)).collect()
}

#[test]
fn a_model_answers_all_tasks_on_all_lanes() {
    let dir = folder(TASK);
    let models = ["eval", "demo:demo-model", "@q4_0", "--device", "cpu", "--output-path", "out"];
    let told = json(dir.path(), &[&models[..], &["--tasks", "all,facts,sums", "--limit", "0.5"], &WITH].concat());
    let lanes = told["lm_eval"].as_object().unwrap();
    assert!(lanes.keys().eq(["demo-model", "@q4_0"]), "{told}");
    for (lane, entries) in lanes {
        assert_eq!(entries["colours"]["sample_len"], 1);
        assert!(entries["all"]["acc,none"].is_f64());
        let files = left(dir.path(), &format!("out/{lane}"));
        assert!(files.keys().eq(["results", "samples_colours"]), "{files:?}");
        let results: Value = serde_json::from_str(&std::fs::read_to_string(&files["results"]).unwrap()).unwrap();
        assert_eq!((&results["results"], &results["model_name"]), (entries, &json!(lane)));
    }
    let rows = told["results"].as_array().unwrap();
    let row = |model: &str, task: &str| rows.iter().find(|row| row["model"] == model && row["task"] == task).unwrap();
    assert_eq!((&row("@q4_0", "colours")["group"], &row("@q4_0", "all")["group"]), (&json!("all"), &Value::Null));
    assert_eq!(row("@q4_0", "colours")["accuracy"], lanes["@q4_0"]["colours"]["acc_norm,none"], "what counts is acc_norm");
    let all = row("@q4_0", "all");
    assert_eq!((&all["metric"], &all["accuracy"]), (&json!("acc,none"), &lanes["@q4_0"]["all"]["acc,none"]), "its own metric");
    assert_eq!((&row("@q4_0", "facts")["items"], &row("@q4_0", "sums")["items"]), (&json!(400), &json!(300)));
    let facts = row("@q4_0", "facts");
    assert!(["worse", "not_worse", "undecided"].contains(&facts["verdict"].as_str().unwrap()), "{facts}");
    assert!(facts["p_adjusted"].as_f64() >= facts["p_value"].as_f64());
    let lost = facts["only_reference"].as_f64().unwrap() - facts["only_model"].as_f64().unwrap();
    assert!((lost / 400.0 + facts["difference"].as_f64().unwrap()).abs() < 1e-12, "{facts}");
    assert!(facts["choices"]["log_p_gold"].as_f64() < Some(0.0), "{facts}");
    assert!(row("demo-model", "facts")["verdict"].is_null());
}

#[test]
fn records_are_taken_up_again_and_say_the_same() {
    let dir = folder(TASK);
    let dir = dir.path();
    let asked = |tasks: &str, more: &[&str]| {
        let own = ["eval", "demo:demo-model", "@q4_0", "--device", "cpu", "--limit", "6", "--tasks", tasks];
        json(dir, &[&own[..], more, &WITH].concat())
    };
    let plain = asked("colours,facts,sums", &[]);
    let kept = asked("colours,facts", &["--records", "kept"]);
    assert_eq!(plain["lm_eval"], kept["lm_eval"]);
    let record = |name: &str| std::fs::read(dir.join("kept/records").join(name)).unwrap();
    let before = [record("task.colours.parquet"), record("task.facts.parquet")];
    let whole = asked("colours,facts,sums", &["--resume", "kept"]);
    assert_eq!((&whole["results"], &whole["lm_eval"]), (&plain["results"], &plain["lm_eval"]));
    assert!(before == [record("task.colours.parquet"), record("task.facts.parquet")], "what was done is not done again");
    // One lane's answers that are lost are asked anew, and nothing else.
    std::fs::remove_file(dir.join("kept/records/part.2.task.sums.parquet")).unwrap();
    let plan = asked("colours,facts,sums", &["--records", "kept", "--dry-run"]);
    let stages = plan["models"][0]["tasks"].as_array().unwrap();
    let stage = |i: usize| [&stages[i]["name"], &stages[i]["is_done"], &stages[i]["done_lanes"]];
    assert_eq!(stage(0), [&json!("facts, colours"), &json!(true), &json!(2)], "{plan}");
    assert_eq!(stage(1), [&json!("sums"), &json!(false), &json!(1)], "{plan}");
    assert_eq!(asked("colours,facts,sums", &["--records", "kept"])["results"], plain["results"]);
    let report = json(dir, &["report", "kept"])["summary"].clone();
    assert_eq!(report[1]["colours"], plain["lm_eval"]["@q4_0"]["colours"]["acc_norm,none"]);
    // Another number of shots is another task.
    let changed = ["eval", "demo:demo-model", "@q4_0", "--device", "cpu", "--tasks", "colours", "--records", "kept"];
    let output = run(dir, &[&changed[..], &["--num-fewshot", "1"], &WITH].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && error.contains("colours"), "{error}");
}

#[test]
fn tasks_of_both_forms_stand_in_a_configuration() {
    let dir = folder(TASK);
    let text = "model = \"demo:demo-model\"\ncandidates = [\"@q4_0\"]\n[tasks]\nnames = [\"all\", \"facts\"]\nlimit = 2\n\
         include_path = [\"tasks\"]\ndata_map = \"map.toml\"\nnum_fewshot = 1\nmargin = 2.5\n";
    std::fs::write(dir.path().join("run.toml"), text).unwrap();
    let told = json(dir.path(), &["run", "run.toml", "--device", "cpu", "--out", "r"]);
    let row = &told["summary"][1];
    assert!(row["all"].is_f64() && row["facts"].is_f64() && row["facts_verdict"].is_string(), "{row}");
    assert!(row.get("colours").is_none(), "a group's tasks are shown on demand");
    let page = std::fs::read_to_string(dir.path().join("r/report.html")).unwrap();
    assert!(page.contains("<details><summary>all: its tasks</summary>") && page.contains("colours"), "tasks of groups");
    let error = run(dir.path(), &["eval", "demo:demo-model", "--tasks", "facts", "--margin", "0"]);
    assert_eq!(error.status.code(), Some(2));
}

#[test]
fn items_that_stand_in_shots_or_in_an_importance_matrixs_text_are_counted() {
    let long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";
    let dir = folder(&TASK.replace("thing: snow", &format!("thing: {long}")));
    std::fs::write(dir.path().join("rows.jsonl"), ROWS.replace("grass ", &format!("the {long}"))).unwrap();
    std::fs::write(dir.path().join("calibration.txt"), format!("Long before: {}!\n", long.to_uppercase()).repeat(40)).unwrap();
    let text = "model = \"demo:demo-model\"\nrecipes = [\"q4_0\"]\n[imatrix]\ntext = \"calibration.txt\"\nctx = 32\n[tasks]\n\
         names = [\"colours\", \"facts\"]\nlimit = 2\ninclude_path = [\"tasks\"]\ndata_map = \"map.toml\"\nnum_fewshot = 1\n";
    std::fs::write(dir.path().join("run.toml"), text).unwrap();
    let output = run(dir.path(), &["run", "run.toml", "--device", "cpu", "--out", "r"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("task colours: 1 of 2 items share a run of 13 words with "), "{said}");
    assert!(said.contains("task colours: the questions of 1 of 2 documents share a run of 13 words with a shot"), "{said}");
    assert!(!said.contains("task facts:"), "{said}");
}

#[test]
fn llama_perplexitys_files_are_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let question = "snow is\n1\nred\nwhite\nblue\ngreen\n";
    std::fs::write(dir.path().join("h.txt"), question.repeat(3)).unwrap();
    std::fs::write(dir.path().join("w.csv"), "0,Ann saw _ go.,Bo,Cy,2\n1,It was _.,a,b,1\n2,last _,a,b,1\n").unwrap();
    let models = ["eval", "demo:demo-model", "@q4_0", "--device", "cpu", "--winogrande", "w.csv", "--hellaswag", "h.txt"];
    let told = json(dir.path(), &[&models[..], &["--hellaswag-tasks", "2"]].concat());
    let rows = told["results"].as_array().unwrap();
    let items = |task: &str| rows.iter().find(|row| row["task"] == task).unwrap()["items"].clone();
    assert_eq!((items("llama_hellaswag"), items("llama_winogrande")), (json!(2), json!(2)));
    let error = run(dir.path(), &["eval", "demo:demo-model", "--hellaswag", "w.csv", "--device", "cpu"]);
    let said = String::from_utf8(error.stderr).unwrap();
    assert!(error.status.code() == Some(2) && said.contains("w.csv") && said.contains("multiple of 6"), "{said}");
}

#[test]
fn a_plan_says_which_differences_can_be_seen() {
    let dir = folder(TASK);
    let told = json(dir.path(), &[&["eval", "--plan", "--tasks", "facts,colours"][..], &WITH].concat());
    let rows = told["plan"].as_array().unwrap();
    assert!(rows.iter().map(|row| row["items"].as_u64().unwrap()).eq([800, 2]), "{told}");
    let seen = |row: usize, share: usize| rows[row]["detectable"][share]["difference"].as_f64();
    assert!(seen(0, 0) < seen(0, 1) && seen(0, 1) < seen(0, 2) && seen(0, 2) < Some(0.1), "{told}");
    assert_eq!(seen(1, 2), None, "two items show nothing");
}

#[test]
fn one_thread_is_enough() {
    let dir = folder(TASK);
    std::fs::write(dir.path().join("tasks/other.yaml"), TASK.replace("task: colours", "task: other")).unwrap();
    let asked = ["eval", "--tasks", "colours,other", "--requests-out", "r.jsonl", "--threads", "1"];
    assert_eq!(json(dir.path(), &[&asked[..], &WITH].concat())["documents"], 4);
}

/// lm-evaluation-harness's group_aggregate: the plain mean where `weight_by_size` is false, else weighted by documents.
#[test]
fn groups_are_weighed_as_they_say() {
    let dir = folder(TASK);
    let rows = "{\"thing\": \"snow\", \"good\": \"the\", \"bad\": \"xqzzy\"}\n".repeat(3) + ROWS;
    std::fs::write(dir.path().join("more.jsonl"), rows).unwrap();
    std::fs::write(dir.path().join("map.toml"), MAP.to_owned() + &MAP.replace("colours", "more").replace("rows", "more"))
        .unwrap();
    std::fs::write(dir.path().join("tasks/more.yaml"), TASK.replace("colours", "more").replace("tag: [plain]", "")).unwrap();
    for (name, by_size) in [("even", false), ("sized", true)] {
        let group = format!(
            "group: {name}\ntask: [colours, more]\naggregate_metric_list: [{{metric: acc_norm, weight_by_size: {by_size}}}]\n"
        );
        std::fs::write(dir.path().join(format!("tasks/{name}.yaml")), group).unwrap();
        let told =
            json(dir.path(), &[&["eval", "demo:demo-model", "@q2_k", "--tasks", name, "--device", "cpu"][..], &WITH].concat());
        let rows = told["results"].as_array().unwrap();
        for lane in ["demo-model", "@q2_k"] {
            let row = |task: &str| rows.iter().find(|row| row["model"] == lane && row["task"] == task).unwrap();
            let (found, expected) = (row(name)["accuracy"].as_f64(), told["lm_eval"][lane][name]["acc_norm,none"].as_f64());
            assert!((found.unwrap() - expected.unwrap()).abs() < 1e-12, "{name} {lane}: {found:?}, {expected:?}");
            let [small, large] = ["colours", "more"].map(|task| row(task)["accuracy"].as_f64().unwrap());
            let mean = if by_size { (2.0 * small + 5.0 * large) / 7.0 } else { (small + large) / 2.0 };
            assert!((mean - expected.unwrap()).abs() < 1e-12, "{small} {large}");
        }
    }
}

#[test]
fn the_margin_of_a_folder_is_kept() {
    let dir = folder(TASK);
    let dir = dir.path();
    let asked = ["eval", "demo:demo-model", "@q8_0", "--tasks", "facts", "--limit", "100", "--device", "cpu", "--records", "r"];
    let verdict = json(dir, &[&asked[..], &["--margin", "3"]].concat())["results"][1]["verdict"].clone();
    assert_eq!(verdict, "not_worse", "100 items without a flip tell 3 points");
    let of = |more: &[&str]| json(dir, &[&["report", "r"][..], more].concat())["summary"][1]["facts_verdict"].clone();
    assert_eq!((of(&[]), of(&["--margin", "0.1"])), (json!("not worse"), json!("undecided")));
    assert!(std::fs::read_to_string(dir.join("r/report.md")).unwrap().contains("the margin of 0.1 points"));
}

#[test]
fn a_folder_is_checked() {
    let dir = folder(TASK);
    std::fs::write(dir.path().join("tasks/twin.yaml"), TASK.replace("colours", "twin") + "process_docs: !function utils.own\n")
        .unwrap();
    std::fs::write(dir.path().join("tasks/image.yaml"), TASK.replace("colours", "image") + "doc_to_image: picture\n").unwrap();
    std::fs::write(dir.path().join("tasks/key.yaml"), TASK.replace("colours", "key") + "colour: red\n").unwrap();
    std::fs::write(dir.path().join("tasks/line.yaml"), TASK.replace("task: colours", "task: \"two\\nlines\"")).unwrap();
    std::fs::write(dir.path().join("tasks/odd\nfile.yaml"), "a: [").unwrap();
    let told = json(dir.path(), &["eval", "--check", "--include-path", "tasks"]);
    assert_eq!(told["counts"], json!({ "broken": 1, "needs a twin": 1, "not text": 1, "runs": 1 }));
    assert_eq!((&told["total"], told["skipped_files"].as_array().map(Vec::len)), (&json!(4), Some(2)));
    let table = String::from_utf8(run(dir.path(), &["eval", "--check", "--include-path", "tasks"]).stdout).unwrap();
    assert!(table.lines().any(|line| line == "twin: needs a twin: utils.own"), "{table}");
    assert!(table.lines().any(|line| line == "image: not text: it has doc_to_image"), "{table}");
    let told = "line.yaml: the name \"two\\nlines\" of a task holds a control character";
    assert!(table.lines().any(|line| line.contains(told)), "{table}");
    assert!(table.lines().any(|line| line.contains("odd\\nfile.yaml: ")), "{table}");
    assert_eq!(table.lines().count(), 4 + 2 + 1 + 4, "tasks, files left out, how many, counts: {table}");
}

/// lm-evaluation-harness 0.4.13, `ConfigurableTask.process_results`: a right answer that is no choice is the place -100, which no
/// choice has.
#[test]
fn a_right_answer_outside_the_choices_counts_as_wrong() {
    let dir = folder(&TASK.replace("doc_to_target: 0", "doc_to_target: \"{{ right }}\""));
    let rows = ROWS.replacen("\"bad\"", "\"right\": \"green\", \"bad\"", 1);
    let at = rows.rfind("\"bad\"").unwrap();
    std::fs::write(dir.path().join("rows.jsonl"), format!("{}\"right\": \"purple\", {}", &rows[..at], &rows[at..])).unwrap();
    let asked = [&["eval", "--tasks", "colours", "--requests-out", "r.jsonl"][..], &WITH].concat();
    assert_eq!(json(dir.path(), &asked)["gold_outside"], 1);
    let golds: Vec<Value> = lines(&dir.path().join("r.jsonl")).iter().map(|line| line["gold"].clone()).collect();
    assert_eq!(golds, [0, -100]);
    let said = String::from_utf8(run(dir.path(), &asked).stderr).unwrap();
    assert!(said.contains("task colours: of 1 documents the right answer is none of the choices"), "{said}");
    let answers = "{\"task\": \"colours\", \"doc_id\": 0, \"answers\": [[-1.0, true], [-2.0, false]]}\n";
    std::fs::write(dir.path().join("a.jsonl"), answers.to_owned() + &answers.replace("\"doc_id\": 0", "\"doc_id\": 1")).unwrap();
    let told = json(dir.path(), &[&["eval", "--tasks", "colours", "--answers", "a.jsonl"][..], &WITH].concat());
    assert_eq!(told["results"]["colours"]["acc,none"], 0.5);
}

#[test]
fn broken_rows_are_named() {
    for (name, text, expected) in [
        ("rows.parquet", "PAR1", "is not a readable parquet file"),
        ("rows.jsonl", "{\"thing\": \"a\"}\n{\"thing\"", "row 1"),
        ("rows.jsonl", "{\"thing\": [123456789012345678901234567890]}", "row 0, column \"thing\": the integer 123456789"),
    ] {
        let dir = folder(TASK);
        std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::write(dir.path().join("map.toml"), MAP.replace("rows.jsonl", name)).unwrap();
        let output = run(dir.path(), &[&["eval", "--tasks", "colours", "--requests-out", "r.jsonl"][..], &WITH].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(name) && error.contains(expected), "{error}");
        assert!(!dir.path().join("r.jsonl").exists());
    }
}

/// Exit code 2, one line that names what is wrong, and no file.
#[track_caller]
fn check_error(task: &str, args: &[&str], expected: &[&str]) {
    let dir = folder(task);
    std::fs::write(dir.path().join("bad.jsonl"), "{\"task\": \"colours\", \"doc_id\": 0, \"answers\": [[-1.0, true]]}\n")
        .unwrap();
    std::fs::write(dir.path().join("empty.jsonl"), "").unwrap();
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
    check_error(
        &TASK.replace("thing.strip()", "nothing"),
        &out,
        &["colours.yaml", "task colours", "document 0", "no column \"nothing\""],
    );
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
    check_error(
        TASK,
        &["--tasks", "colours", "--limit", "1", "--answers", "bad.jsonl"],
        &["document 0", "it has 2 requests and 1 answer"],
    );
    check_error(
        TASK,
        &["--tasks", "colours", "--answers", "bad.jsonl"],
        &["bad.jsonl", "1 of the 2 documents of the task colours", "1 are missing", "--limit or --samples"],
    );
    check_error(
        TASK,
        &["--tasks", "colours", "--samples", "{\"colour\": [0]}", "--requests-out", "r.jsonl"],
        &["--samples", "colour", "is not asked"],
    );
    check_error(TASK, &["--tasks", "", "--requests-out", "r.jsonl"], &["--tasks names nothing; name a task"]);
    check_error(
        TASK,
        &["--tasks", "zz*", "--requests-out", "r.jsonl"],
        &["--tasks zz*: no task, group or tag fits this pattern"],
    );
    check_error(TASK, &["--tasks", "facts", "--requests-out", "r.jsonl"], &["none is a task of lm-evaluation-harness"]);
    check_error(TASK, &["demo:demo-model", "--tasks", "colours", "--requests-out", "r.jsonl"], &["no model is asked", "--chat"]);
    check_error(
        TASK,
        &["--tasks", "colours", "--answers", "empty.jsonl"],
        &["empty.jsonl", "has no answers to the task colours"],
    );
    check_error(TASK, &["--tasks", "colours", "--limit", "1.5", "--requests-out", "r.jsonl"], &["between 0 and 1"]);
    check_error(
        &TASK.replace("task: colours", "task: \"colours\\nred\""),
        &["--tasks", "colours*", "--requests-out", "r.jsonl"],
        &["colours.yaml", "\"colours\\nred\"", "control character"],
    );
    check_error(&(TASK.to_owned() + "include: nowhere\n"), &out, &["colours.yaml", "\"nowhere\", which cannot be read"]);
    check_error(&(TASK.to_owned() + "include: colours.yaml\n"), &out, &["colours.yaml", "includes itself"]);
    check_error(&(TASK.to_owned() + "process_docs: !function utils.own\n"), &out, &["colours.yaml", "needs a twin of utils.own"]);
    let filter = "filter_list: [{name: strict, filter: [{function: nothing}]}]\n";
    check_error(&(TASK.to_owned() + filter), &out, &["colours.yaml", "strict", "\"nothing\" is unknown"]);
    check_error(TASK, &["--tasks", "colours", "--answers", "bad.jsonl", "--output-path", "r.jsonl"], &["document 1"]);
    let long = "task: colours\ndataset_path: our/colours\ntest_split: test\ndoc_to_text: thing\ndoc_to_target: good\n\
        generation_kwargs: {until: [], max_gen_toks: 1000000}\n";
    check_error(long, &["demo:demo-model", "--tasks", "colours", "--device", "cpu"], &["task colours", "leave no room"]);
    let endless = "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}";
    check_error(&TASK.replace("{{ thing.strip() }}", endless), &out, &["document 0", "reasonable time"]);
}
