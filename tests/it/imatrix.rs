//! Importance matrices: against those of llama-imatrix, against a naive sum over what goes into the matrices, against themselves
//! in other cuts, threads and orders, and as a user meets them. The files of llama-imatrix: `tests/fixtures/imatrix/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use bitworth::engine::backend::Backend;
use bitworth::engine::cpu::Cpu;
use bitworth::engine::error::Result as EngineResult;
use bitworth::engine::model::Variant;
use bitworth::engine::observe::{Observed, Observer, Site};
use bitworth::engine::sweep::{self, Observation, SweepLimits};
use bitworth::measure::Watch;
use bitworth::measure::imatrix::{self, Collect};
use bitworth::text::tokenizer::Tokenizer;
use bitworth_quant::gguf::GgufFile;
use bitworth_quant::imatrix::{Entry, ImatrixFormat, Sums, tensor_stats};
use bitworth_quant::progress::Silent;
use bitworth_quant::{Checkpoint, Imatrix};
use safetensors::SafeTensors;
use tempfile::TempDir;

use crate::common::{self, json, run};

/// Golden models with a file of llama-imatrix.
const GOLDEN: [&str; 6] = ["llama31_gqa", "phi3", "stablelm_qknorm", "mixtral", "qwen2_moe", "deepseek_v3"];
/// As those files were made.
const CTX: usize = 64;
/// Rows that second moments add up in f32.
const BLOCK_ROWS: usize = 256;
const WINDOWS: usize = 4;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/imatrix").join(name)
}

fn demo_text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/demo/data").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// A golden model, where it is at hand.
fn model(name: &str) -> Option<Variant> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("quant/tests/fixtures/hf").join(name);
    let folder = if here.join("model.safetensors").exists() { here } else { common::shared(&format!("oracle/models/{name}"))? };
    Some(Variant::Stored(Arc::new(Checkpoint::open(&folder).unwrap())))
}

/// One that is committed.
fn llama() -> Variant {
    model("llama31_gqa").unwrap()
}

fn windows(variant: &Variant) -> Vec<Vec<u32>> {
    let tokenizer = Tokenizer::new(variant.checkpoint()).unwrap();
    let text = std::fs::read_to_string(golden("calib.txt")).unwrap();
    imatrix::windows(&tokenizer, &text, CTX, 0, Some(WINDOWS)).unwrap()
}

fn collect<B: Backend>(backend: &B, variant: &Variant, windows: &[Vec<u32>], how: Collect) -> Sums {
    let watch = Watch { progress: &Silent, stop: &AtomicBool::new(false) };
    imatrix::collect(backend, variant, windows, CTX as u32, how, watch).unwrap()
}

/// Every column of both is within `bound` of the other, relative to it; counts are equal. Sums of activations, which may cancel,
/// are measured by the root of the sum of squares times the count.
#[track_caller]
fn assert_close(found: &Sums, expected: &Sums, bound: f64) {
    assert_eq!(found.entries.keys().collect::<Vec<_>>(), expected.entries.keys().collect::<Vec<_>>());
    for (name, expected) in &expected.entries {
        let found = &found.entries[name];
        assert_eq!(found.counts, expected.counts, "{name}");
        assert_eq!(found.squares.len(), expected.squares.len(), "{name}");
        let columns = expected.squares.len() / expected.counts.len();
        for (i, (a, b)) in found.squares.iter().zip(&expected.squares).enumerate() {
            assert!((a - b).abs() <= bound * b, "{name}: column {i}: {a}, not {b}");
        }
        let (a, b) = (found.activations.as_ref().unwrap(), expected.activations.as_ref().unwrap());
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let scale = (expected.squares[i] * expected.counts[i / columns] as f64).sqrt();
            assert!((a - b).abs() <= bound * scale, "{name}: column {i}: {a}, not {b}");
        }
    }
}

#[test]
fn sums_are_those_of_llama_imatrix() {
    for name in GOLDEN {
        let Some(variant) = model(name) else { continue };
        let expected = Sums::open(&golden(&format!("{name}.gguf")), 1).unwrap();
        let found = collect(&Cpu::new(), &variant, &windows(&variant), Collect { output: true, ..Collect::default() });
        assert_eq!((found.chunk_count(), found.chunk_size), (WINDOWS as u32, CTX as u32), "{name}");
        assert_close(&found, &expected, 1e-4);
    }
}

