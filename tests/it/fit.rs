//! `quantize --fit`: the same types and sizes, and less lost than with the importance matrix of the same text.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ::bitworth::engine::cpu::Cpu;
use ::bitworth::engine::model::Variant;
use ::bitworth::eval::job::FitSpec;
use ::bitworth::measure::fit::{FitOptions, FitText, fit, metadata_bytes};
use ::bitworth::measure::{Error, Watch};
use ::bitworth::text::tokenizer::Tokenizer;
use bitworth_quant::checkpoint::{Checkpoint, Source};
use bitworth_quant::fit::SHRINKAGES;
use bitworth_quant::gguf::{Array, GgufFile, Value as GgufValue};
use bitworth_quant::hex::hex;
use bitworth_quant::plan::{PlanOptions, TensorType};
use bitworth_quant::progress::{Progress, Unit};
use bitworth_quant::{Output, Recipe};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::common::{self, StopAfter, json};

/// What the loss must fall by at least, as a share, on text that nothing was fitted to. Outside of CI two of the recipes stand
/// for the four.
fn gains() -> &'static [(&'static str, f64)] {
    const GAINS: [(&str, f64); 4] = [("q4_0", 0.40), ("q3_k_m", 0.40), ("q4_k_m", 0.30), ("q2_k", 0.50)];
    if std::env::var_os("CI").is_some() { &GAINS } else { &GAINS[..2] }
}

fn kld(dir: &Path, files: &[String]) -> Vec<f64> {
    let mut args = vec!["compare", "demo-model"];
    args.extend(files.iter().map(String::as_str));
    args.extend(["--text", "data/eval.txt", "--ctx", "256", "--chunks", "32", "--device", "cpu"]);
    let compared = json(dir, &args);
    let rows = compared["candidates"].as_array().unwrap();
    rows.iter().map(|row| row["kld_mean"].as_f64().unwrap()).collect()
}

/// Name, encoding and shape of every tensor of a file.
fn tensors(dir: &Path, file: &str) -> Vec<(Value, Value, Value)> {
    let about = json(dir, &["inspect", file]);
    let row = |t: &Value| (t["name"].clone(), t["type"].clone(), t["shape"].clone());
    about["tensors"].as_array().unwrap().iter().map(row).collect()
}

/// The weights of a tensor.
fn decoded(model: &Path, name: &str) -> Vec<f32> {
    let model = Checkpoint::open(model).unwrap();
    let tensor = model.tensors().iter().find(|tensor| tensor.name == name).unwrap();
    let mut out = vec![0.0; tensor.elements() as usize];
    tensor.dtype.decode_row(&Source::read(&model, tensor, 0..tensor.rows()).unwrap(), &mut out);
    out
}

#[test]
fn fitted_files_lose_less_than_those_of_the_importance_matrix() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let names = gains().iter().map(|(recipe, _)| *recipe).collect::<Vec<_>>().join(",");
    let text = ["--ctx", "256", "--device", "cpu"];
    json(dir, &[&["imatrix", "demo-model", "--text", "data/calib.txt", "--out", "i.gguf"], &text[..]].concat());
    json(dir, &["quantize", "demo-model", "--to", &names, "--imatrix", "i.gguf", "--out", "plain"]);
    let fitted = json(
        dir,
        &[
            "quantize",
            "demo-model",
            "--to",
            &names,
            "--fit",
            "data/calib.txt",
            "--fit-ctx",
            "256",
            "--out",
            "fit",
            "--device",
            "cpu",
        ],
    );
    let file = |folder: &str, recipe: &str| format!("{folder}/demo-model-{}.gguf", recipe.to_uppercase());
    for (recipe, _) in gains() {
        let (plain, fit) = (file("plain", recipe), file("fit", recipe));
        assert_eq!(tensors(dir, &plain), tensors(dir, &fit), "{recipe}");
    }
    assert!(fitted["fitted"].as_array().unwrap().iter().any(|t| t["fitted"].as_u64().unwrap() > 0));
    let both = gains().iter().flat_map(|(recipe, _)| [file("plain", recipe), file("fit", recipe)]).collect::<Vec<_>>();
    // First tokens of windows, on which attention rests, come half as often in longer ones: that changes little.
    let long = ["--fit", "data/calib.txt", "--fit-ctx", "512", "--out", "long.gguf", "--device", "cpu"];
    json(dir, &[&["quantize", "demo-model", "--to", "q3_k_m"], &long[..]].concat());
    let kld = kld(dir, &[both, vec!["long.gguf".to_owned()]].concat());
    for (pair, (recipe, gain)) in kld.chunks_exact(2).zip(gains()) {
        assert!(pair[1] <= (1.0 - gain) * pair[0], "{recipe}: KLD {} and {} fitted", pair[0], pair[1]);
    }
    let q3_k_m = gains().iter().position(|(recipe, _)| *recipe == "q3_k_m").unwrap();
    let (short, long) = (kld[2 * q3_k_m + 1], kld[2 * gains().len()]);
    assert!((0.8..1.25).contains(&(long / short)), "KLD {long} of windows of 512 tokens, {short} of 256");
}

