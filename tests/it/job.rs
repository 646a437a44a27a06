//! Jobs as folders: what is added to a finished run, what makes a folder refuse, several models and texts, files that are there
//! already; and the other commands that leave a folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bitworth::eval::job::Job;
use bitworth::eval::records;
use bitworth::measure::execute::execute;
use bitworth::quant::progress::Silent;
use bitworth::{Device, DeviceSelector, Watch};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{self, StopAfter, json};

/// The demo's model and data in a folder of the test's own, where they can be changed.
pub fn world() -> TempDir {
    let dir = TempDir::new().unwrap();
    json(dir.path(), &["inspect", "demo:demo-model"]);
    let cache = dir.path().join("cache/bitworth");
    let mut folders = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
    let demo = folders.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("demo-"))).unwrap();
    std::fs::create_dir(dir.path().join("m")).unwrap();
    for file in std::fs::read_dir(demo.join("demo-model")).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, dir.path().join("m").join(file.file_name().unwrap())).unwrap();
    }
    for (from, to) in [("eval.txt", "a.txt"), ("calib.txt", "b.txt")] {
        // Every run reads and tokenizes all of a text and scores a few windows: the first documents are enough.
        let text = std::fs::read_to_string(demo.join("data").join(from)).unwrap();
        write(dir.path(), to, &text.split_inclusive('\n').take(100).collect::<String>());
    }
    dir
}

pub fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

pub fn job(dir: &Path, config: &str, out: &str) -> Value {
    write(dir, "job.toml", config);
    json(dir, &["run", "job.toml", "--device", "cpu", "--no-speed", "--out", out])
}