/// llama.cpp multiplies with no keys and values in blocks that use those of earlier ones (`src/models/gemma4.cpp`, b11434), so
/// that llama-imatrix meets none of their matrices, though files hold them.
#[test]
fn nothing_goes_into_keys_that_are_not_computed() {
    let Some(variant) = model("gemma4_e2b") else { return };
    let found = collect(&Cpu::new(), &variant, &windows(&variant), Collect::default());
    let h = variant.checkpoint().hparams();
    let (own, shared): (Vec<usize>, Vec<usize>) = (0..h.block_count).partition(|&block| h.has_own_keys(block));
    assert!(!own.is_empty() && !shared.is_empty());
    for block in 0..h.block_count {
        assert!(variant.checkpoint().tensor(&format!("blk.{block}.attn_k.weight")).is_some());
        for (name, expected) in [("attn_q", true), ("attn_k", own.contains(&block)), ("attn_v", own.contains(&block))] {
            assert_eq!(found.entries.contains_key(&format!("blk.{block}.{name}.weight")), expected, "{name} of block {block}");
        }
    }
}

#[test]
fn files_are_laid_out_as_llama_imatrix_lays_them_out() {
    let dir = TempDir::new().unwrap();
    let sums = Sums::open(&golden("mixtral.gguf"), 1).unwrap();
    let (dat, gguf) = (dir.path().join("m.dat"), dir.path().join("m.gguf"));
    sums.write(&dat, ImatrixFormat::Dat).unwrap();
    assert!(std::fs::read(&dat).unwrap() == std::fs::read(golden("mixtral.dat")).unwrap());
    sums.write(&gguf, ImatrixFormat::Gguf).unwrap();
    let (found, expected) = (GgufFile::open(&gguf).unwrap(), GgufFile::open(&golden("mixtral.gguf")).unwrap());
    let tensors = |file: &GgufFile| {
        let kept = file.tensors.iter().filter(|t| !t.name.ends_with(".stats"));
        kept.map(|t| (t.name.clone(), t.dtype, t.shape.clone(), file.bytes(t).to_vec())).collect::<Vec<_>>()
    };
    assert!(tensors(&found) == tensors(&expected), "names, order, shapes and numbers");
    let keys = |file: &GgufFile| {
        let kept = file.metadata.iter().filter(|(key, _)| *key != "imatrix.stats_schema");
        kept.map(|(key, value)| format!("{key} {value:?}")).collect::<Vec<_>>()
    };
    assert_eq!(keys(&found), keys(&expected));
}

/// The statistics that llama-imatrix writes into its files, in the order of its `imatrix.stats_schema`.
#[test]
fn statistics_are_those_of_llama_imatrix() {
    for name in GOLDEN {
        let path = golden(&format!("{name}.gguf"));
        let file = GgufFile::open(&path).unwrap();
        let stats = tensor_stats(&Sums::open(&path, 1).unwrap());
        assert_eq!(stats.len(), file.tensors.iter().filter(|t| t.name.ends_with(".stats")).count());
        for row in stats {
            let tensor = file.tensors.iter().find(|t| t.name == format!("{}.stats", row.tensor)).unwrap();
            let expected: Vec<f32> =
                file.bytes(tensor).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            let change =
                |pick: fn(bitworth_quant::imatrix::InputChange) -> Option<f64>| row.previous.and_then(pick).unwrap_or(f64::NAN);
            let found = [
                row.sum,
                row.mean,
                row.elements as f64,
                row.std_dev,
                row.skewness,
                row.kurtosis,
                change(|c| c.gain),
                100.0 * row.entropy_normalized.unwrap(),
                change(|c| Some(c.l2)),
                change(|c| c.cosine),
                change(|c| c.pearson),
                change(|c| Some(c.covariance)),
            ];
            for (i, (found, &expected)) in found.iter().zip(&expected).enumerate() {
                let expected = f64::from(expected);
                let close = (found - expected).abs() <= 1e-4 * expected.abs().max(1e-2);
                assert!(close || found.is_nan() && expected.is_nan(), "{name}: {}: {i}: {found}, not {expected}", row.tensor);
            }
        }
    }
}

/// Keeps all that goes into the matrices, by site and matrix.
#[derive(Default)]
struct Capture(Mutex<Captured>);