#[test]
fn a_text_that_is_too_short_and_options_that_do_not_go_with_it_are_refused() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    std::fs::write(dir.join("short.txt"), "Too short.").unwrap();
    for (more, expected) in [
        (&["--fit", "short.txt"][..], "short.txt"),
        (&["--fit", "data/calib.txt", "--allow-non-finite"], "--allow-non-finite"),
        // Activations of 2 MiB, moments of 5.25 MiB and 2.5 MiB of weights, as in the test of dry runs: one figure, whatever was
        // given.
        (&["--fit", "data/calib.txt", "--fit-tokens", "2048", "--max-memory", "9M"], "--max-memory 10 (MiB)"),
        (&["--fit", "data/calib.txt", "--fit-tokens", "2048", "--max-memory", "1M"], "--max-memory 10 (MiB)"),
        (&["--fit", "data/calib.txt", "--report", "short.txt"], "no parquet file"),
    ] {
        let args = [&["quantize", "demo-model", "--to", "q4_0", "--out", "out", "--device", "cpu"], more].concat();
        let output = common::run(dir, &args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(!dir.join("out").exists());
    }
}

/// 2,000 tokens are few: what is fitted to them must not lose more than what the importance matrix of the same tokens gives.
#[test]
fn few_tokens_never_make_it_worse() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let text = ["--text", "data/calib.txt", "--ctx", "250", "--chunks", "8", "--device", "cpu"];
    json(dir, &[&["imatrix", "demo-model", "--out", "i.gguf"], &text[..]].concat());
    json(dir, &["quantize", "demo-model", "--to", "q3_k_m", "--imatrix", "i.gguf", "--out", "plain.gguf"]);
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "250", "--fit-tokens", "2000", "--device", "cpu"];
    json(dir, &[&["quantize", "demo-model", "--to", "q3_k_m", "--out", "fit.gguf"], &fit[..]].concat());
    let kld = kld(dir, &["plain.gguf".to_owned(), "fit.gguf".to_owned()]);
    assert!(kld[1] <= kld[0], "KLD {} and {} fitted", kld[0], kld[1]);
}

#[test]
fn a_dry_run_says_what_fitting_takes_and_makes_nothing() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "256", "--fit-tokens", "2048", "--dry-run"];
    let args = [&["quantize", "demo-model", "--to", "q4_0,q3_k_m", "--out", "out"], &fit[..]].concat();
    let said = json(dir, &args);
    let plans = said["plans"].as_array().unwrap();
    assert_eq!(plans[0]["recipe"], "q4_0");
    assert!(plans.iter().all(|plan| plan["bytes"].as_u64().unwrap() > 0));
    // Three blocks with four inputs of 256 columns and seven matrices.
    let fit = &said["fit"];
    let counted = ["tokens", "windows", "passes", "inputs", "tensors"].map(|key| fit[key].as_u64().unwrap());
    assert_eq!(counted, [2048, 8, 1, 12, 21]);
    // Four inputs of a block as f32 in two parts with 256 rows that wait, and one that is being fitted to.
    assert_eq!(fit["moment_bytes"].as_u64(), Some((4 * 8 + 20) * 256 * 256 + 4 * 2 * 256 * 256 * 4));
    // Two blocks in 16 bits, of five matrices with 256 x 256 weights, two with half of that and some norms; 16 bytes for each
    // weight of a matrix that is fitted.
    let weights = fit["weight_bytes"].as_u64().unwrap() as f64 / f64::from(2 * 2 * 6 * 65536 + 16 * 65536);
    assert!((1.0..1.01).contains(&weights), "{weights}");
    assert!(fit["activation_bytes"].as_u64().unwrap() >= 2048 * 256 * 4);
    assert!(fit["grouped"].as_array().unwrap().is_empty() && said["predicted_kld_without_fit"].is_null(), "{said}");
    assert_eq!(json(dir, &[&args[..], &["--max-memory", "10M"]].concat())["fit"], *fit, "what a refusal asks for is enough");
    assert!(!dir.join("out").exists());
    let output = common::run(dir, &args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("2048 tokens in 8 windows"), "{text}");
    // Which commands would say it.
    for command in ["bitworth measure demo-model --text", "--sensitivities", "bitworth compare demo-model @q4_0 @q4_0+fit"] {
        assert!(text.contains(command), "{command}: {text}");
    }
}