/// What a run is refused with.
#[track_caller]
pub fn refusal(dir: &Path, args: &[&str]) -> String {
    let output = common::run(dir, &[args, &["--device", "cpu", "--quiet"]].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    error
}

/// All records of a run, in an order that does not depend on when they were made.
fn recorded(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> = records::load(folder).unwrap().iter().map(|record| format!("{record:?}")).collect();
    all.sort();
    all
}

pub const TEXT_A: &str = "[[text]]\nfile = \"a.txt\"\nctx = 64\nchunks = 6\npass_tokens = 128\n";
const TEXT_B: &str = "[[text]]\nfile = \"b.txt\"\nctx = 32\nchunks = 3\n";
const TASKS: &str = "[tasks]\nnames = [\"facts\"]\nlimit = 5\n";

#[test]
fn what_is_added_to_a_finished_run_is_all_that_is_done() {
    let dir = world();
    let dir = dir.path();
    json(dir, &["quantize", "m", "--to", "q5_0", "--out", "theirs.gguf"]);
    let whole = format!(
        "model = \"m\"\nrecipes = [\"q8_0\", \"q4_0\"]\ncandidates = [\"theirs.gguf\", \"@q6_k\"]\n{TEXT_A}{TEXT_B}{TASKS}"
    );
    let document = job(dir, &whole, "whole");
    let lanes: Vec<&str> = document["summary"].as_array().unwrap().iter().map(|r| r["lane"].as_str().unwrap()).collect();
    assert_eq!(lanes, ["bf16", "q8_0", "@q6_k", "theirs", "q4_0"], "the reference, then from the largest on");

    job(dir, &format!("model = \"m\"\nrecipes = [\"q8_0\"]\n{TEXT_A}"), "grown");
    let before = modified(&dir.join("grown/records"));
    job(dir, &format!("model = \"m\"\nrecipes = [\"q8_0\", \"q4_0\"]\n{TEXT_A}"), "grown");
    job(dir, &format!("model = \"m\"\nrecipes = [\"q8_0\"]\ncandidates = [\"theirs.gguf\"]\n{TEXT_A}{TEXT_B}"), "grown");
    job(dir, &whole, "grown");
    for (path, time) in before {
        assert_eq!(path.metadata().unwrap().modified().unwrap(), time, "{} was done again", path.display());
    }
    let (grown, whole) = (recorded(&dir.join("grown")), recorded(&dir.join("whole")));
    assert!(grown == whole, "{} records, {} of the run in one go", grown.len(), whole.len());
    let run: Value = serde_json::from_slice(&std::fs::read(dir.join("grown/run.json")).unwrap()).unwrap();
    assert_eq!(run["sessions"].as_array().unwrap().len(), 4);
    assert!(run["sessions"][0]["threads"].as_u64() > Some(0));
}

#[test]
fn every_file_of_records_says_which_session_measured_it() {
    let dir = world();
    let dir = dir.path();
    let run = |config: &str, threads: &str| {
        write(dir, "job.toml", config);
        json(dir, &["run", "job.toml", "--device", "cpu", "--no-speed", "--out", "out", "--threads", threads]);
    };
    run(&format!("model = \"m\"\n{TEXT_B}"), "1");
    run(&format!("model = \"m\"\n{TEXT_B}{TASKS}"), "2");
    let folder = dir.join("out");
    let identity: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    for (item, number) in [("text.b.windows.00000", 0), ("task.facts", 1)] {
        let session = records::session(&records::path(&folder, item)).unwrap().unwrap();
        assert_eq!((session.threads, session.bitworth.as_str()), (number + 1, env!("CARGO_PKG_VERSION")), "{item}");
        assert_eq!(serde_json::json!(session), identity["sessions"][number], "{item}");
    }
    assert!(std::fs::read_to_string(folder.join("report.html")).unwrap().contains("Measured in 2 sessions: bitworth "));
    let told = json(dir, &["report", "out"])["sessions"].clone();
    assert_eq!(told.as_array().map(Vec::len), Some(2), "{told}");
}

#[test]
fn a_run_stopped_inside_a_pass_goes_on_as_another_configuration() {
    let dir = world();
    let dir = dir.path();
    let (device, stop) = (Device::open(DeviceSelector::Cpu).unwrap(), AtomicBool::new(false));
    // Two passes of the same length, of which the second one is halfway through the model's three blocks and the head.
    let text = "[[text]]\nfile = \"a.txt\"\nctx = 64\nchunks = 4\npass_tokens = 128\nbits_per_byte = false\n";
    let config = |lanes: &str, measured: &str| format!("model = \"m\"\ncandidates = [{lanes}]\n{measured}");
    let (two, three) = ("\"@q4_0\", \"@q8_0\"", "\"@q4_0\", \"@q8_0\", \"@q5_0\"");
    let both = format!("{text}{TASKS}");
    let changes = [
        ("one lane more", text, 750_000, config(three, text), "(other lanes"),
        ("one lane less", text, 750_000, config("\"@q4_0\"", text), "(other lanes"),
        ("a task more", text, 750_000, config(two, &both), ""),
        ("another lane for tasks", TASKS, 500_000, config(three, TASKS), "none of this job's"),
    ];
    for (number, (what, measured, limit, changed, note)) in changes.into_iter().enumerate() {
        let out = dir.join(format!("out{number}"));
        stop.store(false, Ordering::Relaxed);
        let job = Job::parse(&config(two, measured), dir, "job.toml").unwrap();
        let progress = StopAfter::new(limit, &stop);
        let error = execute(&job, Some(&out), &device, Watch { progress: &progress, stop: &stop }).map(drop).unwrap_err();
        assert!(error.is_interruption() && kept_layers(&out.join("state")) == 1, "{what}: {error}");
        let before = modified(&out.join("records"));
        write(dir, "job.toml", &changed);
        let args = ["run", "job.toml", "--device", "cpu", "--no-speed", "--out"];
        let output = common::run(dir, &[&args[..], &[out.to_str().unwrap()]].concat());
        let notes = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{what}: {notes}");
        assert!(notes.contains(note) && notes.contains("is removed") != note.is_empty(), "{what}: {notes}");
        assert!(!out.join("state").exists(), "{what}");
        for (path, time) in before {
            assert_eq!(path.metadata().unwrap().modified().unwrap(), time, "{what}: {} was done again", path.display());
        }
        let undisturbed = dir.join(format!("whole{number}"));
        stop.store(false, Ordering::Relaxed);
        let job = Job::parse(&changed, dir, "job.toml").unwrap();
        execute(&job, Some(&undisturbed), &device, Watch { progress: &Silent, stop: &stop }).map(drop).unwrap();
        let mut found = recorded(&out);
        // What a lane has that is no more asked for stays.
        found.retain(|record| changed.contains("q8_0") || !record.contains("@q8_0"));
        assert!(found == recorded(&undisturbed), "{what}");
    }
}

/// How many files of activations there are in the folders of interrupted walks.
fn kept_layers(state: &Path) -> usize {
    let walks = std::fs::read_dir(state).unwrap().map(|walk| walk.unwrap().path());
    let files = walks.flat_map(|walk| std::fs::read_dir(walk).unwrap().map(|file| file.unwrap().path()));
    files.filter(|file| file.extension().is_some_and(|extension| extension == "layer")).count()
}

#[test]
fn records_under_names_that_a_run_did_not_write_are_named_once_and_not_read() {
    let dir = world();
    let dir = dir.path();
    job(dir, &format!("model = \"m\"\n{TEXT_A}"), "out");
    let (before, records) = (recorded(&dir.join("out")), dir.join("out/records"));
    // As a pass that was renumbered; of another name, as `bench` leaves records, it is none of the run's.
    let pass = records.join("text.a.windows.00001.parquet");
    std::fs::copy(&pass, records.join("text.a.windows.00007.parquet")).unwrap();
    let session = || {
        let output = common::run(dir, &["run", "job.toml", "--device", "cpu", "--no-speed", "--out", "out"]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let notes = session();
    assert!(notes.contains("text.a.windows.00007.parquet: is left over") && notes.contains("not read"), "{notes}");
    assert!(records.join("text.a.windows.00007.parquet.left-over").exists(), "nothing is lost");
    assert_eq!(recorded(&dir.join("out")), before);
    std::fs::copy(&pass, records.join("bench.a.0000.parquet")).unwrap();
    let notes = session();
    assert!(!notes.contains("left over") && records.join("bench.a.0000.parquet").exists(), "{notes}");
}

fn modified(folder: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap())).collect()
}

#[test]
fn what_leaves_a_job_leaves_its_report_and_comes_back() {
    let dir = world();
    let dir = dir.path();
    let both = format!("model = \"m\"\nrecipes = [\"q8_0\", \"q4_0\"]\n{TEXT_A}{TASKS}");
    let lanes = |document: Value| document["summary"].as_array().unwrap().len();
    assert_eq!(lanes(job(dir, &both, "out")), 3);
    let whole = recorded(&dir.join("out"));
    // A lane of the first job is dropped, and a text comes that it is not scored on.
    let one = format!("model = \"m\"\nrecipes = [\"q8_0\"]\n{TEXT_A}{TEXT_B}");
    let document = job(dir, &one, "out");
    assert!(document["summary"][0].get("facts").is_none(), "a task that is not asked is not reported");
    assert_eq!(lanes(document), 2);
    assert_eq!(lanes(job(dir, &both, "out")), 3);
    let back = format!("model = \"m\"\nrecipes = [\"q8_0\", \"q4_0\"]\n{TEXT_A}{TEXT_B}{TASKS}");
    assert_eq!(lanes(job(dir, &back, "out")), 3);
    let all = recorded(&dir.join("out"));
    assert!(whole.iter().all(|record| all.contains(record)) && all.len() > whole.len());
    job(dir, &back, "again");
    assert_eq!(recorded(&dir.join("again")), all, "and so are the records of one go, in another folder");
    let summary = json(dir, &["report", "out", "again", "--out", "joint"])["summary"].clone();
    assert_eq!(lanes(serde_json::json!({ "summary": summary })), 3, "two runs of the same are one");
}

#[test]
fn a_job_that_cannot_be_reported_is_refused_before_the_work() {
    let dir = world();
    let dir = dir.path();
    let check = |config: &str, out: &str, expected: &[&str]| {
        write(dir, "bad.toml", config);
        let error = refusal(dir, &["run", "bad.toml", "--no-speed", "--out", out]);
        for part in expected {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    };
    std::fs::copy(dir.join("a.txt"), dir.join("copy.txt")).unwrap();
    let twice = format!("model = \"m\"\n{TEXT_A}{}", TEXT_A.replace("a.txt", "copy.txt"));
    check(&twice, "twice", &["a and copy are the same text"]);
    check(&format!("models = [\"m\", \"m\"]\n{TEXT_A}"), "models", &["both named m"]);
    let floor = format!("model = \"m\"\nnoise_floor = true\n{TEXT_A}");
    check(&floor, "floor", &["error: noise_floor: ", "a report cannot hold", "`bitworth compare`"]);
    check("model = \"m\"\nrequests = \"r.jsonl\"", "asked", &["error: requests: ", "no records", "`bitworth score`"]);
    check(&format!("model = \"m\"\ncandidates = [\"nope.gguf\"]\n{TEXT_A}"), "nope", &["nope.gguf"]);
    assert!(["twice", "models", "nope", "floor", "asked"].iter().all(|out| !dir.join(out).exists()));
    job(dir, &format!("model = \"m\"\n{TEXT_A}"), "out");
    let named = format!("model = \"m\"\n{}", TEXT_A.replace("ctx", "name = \"other\"\nctx"));
    check(&named, "out", &["text other.windows is a.windows of this run under another name"]);
    let several = format!("models = [\"m\", \"n.gguf\"]\n{TEXT_A}");
    json(dir, &["quantize", "m", "--to", "q8_0", "--out", "n.gguf"]);
    check(&several, "out", &["the folder holds a run of one model"]);
    job(dir, &format!("model = \"m\"\n{TEXT_A}"), "out");
    let held = std::fs::File::create(dir.join("out/.lock")).unwrap();
    held.lock().unwrap();
    check(&format!("model = \"m\"\n{TEXT_A}"), "out", &["another run is at work"]);
}

/// Changes one byte of a file.
fn spoil(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_folder_goes_on_with_what_it_was_made_of_and_with_nothing_else() {
    let dir = world();
    let dir = dir.path();
    let config = format!("model = \"m\"\nrecipes = [\"q4_0\"]\n{TEXT_A}{TASKS}");
    job(dir, &config, "out");
    let again = ["run", "job.toml", "--no-speed", "--out", "out"];
    let check = |what: &str, expected: &[&str], change: &dyn Fn(), back: &[&str]| {
        let kept: Vec<(PathBuf, Vec<u8>)> = back.iter().map(|f| (dir.join(f), std::fs::read(dir.join(f)).unwrap())).collect();
        change();
        let error = refusal(dir, &again);
        for part in expected {
            assert!(error.contains(part), "{what}: {error:?} lacks {part:?}");
        }
        for (path, bytes) in kept {
            std::fs::write(path, bytes).unwrap();
        }
        json(dir, &[&again[..], &["--device", "cpu"]].concat());
    };
    let config_json = |from: &str, to: &str| {
        let text = std::fs::read_to_string(dir.join("m/config.json")).unwrap();
        assert!(text.contains(from), "{text}");
        write(dir, "m/config.json", &text.replace(from, to));
    };
    check(
        "norm epsilon",
        &["other model"],
        &|| config_json("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 1e-06"),
        &["m/config.json"],
    );
    check(
        "rope base",
        &["other model"],
        &|| config_json("\"rope_theta\": 10000.0", "\"rope_theta\": 20000.0"),
        &["m/config.json"],
    );
    let weights = dir.join("m/model.safetensors");
    let last = std::fs::metadata(&weights).unwrap().len() as usize - 1;
    check("the last weight", &["other model"], &|| spoil(&weights, last), &["m/model.safetensors"]);
    let made = "out/models/m-Q4_0.gguf";
    let end = std::fs::metadata(dir.join(made)).unwrap().len() as usize - 1;
    check("a file of the run", &["m-Q4_0.gguf", "not the file that was measured"], &|| spoil(&dir.join(made), end), &[made]);
    check("the text", &["other text a.windows"], &|| write(dir, "a.txt", &"other words ".repeat(2000)), &["a.txt"]);
    let pass = |n: u32| format!("out/records/text.a.windows.{n:05}.parquet");
    let swap = || std::fs::copy(dir.join(pass(1)), dir.join(pass(0))).map(drop).unwrap();
    check("a renumbered pass", &["text.a.windows.00000", "measured again"], &swap, &[&pass(0)]);
    let middle = std::fs::metadata(dir.join(pass(1))).unwrap().len() as usize / 2;
    check("a damaged record", &["text.a.windows.00001", "measured again"], &|| spoil(&dir.join(pass(1)), middle), &[&pass(1)]);
    // A model of the same shape leaves records of the same form.
    let text = "other/records/text.a.windows.00001.parquet";
    spoil(&weights, last);
    job(dir, &config, "other");
    spoil(&weights, last);
    write(dir, "job.toml", &config);
    let foreign = || std::fs::copy(dir.join(text), dir.join(pass(1))).map(drop).unwrap();
    check("a record of another model", &["text.a.windows.00001", "not the file that the run wrote"], &foreign, &[&pass(1)]);
    let identity = |key: &str, value: Value| {
        let mut run: Value = serde_json::from_slice(&std::fs::read(dir.join("out/run.json")).unwrap()).unwrap();
        run[key] = value;
        write(dir, "out/run.json", &run.to_string());
    };
    check("damaged identity", &["run.json: is damaged", "--out"], &|| write(dir, "out/run.json", ""), &["out/run.json"]);
    check("another version", &["made by version 9.9.9"], &|| identity("bitworth", "9.9.9".into()), &["out/run.json"]);
    check("an old format", &["made by version 0.1.0", "format 1"], &|| identity("format", Value::Null), &["out/run.json"]);
    check("no identity", &["no run.json"], &|| std::fs::remove_file(dir.join("out/run.json")).unwrap(), &["out/run.json"]);
    // A file of the run that was removed is made again, the same.
    std::fs::remove_file(dir.join(made)).unwrap();
    let before = recorded(&dir.join("out"));
    json(dir, &[&again[..], &["--device", "cpu"]].concat());
    assert!(dir.join(made).exists() && recorded(&dir.join("out")) == before);
}

#[test]
fn several_models_make_one_report_and_stay_apart() {
    let dir = world();
    let dir = dir.path();
    json(dir, &["quantize", "m", "--to", "q8_0", "--out", "n.gguf"]);
    let config = format!("models = [\"m\", {{ model = \"n.gguf\", candidates = [] }}]\ncandidates = [\"@q4_0\"]\n{TEXT_A}");
    let plan = {
        write(dir, "job.toml", &config);
        json(dir, &["run", "job.toml", "--device", "cpu", "--out", "out", "--dry-run"])
    };
    assert_eq!(plan["models"].as_array().unwrap().len(), 2);
    assert_eq!(plan["models"][0]["stages"][0]["name"], "a.windows");
    assert!(plan["estimated_seconds"].as_f64() > Some(0.0) && !dir.join("out").exists());
    let document = job(dir, &config, "out");
    assert_eq!(document["summary"].as_array().unwrap().len(), 3);
    for file in ["out/m/run.json", "out/n/run.json", "out/report.html", "out/summary.csv"] {
        assert!(dir.join(file).exists(), "{file}");
    }
    let again = json(dir, &["report", "out"]);
    assert_eq!(again["summary"], document["summary"], "a folder of several models is read as one");
}

#[test]
fn too_little_memory_is_known_before_the_work_by_its_key() {
    let dir = world();
    let dir = dir.path();
    for measured in [TEXT_A, TASKS] {
        write(dir, "job.toml", &format!("model = \"m\"\nrecipes = [\"q4_0\"]\nmax_memory_mib = 64\n{measured}"));
        for more in [&["--dry-run"][..], &[]] {
            let error = refusal(dir, &[&["run", "job.toml", "--no-speed", "--out", "out"], more].concat());
            assert!(error.contains("(max_memory_mib ") && !error.contains("--max-memory"), "{error}");
            assert!(!dir.join("out").exists(), "nothing is made");
        }
    }
    // What is named is enough for everything.
    let all = |memory: &str| format!("model = \"m\"\nrecipes = [\"q4_0\"]\nmax_memory_mib = {memory}\n{TEXT_A}{TEXT_B}{TASKS}");
    write(dir, "job.toml", &all("64"));
    let error = refusal(dir, &["run", "job.toml", "--no-speed", "--out", "all"]);
    let needed = error.split("(max_memory_mib ").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    job(dir, &all(needed), "all");
    // What is done takes none.
    let config = format!("model = \"m\"\nrecipes = [\"q4_0\"]\n{TEXT_A}");
    job(dir, &config, "out");
    job(dir, &format!("max_memory_mib = 64\n{config}"), "out");
    let args = ["compare", "m", "@q4_0", "--text", "a.txt", "--ctx", "64", "--max-memory", "64M", "--out", "c"];
    assert!(refusal(dir, &args).contains("(--max-memory "));
}

#[test]
fn a_plan_lists_files_candidates_tasks_and_what_is_done() {
    let dir = world();
    let dir = dir.path();
    json(dir, &["quantize", "m", "--to", "q5_0", "--out", "theirs.gguf"]);
    let config = |more: &str| {
        format!("model = \"m\"\nrecipes = [\"q8_0\"]\ncandidates = [\"theirs.gguf\", \"@q6_k\"{more}]\n{TEXT_A}{TASKS}[speed]\n")
    };
    let plan = |config: &str| {
        write(dir, "job.toml", config);
        json(dir, &["run", "job.toml", "--device", "cpu", "--out", "out", "--dry-run"])["models"][0].clone()
    };
    let before = plan(&config(""));
    assert_eq!((&before["files"][0]["exists"], &before["candidates"][0]["file"]), (&false.into(), &"theirs.gguf".into()));
    assert_eq!((&before["candidates"][0]["lane"], &before["candidates"][1]["file"]), (&"theirs".into(), &Value::Null));
    let task = &before["tasks"][0];
    assert_eq!((&task["name"], &task["items"], &task["is_done"]), (&"facts".into(), &5.into(), &false.into()));
    assert!(task["sweep"]["rows_computed"].as_u64() > Some(0) && before["timings"].as_array().unwrap().len() == 4);
    let whole = json(dir, &["run", "job.toml", "--device", "cpu", "--out", "out", "--dry-run"]);
    let [all, scoring] = ["estimated_seconds", "scoring_seconds"].map(|key| whole[key].as_f64().unwrap());
    assert!(0.0 < scoring && scoring < all, "quantizing and timing count: {all} {scoring}");
    job(dir, &config(""), "out");
    let done = common::run(dir, &["run", "job.toml", "--device", "cpu", "--no-speed", "--out", "out", "--dry-run"]);
    let done = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.contains("about 0 s in all, 0 s of it scoring, "), "{done}");
    let after = plan(&config(", \"@q4_0\""));
    assert_eq!((&after["files"][0]["exists"], &after["stages"][0]["done_lanes"]), (&true.into(), &4.into()));
    assert_eq!((&after["stages"][0]["is_done"], &after["tasks"][0]["is_done"]), (&false.into(), &false.into()));
    assert_eq!(plan(&config(""))["stages"][0]["is_done"], true);
    let text = common::run(dir, &["run", "job.toml", "--device", "cpu", "--out", "out", "--dry-run"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for line in
        ["file m-Q8_0.gguf: is there, ", "candidate theirs: theirs.gguf, ", "task facts: done, 5 items\n", "timing q8_0: to be"]
    {
        assert!(text.contains(line), "{text}");
    }
    // Another file under a candidate's name is no reason to call it done.
    json(dir, &["quantize", "m", "--to", "q4_1", "--out", "theirs.gguf"]);
    assert!(refusal(dir, &["run", "job.toml", "--out", "out", "--dry-run"]).contains("other lane theirs"));
}

#[test]
fn a_reference_that_is_a_file_has_the_recipe_that_made_it() {
    let dir = world();
    let dir = dir.path();
    json(dir, &["quantize", "m", "--to", "q4_k_m", "--out", "theirs.gguf"]);
    let document = job(dir, &format!("model = \"theirs.gguf\"\n{TEXT_A}"), "out");
    let row = &document["summary"][0];
    assert_eq!(row["recipe"], "q4_k_m");
    assert_ne!(row["lane"], "q4_k_m", "the lane keeps the name of the most frequent type");
    let bench = ["bench", "theirs.gguf", "-p", "4", "-n", "0", "-r", "1", "--no-warmup", "--device", "cpu", "--records", "timed"];
    json(dir, &bench);
    let text = ["--text", "a.txt", "--ctx", "64", "--chunks", "2", "--device", "cpu"];
    json(dir, &[&["compare", "theirs.gguf", "m", "--records", "compared"], &text[..]].concat());
    for folder in ["timed", "compared"] {
        let records = records::load(&dir.join(folder)).unwrap();
        let of_file = records.iter().filter(|record| record.origin.lane == "theirs");
        let recipes: Vec<&str> = of_file.filter_map(|record| Some(record.as_lane()?.recipe.as_str())).collect();
        assert_eq!(recipes, ["q4_k_m"], "{folder}");
        for (file, _) in modified(&dir.join(folder).join("records")) {
            assert!(records::session(&file).unwrap().is_some(), "{} names no session", file.display());
        }
    }
}

#[test]
fn lanes_on_the_fly_use_the_importance_matrix_as_files_do() {
    let dir = world();
    let dir = dir.path();
    let config = |lanes: &str, imatrix: &str| format!("model = \"m\"\n{lanes}\n{TEXT_A}[imatrix]\n{imatrix}\n");
    let collect = "text = \"b.txt\"\nctx = 32\nchunks = 3";
    let row = |document: &Value, lane: &str| {
        let rows = document["summary"].as_array().unwrap();
        rows.iter().find(|row| row["lane"] == lane).unwrap_or_else(|| panic!("{document} has no {lane}")).clone()
    };
    // A type that cannot be made without.
    let files = job(dir, &config("recipes = [\"q2_k_s\"]", collect), "files");
    let lanes = job(dir, &config("candidates = [\"@q2_k_s\"]", collect), "lanes");
    let (file, lane) = (row(&files, "q2_k_s"), row(&lanes, "@q2_k_s"));
    assert_eq!((&lane["kld_mean"], &lane["imatrix"]), (&file["kld_mean"], &file["imatrix"]));
    let again = job(dir, &config("candidates = [\"@q2_k_s\"]", collect), "lanes");
    assert_eq!(row(&again, "@q2_k_s"), lane);
    let identity = |out: &str, lane: &str| -> Value {
        let run: Value = serde_json::from_slice(&std::fs::read(dir.join(out).join("run.json")).unwrap()).unwrap();
        run["lanes"][lane].clone()
    };
    assert_eq!(identity("lanes", "@q2_k_s")["imatrix"][0], "text");
    // What is not listed does without, whether the matrix is collected or a file.
    let file = "file = \"lanes/models/m.imatrix.gguf\"";
    for (out, imatrix) in [("some", collect), ("stored", file)] {
        let listed = format!("{imatrix}\nrecipes = [\"q4_1\"]");
        let document = job(dir, &config("candidates = [\"@Q4_1\", \"@q4_0\"]", &listed), out);
        let [with, without] = ["@Q4_1", "@q4_0"].map(|lane| row(&document, lane)["imatrix"].clone());
        assert!(with.as_str().is_some_and(|matrix| matrix.contains("m.imatrix.gguf")) && without.is_null(), "{document}");
        assert_eq!(identity(out, "@q4_0").as_object().unwrap().len(), 1, "as before there were matrices");
    }
    write(dir, "job.toml", &config("candidates = [\"@q4_0\"]", &format!("{collect}\nrecipes = [\"q4_1\"]")));
    assert!(refusal(dir, &["run", "job.toml", "--no-speed", "--out", "none"]).contains("imatrix.recipes: q4_1 is none of"));
}

#[test]
fn a_comparison_of_several_texts_leaves_a_page() {
    let dir = world();
    let dir = dir.path();
    json(dir, &["quantize", "m", "--to", "q4_k_m", "--out", "theirs/m-Q4_K_M.gguf"]);
    let texts = ["--text", "a.txt", "--text", "b.txt", "--ctx", "64", "--chunks", "4", "--device", "cpu"];
    let args = [&["compare", "demo", "@q4_0", "theirs/m-Q4_K_M.gguf"][..], &texts, &["--out", "out"]].concat();
    let document = json(dir, &args);
    let rows = document["summary"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["a_ppl"].as_f64() > Some(1.0) && row["b_ppl"].as_f64() > Some(1.0)), "{rows:?}");
    assert!(rows.iter().any(|row| row["recipe"] == "q4_k_m"), "the file says which recipe it was made by");
    assert!(std::fs::read_to_string(dir.join("out/report.html")).unwrap().contains("<svg"));
    // Alone, each text has the figures of its own.
    let alone = json(dir, &["compare", "demo", "@q4_0", "--text", "a.txt", "--ctx", "64", "--chunks", "4", "--device", "cpu"]);
    let together = rows.iter().find(|row| row["recipe"] == "q4_0").unwrap();
    assert_eq!(together["a_ppl"], alone["candidates"][0]["ppl"]);
    let failed = common::run(dir, &[&args[..], &["--max-kld", "1e-9"]].concat());
    assert_eq!(failed.status.code(), Some(1), "the gate works on a finished folder, too");
    for (option, why) in [("--layers", "no record holds"), ("--noise-floor", "another arithmetic"), ("--full", "summary.csv")] {
        let texts = ["--text", "a.txt", "--text", "b.txt", "--ctx", "64"];
        let error = refusal(dir, &[&["compare", "demo", "@q4_0", option][..], &texts].concat());
        assert!(error.contains(option) && error.contains(why), "{error}");
    }
}

#[test]
fn what_compare_and_eval_keep_is_what_report_reads() {
    let dir = world();
    let dir = dir.path();
    let text = ["--text", "a.txt", "--ctx", "64", "--chunks", "3", "--device", "cpu"];
    let compared = json(dir, &[&["compare", "m", "@q4_0", "--records", "c"], &text[..]].concat());
    let rows = json(dir, &["report", "c"])["summary"].clone();
    assert_eq!(rows[1]["kld_mean"], compared["candidates"][0]["kld_mean"]);
    assert_eq!(rows[0]["ppl"], compared["reference"]["ppl"]);
    let eval = ["eval", "m", "@q4_0", "--tasks", "facts", "--limit", "8", "--device", "cpu"];
    let plain = json(dir, &eval);
    let kept = json(dir, &[&eval[..], &["--records", "e"]].concat());
    assert_eq!(plain["results"], kept["results"]);
    assert!(plain["results"][0]["p_value"].is_null(), "a model is not compared with itself");
    assert!(plain["results"][1]["difference_low"].as_f64() <= plain["results"][1]["difference"].as_f64());
    let rows = json(dir, &["report", "e"])["summary"].clone();
    assert_eq!(rows[1]["facts"], plain["results"][1]["accuracy"]);
    assert!(dir.join("e/report.html").exists());
}

#[test]
fn several_models_are_asked_in_one_walk() {
    let dir = world();
    let dir = dir.path();
    write(dir, "r.jsonl", "{\"context\": \"the sun\", \"continuation\": \" is\"}\n{\"text\": \"one two three\"}\n");
    let plan = json(dir, &["score", "m", "@q4_0", "--requests", "r.jsonl", "--out", "p.parquet", "--device", "cpu", "--dry-run"]);
    let stage = &plan["models"][0]["tasks"][0];
    assert_eq!((&stage["name"], &stage["items"], &plan["models"][0]["lanes"][0]), (&"r.jsonl".into(), &2.into(), &"m".into()));
    let plan = json(dir, &["eval", "m", "@q4_0", "--tasks", "facts", "--limit", "3", "--device", "cpu", "--dry-run"]);
    assert_eq!(plan["models"][0]["tasks"][0]["items"], 3);
    assert!(!dir.join("p.parquet").exists());
    let score = |models: &[&str], out: &str| {
        let args = [&["score"], models, &["--requests", "r.jsonl", "--out", out, "--device", "cpu"]].concat();
        json(dir, &args);
        common::parquet(&dir.join(out))
    };
    let (one, two) = (score(&["m"], "one.parquet"), score(&["m", "@q4_0"], "two.parquet"));
    let resumed = ["score", "m", "--requests", "r.jsonl", "--out", "r.parquet", "--resume", "state"];
    json(dir, &[&resumed[..], &["--device", "cpu"]].concat());
    assert!(std::fs::read(dir.join("r.parquet")).unwrap() == std::fs::read(dir.join("one.parquet")).unwrap());
    assert!(!dir.join("state").exists());
    std::fs::create_dir(dir.join("state")).unwrap();
    write(dir, "state/letter.txt", "mine");
    assert!(refusal(dir, &resumed).contains("other files"), "a folder of something else");
    assert_eq!((one.len(), two.len()), (2, 4));
    assert_eq!(two.names()[0], "lane");
    for row in 0..2 {
        assert_eq!(two.row(row)[1..], one.row(row)[..]);
        assert!(two.row(row)[0].contains('m') && two.row(row + 2)[0].contains("@q4_0"));
        assert_ne!(two.row(row + 2)[1], one.row(row)[0]);
    }
}

#[test]
fn requests_and_a_noise_floor_are_measured_without_a_folder() {
    let dir = world();
    let dir = dir.path();
    json(dir, &["quantize", "m", "--to", "q4_0", "--out", "q.gguf"]);
    write(dir, "r.jsonl", "{\"context\": \"the sun\", \"continuation\": \" is\"}\n{\"text\": \"one two three\"}\n");
    let speed = "[speed]\nprompt = 8\ngenerate = 0\nrepetitions = 1\nwarm_up = false\n";
    let config = format!("model = \"q.gguf\"\nnoise_floor = true\nrequests = \"r.jsonl\"\n{TEXT_B}{speed}");
    let job = Job::parse(&config, dir, "job.toml").unwrap();
    let (device, stop) = (Device::open(DeviceSelector::Cpu).unwrap(), AtomicBool::new(false));
    let finished = execute(&job, None, &device, Watch { progress: &Silent, stop: &stop }).unwrap();
    let described = finished.records.iter().filter(|record| record.as_lane().is_some());
    let lanes: Vec<&str> = described.map(|record| record.origin.lane.as_str()).collect();
    assert!(lanes.len() == 2 && lanes[1] == format!("{} (q8)", lanes[0]), "{lanes:?}");
    let answered: Vec<(&str, usize)> = finished.answers.iter().map(|(lane, answers)| (lane.as_str(), answers.len())).collect();
    assert_eq!(answered, [(lanes[0], 2), (lanes[1], 2)]);
    let timed = finished.records.iter().filter(|record| record.as_speed().is_some());
    let timed: Vec<&str> = timed.map(|record| record.origin.lane.as_str()).collect();
    assert_eq!(timed, [lanes[0]], "the noise floor is no model of its own to time");
}

#[test]
fn what_is_scored_beside_requests_is_of_the_models_architecture() {
    let dir = world();
    let dir = dir.path();
    std::fs::create_dir(dir.join("granite")).unwrap();
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(dir.join("m").join(file), dir.join("granite").join(file)).unwrap();
    }
    // The same tensors and words; the factors that make it another model are 1.
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("m/config.json")).unwrap()).unwrap();
    config["architectures"] = serde_json::json!(["GraniteForCausalLM"]);
    config["model_type"] = "granite".into();
    write(dir, "granite/config.json", &config.to_string());
    write(dir, "r.jsonl", "{\"context\": \"the sun\", \"continuation\": \" is\"}\n");
    let (device, stop) = (Device::open(DeviceSelector::Cpu).unwrap(), AtomicBool::new(false));
    let answered = |more: &str| {
        let config = format!("model = \"m\"\ncandidates = [\"granite\"]\nrequests = \"r.jsonl\"\n{more}");
        let job = Job::parse(&config, dir, "job.toml").unwrap();
        execute(&job, None, &device, Watch { progress: &Silent, stop: &stop }).map(|finished| finished.answers.len())
    };
    assert_eq!(answered("").unwrap(), 2, "requests can be asked of any model of the same words");
    assert_eq!(answered(TEXT_B).unwrap(), 1, "losses on a text are those of one architecture");
    let error = answered(&format!("strict = true\n{TEXT_B}")).unwrap_err().to_string();
    assert!(error.contains("its architecture is granite"), "{error}");
}