/// By block, site and matrix: how many rows came, and their numbers.
type Captured = BTreeMap<(usize, Site, usize), (usize, Vec<f32>)>;

impl<B: Backend> Observer<B> for Capture {
    fn observe(&self, backend: &B, observed: &Observed<'_, B>) -> EngineResult<()> {
        let cols = observed.cols;
        for (matrix, rows) in observed.parts {
            let x = backend.read(observed.x, rows.start * cols..rows.end * cols)?;
            let mut all = self.0.lock().unwrap();
            let (_, kept) = all.entry((observed.block, observed.site, *matrix)).or_insert((cols, Vec::new()));
            kept.extend(x);
        }
        Ok(())
    }
}

fn capture(variant: &Variant, windows: &[Vec<u32>]) -> BTreeMap<(usize, Site, usize), (usize, Vec<f32>)> {
    let seen = Capture::default();
    let stop = AtomicBool::new(false);
    let observation = Observation { variant, sequences: windows, limits: SweepLimits::default(), output: true, observer: &seen };
    sweep::observe(&Cpu::new(), &observation, &Silent, &stop).unwrap();
    seen.0.into_inner().unwrap()
}

type Gathered = BTreeMap<(usize, usize), Vec<f32>>;

/// What routers and experts read, by block and row of the walk.
#[derive(Default)]
struct Gathers(Mutex<[Gathered; 2]>);

impl<B: Backend> Observer<B> for Gathers {
    fn observe(&self, backend: &B, observed: &Observed<'_, B>) -> EngineResult<()> {
        let Some(kind) = [Site::Router, Site::Experts].iter().position(|site| *site == observed.site) else { return Ok(()) };
        let cols = observed.cols;
        let mut all = self.0.lock().unwrap();
        for (_, rows) in observed.parts {
            for row in rows.clone() {
                let x = backend.read(observed.x, row * cols..(row + 1) * cols)?;
                let place = (observed.block, observed.row(row));
                let known = all[kind].entry(place).or_insert_with(|| x.clone());
                assert_eq!(*known, x, "row {row}");
            }
        }
        Ok(())
    }
}

/// An observer can tell which token a row is of, also where it goes to experts: what they read is what the router read there.
#[test]
fn rows_of_experts_are_told_by_their_tokens() {
    let Some(variant) = model("mixtral") else { return };
    let windows = windows(&variant);
    let rows: usize = windows.iter().map(Vec::len).sum();
    let seen = Gathers::default();
    let stop = AtomicBool::new(false);
    let observation = Observation { variant: &variant, sequences: &windows, limits: small(), output: false, observer: &seen };
    sweep::observe(&Cpu::new(), &observation, &Silent, &stop).unwrap();
    let [router, experts] = seen.0.into_inner().unwrap();
    assert_eq!(router.len(), rows * variant.hparams().block_count);
    assert!(router == experts);
}

fn small() -> SweepLimits {
    SweepLimits { buffer_bytes: 1, ..SweepLimits::default() }
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn second_moments_are_the_sums_of_products_in_any_cut() {
    for (name, sites) in [("llama31_gqa", 4 * 2 + 1), ("deepseek_v2_groups", 0), ("mixtral", 5 * 2 + 1)] {
        let Some(variant) = model(name) else { continue };
        let windows = windows(&variant);
        let seen = capture(&variant, &windows);
        let dir = TempDir::new().unwrap();
        let write = |file: &str, threads: usize, cut: SweepLimits| {
            let path = dir.path().join(file);
            let how = Collect { cut, output: true, second_moment: Some(&path) };
            on_threads(threads, || collect(&Cpu::new(), &variant, &windows, how));
            std::fs::read(&path).unwrap()
        };
        let bytes = write("a.safetensors", 1, SweepLimits::default());
        assert!(bytes == write("b.safetensors", 3, small()), "{name}: threads or cut change bytes");
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let readers: BTreeMap<String, String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["readers"]).unwrap();
        let mut inputs: Vec<_> = readers.values().collect();
        inputs.sort();
        inputs.dedup();
        assert_eq!(file.len(), 2 * inputs.len(), "{name}: a tensor and its counts for each input");
        assert!(sites == 0 || inputs.len() == sites, "{name}: {inputs:?}");
        for (&(block, site, matrix), (cols, x)) in &seen {
            let cols = *cols;
            for tensor in tensors(&variant, block, site) {
                let input = &readers[&tensor.name];
                let numbers = |name: &str| file.tensor(name).unwrap().data().to_vec();
                let moments: Vec<f32> =
                    numbers(input).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
                let counts: Vec<i64> = numbers(&format!("{input}.counts"))
                    .chunks_exact(8)
                    .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
                    .collect();
                assert_eq!(counts[matrix] as usize, x.len() / cols, "{name}: {input}");
                let found = &moments[matrix * cols * cols..][..cols * cols];
                check_products(found, x, cols, &format!("{name}: {input}"));
            }
        }
    }
}