/// The output matrix, here the embedding too, is what it is without a text, unless that is asked for.
#[test]
fn the_output_matrix_is_fitted_where_that_is_asked_for() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    // Nothing else is made smaller.
    let others = ["--tensor-type", "attn=f16", "--tensor-type", "ffn=f16", "--output-tensor-type", "q4_0"];
    let made = [&["quantize", "demo-model", "--to", "q4_0"], &others[..]].concat();
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "256", "--fit-tokens", "4096", "--device", "cpu"];
    json(dir, &[&made[..], &["--out", "plain.gguf"]].concat());
    let kept = json(dir, &[&made[..], &["--out", "kept.gguf"], &fit].concat());
    let fitted = json(dir, &[&made[..], &["--out", "fit.gguf", "--fit-output"], &fit].concat());
    assert!(kept["fitted"].as_array().unwrap().is_empty(), "{kept}");
    let said = fitted["fitted"].as_array().unwrap();
    assert!(said.len() == 1 && said[0]["tensor"] == "token_embd.weight" && said[0]["fitted"].as_u64().unwrap() > 0, "{fitted}");
    let [plain, kept, fitted] = ["plain.gguf", "kept.gguf", "fit.gguf"].map(|name| GgufFile::open(&dir.join(name)).unwrap());
    for tensor in &plain.tensors {
        let of = |file: &GgufFile| file.bytes(file.tensors.iter().find(|t| t.name == tensor.name).unwrap()).to_vec();
        assert!(of(&plain) == of(&kept), "{}", tensor.name);
        assert_eq!(of(&plain) == of(&fitted), tensor.name != "token_embd.weight", "{}", tensor.name);
    }
    assert_eq!(fitted.metadata.strings("bitworth.fit.sites").unwrap(), ["token_embd.weight"]);
    let [before, after] = ["loss_before", "loss_after"].map(|key| said[0][key].as_f64().unwrap());
    assert!(after < 0.8 * before, "{after} after {before}");
    let planned = json(dir, &[&made[..], &["--out", "fit.gguf", "--fit-output", "--dry-run"], &fit].concat());
    assert_eq!(["inputs", "tensors"].map(|key| planned["fit"][key].as_u64()), [Some(1); 2], "{planned}");
}

#[test]
fn hashes_reports_and_what_a_file_says_of_its_inputs() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "256", "--fit-tokens", "4096", "--device", "cpu"];
    let more = ["--sha256", "--report", "r.parquet"];
    let quantize = ["quantize", "demo-model", "--to", "q4_0", "--out"];
    let said = json(dir, &[&quantize[..], &["f.gguf"], &fit, &more].concat());
    let bytes = std::fs::read(dir.join("f.gguf")).unwrap();
    assert_eq!(said["files"][0]["sha256"], hex(&Sha256::digest(&bytes)).as_str());
    // The memory, where there is enough of it, changes no byte.
    json(dir, &[&quantize[..], &["same.gguf"], &fit, &["--max-memory", "64M"]].concat());
    assert!(bytes == std::fs::read(dir.join("same.gguf")).unwrap());

    let file = GgufFile::open(&dir.join("f.gguf")).unwrap();
    let sites = file.metadata.strings("bitworth.fit.sites").unwrap();
    assert_eq!(sites.len(), 12);
    assert_eq!(sites[0], "blk.0.attn_q.weight");
    let Some(GgufValue::Array(Array::F32(rho))) = file.metadata.get("bitworth.fit.rho") else { panic!("no rho") };
    assert!(rho.len() == 12 && rho.iter().all(|rho| SHRINKAGES.contains(rho)) && rho.iter().any(|&rho| rho < 1.0), "{rho:?}");
    let fitted = said["fitted"].as_array().unwrap();
    for (site, rho) in sites.iter().zip(rho) {
        let tensor = fitted.iter().find(|tensor| tensor["tensor"] == site.as_str()).unwrap();
        let [chosen, held_out] = ["rho", "held_out"].map(|key| tensor["shrinkage"][key].as_f64().unwrap());
        assert_eq!(if held_out < 1.0 { chosen as f32 } else { 1.0 }, *rho, "{site}");
    }

    // A row for every tensor, its figures by hand; those of fitting for the 21 that were fitted.
    let report = common::parquet(&dir.join("r.parquet"));
    assert_eq!(report.len(), file.tensors.len());
    let names = report.names();
    let column = |name: &str| names.iter().position(|known| known == name).unwrap_or_else(|| panic!("{name}"));
    let rows: Vec<Vec<String>> = (0..report.len()).map(|i| report.row(i)).collect();
    assert_eq!(rows.iter().filter(|row| row[column("rho")] != "Null").count(), 21);
    let row = rows.iter().find(|row| row[column("tensor")].contains("blk.1.ffn_down.weight")).unwrap();
    let number = |name: &str| -> f64 {
        let text = &row[column(name)];
        text.trim_start_matches(|c: char| c != '(').trim_matches(['(', ')']).parse().unwrap_or_else(|_| panic!("{name}: {text}"))
    };
    let [x, y] = ["demo-model", "f.gguf"].map(|model| decoded(&dir.join(model), "blk.1.ffn_down.weight"));
    let square = x.iter().zip(&y).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>() / x.len() as f64;
    assert!((number("rmse") / square.sqrt() - 1.0).abs() < 1e-9, "{} {}", number("rmse"), square.sqrt());
    assert!(number("weighted_error") > 0.0);
    assert_eq!(number("rows_fitted") + number("rows_kept"), 256.0);
    assert!(number("fit_loss") < 1.0 && number("held_out") < 1.0);
}