#[test]
fn the_records_of_all_slices_are_those_of_the_whole() {
    let dir = world();
    let dir = dir.path();
    let config = format!("model = \"m\"\nrecipes = [\"q4_0\"]\ncandidates = [\"@q6_k\"]\n{TEXT_A}{TEXT_B}{TASKS}");
    let document = job(dir, &config, "whole");
    let whole = recorded(&dir.join("whole"));
    // More slices than some of the texts have windows, too.
    for of in [2, 7] {
        let folders: Vec<String> = (1..=of).map(|k| format!("part-{k}-of-{of}")).collect();
        let mut all = Vec::new();
        for (k, folder) in folders.iter().enumerate() {
            let slice = format!("{}/{of}", k + 1);
            json(dir, &["run", "job.toml", "--device", "cpu", "--no-speed", "--slice", &slice, "--out", folder]);
            all.extend(recorded(&dir.join(folder)));
        }
        let measured = |records: &[String]| records.iter().filter(|record| !record.contains("body: Lane(")).count();
        assert_eq!(measured(&all), measured(&whole), "{of} slices: every window and item once");
        all.sort();
        all.dedup();
        assert!(all == whole, "{of} slices: {} records, {} of the whole", all.len(), whole.len());
        let joint = [&["report"], &folders.iter().map(String::as_str).collect::<Vec<_>>()[..], &["--out", "joint"]].concat();
        assert_eq!(json(dir, &joint)["summary"], document["summary"]);
    }
    let other = refusal(dir, &["run", "job.toml", "--no-speed", "--slice", "2/2", "--out", "part-1-of-2"]);
    assert!(other.contains("other text a.windows"), "{other}");
    assert!(refusal(dir, &["run", "job.toml", "--slice", "4/3", "--out", "x"]).contains("no slice 4/3"));
}