/// The tensors of a model that read what stands at a site.
fn tensors(variant: &Variant, block: usize, site: Site) -> Vec<&bitworth_quant::checkpoint::Tensor> {
    let checkpoint = variant.checkpoint();
    let found: Vec<_> = site.readers().iter().filter_map(|&role| checkpoint.tensor_of(role, block)).collect();
    if found.is_empty() { checkpoint.tensor("token_embd.weight").into_iter().collect() } else { found }
}

/// `found` is X^T X, symmetric to the bit. A chain of n products in f32 is off by at most n u times the sum of their sizes
/// (Higham 2002, section 3.1), which the norms of the columns bound; blocks of rows are added up in f64.
fn check_products(found: &[f32], x: &[f32], cols: usize, name: &str) {
    let norm = |i: usize| x.chunks_exact(cols).map(|row| f64::from(row[i]).powi(2)).sum::<f64>().sqrt();
    let norms: Vec<f64> = (0..cols).map(norm).collect();
    let bound = ((x.len() / cols).min(BLOCK_ROWS) + 1) as f64 / f64::from(1 << 24);
    for i in (0..cols).step_by(7) {
        for j in 0..cols {
            let exact: f64 = x.chunks_exact(cols).map(|row| f64::from(row[i]) * f64::from(row[j])).sum();
            let value = found[i * cols + j];
            assert!((f64::from(value) - exact).abs() <= bound * norms[i] * norms[j], "{name} [{i}, {j}]: {value}, not {exact}");
            assert_eq!(value, found[j * cols + i], "{name} [{i}, {j}]");
        }
    }
}

#[test]
fn sums_are_naive_ones_in_any_cut_on_any_threads() {
    for name in ["llama31_gqa", "deepseek_v2_groups"] {
        let variant = model(name).unwrap();
        let windows = windows(&variant);
        let how = |cut| Collect { cut, output: true, second_moment: None };
        let found = on_threads(1, || collect(&Cpu::new(), &variant, &windows, how(SweepLimits::default())));
        let passes = SweepLimits { activation_bytes: 1, buffer_bytes: 1, ..SweepLimits::default() };
        assert_eq!(on_threads(3, || collect(&Cpu::new(), &variant, &windows, how(passes))), found, "{name}");
        let mut met = 0;
        for ((block, site, matrix), (cols, x)) in capture(&variant, &windows) {
            for tensor in tensors(&variant, block, site) {
                met += 1;
                let entry = &found.entries[&tensor.name];
                let count = entry.counts[if site.is_routed() { matrix } else { 0 }];
                assert_eq!(count as usize, x.len() / cols, "{}", tensor.name);
                for i in 0..cols {
                    let column = x.chunks_exact(cols).map(|row| f64::from(row[i]));
                    assert_eq!(entry.squares[matrix * cols + i], column.clone().map(|x| x * x).sum::<f64>(), "{}", tensor.name);
                    assert_eq!(entry.activations.as_ref().unwrap()[matrix * cols + i], column.sum::<f64>(), "{}", tensor.name);
                }
            }
        }
        assert!(met >= found.entries.len(), "{name}: all were looked at");
    }
}

#[test]
fn merged_files_are_one_run_over_all_texts() {
    let dir = TempDir::new().unwrap();
    let variant = llama();
    let windows = windows(&variant);
    let (first, second) = windows.split_at(1);
    let files = [("a.gguf", first), ("b.gguf", second)].map(|(name, windows)| {
        let path = dir.path().join(name);
        let sums = collect(&Cpu::new(), &variant, windows, Collect::default());
        Sums { datasets: vec![name.into()], ..sums }.write(&path, ImatrixFormat::Gguf).unwrap();
        path
    });
    let merged = imatrix::merge(&files, 512, Some(variant.checkpoint().as_ref())).unwrap();
    assert_eq!((merged.chunk_count(), merged.chunk_size), (WINDOWS as u32, CTX as u32));
    assert_eq!(merged.datasets, ["a.gguf", "b.gguf"]);
    assert_close(&merged, &collect(&Cpu::new(), &variant, &windows, Collect::default()), 1e-6);
}

