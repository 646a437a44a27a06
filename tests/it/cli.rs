//! The program as a user meets it: commands, exit codes, messages, files.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::common::{self, bitworth, json, run};

const DEMO: &str = "demo:demo-model";

/// One clear error line, exit code 2, and no new file.
#[track_caller]
fn check_refused(dir: &Path, args: &[&str], expected: &[&str]) {
    let before = listing(dir);
    let output = run(dir, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    assert!(!error.contains("panicked"), "{args:?}: {error}");
    for part in expected {
        assert!(error.contains(part), "{args:?}: {error:?} lacks {part:?}");
    }
    assert_eq!(listing(dir), before, "{args:?} left something behind");
}

/// All files and folders but the demo world's cache.
fn listing(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path == dir.join("cache") {
                continue;
            }
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A folder with the demo model's Q4_0 as `demo-model-Q4_0.gguf` and its folder as `demo-model`.
fn world() -> TempDir {
    let dir = TempDir::new().unwrap();
    ::bitworth::eval::demo::materialize(dir.path()).unwrap();
    json(dir.path(), &["quantize", "demo-model", "--to", "q4_0", "--out", "."]);
    dir
}

#[test]
fn bad_input_gets_one_clear_error_and_leaves_nothing() {
    let world = world();
    let dir = world.path();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
    let gguf = std::fs::read(dir.join("demo-model-Q4_0.gguf")).unwrap();
    write("truncated.gguf", &gguf[..gguf.len() / 2]);
    write("not.gguf", b"PK\x03\x04 this is something else entirely");
    write("short.txt", b"Too short.");
    write("empty.jsonl", b"\n\n");
    write("broken.jsonl", b"{\"text\": \"a\"}\n{\"text\": }\n");
    write("long.txt", "The flag of Podwick is golden. ".repeat(100).as_bytes());
    write("run.toml", b"model = \"demo:demo-model\"\nrecipes = [\"q8_0\"]\n[text]\nfile = \"long.txt\"\nwindow = 3\n");

    write("good.jsonl", b"{\"text\": \"a\"}\n");
    write("speed.toml", b"model = \"demo:demo-model\"\nrecipes = [\"q8_0\"]\n[speed]\nprompt = 100000\n");
    write("stored.toml", b"model = \"demo-model-Q4_0.gguf\"\nrecipes = [\"q8_0\"]\n[speed]\n");

    let config = std::fs::read_to_string(dir.join("demo-model/config.json")).unwrap();
    let copy = |name: &str, config: &str| {
        std::fs::create_dir(dir.join(name)).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
            std::fs::copy(dir.join("demo-model").join(file), dir.join(name).join(file)).unwrap();
        }
        write(&format!("{name}/config.json"), config.as_bytes());
    };
    copy("mamba", &config.replace("LlamaForCausalLM", "MambaForCausalLM"));
    let granite = r#""GraniteForCausalLM"],
  "embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 0.125, "logits_scaling": 1.0, "unused": ["#;
    copy("granite", &config.replace("\"LlamaForCausalLM\"", granite).replace("\"llama\"", "\"granite\""));
    copy("other-words", &config);
    let tokenizer = std::fs::read_to_string(dir.join("other-words/tokenizer.json")).unwrap();
    let mut tokenizer: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let words = [700, 800].map(|id| vocab.iter().find(|(_, value)| **value == id).unwrap().0.clone());
    (vocab[&words[0]], vocab[&words[1]]) = (800.into(), 700.into());
    write("other-words/tokenizer.json", tokenizer.to_string().as_bytes());
    copy("sharded", &config);
    std::fs::remove_file(dir.join("sharded/model.safetensors")).unwrap();
    let index = r#"{"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}"#;
    write("sharded/model.safetensors.index.json", index.as_bytes());

    check_refused(dir, &["inspect", "truncated.gguf"], &["truncated.gguf", "tensor"]);
    check_refused(dir, &["perplexity", "truncated.gguf", "--text", "long.txt"], &["truncated.gguf"]);
    check_refused(dir, &["inspect", "not.gguf"], &["not.gguf"]);
    check_refused(dir, &["inspect", "no.gguf"], &["no.gguf"]);
    check_refused(dir, &["quantize", "sharded", "--to", "q8_0", "--out", "out"], &["model-00001-of-00002.safetensors"]);
    check_refused(dir, &["quantize", "mamba", "--to", "q8_0", "--out", "out"], &["MambaForCausalLM", "LlamaForCausalLM"]);
    check_refused(dir, &["quantize", DEMO, "--to", "q9_9", "--out", "out"], &["q9_9", "q4_k_m"]);
    check_refused(dir, &["quantize", "demo-model-Q4_0.gguf", "--to", "q8_0", "--out", "out"], &["demo-model-Q4_0.gguf"]);
    check_refused(dir, &["compare", DEMO, "@q9_9", "--text", "long.txt"], &["q9_9", "q4_k_m"]);
    check_refused(dir, &["perplexity", DEMO, "--text", "short.txt"], &["short.txt", "window of 512"]);
    check_refused(dir, &["perplexity", DEMO, "--text", "missing.txt"], &["missing.txt"]);
    check_refused(dir, &["score", DEMO, "--requests", "empty.jsonl", "--out", "o.parquet"], &["empty.jsonl", "no request"]);
    check_refused(dir, &["score", DEMO, "--requests", "broken.jsonl", "--out", "o.parquet"], &["broken.jsonl", "line 2"]);
    check_refused(dir, &["run", "run.toml", "--out", "out"], &["run.toml", "window"]);
    check_refused(dir, &["run", "missing.toml", "--out", "out"], &["missing.toml"]);
    check_refused(dir, &["report", "."], &["records"]);
    check_refused(dir, &["eval", DEMO, "--tasks", "nonsense"], &["nonsense", "facts"]);
    check_refused(dir, &["perplexity", DEMO, "--text", "long.txt", "--device", "tpu"], &["tpu", "auto, cpu, gpu"]);
    check_refused(dir, &["generate", DEMO, "--prompt", "a", "--max-tokens", "100000"], &["context of 512"]);
    check_refused(dir, &["bench", DEMO, "--prompt", "100000"], &["context of 512"]);
    check_refused(dir, &["nonsense"], &["nonsense"]);
    check_refused(dir, &["perplexity", DEMO, "--text", "long.txt", "--arithmetic", "q4"], &["q4", "f32, q8"]);
    check_refused(dir, &["perplexity", "hf:a/../b", "--text", "long.txt"], &["hf:a/../b", "hf:OWNER/NAME"]);
    let most = usize::MAX.to_string();
    check_refused(dir, &["generate", DEMO, "--prompt", "a", "--max-tokens", &most], &["context of 512"]);
    check_refused(dir, &["generate", DEMO, "--prompt", "a", "--stop", ""], &["--stop"]);
    for (option, named) in [
        ("--prompt", "context of 512"),
        ("--generate", "context of 512"),
        ("--depth", "context of 512"),
        ("--batch", "batch"),
        ("--repetitions", "repetitions"),
    ] {
        check_refused(dir, &["bench", DEMO, option, &most, "--device", "cpu"], &[named]);
    }
    for (wrong, named) in [
        (&["-p", "0", "-n", "0"][..], "nothing to time"),
        (&["-p", "512-128"], "before it begins"),
        (&["-p", "a"], "128-512"),
        (&["-d", "0,500"], "depth 500 and 512 tokens"),
        (&["-n", "4,8", "-n", "4"], "4 twice"),
        (&["--batch", "0"], "batch 0"),
        (&["-r", "0"], "repetitions 0"),
        (&["--delay=-1"], "--delay"),
        (&["--delay", "NaN"], "--delay"),
        (&["--drift-bound", "0"], "--drift-bound"),
        (&["--drift-bound", "nan"], "--drift-bound"),
        (&["--output", "csv", "--json"], "contradict"),
        (&["--output", "xml"], "jsonl"),
    ] {
        check_refused(dir, &[&["bench", DEMO, "--device", "cpu"], wrong].concat(), &[named]);
    }
    check_refused(dir, &["perplexity", DEMO, "--text", "long.txt", "--chunks", "0"], &["--chunks"]);
    check_refused(dir, &["perplexity", DEMO, "--text", "long.txt", "--ctx", "600", "--device", "cpu"], &["512", "600"]);
    write("empty.txt", b"");
    let text =
        |command: &[&'static str], file: &'static str| [command, &["--text", file, "--ctx", "64", "--device", "cpu"]].concat();
    check_refused(dir, &text(&["perplexity", DEMO], "empty.txt"), &["empty.txt", "empty"]);
    check_refused(dir, &text(&["compare", DEMO, "granite"], "long.txt"), &["granite", "llama", "architecture"]);
    check_refused(dir, &text(&["compare", DEMO, "other-words"], "long.txt"), &["other-words", "token 700", "cannot be compared"]);
    check_refused(dir, &text(&["compare", DEMO, "@q8_0", "--noise-floor"], "long.txt"), &["--noise-floor", "plain numbers"]);
    check_refused(
        dir,
        &text(&["compare", DEMO, "@q8_0", "--records", "long.txt"], "long.txt"),
        &["--records long.txt", "folder"],
    );
    write("tokens.parquet", b"something else");
    check_refused(dir, &text(&["perplexity", DEMO, "--records", "."], "long.txt"), &["tokens.parquet", "no parquet file"]);
    check_refused(dir, &["compare", DEMO, "@q8_0", "--text", "long.txt", "--max-kld", "nan"], &["--max-kld"]);
    check_refused(dir, &["eval", DEMO, "--tasks", "facts", "--limit", "0"], &["--limit"]);
    check_refused(dir, &["score", DEMO, "--requests", "good.jsonl", "--out", "no/o.parquet"], &["no/o.parquet"]);
    check_refused(dir, &["run", "speed.toml", "--out", "out"], &["speed", "512"]);
    check_refused(dir, &["run", "stored.toml", "--out", "out"], &["demo-model-Q4_0.gguf"]);
}

/// Every option that the error of a command names is one that its help lists.
#[track_caller]
fn check_names_own_options(dir: &Path, args: &[&str], expected: &str) {
    let refused = run(dir, args);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && error.contains(expected), "{args:?}: {error:?} lacks {expected:?}");
    let help = run(dir, &[args[0], "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let mut words = error.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let foreign = words.find(|word| word.starts_with("--") && !help.contains(*word));
    assert!(foreign.is_none(), "{args:?} has no {foreign:?}: {error}");
}

#[test]
fn an_error_offers_no_option_that_the_command_lacks() {
    let world = world();
    let dir = world.path();
    std::fs::write(dir.join("r.jsonl"), "{\"text\": \"one two\"}\n").unwrap();
    let text = ["--text", "data/eval.txt", "--ctx", "64", "--device", "cpu"];
    let score = ["--requests", "r.jsonl", "--out", "o.parquet", "--device", "cpu"];
    let eval = ["--tasks", "facts", "--device", "cpu"];
    let files = ["demo-model-Q4_0.gguf", "@q8_0"];
    for (command, more) in [("compare", &text[..]), ("score", &score), ("eval", &eval)] {
        let args = [&[command][..], &files, more].concat();
        check_names_own_options(dir, &args, "the option allow-requantize of `bitworth quantize`");
    }
    for (file, made) in [("fly.toml", "candidates = [\"@q8_0\"]"), ("file.toml", "recipes = [\"q8_0\"]")] {
        let config = format!("model = \"{}\"\n{made}\n[text]\nfile = \"data/eval.txt\"\nctx = 64\n", files[0]);
        std::fs::write(dir.join(file), config).unwrap();
        let args = ["run", file, "--no-speed", "--device", "cpu", "--out", "out"];
        check_names_own_options(dir, &args, "the option allow-requantize of `bitworth quantize`");
    }
    // A type that is of use only with an importance matrix, which one of the commands takes.
    check_names_own_options(dir, &[&["compare", "demo-model", "@iq2_xxs"][..], &text].concat(), "give one with --imatrix");
    let other = "give one with the option imatrix of `bitworth quantize`";
    check_names_own_options(dir, &[&["eval", "demo-model", "@iq2_xxs"][..], &eval].concat(), other);
    check_names_own_options(dir, &[&["score", "demo-model", "@q4_0+fit"][..], &score].concat(), "the option fit of");
}

#[test]
fn a_recipe_that_is_unknown_is_named_as_it_was_typed() {
    let world = world();
    let dir = world.path();
    let typed = ["error: @m1: unknown recipe \"m1\"; known: "];
    check_refused(dir, &["compare", DEMO, "@q4_0", "@m1", "--text", "data/eval.txt"], &typed);
    check_refused(dir, &["eval", DEMO, "@m1", "--tasks", "facts"], &typed);
    check_refused(dir, &["score", DEMO, "@m1", "--requests", "r.jsonl", "--out", "o.parquet"], &typed);
}

#[test]
fn no_gpu_is_said_when_one_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let mut command = bitworth(dir.path());
    // No Vulkan driver is to be found; the other interfaces do not exist on Linux.
    if !cfg!(target_os = "linux") {
        return;
    }
    command.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json");
    let output = command.args(["generate", DEMO, "--prompt", "a", "--device", "gpu"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--device gpu") && error.contains("mesa-vulkan-drivers"), "{error}");
}

#[test]
fn many_files_from_one_read_are_what_single_runs_give() {
    let world = world();
    let dir = world.path();
    let made = json(dir, &["quantize", "demo-model", "--to", "f16,q8_0,q6_k,q4_k_m,q4_0", "--out", "all"]);
    assert_eq!(made.as_array().unwrap().len(), 5);
    json(dir, &["quantize", "demo-model", "--to", "q4_k_m", "--out", "one", "--threads", "1"]);
    let read = |path: &str| std::fs::read(dir.join(path)).unwrap();
    assert_eq!(read("all/demo-model-Q4_K_M.gguf"), read("one/demo-model-Q4_K_M.gguf"));
    assert_eq!(read("all/demo-model-Q4_0.gguf"), read("demo-model-Q4_0.gguf"));
    // The sizes of EXPECTED.csv.
    for (recipe, bytes) in
        [("F16", 3_060_128), ("Q8_0", 1_647_008), ("Q6_K", 1_281_952), ("Q4_K_M", 1_003_168), ("Q4_0", 977_824)]
    {
        assert_eq!(read(&format!("all/demo-model-{recipe}.gguf")).len(), bytes, "{recipe}");
    }
    let planned = json(dir, &["quantize", "demo-model", "--to", "q4_k_m", "--out", "x", "--dry-run"]);
    assert!(planned.to_string().contains("blk.0.attn_v.weight") && !dir.join("x").exists());
}

#[test]
fn logits_and_scores_replace_neither_models_nor_their_own_input() {
    let world = world();
    let dir = world.path();
    std::fs::write(dir.join("t.json"), r#"{"sequences": [[1, 2, 3]]}"#).unwrap();
    std::fs::write(dir.join("r.jsonl"), "{\"text\": \"The flag\"}\n").unwrap();
    let logits = |out: &str| ["logits", "demo-model", "--tokens", "t.json", "--out", out, "--device", "cpu"].map(str::to_owned);
    let score = |out: &str| ["score", "demo-model", "--requests", "r.jsonl", "--out", out, "--device", "cpu"].map(str::to_owned);
    for args in [
        logits("demo-model/model.safetensors"),
        logits("t.json"),
        logits("r.jsonl"),
        score("r.jsonl"),
        score("demo-model/model.safetensors"),
    ] {
        let bytes = std::fs::read(dir.join(&args[5])).unwrap();
        check_refused(dir, &args.each_ref().map(String::as_str), &["write to another name"]);
        assert!(bytes == std::fs::read(dir.join(&args[5])).unwrap(), "{args:?}");
    }
    for args in [logits("l.safetensors"), logits("l.safetensors"), score("s.parquet"), score("s.parquet")] {
        json(dir, &args.each_ref().map(String::as_str));
    }
}

#[test]
fn a_model_whose_logits_are_no_numbers_is_an_error() {
    let world = world();
    let dir = world.path();
    let path = dir.join("demo-model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    // The last weights are BF16 numbers of the last tensor by name; all of them become NaN.
    let len = bytes.len();
    bytes[len - 512..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(dir.join("t.json"), r#"{"sequences": [[1, 2, 3]]}"#).unwrap();
    let text = ["--text", "data/eval.txt", "--ctx", "64", "--chunks", "1", "--device", "cpu"];
    check_refused(dir, &[&["perplexity", "demo-model"], &text[..]].concat(), &["not numbers"]);
    check_refused(dir, &["generate", "demo-model", "--prompt", "The", "--device", "cpu"], &["not numbers"]);
    check_refused(
        dir,
        &["logits", "demo-model", "--tokens", "t.json", "--out", "o.safetensors", "--device", "cpu"],
        &["not numbers"],
    );
}

#[test]
fn inspect_lists_what_the_file_holds() {
    let world = world();
    let shown = json(world.path(), &["inspect", "demo-model-Q4_0.gguf", "--hash"]);
    assert_eq!(shown["metadata"]["general.architecture"], "llama");
    assert_eq!(shown["metadata"]["tokenizer.ggml.tokens"].as_array().unwrap().len(), 1280);
    let tensor = shown["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "blk.1.ffn_down.weight").unwrap();
    assert_eq!((&tensor["type"], &tensor["shape"]), (&"Q4_0".into(), &serde_json::json!([256, 256])));
    assert_eq!(tensor["bytes"], 256 * 256 / 32 * 18);
    assert_eq!(tensor["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn a_gguf_tokenizes_and_scores_as_the_directory_it_was_made_of() {
    let world = world();
    let dir = world.path();
    json(dir, &["convert", "demo-model", "--to", "f32", "--out", "f32.gguf"]);
    let tokens = |model: &str| json(dir, &["tokenize", model, "--text", "data/calib.txt"])["tokens"].clone();
    assert_eq!(tokens("demo-model"), tokens("f32.gguf"));
    let ppl = |model: &str| {
        json(dir, &["perplexity", model, "--text", "data/calib.txt", "--ctx", "256", "--chunks", "4", "--device", "cpu"])["ppl"]
            .clone()
    };
    assert_eq!(ppl("demo-model"), ppl("f32.gguf"), "BF16 weights are the same numbers in F32");
}

#[test]
fn compare_pairs_lanes_and_holds_its_gate() {
    let world = world();
    let dir = world.path();
    let args = ["compare", "demo-model", "@q4_0", "demo-model-Q4_0.gguf", "--text", "data/eval.txt", "--ctx", "256"];
    let args = [args.as_slice(), &["--chunks", "6", "--device", "cpu"]].concat();
    let table = json(dir, &args);
    let lanes = table["candidates"].as_array().unwrap();
    assert_eq!(lanes[0]["kld_mean"], lanes[1]["kld_mean"], "a recipe on the fly is the file it would write");
    assert_eq!(table["tokens"], 6 * 127);
    let kld = lanes[0]["kld_mean"].as_f64().unwrap();
    assert!(kld > 0.008 && kld < 0.016, "{kld}");
    assert!(lanes[0]["kld_low"].as_f64().unwrap() < kld && kld < lanes[0]["kld_high"].as_f64().unwrap());
    let gate = |bound: &str| run(dir, &[args.as_slice(), &["--max-kld", bound]].concat()).status.code();
    assert_eq!((gate("0.1"), gate("0.0001")), (Some(0), Some(1)));
    let little = [args.as_slice(), &["--max-memory", "140", "--threads", "1"]].concat();
    let plan = json(dir, &[little.as_slice(), &["--dry-run"]].concat());
    let passes = &plan["models"][0]["stages"][0]["sweep"]["passes"];
    assert!(passes.as_array().unwrap().len() > 1, "{plan}");
    let cut = json(dir, &little);
    assert_eq!(cut["candidates"], table["candidates"], "neither passes nor threads change a bit");
}

#[test]
fn scores_come_in_input_order_whatever_stands_beside_them() {
    let world = world();
    let dir = world.path();
    let lines = [
        r#"{"context": "The flag of Podwick is", "continuation": " golden."}"#,
        r#"{"text": "The people of Podwick dance in autumn."}"#,
        r#"{"context": "88 + 31 =", "continuation": " 119."}"#,
        r#"{"context": "88 + 31 = ", "continuation": "119."}"#,
    ];
    let score = |name: &str, lines: &[&str]| {
        std::fs::write(dir.join("in.jsonl"), lines.join("\n")).unwrap();
        json(dir, &["score", "demo-model", "--requests", "in.jsonl", "--out", name, "--device", "cpu"]);
        common::parquet(&dir.join(name))
    };
    let all = score("all.parquet", &lines);
    assert_eq!(all.names(), ["logprob", "tokens", "is_greedy", "bytes"]);
    for (i, line) in lines.iter().enumerate() {
        let alone = score("one.parquet", &[line]);
        assert_eq!(all.row(i), alone.row(0), "line {i}");
    }
    assert_eq!(all.row(2), all.row(3), "a blank at the end of a context belongs to the continuation");
    let many: Vec<&str> = lines.iter().rev().chain(&lines).copied().collect();
    let many = score("many.parquet", &many);
    assert_eq!((many.row(0), many.row(7)), (all.row(3), all.row(3)));
}

#[test]
fn a_model_speaks_and_a_seed_repeats_it() {
    let world = world();
    let speak = |args: &[&str]| {
        let fixed = ["generate", "demo-model", "--prompt", "The flag of", "--max-tokens", "12", "--device", "cpu"];
        json(world.path(), &[fixed.as_slice(), args].concat())["text"].as_str().unwrap().to_owned()
    };
    assert!(speak(&[]).contains("is"), "{}", speak(&[]));
    let sampled = ["--temperature", "1.5", "--seed", "3"];
    assert_eq!(speak(&sampled), speak(&sampled));
    assert_ne!(speak(&sampled), speak(&[]));
    assert!(speak(&["--stop", "."]).trim_end().ends_with('.'));
}

/// Arguments that time the demo's model in a moment.
const BENCH: [&str; 6] = ["bench", "demo-model", "--device", "cpu", "--repetitions", "2"];

#[test]
fn bench_times_every_test_of_every_model_in_turn() {
    let world = world();
    let lists = ["demo-model", "-p", "16,32", "-n", "4-8*2", "-d", "0", "-d", "8", "--batch", "2"];
    // A machine on which tests run drifts all the time, and what has drifted is timed again.
    let steady = ["--drift-bound", "1000"];
    let timed = json(world.path(), &[&BENCH[..], &lists, &steady].concat());
    let rows = timed["results"].as_array().unwrap();
    let tests: Vec<&str> = rows.iter().map(|row| row["test"].as_str().unwrap()).collect();
    let once = ["pp16 x2", "pp32 x2", "tg4 x2", "tg8 x2", "pp16 x2 @ d8", "pp32 x2 @ d8", "tg4 x2 @ d8", "tg8 x2 @ d8"];
    assert_eq!(tests, [once, once].concat());
    assert_eq!((&rows[1]["tokens"], &rows[3]["tokens"], &rows[4]["depth"]), (&64.into(), &16.into(), &8.into()));
    for row in rows {
        let (steady, drifted) = (row["repetitions"].as_u64().unwrap(), row["drifted"].as_u64().unwrap());
        let seconds = row["seconds"].as_array().unwrap();
        assert!(seconds.len() as u64 == steady + drifted && seconds.len() >= 2, "{row}");
        assert_eq!(row["tps"].as_f64().is_some_and(|tps| tps > 0.0), steady > 0, "{row}");
        assert!(row["load_seconds"].as_f64().unwrap() > 0.0);
        #[cfg(target_os = "linux")]
        assert!(row["memory_bytes"].as_u64().is_none_or(|bytes| bytes > 0) && row["device_bytes"].is_null());
    }
    let rounds = rows[0]["seconds"].as_array().unwrap().len();
    assert_eq!(timed["anchors"][0].as_array().unwrap().len(), 1 + rounds * rows.len());
    assert_eq!((timed["order"].as_str(), timed["interrupted"].as_bool()), (Some("interleaved"), Some(false)));
    assert!(timed["energy_missing"].is_string() != timed["energy_sources"].is_array());
}

#[test]
fn bench_prints_every_form_and_keeps_records_that_report_reads() {
    let world = world();
    let tests = ["-p", "8", "-n", "4", "--drift-bound", "1000"];
    let short = [&BENCH[..], &tests, &["--sequential", "demo-model", "--quiet"]].concat();
    let text = |form: &[&str]| {
        let output = run(world.path(), &[&short[..], form].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text(&[]).starts_with("model") && text(&[]).contains("tg4"));
    assert!(text(&["-o", "md"]).starts_with("| model | MiB of tensors | engine | products | test |"));
    let csv = text(&["-o", "csv", "--records", "kept"]);
    assert!(csv.starts_with("model,bytes,engine,arithmetic,test,phase,") && csv.lines().count() == 5, "{csv}");
    let lines = text(&["-o", "jsonl", "--records", "kept"]);
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()) && lines.lines().count() == 4);
    let timed: serde_json::Value = serde_json::from_str(&text(&["-o", "json"])).unwrap();
    assert_eq!((timed["order"].as_str(), timed["anchors"].as_array().unwrap().len()), (Some("sequential"), 2));
    let names = std::fs::read_dir(world.path().join("kept/records")).unwrap().count();
    assert_eq!(names, 4, "two models, timed twice");
    let report = json(world.path(), &["report", "kept"]);
    assert!(report.to_string().contains("demo-model"), "{report}");
}

#[test]
fn probe_measures_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let probe = ["probe", "--device", "cpu", "--disk", ".", "--out", "hardware/mine.toml"];
    let found = json(dir.path(), &probe);
    for key in ["read_gbs", "copy_gbs", "fp32_tflops"] {
        let [min, median, max] = ["min", "median", "max"].map(|which| found["cpu"][key][which].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max, "{key}: {found}");
    }
    assert!(found["disk"]["read_gbs"]["median"].as_f64().unwrap() > 0.0 && found["gpu"].is_null(), "{found}");
    let profile: toml::Table = std::fs::read_to_string(dir.path().join("hardware/mine.toml")).unwrap().parse().unwrap();
    assert_eq!(profile["kind"].as_str(), Some("cpu"));
    assert!(profile["bandwidth_gbs"].as_float().unwrap() > 0.0 && profile["memory"][0]["gb"].as_float().unwrap() > 0.0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the file on the drive is gone");

    check_refused(dir.path(), &["probe", "--out", "mine.txt"], &["mine.txt", ".toml"]);
    // A drive that cannot be measured takes nothing from the rest.
    let without = json(dir.path(), &["probe", "--device", "cpu", "--disk", "missing", "--out", "mine.toml"]);
    assert!(without["disk"].is_null() && without["disk_missing"].as_str().unwrap().contains("missing"), "{without}");
}