#[test]
fn a_fitted_source_leaves_nothing_of_itself_and_the_matrix_weighs_what_is_not_fitted() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let text = ["--text", "data/calib.txt", "--ctx", "128", "--chunks", "4", "--process-output", "--device", "cpu"];
    json(dir, &[&["imatrix", "demo-model", "--out", "i.gguf"], &text[..]].concat());
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "128", "--fit-tokens", "512", "--device", "cpu"];
    let report = ["--imatrix", "i.gguf", "--report", "r.parquet"];
    json(dir, &[&["quantize", "demo-model", "--to", "q4_0", "--out", "f.gguf"], &fit[..], &report].concat());
    let report = common::parquet(&dir.join("r.parquet"));
    let column = |name: &str| report.names().iter().position(|known| known == name).unwrap();
    let (tensor, error) = (column("tensor"), column("weighted_error"));
    let rows: Vec<Vec<String>> = (0..report.len()).map(|i| report.row(i)).collect();
    let embedding = rows.iter().find(|row| row[tensor].contains("token_embd.weight")).unwrap();
    assert_ne!(embedding[error], "Null");

    // Q8_0 is not fitted, so that the file has no inputs to speak of.
    let again = ["quantize", "f.gguf", "--to", "q8_0", "--allow-requantize", "--out", "g.gguf"];
    json(dir, &[&again[..], &fit].concat());
    let file = GgufFile::open(&dir.join("g.gguf")).unwrap();
    let keys: Vec<&str> = file.metadata.iter().map(|(key, _)| key).filter(|key| key.starts_with("bitworth.fit.")).collect();
    let expected = ["texts_sha256", "runs", "tokens", "version"].map(|key| format!("bitworth.fit.{key}"));
    assert_eq!(keys, expected);

    // What `allocate` keeps free for it is enough, also for many texts.
    let (plain, texts) = (["quantize", "demo-model", "--to", "q8_0", "--out"], vec!["data/calib.txt"; 20].join(","));
    let small = ["--fit-ctx", "32", "--fit-tokens", "1280", "--device", "cpu"];
    json(dir, &[&plain[..], &["p.gguf"]].concat());
    json(dir, &[&plain[..], &["h.gguf", "--fit", &texts], &small[..]].concat());
    let [plain, fitted] = ["p.gguf", "h.gguf"].map(|file| std::fs::metadata(dir.join(file)).unwrap().len());
    let most = metadata_bytes(&Checkpoint::open(&dir.join("demo-model")).unwrap(), 20);
    assert!((20 * 65..most + 32).contains(&(fitted - plain)), "{plain} {fitted} {most}");
}

