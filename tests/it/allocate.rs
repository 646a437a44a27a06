//! `measure` and `allocate`: what one unit loses is what a file with that unit alone in another type loses, and files of chosen
//! types lose less than llama.cpp's mixes of the same size.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitworth::engine::cpu::Cpu;
use bitworth::engine::sweep::SweepLimits;
use bitworth::eval::records::sensitivity;
use bitworth::eval::sensitivity::{Sensitivity, SensitivityTable};
use bitworth::measure::Watch;
use bitworth::measure::sensitivity::{Measure, measure};
use bitworth::measure::text::TextWindows;
use bitworth::text::tokenizer::Tokenizer;
use bitworth_quant::checkpoint::Source;
use bitworth_quant::progress::{Progress, Silent};
use bitworth_quant::{Checkpoint, DType};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{self, StopAfter, json};

/// The demo world.
fn world() -> TempDir {
    let world = TempDir::new().unwrap();
    bitworth::eval::demo::materialize(world.path()).unwrap();
    world
}

const TEXT: [&str; 6] = ["--text", "data/calib.txt", "--ctx", "256", "--device", "cpu"];

#[track_caller]
fn row<'t>(table: &'t SensitivityTable, unit: &str, block: Option<u32>, to: &str) -> &'t Sensitivity {
    let found = table.rows.iter().find(|row| row.unit == unit && row.block == block && row.to == to);
    found.unwrap_or_else(|| panic!("no row {unit} {block:?} {to}"))
}

/// Writes a recipe that changes the tensors of a name alone, and the file that it makes.
fn file_of_one_part(dir: &Path, name: &str, to: &str) -> String {
    let recipe = format!("name = \"one\"\ndefault = \"f32\"\n[[rule]]\nname = '{name}'\nto = \"{to}\"\n");
    std::fs::write(dir.join("one.toml"), recipe).unwrap();
    json(dir, &["quantize", "demo-model", "--to", "one.toml", "--imatrix", "i.gguf", "--out", "one.gguf"]);
    "one.gguf".to_owned()
}

#[test]
fn a_part_loses_what_a_file_loses_that_has_it_alone_in_another_type() {
    let world = world();
    let dir = world.path();
    json(dir, &[&["imatrix", "demo-model", "--chunks", "2", "--out", "i.gguf"], &TEXT[..]].concat());
    let asked = ["--tokens", "512", "--types", "q3_k,q4_k", "--measured", "q3_k", "--out", "s.parquet"];
    let said = json(dir, &[&["measure", "demo-model"], &TEXT[..], &asked].concat());
    let table = sensitivity::read(&dir.join("s.parquet")).unwrap();
    // Three blocks of five units, and the embedding that is the head, too; in two types. All of them together in one.
    assert_eq!((table.rows.len(), said["measured"].as_u64()), (33, Some(17)));
    for (unit, block, name) in [
        ("all", None, r"(token_embd|attn_(q|k|v|output)|ffn_(gate|up|down))\.weight$"),
        ("token_embd", None, "^token_embd"),
        ("attn_qk", Some(0), r"^blk\.0\.attn_[qk]\.weight"),
        ("ffn_down", Some(2), r"^blk\.2\.ffn_down\."),
    ] {
        let file = file_of_one_part(dir, name, "q3_k");
        let compared = json(dir, &[&["compare", "demo-model", &file, "--chunks", "2"], &TEXT[..]].concat());
        let expected = compared["candidates"][0]["kld_mean"].as_f64().unwrap();
        let found = row(&table, unit, block, "q3_k").kld.unwrap();
        assert!((found / expected - 1.0).abs() < 1e-12, "{unit}: {found} and {expected} of the file");
    }
    assert!(row(&table, "attn_qk", Some(0), "q4_k").kld.is_none());
    let drawn = json(dir, &["report", "s.parquet", "--out", "map"]);
    assert_eq!(drawn["files"], serde_json::json!(["map/s.md", "map/s.html"]));
    assert_eq!(drawn["rows"].as_array().map(Vec::len), Some(33));
    let page = std::fs::read_to_string(dir.join("map/s.html")).unwrap();
    assert_eq!(page.matches("<svg class=\"heat").count(), 2);
}

