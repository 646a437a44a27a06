//! `bitworth advise`: the comparison, its files, claims, and bad input.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{bitworth, json, parquet, run};

const TWO: &str = "m2-ultra-64gb,ryzen-ai-max-395-128gb";

#[test]
fn one_model_on_two_machines_gets_choices_picks_and_a_comparison() {
    let dir = TempDir::new().unwrap();
    let found = json(dir.path(), &["advise", "--model", "llama-3-70b", "--hardware", TWO, "--context", "8192"]);
    let advice = &found["advice"];
    let choices = advice["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 20, "ten recipes on two machines");
    let machine = |choice: &Value| choice["machine"].as_str().unwrap().to_owned();
    for choice in choices {
        for speed in ["decode", "prefill"] {
            let [low, tps, high] = ["low", "tps", "high"].map(|key| choice[speed][key].as_f64().unwrap());
            assert!(0.0 < low && low <= tps && tps <= high && high < 1e5, "{choice}");
        }
        assert!(choice["bytes"].as_u64().unwrap() < choice["room"]["needed"].as_u64().unwrap(), "{choice}");
    }
    // The wide machine is faster with every file; a file of more bits is larger.
    let (first, second): (Vec<&Value>, Vec<&Value>) = choices.iter().partition(|c| machine(c) == machine(&choices[0]));
    for (a, b) in first.iter().zip(&second) {
        assert_eq!(a["recipe"], b["recipe"]);
        assert!(a["decode"]["tps"].as_f64() > b["decode"]["tps"].as_f64(), "{a} {b}");
    }
    let sizes: Vec<u64> = first.iter().map(|c| c["bytes"].as_u64().unwrap()).collect();
    assert!(sizes.windows(2).all(|pair| pair[0] > pair[1]), "{sizes:?}");
    // 141 GB of 16-bit weights fit on neither, Q4_K_M on both.
    let fit = |recipe: &str| -> Vec<bool> {
        choices.iter().filter(|c| c["recipe"] == recipe).map(|c| c["room"]["fit"] != "does-not-fit").collect()
    };
    assert_eq!((fit("f16"), fit("q4_k_m")), (vec![false, false], vec![true, true]));
    // Published perplexity of this model gives its divergence.
    let q4 = choices.iter().find(|c| c["recipe"] == "q4_k_m").unwrap();
    assert_eq!(q4["loss"]["ppl_ratio"]["basis"], "published");
    assert_eq!(advice["picks"].as_array().unwrap().len(), 2);
    let sentences = advice["comparisons"][0]["sentences"].as_array().unwrap();
    assert!(sentences.iter().any(|s| s.as_str().unwrap().contains("tok/s")), "{sentences:?}");
}

#[test]
fn the_comparison_of_the_two_machines_is_one_command() {
    let dir = TempDir::new().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/runs/m2-ultra-vs-ryzen-395.toml");
    let config = config.to_str().unwrap();
    let found = json(dir.path(), &["advise", config, "--out", "out"]);
    let choices = found["advice"]["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2 * (7 * 11 + 1), "two machines, seven models under eleven recipes, one as published");
    let sentences = &found["advice"]["comparisons"][0]["sentences"];
    assert!(sentences.as_array().unwrap().iter().any(|s| s.as_str().unwrap().contains("Ryzen")), "{sentences}");
    let out = dir.path().join("out");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(read("advice.md").starts_with("# M2 Ultra 64 GB or Ryzen AI Max+ 395 128 GB?"));
    let page = read("advice.html");
    assert!(page.contains("<svg") && page.contains("default-src 'none'"), "a chart, and nothing from elsewhere");
    let table = parquet(&out.join("advice.parquet"));
    assert_eq!(table.len(), choices.len());
    assert_eq!(read("advice.csv").lines().count(), choices.len() + 1);
    assert!(table.names().iter().any(|name| name == "decode_low"), "{:?}", table.names());
    // The same with one thread.
    json(dir.path(), &["advise", config, "--out", "again", "--threads", "1"]);
    for name in ["advice.md", "advice.html", "advice.csv", "advice.parquet"] {
        let [one, other] = ["out", "again"].map(|folder| std::fs::read(dir.path().join(folder).join(name)).unwrap());
        assert!(one == other, "{name} differs");
    }
}

#[test]
fn claims_get_a_verdict_with_figures() {
    let dir = TempDir::new().unwrap();
    let found = json(dir.path(), &["advise", "--claims"]);
    let claims = found["claims"].as_array().unwrap();
    let verdict = |says: &str| -> &str {
        let claim = claims.iter().find(|c| c["says"].as_str().unwrap().contains(says));
        claim.unwrap_or_else(|| panic!("no claim of {says}"))["verdict"].as_str().unwrap()
    };
    // What follows from sizes alone.
    assert_eq!(verdict("uncompressed 70B-120B"), "fails");
    assert_eq!(verdict("M2 Ultra usable"), "holds");
    assert_eq!(verdict("Ryzen usable"), "in_part");
    assert!(claims.iter().all(|c| !c["findings"].as_array().unwrap().is_empty()));
    std::fs::write(
        dir.path().join("mine.toml"),
        "[[claim]]\nsays = \"a file\"\nkind = \"fits\"\nmachine = \"m2-ultra-64gb\"\nmodels = [\"llama-3-8b\"]\nrecipes = \
         [\"q8_0\"]\n",
    )
    .unwrap();
    let mine = json(dir.path(), &["advise", "--claims", "mine.toml"]);
    assert_eq!(mine["claims"][0]["verdict"], "holds");
}

#[test]
fn bad_input_gets_one_clear_error() {
    let dir = TempDir::new().unwrap();
    let check = |args: &[&str], expected: &[&str]| {
        let output = run(dir.path(), &[&["advise"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(output.stdout.is_empty() && error.matches("error: ").count() == 1, "{args:?}: {error}");
        for part in expected {
            assert!(error.contains(part), "{args:?}: {error:?} lacks {part:?}");
        }
    };
    let both = |rest: &[&'static str]| [&["--model", "llama-3-8b", "--hardware", "m2-ultra-64gb"], rest].concat();
    check(&["--model", "lama-3-8b", "--hardware", "m2-ultra-64gb"], &["lama-3-8b", "llama-3-8b"]);
    check(&["--model", "llama-3-8b", "--hardware", "m2-ulta-64gb"], &["m2-ulta-64gb", "m2-ultra"]);
    check(&["--hardware", "m2-ultra-64gb"], &["--model", "name at least one"]);
    check(&["--model", "llama-3-8b"], &["--hardware", "name at least one"]);
    check(&both(&["--min-tps=-3"]), &["--min-tps -3", "is no speed"]);
    check(&both(&["--max-kld", "NaN"]), &["--max-kld NaN", "is no divergence"]);
    check(&both(&["--context", "0"]), &["--context 0", "is no number of tokens"]);
    check(&both(&["--use", "chess"]), &["chess", "chat, code, batch"]);
    check(&both(&["--recipes", "q9_k"]), &["q9_k", "q8_0"]);
    check(&both(&["--kv-type", "q9_0"]), &["q9_0", "q8_0"]);
    check(&both(&["--backend", "glide"]), &["glide", "Metal"]);
    check(&both(&["--backend", "cuda"]), &["backend cuda: does not run on Apple M2 Ultra", "Metal"]);
    check(&both(&["--min-tps", "-3"]), &["--min-tps -3", "is no speed"]);
    check(&["--claims", "none.toml"], &["none.toml"]);
    std::fs::write(dir.path().join("bad.toml"), "models = ['m']\nhardware = ['a']\nspeed = 3\n").unwrap();
    check(&["bad.toml"], &["bad.toml", "line 3", "speed"]);
    std::fs::write(dir.path().join("slow.toml"), "name = 'Slow'\nkind = 'cpu'\nmemory = [{ gb = 64 }]\n").unwrap();
    check(&["--model", "llama-3-8b", "--hardware", "slow.toml"], &["slow.toml", "bandwidth_gbs", "is missing"]);
}

#[test]
fn a_recipe_is_one_in_any_spelling() {
    let dir = TempDir::new().unwrap();
    let of = |recipes: &str| {
        let args = ["advise", "--model", "llama-3-70b", "--hardware", "m2-ultra-64gb", "--recipes", recipes];
        json(dir.path(), &args)["advice"]["choices"].clone()
    };
    assert_eq!(of("Q4_K_M,q4_k_m"), of("q4_k_m"));
}

#[test]
fn the_machine_at_hand_is_known_once_it_was_measured() {
    let dir = TempDir::new().unwrap();
    let advise = || {
        let mut command = bitworth(dir.path());
        command.env("XDG_CONFIG_HOME", dir.path()).env("APPDATA", dir.path());
        command.args(["advise", "--model", "llama-3-8b", "--hardware", "this"]).output().unwrap()
    };
    let output = advise();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("run bitworth probe"), "{error}");
    let folder = dir.path().join("bitworth/hardware");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "name = 'My box'\nkind = 'cpu'\nbandwidth_gbs = 80\nfp32_tflops = 1\nmemory = [{ gb = 64 }]\n";
    std::fs::write(folder.join("this.toml"), text).unwrap();
    let output = advise();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("My box 64 GB"), "{output:?}");
}

#[test]
fn contradictory_needs_say_which_to_relax_and_how_far_and_that_helps() {
    let dir = TempDir::new().unwrap();
    let base = ["advise", "--model", "llama-3-70b", "--hardware", TWO];
    let needs = ["--min-tps", "30", "--max-kld", "0.01"];
    let output = run(dir.path(), &[&base[..], &needs].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    let relaxed = |option: &str| -> String {
        let after = error.rsplit(&format!("{option} ")).next().unwrap();
        after.split([' ', ',']).next().unwrap().to_owned()
    };
    assert!(error.contains("relax to"), "{error}");
    for (option, other) in [("--min-tps", ["--max-kld", "0.01"]), ("--max-kld", ["--min-tps", "30"])] {
        let value = relaxed(option);
        let status = bitworth(dir.path()).args(base).args(other).args([option, &value]).output().unwrap().status;
        // A need that is not enough by itself is not offered by itself.
        let alone = error.contains(&format!("to {option} {value} ("));
        assert_eq!(status.success(), alone, "{option} {value}: {error}");
    }
}

#[test]
fn a_model_of_ones_own_is_advised_on_whatever_its_types() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    json(dir, &["quantize", "demo", "--to", "q4_0", "--out", "small.gguf"]);
    let sizes = |model: &str| -> Vec<(String, u64)> {
        let document = json(dir, &["advise", "--model", model, "--hardware", "m2-ultra-64gb", "--context", "128"]);
        let choices = document["advice"]["choices"].as_array().unwrap().clone();
        choices.iter().map(|c| (c["recipe"].as_str().unwrap().to_owned(), c["bytes"].as_u64().unwrap())).collect()
    };
    let demo = sizes("demo");
    assert!(demo.iter().any(|(recipe, _)| recipe == "iq2_xxs") && demo.len() > 8, "{demo:?}");
    let small = sizes("small.gguf");
    assert!(small.iter().map(|s| &s.0).eq(demo.iter().map(|s| &s.0)), "{small:?}");
    let made = json(dir, &["quantize", "demo", "--to", "q4_k_m", "--out", "made.gguf"]);
    let bytes = std::fs::metadata(dir.join("made.gguf")).unwrap().len();
    assert_eq!(demo.iter().find(|s| s.0 == "q4_k_m").unwrap().1, bytes, "{made}");
}

#[test]
fn a_folder_is_advised_on_by_its_configuration_whatever_its_weights_are() {
    let dir = TempDir::new().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf/llama31_gqa/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(fixture).unwrap()).unwrap();
    config["quantization_config"] = serde_json::json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    std::fs::create_dir(dir.path().join("mine")).unwrap();
    std::fs::write(dir.path().join("mine/config.json"), config.to_string()).unwrap();
    let found = json(dir.path(), &["advise", "--model", "./mine", "--hardware", "rtx-4090"]);
    let choices = found["advice"]["choices"].as_array().unwrap();
    assert!(!choices.is_empty() && choices[0]["bytes"].as_u64().unwrap() > 0, "{found}");
    // A class that is not known has no shape.
    config["architectures"] = serde_json::json!(["NobodysForCausalLM"]);
    std::fs::write(dir.path().join("mine/config.json"), config.to_string()).unwrap();
    let refused = run(dir.path(), &["advise", "--model", "./mine", "--hardware", "rtx-4090"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("NobodysForCausalLM"));
}

#[test]
fn folders_of_records_on_which_nothing_rests_are_named() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let cpu = ["--device", "cpu", "--records"];
    json(dir, &[&["bench", "demo", "-p", "4", "-n", "0", "-r", "1", "--no-warmup"], &cpu[..], &["timed"]].concat());
    json(dir, &[&["eval", "demo", "@q4_0", "--tasks", "facts", "--limit", "4"], &cpu[..], &["asked"]].concat());
    let text = ["compare", "demo", "@q4_0", "--text", "demo:data/eval.txt", "--ctx", "64", "--chunks", "4"];
    json(dir, &[&text[..], &cpu, &["compared"]].concat());
    let advise = ["advise", "--model", "demo", "--hardware", "m2-ultra-64gb", "--context", "128", "--recipes", "q4_0"];
    let all = ["--records", "timed", "--records", "asked", "--records", "compared"];
    let found = json(dir, &[&advise[..], &all].concat());
    assert_eq!(found["advice"]["choices"][0]["loss"]["kld"]["basis"], "measured");
    let notes: Vec<&str> = found["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    let [timed, asked] = &notes[..] else { panic!("{notes:?}") };
    assert!(timed.starts_with("records in timed: nothing of them is used; they hold "), "{timed}");
    assert!(asked.starts_with("records in asked: ") && asked.contains("accuracies in facts of demo-model"), "{asked}");
}