#[test]
fn a_call_that_was_stopped_goes_on_with_what_is_done() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(&dir.join("demo-model")).unwrap());
    let spec = FitSpec { texts: vec![dir.join("data/calib.txt").display().to_string()], tokens: 1024, ctx: 128, output: false };
    let text = FitText::read(&spec, &Tokenizer::new(&checkpoint).unwrap()).unwrap();
    let (recipe, variant) = (Recipe::find("q4_0").unwrap(), Variant::Stored(checkpoint.clone()));
    // The feed-forward network alone is fitted, which takes less time.
    let copied = TensorType::parse("attn=f16").unwrap();
    let choices = PlanOptions { tensor_types: vec![copied], ..PlanOptions::default() };
    let run = |name: &str, options: &FitOptions<'_>, limit: u64| -> Result<Vec<u8>, Error> {
        let stop = AtomicBool::new(false);
        let progress = StopAfter::new(limit, &stop);
        let output = Output::of(checkpoint.as_ref(), &recipe, &choices, &dir.join(name)).unwrap();
        fit(&Cpu::new(), &variant, vec![output], &text, options, Watch { progress: &progress, stop: &stop })?;
        Ok(std::fs::read(dir.join(name)).unwrap())
    };
    let expected = run("whole.gguf", &FitOptions::default(), u64::MAX).unwrap();
    let notes = Mutex::new(Vec::new());
    let note = |text: &str| notes.lock().unwrap().push(text.to_owned());
    let resumed = FitOptions { resume: true, note: &note, ..FitOptions::default() };
    let (partial, journal) = (dir.join(".f.gguf.partial"), dir.join(".f.gguf.partial.json"));
    // 1024 rows go through the first block, and some through the second.
    let stopped = || {
        assert!(run("f.gguf", &resumed, 1100).unwrap_err().is_interruption());
        assert!(!dir.join("f.gguf").exists() && journal.is_file());
    };
    stopped();
    // What is on the disk is taken as it is, which a changed byte shows; all else is the same.
    let file = GgufFile::open(&dir.join("whole.gguf")).unwrap();
    let tensor = file.tensors.iter().find(|tensor| tensor.name == "blk.0.ffn_down.weight").unwrap();
    let stored = file.bytes(tensor);
    let at = expected.windows(64).position(|bytes| *bytes == stored[..64]).unwrap();
    let mut bytes = std::fs::read(&partial).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&partial, bytes).unwrap();
    let mut found = run("f.gguf", &resumed, u64::MAX).unwrap();
    assert!(notes.lock().unwrap().is_empty() && !journal.exists() && !partial.exists());
    found[at] ^= 1;
    assert!(found == expected, "another file than without a stop");
    std::fs::remove_file(dir.join("f.gguf")).unwrap();

    // A journal that is none is not believed, and one of an earlier call does not outlive a call that begins anew.
    stopped();
    std::fs::write(&journal, "{").unwrap();
    assert!(run("f.gguf", &resumed, u64::MAX).unwrap() == expected);
    assert!(notes.lock().unwrap()[0].contains("begun anew"));
    std::fs::remove_file(dir.join("f.gguf")).unwrap();
    stopped();
    assert!(run("f.gguf", &FitOptions::default(), 1100).unwrap_err().is_interruption());
    assert!(!journal.exists() && !partial.exists());
}

/// Removes a file when a number of rows are through.
struct RemoveAfter<'a>(AtomicU64, u64, &'a Path);

impl Progress for RemoveAfter<'_> {
    fn start(&self, _total: u64, _unit: Unit, _what: &str) {}

    fn advance(&self, by: u64) {
        if self.0.fetch_add(by, Ordering::Relaxed) + by >= self.1 {
            let _ = std::fs::remove_file(self.2);
        }
    }

    fn finish(&self) {}
}