/// `tr(w H w^T)` of a matrix `[R, K]`.
fn loss(w: &[f32], moment: &[f32], cols: usize) -> f64 {
    let one = |row: &[f32]| -> f64 {
        let product = |i: usize| row.iter().zip(&moment[i * cols..]).map(|(w, h)| f64::from(*w) * f64::from(*h)).sum::<f64>();
        row.iter().enumerate().map(|(i, w)| f64::from(*w) * product(i)).sum()
    };
    w.chunks_exact(cols).map(one).sum()
}

#[test]
fn the_error_of_outputs_is_that_of_the_second_moment() {
    let world = world();
    let dir = world.path();
    let moments = ["imatrix", "demo-model", "--chunks", "2", "--out", "i.gguf", "--second-moment", "h.safetensors"];
    json(dir, &[&moments, &TEXT[..]].concat());
    // As many tokens as rows are kept of: all of them.
    let asked = ["measure", "demo-model", "--tokens", "512", "--types", "q2_k,q4_k", "--out", "s.parquet", "--fast"];
    json(dir, &[&asked, &TEXT[..]].concat());
    let table = sensitivity::read(&dir.join("s.parquet")).unwrap();
    let bytes = std::fs::read(dir.join("h.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let stored = Checkpoint::open(&dir.join("demo-model")).unwrap();
    for (unit, tensor, to) in [("attn_v", "blk.1.attn_v.weight", "q2_k"), ("ffn_down", "blk.1.ffn_down.weight", "q4_k")] {
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let readers: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["readers"]).unwrap();
        let moment = file.tensor(readers[tensor].as_str().unwrap()).unwrap();
        let moment: Vec<f32> = moment.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let quantized = Checkpoint::open(&dir.join(file_of_one_part(dir, &tensor.replace('.', r"\."), to))).unwrap();
        let decoded = |model: &Checkpoint| -> (Vec<f32>, usize) {
            let tensor = model.tensors().iter().find(|t| t.name == tensor).unwrap();
            let mut out = vec![0.0; tensor.elements() as usize];
            tensor.dtype.decode_row(&Source::read(model, tensor, 0..tensor.rows()).unwrap(), &mut out);
            (out, tensor.cols())
        };
        let ((w, cols), (q, _)) = (decoded(&stored), decoded(&quantized));
        let off: Vec<f32> = w.iter().zip(&q).map(|(w, q)| q - w).collect();
        let expected = loss(&off, &moment, cols) / loss(&w, &moment, cols);
        let found = row(&table, unit, Some(1), to).err;
        assert!(found > 1e-5 && (found / expected - 1.0).abs() < 1e-3, "{tensor} {to}: {found} and {expected}");
    }
}

#[test]
fn a_measurement_is_the_same_in_any_memory_and_when_it_was_stopped() {
    let world = world();
    let dir = world.path();
    let checkpoint = Arc::new(Checkpoint::open(&dir.join("demo-model")).unwrap());
    let calib = std::fs::read_to_string(dir.join("data/calib.txt")).unwrap();
    let text = TextWindows::windows(&Tokenizer::new(&checkpoint).unwrap(), &calib, 128, Some(4)).unwrap();
    let (types, folder, stop) = ([DType::Q3_K, DType::Q4_K], dir.join("state"), AtomicBool::new(false));
    let whole =
        Measure { types: &types, measured: &types, fast: false, imatrix: None, limits: SweepLimits::default(), resume: None };
    let run = |asked: &Measure<'_>, progress: &dyn Progress, stop: &AtomicBool| {
        measure(&Cpu::new(), &checkpoint, &text, asked, Watch { progress, stop })
    };
    let expected = run(&whole, &Silent, &stop).unwrap();
    // A unit of the memory that all branches would take: several walks.
    let limits = SweepLimits { memory_bytes: 138 << 20, activation_bytes: 1 << 20, ..SweepLimits::default() };
    let small = Measure { limits, resume: Some(&folder), ..whole };
    let (mut limit, mut stops) = (1000, 0);
    let found = loop {
        let stop = AtomicBool::new(false);
        match run(&small, &StopAfter::new(limit, &stop), &stop) {
            Ok(found) => break found,
            Err(e) => assert!(e.is_interruption(), "{e}"),
        }
        assert!(folder.join("measure.json").is_file());
        (limit, stops) = (limit + 3000, stops + 1);
        assert!(stops < 50);
    };
    assert!(stops > 2, "{stops}");
    assert_eq!(found, expected);
    assert!(!folder.exists(), "the state of a finished measurement is still there");
}

