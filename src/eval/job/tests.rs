//! Tests of [`super`].

use super::*;

#[track_caller]
fn check_error(text: &str, expected: &str) {
    let error = Job::parse(text, Path::new(""), "job.toml").unwrap_err().to_string();
    assert!(error.contains(expected) && error.contains("job.toml"), "{error:?} lacks {expected:?}");
}

fn parse(text: &str) -> Job {
    Job::parse(text, Path::new("/a"), "job.toml").unwrap()
}

#[test]
fn the_embedded_demo_and_the_shipped_configurations_are_sound() {
    Job::load(None).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/runs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // The others are for `bitworth advise` (`advise::request` reads them).
        if !text.parse::<toml::Table>().unwrap().contains_key("hardware") {
            Job::load(Some(&path)).unwrap();
        }
    }
}

#[test]
fn paths_are_seen_from_the_configurations_folder() {
    let job = parse("model = \"m\"\n[text]\nfile = \"demo:data/eval.txt\"");
    assert_eq!(job.models[0].model, Path::new("/a").join("m").display().to_string());
    assert_eq!((job.texts[0].file.as_str(), job.texts[0].name.as_str()), ("demo:data/eval.txt", "eval"));
    let job = parse("model = \"hf:o/n@v1\"\ncandidates = [\"q.gguf\", \"@q4_0\"]\n[speed]");
    assert_eq!(job.models[0].model, "hf:o/n@v1");
    assert_eq!(job.models[0].candidates, [Path::new("/a").join("q.gguf").display().to_string(), "@q4_0".to_owned()]);
}

#[test]
fn timings_are_one_or_many_of_one_or_both_programs() {
    let speed = |text: &str| parse(&format!("model = \"m\"\n[speed]\n{text}")).speed.unwrap();
    assert_eq!(speed(""), SpeedSpec::default());
    let both =
        speed("prompt = [64, 512]\ngenerate = 0\nengine = [\"bitworth\", \"llama-bench\"]\nllama_bench = \"bin/llama-bench\"");
    assert_eq!((both.prompt, both.generate), (vec![64, 512], vec![0]));
    assert_eq!(
        (both.engine, both.llama_bench.unwrap()),
        (vec![Engine::Bitworth, Engine::LlamaBench], "/a/bin/llama-bench".into())
    );
    let other = speed("engine = \"llama-bench\"\nllama_bench = \"llama-bench\"\nshape = \"llama-1b\"");
    assert_eq!((other.llama_bench.unwrap(), other.shape.unwrap()), ("llama-bench".into(), "llama-1b".into()));
    assert_eq!(speed("shape = \"mine/config.json\"").shape.unwrap(), "/a/mine/config.json");
    let refused = |text: &str, expected: &str| check_error(&format!("model = \"m\"\n[speed]\n{text}"), expected);
    refused("engine = \"llama\"", "expected `bitworth` or `llama-bench`");
    refused("engine = []", "speed.engine is empty");
    refused("engine = [\"bitworth\", \"bitworth\"]", "twice");
    refused("llama_bench = \"x\"", "does not ask for");
    refused("shape = \" \"", "speed.shape is empty");
    refused("delay = -1.0", "speed.delay");
    refused("prompt = \"many\"", "prompt");
}

#[test]
fn several_models_share_what_none_has_of_its_own() {
    let job = parse(
        "models = [\"m\", { model = \"n\", recipes = [\"q8_0\"], candidates = [\"n.gguf\"] }]\nrecipes = [\"Q4_0\"]\n[speed]",
    );
    let of = |i: usize| (&job.models[i].recipes[..], job.models[i].candidates.len());
    assert_eq!((of(0), of(1)), ((&["q4_0".to_owned()][..], 0), (&["q8_0".to_owned()][..], 1)));
    assert_eq!(job.folders(Path::new("out")), [Path::new("out/m"), Path::new("out/n")]);
    let job = parse("models = [\"x/m\", \"y/m.gguf\"]\n[speed]");
    assert_eq!(job.folders(Path::new("out")), [Path::new("out/m"), Path::new("out/m-2")]);
}

#[test]
fn texts_are_one_or_many_and_have_names_of_their_own() {
    let job =
        parse("model = \"m\"\n[[text]]\nfile = \"a/t.txt\"\n[[text]]\nfile = \"b/t.txt\"\n[[text]]\nname = \"c\"\nfile = \"t\"");
    assert!(job.texts.iter().map(|t| t.name.as_str()).eq(["t", "t-2", "c"]));
    check_error(
        "model = \"m\"\n[[text]]\nname = \"c\"\nfile = \"t\"\n[[text]]\nname = \"c\"\nfile = \"u\"",
        "two texts are named c",
    );
}

#[test]
fn another_job_has_another_hash() {
    let [a, b] = ["q8_0", "q4_0"].map(|recipe| parse(&format!("model = \"m\"\nrecipes = [\"{recipe}\"]\n[speed]")).sha256());
    assert!(a != b && a.len() == 64);
}