/// A call is taken up only where it would write the same bytes, and nobody else wrote to any of its files.
#[test]
fn what_another_call_has_left_is_not_taken_up() {
    const CTX: usize = 64;
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let open = || Arc::new(Checkpoint::open(&dir.join("demo-model")).unwrap());
    let tokenizer = Tokenizer::new(&open()).unwrap();
    let text = |file: &str, ctx: usize| {
        let texts = vec![dir.join("data").join(file).display().to_string()];
        FitText::read(&FitSpec { texts, tokens: 4 * CTX, ctx, output: false }, &tokenizer).unwrap()
    };
    // Keys alone are fitted, which takes less time.
    let copied = |pattern: &str| TensorType::parse(&format!("{pattern}=f16")).unwrap();
    let others = ["ffn", "attn_q", "attn_v", "attn_output"].map(copied);
    let choices = PlanOptions { tensor_types: others.into(), ..PlanOptions::default() };
    let outputs = |checkpoint: &Checkpoint, names: &[&str]| -> Vec<Output> {
        let of = |name: &&str| {
            Output::of(checkpoint, &Recipe::find(name).unwrap(), &choices, &dir.join(format!("{name}.gguf"))).unwrap()
        };
        names.iter().map(of).collect()
    };
    let notes = Mutex::new(Vec::new());
    let note = |text: &str| notes.lock().unwrap().push(text.to_owned());
    let options = |resume: bool| FitOptions { resume, note: &note, ..FitOptions::default() };
    let run = |names: &[&str], text: &FitText, options: &FitOptions<'_>, limit: u64| -> Result<(), Error> {
        let stop = AtomicBool::new(false);
        let progress = StopAfter::new(limit, &stop);
        let watch = Watch { progress: &progress, stop: &stop };
        let checkpoint = open();
        let outputs = outputs(&checkpoint, names);
        fit(&Cpu::new(), &Variant::Stored(checkpoint), outputs, text, options, watch).map(drop)
    };
    let both = ["q4_0", "q5_0"];
    let (a, one_block) = (text("calib.txt", CTX), 5 * CTX as u64);
    let names = || {
        let found = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<String> = found.filter(|name| name.contains(".gguf")).collect();
        found.sort();
        found
    };
    let made = || both.map(|name| std::fs::read(dir.join(format!("{name}.gguf"))).unwrap());
    run(&both, &a, &options(false), u64::MAX).unwrap();
    let expected = made();
    let remove = || names().iter().for_each(|name| std::fs::remove_file(dir.join(name)).unwrap());
    let journal = |name: &str| dir.join(format!(".{name}.gguf.partial.json"));

    let touch = || {
        let weights = std::fs::File::options().write(true).open(dir.join("demo-model/model.safetensors")).unwrap();
        weights.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    let stopped = |names: &[&str], text: &FitText| assert!(run(names, text, &options(true), one_block).is_err());
    let stopped_alone = |text: &FitText| {
        remove();
        stopped(&both, text);
    };
    let stale: [(&str, &dyn Fn(), &str); 7] = [
        ("nothing", &|| (), ""),
        ("fitted anew", &|| stopped(&["q5_0"], &text("eval.txt", CTX)), "another call has written"),
        ("another text", &|| stopped_alone(&text("eval.txt", CTX)), "other settings or texts"),
        ("another ctx", &|| stopped_alone(&text("calib.txt", 2 * CTX)), "other settings or texts"),
        ("no mark", &|| std::fs::remove_file(journal("q5_0")).unwrap(), "another call has written"),
        ("no journal", &|| std::fs::remove_file(journal("q4_0")).unwrap(), "unfinished files have no journal"),
        ("a touched model", &touch, "another model"),
    ];
    for (what, change, said) in stale {
        remove();
        stopped(&both, &a);
        let beside = both.map(|name| [format!(".{name}.gguf.partial"), format!(".{name}.gguf.partial.json")]);
        let mut left: Vec<String> = beside.into_iter().flatten().collect();
        left.sort();
        assert_eq!(names(), left, "{what}");
        change();
        notes.lock().unwrap().clear();
        run(&both, &a, &options(true), u64::MAX).unwrap();
        let notes: Vec<String> = notes.lock().unwrap().clone();
        assert_eq!(notes.len(), usize::from(!said.is_empty()), "{what}: {notes:?}");
        assert!(notes.iter().all(|note| note.contains(said)), "{what}: {notes:?}");
        assert!(made() == expected, "{what}");
        assert_eq!(names(), ["q4_0.gguf", "q5_0.gguf"], "{what}");
    }

    // Where one file cannot be completed, none has its name.
    remove();
    let partial = dir.join(".q5_0.gguf.partial");
    let progress = RemoveAfter(AtomicU64::new(0), 3 * 4 * CTX as u64, &partial);
    let clock = || 0.0;
    let options = FitOptions { report: Some(&clock), ..FitOptions::default() };
    let watch = Watch { progress: &progress, stop: &AtomicBool::new(false) };
    let checkpoint = open();
    let outputs = outputs(&checkpoint, &both);
    assert!(fit(&Cpu::new(), &Variant::Stored(checkpoint), outputs, &a, &options, watch).is_err());
    assert!(names().is_empty(), "{:?}", names());
}