#[test]
fn a_gpu_and_the_cpu_agree_on_importance() {
    let Some(gpu) = common::gpu() else { return };
    for name in ["llama31_gqa", "deepseek_v2_groups"] {
        let variant = model(name).unwrap();
        let windows = windows(&variant);
        let how = Collect { output: true, ..Collect::default() };
        assert_close(&collect(&gpu, &variant, &windows, how), &collect(&Cpu::new(), &variant, &windows, how), 1e-3);
    }
}

/// A folder with the demo model's folder as `demo-model`, and a matrix of it as `m.gguf`.
fn world() -> TempDir {
    let dir = TempDir::new().unwrap();
    ::bitworth::eval::demo::materialize(dir.path()).unwrap();
    std::fs::write(dir.path().join("text.txt"), demo_text("calib.txt")).unwrap();
    std::fs::write(dir.path().join("other.txt"), demo_text("eval.txt")).unwrap();
    let args =
        ["imatrix", "demo-model", "--text", "text.txt", "--ctx", "64", "--chunks", "3", "--device", "cpu", "--out", "m.gguf"];
    let document = json(dir.path(), &args);
    assert_eq!((&document["tokens"], &document["chunks"]), (&(3 * 64).into(), &3.into()));
    dir
}

#[test]
fn a_run_quantizes_with_the_matrix_of_a_text_or_a_file() {
    let world = world();
    let dir = world.path();
    let write = |name: &str, imatrix: &str| {
        let rest = "[text]\nfile = \"other.txt\"\nctx = 64\nchunks = 2\nbits_per_byte = false\n";
        let config = format!("model = \"demo-model\"\nrecipes = [\"iq2_xxs\", \"q4_0\"]\n{imatrix}{rest}");
        std::fs::write(dir.join(name), config).unwrap();
    };
    write("text.toml", "[imatrix]\ntext = \"text.txt\"\nctx = 64\nchunks = 3\n");
    write("file.toml", "[imatrix]\nfile = \"m.gguf\"\n");
    write("none.toml", "");
    write("both.toml", "[imatrix]\nfile = \"m.gguf\"\ntext = \"text.txt\"\n");
    json(dir, &["quantize", "demo-model", "--imatrix", "m.gguf", "--to", "iq2_xxs,q4_0", "--out", "."]);
    let tensors = |path: &str| json(dir, &["inspect", path, "--hash"])["tensors"].clone();
    for name in ["text", "file"] {
        json(dir, &["run", &format!("{name}.toml"), "--device", "cpu", "--out", name]);
        for recipe in ["IQ2_XXS", "Q4_0"] {
            let file = format!("demo-model-{recipe}.gguf");
            assert_eq!(tensors(&format!("{name}/models/{file}")), tensors(&file), "{name}");
        }
    }
    write("one.toml", "[imatrix]\nfile = \"m.gguf\"\nrecipes = [\"iq2_xxs\"]\n");
    json(dir, &["run", "one.toml", "--device", "cpu", "--out", "one"]);
    json(dir, &["quantize", "demo-model", "--to", "q4_0", "--out", "plain"]);
    assert_eq!(tensors("one/models/demo-model-Q4_0.gguf"), tensors("plain/demo-model-Q4_0.gguf"));
    assert_eq!(tensors("one/models/demo-model-IQ2_XXS.gguf"), tensors("demo-model-IQ2_XXS.gguf"));

    let matrix = dir.join("text/models/demo-model.imatrix.gguf");
    let written = std::fs::metadata(&matrix).unwrap().modified().unwrap();
    std::fs::remove_file(dir.join("text/models/demo-model-Q4_0.gguf")).unwrap();
    json(dir, &["run", "text.toml", "--device", "cpu", "--out", "text"]);
    assert_eq!(std::fs::metadata(&matrix).unwrap().modified().unwrap(), written, "it is collected once");
    assert_eq!(tensors("text/models/demo-model-Q4_0.gguf"), tensors("demo-model-Q4_0.gguf"));

    let refused = |args: &[&str], parts: &[&str]| {
        let output = run(dir, args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{said:?} lacks {part:?}"));
    };
    refused(&["run", "none.toml", "--out", "none"], &["iq2_xxs", "[imatrix]"]);
    write("other.toml", "[imatrix]\ntext = \"text.txt\"\nrecipes = [\"q2_k\"]\n");
    refused(&["run", "other.toml", "--out", "other"], &["other.toml", "q2_k", "none of the recipes"]);
    write("wrong.toml", "[imatrix]\ntext = \"text.txt\"\nrecipes = [\"q4_0\"]\n");
    refused(&["run", "wrong.toml", "--out", "wrong"], &["iq2_xxs", "[imatrix]"]);
    refused(&["run", "both.toml", "--out", "both"], &["both.toml", "[imatrix]", "either"]);
    refused(
        &["run", "file.toml", "--device", "cpu", "--out", "text"],
        &["holds another run (other imatrix, lane iq2_xxs, lane q4_0)"],
    );
    std::fs::write(dir.join("m.gguf"), "GGUF").unwrap();
    refused(&["run", "file.toml", "--out", "broken"], &["m.gguf"]);
    assert!(!dir.join("broken").exists() && !dir.join("none").exists(), "nothing is written before what is asked for is checked");
}

#[test]
fn candidates_on_the_fly_are_the_files_that_quantize_makes_with_the_matrix() {
    let world = world();
    let dir = world.path();
    json(dir, &["quantize", "demo-model", "--imatrix", "m.gguf", "--to", "q2_k_s,q4_k_m", "--out", "."]);
    let text = ["--text", "other.txt", "--ctx", "64", "--chunks", "4", "--device", "cpu"];
    let compare = |candidates: &[&str]| {
        let compared = json(dir, &[&["compare", "demo-model"][..], candidates, &text].concat());
        let mut rows = compared["candidates"].as_array().unwrap().clone();
        rows.iter_mut().for_each(|row| {
            row.as_object_mut().unwrap().remove("name");
        });
        rows
    };
    let fly = compare(&["@q2_k_s", "@q4_k_m", "--imatrix", "m.gguf"]);
    assert_eq!(fly, compare(&["demo-model-Q2_K_S.gguf", "demo-model-Q4_K_M.gguf"]));
    assert_ne!(fly[1], compare(&["@q4_k_m"])[0], "the matrix makes a difference");
    let refused = run(dir, &[&["compare", "demo-model", "@q2_k_s"][..], &text].concat());
    assert_eq!(refused.status.code(), Some(2), "which cannot be made without");
}

#[test]
fn texts_and_files_add_up_and_are_shown() {
    let world = world();
    let dir = world.path();
    let cut = ["--ctx", "64", "--chunks", "3", "--device", "cpu"];
    let both = ["imatrix", "demo-model", "--text", "text.txt", "--text", "other.txt", "--out", "both.gguf"];
    json(dir, &[&both[..], &cut].concat());
    let more = ["imatrix", "demo-model", "--text", "other.txt", "--in-file", "m.gguf", "--out", "more.gguf"];
    let document = json(dir, &[&more[..], &cut].concat());
    assert_eq!(document["datasets"], serde_json::json!(["text.txt", "other.txt"]));
    let [both, more] = ["both.gguf", "more.gguf"].map(|name| Sums::open(&dir.join(name), 1).unwrap());
    assert_close(&more, &both, 1e-6);
    // Windows left out and windows taken are all windows.
    let rest = ["imatrix", "demo-model", "--text", "text.txt", "--ctx", "64", "--device", "cpu"];
    json(dir, &[&rest[..], &["--chunks", "1", "--out", "one.gguf"]].concat());
    json(dir, &[&rest[..], &["--from-chunk", "1", "--chunks", "2", "--in-file", "one.gguf", "--out", "three.gguf"]].concat());
    let [one, all] = ["three.gguf", "m.gguf"].map(|name| Sums::open(&dir.join(name), 1).unwrap());
    assert_close(&one, &all, 1e-6);

    json(dir, &["imatrix", "--in-file", "m.gguf", "--out", "m.dat"]);
    let [dat, gguf] = ["m.dat", "m.gguf"].map(|name| Imatrix::open(&dir.join(name)).unwrap());
    let (name, entry): (&String, &Entry) = all.entries.iter().next().unwrap();
    for ((a, b), sum) in dat.weights(name).unwrap().iter().zip(gguf.weights(name).unwrap()).zip(&entry.squares) {
        assert!((a - b).abs() <= 1e-6 * b && (f64::from(*b) - sum / 192.0).abs() <= 1e-6 * sum, "{name}");
    }
    let shown = json(dir, &["imatrix", "--stats", "--in-file", "m.gguf"]);
    assert_eq!(shown["tensors"].as_array().unwrap().len(), all.entries.len());
    assert_eq!(shown["layers"].as_array().unwrap().len(), 3);
    let table = run(dir, &["imatrix", "--stats", "--in-file", "m.dat"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("blk.2.ffn_down.weight"), "{table:?}");
}

#[test]
fn mistakes_are_named() {
    let world = world();
    let dir = world.path();
    std::fs::write(dir.join("short.txt"), "Too short.").unwrap();
    let golden = golden("phi3.gguf").display().to_string();
    let text = ["imatrix", "demo-model", "--text", "text.txt", "--ctx", "64", "--chunks", "1", "--device", "cpu"];
    let refused = |args: &[&str], expected: &[&str]| {
        let output = run(dir, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        for part in expected {
            assert!(error.contains(part) && !error.contains("panicked"), "{args:?}: {error:?} lacks {part:?}");
        }
        assert!(!dir.join("out.gguf").exists() && !dir.join(".out.gguf.partial").exists(), "{args:?} left something behind");
    };
    let with = |more: &[&'static str]| [&text[..], more].concat();
    refused(
        &["imatrix", "demo-model", "--text", "short.txt", "--out", "out.gguf"],
        &["short.txt", "fewer than one window of 512"],
    );
    refused(&with(&["--from-chunk", "1000000", "--out", "out.gguf"]), &["--from-chunk 1000000", "windows"]);
    refused(&with(&["--out", "no/such/out.gguf"]), &["no/such/out.gguf"]);
    refused(&with(&["--out", "demo-model/model.safetensors"]), &["is a file to be read for this"]);
    refused(&with(&["--out", "other.txt"]), &["is there and no importance matrix"]);
    refused(&with(&[]), &["--out"]);
    refused(&["imatrix", "demo-model", "--out", "out.gguf"], &["--text"]);
    refused(&["imatrix", "--text", "text.txt", "--out", "out.gguf"], &["MODEL"]);
    let foreign = [&text[..], &["--in-file", &golden, "--out", "out.gguf"]].concat();
    refused(&foreign, &["phi3.gguf", "blk.0.", "another model's"]);
    refused(&["imatrix", "--in-file", "m.gguf", "--in-file", &golden, "--out", "out.gguf"], &["another model's"]);
    refused(&["imatrix", "--in-file", "text.txt", "--stats"], &["text.txt"]);
    refused(
        &["imatrix", "demo-model", "--text", "text.txt", "--ctx", "100000", "--out", "out.gguf"],
        &["text.txt", "fewer than one window of 100000"],
    );
    let moments = ["--second-moment", "x.safetensors", "--max-memory", "0", "--stats"];
    let many = ["imatrix", "demo-model", "--text", "text.txt", "--device", "cpu"];
    refused(&[&many[..], &moments].concat(), &["--second-moment", "--max-memory"]);
    assert!(!dir.join("x.safetensors").exists());
}

#[test]
fn activations_that_are_not_numbers_end_the_run() {
    let dir = TempDir::new().unwrap();
    let world = ::bitworth::eval::demo::materialize(dir.path()).unwrap();
    let path = world.join("demo-model/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let norm = file.tensor("model.layers.1.input_layernorm.weight").unwrap();
    let (at, width) = (norm.data().as_ptr() as usize - bytes.as_ptr() as usize, norm.data().len() / norm.shape()[0]);
    bytes[at..at + width].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f][4 - width..]);
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(dir.path().join("text.txt"), demo_text("calib.txt")).unwrap();
    let model = world.join("demo-model").display().to_string();
    let args = ["imatrix", &model, "--text", "text.txt", "--ctx", "64", "--chunks", "1", "--device", "cpu", "--out", "m.gguf"];
    let output = run(dir.path(), &args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("blk.1.attn_q.weight") && error.contains("not a number"), "{error}");
    assert!(!dir.path().join("m.gguf").exists());
}