#[test]
fn requests_and_the_noise_floor_are_keys() {
    let plain = "model = \"m\"\n";
    let job = parse(&format!("{plain}requests = \"asked/r.jsonl\""));
    assert_eq!(job.requests, Some(Path::new("/a").join("asked/r.jsonl").display().to_string()), "something to measure");
    assert!(!job.noise_floor);
    let text = "[text]\nfile = \"t\"";
    let [left_out, off, on] =
        ["", "noise_floor = false\n", "noise_floor = true\n"].map(|key| parse(&format!("{plain}{key}{text}")));
    assert_eq!(left_out, off);
    assert!(on.noise_floor && on.sha256() != off.sha256());
    check_error(&format!("{plain}requests = \" \""), "requests is empty");
    check_error(&format!("{plain}noise_floor = 1\n{text}"), "noise_floor");
}

#[test]
fn a_job_that_is_printed_is_read_as_the_same_job() {
    let whole = parse(
        "arithmetic = \"q8\"\nmax_memory_mib = 100\nnoise_floor = true\nstrict = true\nrequests = \"r.jsonl\"\n\
         recipes = [\"q8_0\", \"q4_0+fit\"]\n\
         models = [\"m\", { model = \"n.gguf\", recipes = [], candidates = [\"@q4_0+fit\"] }]\n\
         [[text]]\nfile = \"demo:data/eval.txt\"\nctx = 64\n[[text]]\nfile = \"b.txt\"\nchunks = 3\nkeep_tokens = false\n\
         [imatrix]\ntext = \"c.txt\"\nctx = 32\n[fit]\ntexts = [\"d.txt\"]\noutput = true\n\
         [tasks]\nnames = [\"facts\", \"t.yaml\"]\nlimit = { facts = [3, 1] }\nmargin = 1.5\n\
         [[tasks.llama_perplexity]]\nkind = \"hellaswag\"\nfile = \"h.txt\"\n\
         [speed]\nprompt = [64, 512]\nengine = [\"bitworth\", \"llama-bench\"]\nshape = \"llama-1b\"\ndelay = 0.5\n\
         [split]\nmax_tensors = 9\n",
    );
    let small = parse("model = \"m\"\n[tasks]\nnames = [\"facts\"]");
    let share = parse("model = \"m\"\n[tasks]\nnames = [\"facts\"]\nlimit = 0.25");
    // As `perplexity` asks for it, all windows in one pass.
    let mut at_once = parse("model = \"m\"\n[text]\nfile = \"t\"");
    at_once.texts = at_once.texts.into_iter().map(TextSpec::at_once).collect();
    for job in [whole, small, share, at_once, Job::load(None).unwrap()] {
        let text = job.to_toml().unwrap();
        assert_eq!(Job::parse(&text, Path::new("/elsewhere"), "printed.toml").unwrap(), job, "{text}");
    }
}

#[test]
fn what_no_configuration_says_is_not_printed() {
    let job = parse("model = \"m\"\n[text]\nfile = \"t\"");
    let mut by_name = job.clone();
    by_name.models[0].by_name = true;
    for job in [job.slice(1, 2).unwrap(), by_name] {
        assert!(job.to_toml().unwrap_err().to_string().contains("cannot say all of this job"), "{job:?}");
    }
}

#[test]
fn a_slice_is_a_job_of_its_own() {
    let job = parse("model = \"m\"\n[text]\nfile = \"t\"\n[speed]");
    let [first, second] = [1, 2].map(|k| job.slice(k, 2).unwrap());
    assert!(first.speed.is_some() && second.speed.is_none(), "timings are made once");
    assert!(first.sha256() != second.sha256() && second.sha256() != job.sha256());
    assert!(job.slice(3, 2).is_err() && first.slice(1, 2).is_err());
    let asked = parse("model = \"m\"\nrequests = \"r.jsonl\"\n[text]\nfile = \"t\"");
    assert_eq!(asked.slice(1, 2).unwrap_err().to_string(), "requests cannot be cut into slices; leave them out");
}

#[test]
fn the_leaderboards_run_can_be_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/runs/leaderboard-v1.toml");
    assert_eq!(Job::load(Some(&path)).unwrap().tasks.unwrap().names, ["leaderboard_v1"]);
}