/// What an expert's outputs lose is weighed by its own rows and as many of all experts as it has columns, which is computed here
/// from the sums that `imatrix` writes.
#[test]
fn experts_are_fitted_to_what_they_and_all_experts_saw() {
    const COLS: usize = 256;
    let Some(model) = common::shared("oracle/models/mixtral_k") else { return };
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let name = model.to_str().unwrap();
    let text = ["--text", "data/calib.txt", "--ctx", "256", "--chunks", "16", "--device", "cpu"];
    json(dir, &[&["imatrix", name, "--out", "i.gguf", "--second-moment", "h.safetensors"], &text[..]].concat());
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "256", "--fit-tokens", "4096", "--device", "cpu"];
    let said = json(dir, &[&["quantize", name, "--to", "q4_0", "--out", "f.gguf"], &fit[..]].concat());
    let bytes = std::fs::read(dir.join("h.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let readers: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["readers"]).unwrap();
    for tensor in ["blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"] {
        let first = readers[tensor].as_str().unwrap();
        let sums = file.tensor(first).unwrap();
        let sums: Vec<f64> = sums.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect();
        let counts = file.tensor(&format!("{first}.counts")).unwrap();
        let counts: Vec<f64> = counts.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect();
        assert!(counts.len() == 4 && sums.len() == 4 * COLS * COLS);
        let pool: Vec<f64> = (0..COLS * COLS).map(|i| sums.iter().skip(i).step_by(COLS * COLS).sum()).collect();
        let share = COLS as f64 / counts.iter().sum::<f64>();

        let found = said["fitted"].as_array().unwrap().iter().filter(|one| one["tensor"] == tensor).collect::<Vec<_>>();
        let [found] = found[..] else { panic!("{tensor}: {found:?}") };
        assert_eq!(found["fitted"].as_u64().unwrap() + found["kept"].as_u64().unwrap(), 4 * COLS as u64);
        let rho = found["shrinkage"]["rho"].as_f64().unwrap();
        let errors: Vec<f64> = decoded(&model, tensor)
            .iter()
            .zip(decoded(&dir.join("f.gguf"), tensor))
            .map(|(w, q)| f64::from(*w) - f64::from(q))
            .collect();
        let mut expected = 0.0;
        for (expert, errors) in errors.chunks_exact(COLS * COLS).enumerate() {
            let n = counts[expert];
            let rho = if n < COLS as f64 / 4.0 { 1.0 } else { rho };
            let own = &sums[expert * COLS * COLS..][..COLS * COLS];
            let mean = own.iter().zip(&pool).map(|(own, pool)| (own + share * pool) / (n + COLS as f64));
            let mean: Vec<f64> = mean.collect();
            let damping = 1e-4 * (0..COLS).map(|i| mean[i * COLS + i]).sum::<f64>() / COLS as f64;
            for e in errors.chunks_exact(COLS) {
                for i in 0..COLS {
                    let products: f64 = e.iter().zip(&mean[i * COLS..]).map(|(e, mean)| e * mean).sum();
                    let own = e[i] * (rho * mean[i * COLS + i] + damping);
                    expected += e[i] * ((1.0 - rho) * products + own);
                }
            }
        }
        let loss = found["loss_after"].as_f64().unwrap();
        assert!((loss / expected - 1.0).abs() < 1e-3, "{tensor}: {loss} and {expected}, rho {rho}, rows {counts:?}");
        assert!(loss < found["loss_before"].as_f64().unwrap(), "{found}");
    }
}

#[test]
fn lanes_are_fitted_as_files_are() {
    let world = TempDir::new().unwrap();
    let dir = world.path();
    ::bitworth::eval::demo::materialize(dir).unwrap();
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "256", "--fit-tokens", "2048"];
    json(dir, &[&["quantize", "demo-model", "--to", "q4_0", "--out", "f.gguf", "--device", "cpu"], &fit[..]].concat());
    let text = ["--ctx", "256", "--chunks", "8", "--device", "cpu"];
    let lanes = ["compare", "demo-model", "@q4_0", "@q4_0+fit", "f.gguf", "--text", "data/eval.txt"];
    let compared = json(dir, &[&lanes[..], &fit, &text].concat());
    let of = |lane: usize, key: &str| compared["candidates"][lane][key].clone();
    assert_eq!([of(0, "name"), of(1, "name")], ["@q4_0", "@q4_0+fit"]);
    assert_eq!(of(1, "kld_mean"), of(2, "kld_mean"), "the lane is the file that quantize makes");
    assert!(of(1, "kld_mean").as_f64().unwrap() < 0.8 * of(0, "kld_mean").as_f64().unwrap(), "{compared}");

    // A run keeps the file, and knows what it was fitted to.
    let toml = |tokens: usize| {
        format!(
            "model = \"demo-model\"\nrecipes = [\"q4_0\", \"q4_0+fit\"]\n[fit]\ntexts = [\"data/calib.txt\"]\nctx = 256\n\
             tokens = {tokens}\n[text]\nfile = \"data/eval.txt\"\nctx = 256\nchunks = 8\nbits_per_byte = false\n"
        )
    };
    std::fs::write(dir.join("r.toml"), toml(2048)).unwrap();
    let run = ["run", "r.toml", "--out", "out", "--device", "cpu"];
    let first = json(dir, &run);
    let bytes = |file: &str| std::fs::read(dir.join(file)).unwrap();
    assert!(bytes("out/models/demo-model-Q4_0+FIT.gguf") == bytes("f.gguf"));
    let kld = |document: &Value| {
        let rows = document["summary"].as_array().unwrap();
        rows.iter().find(|row| row["lane"] == "q4_0+fit").unwrap()["kld_mean"].clone()
    };
    assert_eq!(kld(&first), of(1, "kld_mean"));
    assert_eq!(kld(&json(dir, &run)), kld(&first));
    std::fs::write(dir.join("r.toml"), toml(1024)).unwrap();
    let refused = |args: &[&str], said: &str| {
        let output = common::run(dir, args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains(said), "{args:?}: {message}");
    };
    refused(&run, "q4_0+fit");
    refused(&lanes, "--fit");
    refused(&[&["compare", "demo-model", "@q4_0", "--text", "data/eval.txt"], &fit[..]].concat(), "q4_k_m+fit");
    let written = [&lanes[..], &fit, &text, &["--write", "w"]].concat();
    refused(&written, "quantize --fit");
    // The memory of the job bounds fitting, too: 300 windows take 150 MiB of activations, and 7.75 MiB as in the test of dry
    // runs.
    std::fs::write(dir.join("large.txt"), std::fs::read_to_string(dir.join("data/calib.txt")).unwrap().repeat(20)).unwrap();
    let large = ["--fit", "large.txt", "--fit-ctx", "512", "--fit-tokens", "153600", "--max-memory", "150M"];
    let lane = ["compare", "demo-model", "@q4_0+fit", "--text", "data/eval.txt"];
    refused(&[&lane[..], &large, &text].concat(), "--max-memory 158 (MiB)");

    // A text that weights were fitted to is no test of them, and is flagged: of this job's, and of files, by whatever name, also
    // where it was edited or cut.
    let calib = std::fs::read_to_string(dir.join("data/calib.txt")).unwrap();
    std::fs::write(dir.join("renamed.txt"), &calib).unwrap();
    let edited: String = calib.split_inclusive(' ').enumerate().map(|(i, w)| if i % 40 == 7 { "indeed " } else { w }).collect();
    std::fs::write(dir.join("edited.txt"), edited).unwrap();
    let (cut, _) = calib.split_at(calib.char_indices().nth(7000).unwrap().0);
    std::fs::write(dir.join("cut.txt"), format!("A beginning.\n{}", &cut[cut.find(' ').unwrap()..])).unwrap();
    for (file, said) in [
        ("data/calib.txt", Some("the weights of f were fitted to it")),
        ("renamed.txt", Some("the weights of f were fitted to it")),
        ("edited.txt", Some("of 64 runs of 13 words of what the weights of f were fitted to stand in it")),
        ("cut.txt", Some("of 64 runs of 13 words of what the weights of f were fitted to stand in it")),
        ("data/eval.txt", None),
    ] {
        let asked = ["compare", "demo-model", "f.gguf", "--text", file, "--chunks", "4"];
        let scored = common::run(dir, &[&asked[..], &text[..2], &text[4..]].concat());
        let message = String::from_utf8_lossy(&scored.stderr).into_owned();
        assert!(scored.status.success(), "{file}: {message}");
        match said {
            Some(said) => assert!(message.contains(said), "{file}: {message}"),
            None => assert!(!message.contains("were fitted to"), "{file}: {message}"),
        }
    }
    let alone = common::run(dir, &[&["perplexity", "f.gguf", "--text", "data/calib.txt"], &text[..]].concat());
    let message = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(alone.status.success() && message.contains("were fitted to it"), "{message}");
}