/// The arguments of `allocate` for the demo, judged by its other text.
const JUDGED: [&str; 8] = ["--text", "data/eval.txt", "--ctx", "256", "--chunks", "32", "--device", "cpu"];
const TYPES: &str = "q2_k,q3_k,q4_k,q5_k,q6_k";

#[test]
fn chosen_types_lose_less_than_a_mix_of_the_same_size() {
    let world = world();
    let dir = world.path();
    json(dir, &[&["imatrix", "demo-model", "--out", "i.gguf"], &TEXT[..]].concat());
    let asked = ["measure", "demo-model", "--imatrix", "i.gguf", "--tokens", "4096", "--out", "s.parquet"];
    json(dir, &[&asked[..], &TEXT, &["--types", TYPES]].concat());
    let asked = ["allocate", "demo-model", "--sensitivities", "s.parquet", "--base", "q3_k_m", "--imatrix", "i.gguf"];
    let written = ["--out", "best.toml", "--tensor-type-file", "best.txt"];
    let said = json(dir, &[&asked[..], &written, &JUDGED].concat());
    assert_eq!(said["taken"], "choice", "{said}");
    let [mix, choice] = [0, 1].map(|i| &said["tried"][i]);
    assert!(choice["against_base_high"].as_f64().unwrap() < 0.0, "{said}");
    // A dry run of quantize predicts the same, and says what the table lacks; so it does beside a plan of fitting.
    let dry =
        ["quantize", "demo-model", "--to", "q3_k_m,q4_0", "--imatrix", "i.gguf", "--dry-run", "--sensitivities", "s.parquet"];
    let predicted = &json(dir, &dry)["predicted_kld_without_fit"];
    for (key, of_mix) in [("kld", "predicted_kld"), ("low", "predicted_kld_low"), ("high", "predicted_kld_high")] {
        assert!(predicted[0][key].is_number() && predicted[0][key] == mix[of_mix], "{key}: {predicted} {mix}");
        assert!(predicted[1][key].is_null(), "{key}: {predicted}");
    }
    assert!(predicted[1]["not_in_sensitivities"].as_str().unwrap().ends_with("in q4_0"), "{predicted}");
    let dry = [&dry[..], &["--fit", "data/calib.txt", "--fit-tokens", "2048"]].concat();
    assert_eq!(json(dir, &dry)["predicted_kld_without_fit"], *predicted);
    let text = String::from_utf8(common::run(dir, &dry).stdout).unwrap();
    for part in ["without fitting", "q3_k_m: 0.", "q4_0: unknown", "bitworth compare demo-model @q3_k_m @q3_k_m+fit"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What was chosen is what is made, in the size that was said, which is the mix's at most.
    let made = json(dir, &["quantize", "demo-model", "--to", "best.toml,q3_k_m", "--imatrix", "i.gguf", "--out", "gguf"]);
    let bytes = |i: usize| made[i]["bytes"].as_u64().unwrap();
    assert_eq!([choice["bytes"].as_u64(), mix["bytes"].as_u64()], [Some(bytes(0)), Some(bytes(1))]);
    assert!(bytes(0) <= bytes(1), "{made}");
    let lines = ["--tensor-type-file", "best.txt", "--imatrix", "i.gguf", "--out", "lines.gguf"];
    json(dir, &[&["quantize", "demo-model", "--to", "q3_k_m"][..], &lines].concat());
    let file = |path: &str| std::fs::read(dir.join(path)).unwrap();
    assert!(file("gguf/demo-model-BEST.gguf") == file("lines.gguf"), "llama-quantize's lines make another file");
    let files = ["compare", "demo-model", "gguf/demo-model-BEST.gguf", "gguf/demo-model-Q3_K_M.gguf"];
    let compared = json(dir, &[&files, &JUDGED[..]].concat());
    let kld = |i: usize| compared["candidates"][i]["kld_mean"].as_f64().unwrap();
    assert_eq!([Some(kld(0)), Some(kld(1))], [choice["kld"].as_f64(), mix["kld"].as_f64()]);
    common::say(&format!("KLD {:.6} of q3_k_m, {:.6} of chosen types", kld(1), kld(0)));
    // The same as files whose weights are fitted.
    let fit = ["--fit", "data/calib.txt", "--fit-ctx", "256", "--fit-tokens", "4096", "--chunks", "8"];
    let judged = ["--text", "data/eval.txt", "--ctx", "256", "--device", "cpu", "--out", "fitted.toml"];
    let fitted = json(dir, &[&asked[..], &judged, &fit].concat());
    let of = |i: usize| fitted["tried"][i]["kld"].as_f64().unwrap();
    assert!(of(0) < 0.8 * kld(1) && of(1) < 0.8 * kld(0), "{fitted}");
    let made =
        ["quantize", "demo-model", "--to", "fitted.toml", "--imatrix", "i.gguf", "--out", "fitted.gguf", "--device", "cpu"];
    json(dir, &[&made[..], &fit[..6]].concat());
    let compared = json(dir, &[&["compare", "demo-model", "fitted.gguf", "--chunks", "8"], &judged[..6]].concat());
    let taken = if fitted["taken"] == "choice" { 1 } else { 0 };
    assert_eq!(compared["candidates"][0]["kld_mean"].as_f64(), Some(of(taken)), "{fitted}");
    // A size holds for the fitted file, too, with all that it says of that.
    let most = bytes(1) + 1;
    let asked = ["allocate", "demo-model", "--sensitivities", "s.parquet", "--imatrix", "i.gguf", "--out", "sized.toml"];
    json(dir, &[&asked[..], &["--target-size", &most.to_string()]].concat());
    let made = ["quantize", "demo-model", "--to", "sized.toml", "--imatrix", "i.gguf", "--out", "sized.gguf", "--device", "cpu"];
    json(dir, &[&made[..], &fit[..6]].concat());
    let sized = file("sized.gguf").len() as u64;
    assert!(sized <= most && 10 * sized > 9 * most, "{sized} bytes of {most}");
    // With 1.2 times what the mix loses, the file is smaller than the choice of the mix's size, which holds this, too.
    let bound = format!("{}", 1.2 * kld(1));
    let asked = ["allocate", "demo-model", "--sensitivities", "s.parquet", "--max-kld", &bound, "--imatrix", "i.gguf"];
    let said = json(dir, &[&asked[..], &["--out", "small.toml"], &JUDGED].concat());
    let choice = &said["tried"][1];
    // On the windows that it was chosen by, and on the others.
    let highest = |tried: &Value| ["kld_high", "unseen_kld_high"].map(|end| tried[end].as_f64().unwrap());
    assert!(highest(choice).into_iter().all(|high| high <= 1.2 * kld(1)), "{said}");
    assert!(choice["bytes"].as_u64().unwrap() <= bytes(0), "{said}");
    let smaller = |tried: &&Value| tried["bytes"].as_u64() < choice["bytes"].as_u64();
    let smaller: Vec<&Value> = said["tried"].as_array().unwrap()[2..].iter().filter(smaller).collect();
    assert!(!smaller.is_empty(), "{said}");
    assert!(smaller.iter().all(|tried| highest(tried).into_iter().any(|high| high > 1.2 * kld(1))), "{said}");
    // What no type loses as little as.
    let asked = ["allocate", "demo-model", "--sensitivities", "s.parquet", "--max-kld", "1e-9", "--imatrix", "i.gguf"];
    let none = common::run(dir, &[&asked[..], &["--out", "none.toml", "--chunks", "2"], &judged[..6]].concat());
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("measure larger types"));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let world = world();
    let dir = world.path();
    let asked = ["measure", "demo-model", "--tokens", "512", "--types", "q3_k,q4_k", "--fast", "--out", "s.parquet"];
    json(dir, &[&asked, &TEXT[..]].concat());
    json(dir, &["quantize", "demo-model", "--to", "f16", "--out", "other.gguf"]);
    std::fs::write(dir.join("q4_k_m.toml"), "").unwrap();
    let refused = |args: &[&str], code: i32, expected: &str| {
        let output = common::run(dir, args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
        assert!(message.contains(expected), "{args:?}: {message}");
    };
    let allocate = |model: &str, more: &[&str], expected: &str| {
        let args = [&["allocate", model, "--sensitivities", "s.parquet", "--out", "r.toml"], more].concat();
        refused(&args, 2, expected);
    };
    allocate("other.gguf", &["--target-bpw", "4"], "another model");
    allocate("demo-model", &["--target-size", "1000"], "fits into 1000 bytes");
    allocate("demo-model", &["--target-bpw", "0.1"], "0.1 bits per weight");
    allocate("demo-model", &["--target-bpw", "0"], "above 0");
    allocate("demo-model", &["--max-kld", "0.1"], "--text");
    let few = ["--max-kld", "0.1", "--text", "data/eval.txt", "--ctx", "128", "--chunks", "3", "--device", "cpu"];
    allocate("demo-model", &few, "takes 4 windows");
    allocate("demo-model", &[], "--target-size");
    allocate("demo-model", &["--base", "q9"], "q9");
    allocate("demo-model", &["--base", "copy"], "--base");
    allocate("demo-model", &["--base", "q4_k_m", "--text", "data/calib.txt", "--ctx", "256", "--chunks", "2"], "measured on");
    let fitted = ["--base", "q4_k_m", "--text", "data/eval.txt", "--ctx", "64", "--chunks", "2", "--fit", "data/eval.txt"];
    allocate("demo-model", &[&fitted[..], &["--fit-ctx", "64", "--fit-tokens", "128"]].concat(), "weights are fitted to it");
    let elsewhere = |out: &str, expected: &str| {
        let args = ["allocate", "demo-model", "--sensitivities", "s.parquet", "--target-bpw", "4", "--out", out];
        refused(&args, 2, expected);
    };
    elsewhere("r.txt", ".toml");
    elsewhere("s.parquet", ".toml");
    elsewhere("q4_k_m.toml", "no recipe");
    std::fs::remove_file(dir.join("q4_k_m.toml")).unwrap();
    elsewhere("q4_k_m.toml", "choose another");
    let measure = |more: &[&str], expected: &str| {
        refused(&[&["measure", "demo-model", "--out", "t.parquet", "--device", "cpu"], more].concat(), 2, expected);
    };
    measure(&["--text", "data/calib.txt", "--types", "q3_k,q3_k"], "twice");
    measure(&["--text", "data/calib.txt", "--types", "q4_k", "--measured", "q3_k"], "--measured");
    measure(&["--text", "data/calib.txt", "--types", "f16"], "F16");
    measure(&["--text", "none.txt"], "none.txt");
    json(dir, &["quantize", "demo-model", "--to", "q8_0", "--out", "small.gguf"]);
    let quantized = ["measure", "small.gguf", "--text", "data/calib.txt", "--out", "t.parquet", "--device", "cpu"];
    refused(&quantized, 2, "measure the original");
    std::fs::write(dir.join("mine.txt"), "mine").unwrap();
    measure(&["--text", "data/calib.txt", "--ctx", "128", "--tokens", "256", "--resume", "."], "folder of its own");
    refused(&["measure", "demo-model", "--text", "data/calib.txt", "--out", "mine.txt"], 2, "no parquet file");
    // Without a text nothing is measured, and the size is kept.
    let asked = ["allocate", "demo-model", "--sensitivities", "s.parquet", "--target-bpw", "4.2", "--out", "r.toml"];
    let said = json(dir, &asked);
    assert!(said["tried"][1]["bpw"].as_f64().unwrap() <= 4.2 && said["tried"][1]["kld"].is_null(), "{said}");
    assert_eq!(said["warnings"].as_array().map(Vec::len), Some(0), "{said}");
    // Nothing is written by a dry run, which says what would be and how far off it may be.
    let asked_dry = ["allocate", "demo-model", "--sensitivities", "s.parquet", "--target-bpw", "4.2", "--dry-run"];
    let dry = json(dir, &asked_dry);
    assert!(dry["recipe"].is_null() && !dir.join("choice.toml").exists(), "{dry}");
    let [low, predicted, high] = ["_low", "", "_high"].map(|end| dry["tried"][1][format!("predicted_kld{end}")].as_f64());
    assert!(low.is_some() && low <= predicted && predicted < high, "{dry}");
    assert_eq!(["tried", "plan"].map(|key| dry[key].as_array().unwrap().len()), [2, 16], "{dry}");
    assert_eq!(dry["tried"][1]["bpw"], said["tried"][1]["bpw"]);
    let printed = common::run(dir, &asked_dry);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("[[rule]]"));
    // Intervals of few windows are shown with a warning.
    let judged = ["--text", "data/eval.txt", "--ctx", "128", "--chunks", "3", "--device", "cpu"];
    let warnings = json(dir, &[&asked[..], &judged].concat())["warnings"].clone();
    assert!(warnings[0].as_str().is_some_and(|warning| warning.starts_with("Only 3 windows were scored")), "{warnings}");
    json(dir, &["quantize", "demo-model", "--to", "r.toml", "--out", "r.gguf"]);
}