#[test]
fn what_a_key_takes_is_said_with_an_example_and_its_place() {
    let told = |text: &str, line: usize, expected: &str| {
        let text = format!("model = \"m\"\n{text}");
        let error = Job::parse(&text, Path::new(""), "job.toml").unwrap_err().to_string();
        let place = format!("job.toml: TOML parse error at line {line}, ");
        assert!(error.starts_with(&place) && error.contains(expected), "{error:?} lacks {expected:?}");
        for word in ["struct", "enum", "Spec", "usize", "u64", "f64", "sequence", "map", "tuple"] {
            assert!(!error.contains(word), "{error:?} says {word}");
        }
        // The line itself is shown, with the key.
        assert!(error.contains(&format!("\n{line} | {}\n", text.lines().nth(line - 1).unwrap())), "{error}");
    };
    let table = "expected a table, as [imatrix] with file = \"imatrix.gguf\"";
    told("imatrix = \"F\"\n[speed]", 2, &format!("invalid type: string \"F\", {table}"));
    // Values in the order of the keys are no table.
    told("imatrix = [\"F\", \"T\", 512, 3, []]\n[speed]", 2, &format!("invalid type: a list, {table}"));
    let own = "models = [{ model = \"n\", imatrix = 3 }]";
    told(own, 2, table);
    told("models = [3]", 2, "expected a model's name or a table, as \"my-model\" or { model = ");
    told("fit = true", 2, "[fit] with texts = [");
    told("text = \"F\"", 2, "expected a table, as [[text]] with file = \"eval.txt\"; or a list of such tables");
    told("text = [\"F\"]", 2, "expected a table, as [[text]] with file = \"eval.txt\"");
    told("tasks = [\"facts\"]", 2, "invalid type: a list, expected a table, as [tasks] with names = [\"facts\"]");
    told("speed = true", 2, "as [speed] with prompt = 512");
    told("split = \"4G\"", 2, "as [split] with max_bytes = ");
    told("recipes = \"q4_0\"", 2, "expected a list in brackets, as [");
    told("max_memory_mib = \"4G\"", 2, "expected a whole number, 0 or more");
    told("max_memory_mib = -1", 2, "expected a whole number, 0 or more");
    told("strict = \"yes\"", 2, "expected true or false");
    told("arithmetic = { q8 = true }", 2, "invalid type: a table, expected a text in quotes");
    told("[speed]\ndelay = \"1s\"", 3, "expected a number");
    told("[speed]\nprompt = \"many\"", 3, "expected a whole number, 0 or more");
    told("[tasks]\nllama_perplexity = [\"h.txt\"]", 3, "as [[tasks.llama_perplexity]] with kind = \"hellaswag\"");
    told("[tasks]\nlimit = { facts = 3 }", 3, "expected a list in brackets, as [");
}

#[test]
fn mistakes_are_named() {
    check_error("model = \"m\"\nrecipes = [\"q9_9\"]\n[speed]", "q9_9");
    check_error("model = \"m\"\ncandidates = [\"@q9_9\"]\n[speed]", "@q9_9: unknown recipe");
    check_error("model = \"m\"\nrecipes = []\nrecipe = 1", "recipe");
    check_error("model = \"\"\n[speed]", "model is empty");
    check_error("models = [\"m\", \" \"]\n[speed]", "model is empty");
    check_error("model = \"m\"\ncandidates = [\"@q4_0\", \"\"]\n[speed]", "candidates[1] is empty");
    check_error("model = \"m\"\nrecipes = [\"\"]\n[speed]", "recipes[0] is empty");
    check_error("model = \"m\"\nrecipes = []\n[speed]", "recipes is empty");
    check_error("model = \"m\"\n[tasks]\nnames = []", "tasks.names is empty");
    check_error("model = \"m\"\n[tasks]\nnames = [\"\"]", "tasks.names[0] is empty");
    check_error("model = \"m\"\nmax_memory_mib = 0\n[speed]", "max_memory_mib must be above 0");
    check_error("model = \"m\"\n[text]\nfile = \"\"", "text[0].file is empty");
    let two = "model = \"m\"\n[[text]]\nfile = \"a.txt\"\n[[text]]\nfile = \"b.txt\"\n";
    check_error(&format!("{two}ctx = 3"), "text b: ctx = 3");
    check_error(&format!("{two}chunks = 0"), "text b: chunks must be above 0");
    check_error(&format!("{two}name = \"{}\"", "n".repeat(300)), "text nnnnnnnnnnnnnnnnnnnn...: its name is too long");
    check_error("model = \"m\"\nrecipes = [\"q8_0\", \"Q8_0\"]\n[speed]", "twice");
    check_error("model = \"m\"", "nothing to measure: give at least one of [text], [tasks], [speed] and requests");
    for other in ["requests = \"r.jsonl\"", "[speed]"] {
        check_error(&format!("model = \"m\"\nnoise_floor = true\n{other}"), "noise_floor needs [text] or [tasks]");
    }
    check_error("model = \"m\"\nrecipes = [\"q4_0+fit\"]\n[speed]\n[fit]\ntexts = [\"a\", \"\"]", "fit.texts[1] is empty");
    let tasks = |key: &str| format!("model = \"m\"\n[tasks]\nnames = [\"facts\"]\n{key}");
    check_error(&tasks("include_path = [\" \"]"), "tasks.include_path[0] is empty");
    check_error(&tasks("data_map = \"\""), "tasks.data_map is empty");
    let file = "[[tasks.llama_perplexity]]\nkind = \"hellaswag\"\nfile = \"\"";
    check_error(&tasks(file), "tasks.llama_perplexity[0].file is empty");
    check_error("recipes = []\n[speed]", "model");
    check_error("model = \"m\"\nmodels = [\"n\"]\n[speed]", "either model or models");
    check_error("model = \"m\"\nrecipes = []\n[text]\nfile = \"t\"\nctxx = 3", "ctxx");
    check_error("models = [{ model = \"m\", reciped = [] }]\n[speed]", "reciped");
    check_error("model = \"m\"\n[speed]\n[split]", "max_bytes");
}
