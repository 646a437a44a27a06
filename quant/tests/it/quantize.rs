//! The quantizer as a whole: llama-quantize's own file made again byte for byte, several files at once equal to each alone,
//! and failures that leave nothing behind.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bitworth_quant::checkpoint::{Tensor, open_model};
use bitworth_quant::gguf::{GgufFile, Metadata, Value};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::{Silent, Unit};
use bitworth_quant::quantize::{Output, QuantizeOptions, Written, encode_tensor, quantize, quantized_metadata};
use bitworth_quant::{DType, Progress, Recipe, Result};

use crate::support::memory::{Memory, output};
use crate::support::{bf16_file, fixture};

fn run(source: &Memory, outputs: &[Output]) -> Result<Vec<Written>> {
    quantize(source, outputs, &QuantizeOptions::default(), &AtomicBool::new(false), &Silent)
}

fn files_in(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn llama_quantizes_own_q4_k_m_is_made_again_byte_for_byte() {
    let file = GgufFile::open(&bf16_file()).unwrap();
    let source = Memory::of_file(&file);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made.gguf");
    run(&source, &[output(&source, "q4_k_m", &path, &file.metadata)]).unwrap();
    let (made, expected) = (std::fs::read(&path).unwrap(), std::fs::read(fixture("llama31_gqa.Q4_K_M.gguf")).unwrap());
    assert_eq!(made.len(), expected.len());
    let differs = made.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first differing byte");
}

#[test]
fn many_files_from_one_read_equal_each_made_alone() {
    let file = GgufFile::open(&bf16_file()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, way: &str| dir.path().join(format!("{name}.{way}.gguf"));

    let together = Memory::of_file(&file);
    let outputs = Recipe::all().iter().map(|r| output(&together, &r.name, &path(&r.name, "together"), &file.metadata));
    let outputs: Vec<_> = outputs.filter(|o| o.plan.check_importance(&file.path).is_ok()).collect();
    let written = run(&together, &outputs).unwrap();
    assert!(written.len() >= 25, "{}", written.len());
    let reads = together.reads.into_inner().unwrap();
    assert_eq!(reads.len(), file.tensors.len(), "each of these small tensors is read once: {reads:?}");

    let alone = Memory::of_file(&file);
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for (recipe, together) in outputs.iter().map(|o| &o.plan.recipe).zip(written) {
        let way = path(&recipe.name, "alone");
        let output = output(&alone, &recipe.name, &way, &file.metadata);
        let written = one_thread.install(|| run(&alone, &[output])).unwrap();
        assert_eq!(written[0].bytes, together.bytes);
        assert!(std::fs::read(&way).unwrap() == std::fs::read(&together.path).unwrap(), "{} differs", recipe.name);
        assert_eq!(GgufFile::open(&way).unwrap().metadata.u64("general.file_type"), Some(recipe.ftype.into()));
    }
}

/// The BF16 file under another architecture's name, or with other keys.
fn renamed_model(dir: &Path, rename: impl Fn(&str, &Value) -> Option<(String, Value)>) -> std::path::PathBuf {
    let file = GgufFile::open(&bf16_file()).unwrap();
    let mut metadata = Metadata::new();
    for (key, value) in file.metadata.iter().filter_map(|(key, value)| rename(key, value)) {
        metadata.set(key, value);
    }
    let (source, path) = (Memory::of_file(&file), dir.join("renamed.gguf"));
    run(&source, &[Output { metadata, ..output(&source, "copy", &path, &Metadata::new()) }]).unwrap();
    path
}

#[test]
fn a_gguf_file_of_an_architecture_unknown_here_is_quantized_by_the_same_rules() {
    let dir = tempfile::tempdir().unwrap();
    let path = renamed_model(dir.path(), |key, value| {
        let value = if key == "general.architecture" { Value::String("unheard-of".into()) } else { value.clone() };
        Some((key.replace("llama.", "unheard-of."), value))
    });
    let model = open_model(&path).unwrap();
    assert!(bitworth_quant::Checkpoint::open(&path).is_err());
    let made = dir.path().join("made.gguf");
    let output = Output::of(model.as_ref(), &Recipe::find("q4_k_m").unwrap(), &PlanOptions::default(), &made).unwrap();
    quantize(model.as_ref(), &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
    let (made, expected) = (GgufFile::open(&made).unwrap(), GgufFile::open(&fixture("llama31_gqa.Q4_K_M.gguf")).unwrap());
    assert_eq!(made.metadata.str("general.architecture"), Some("unheard-of"));
    assert_eq!(made.tensors.len(), expected.tensors.len());
    for (made_tensor, tensor) in made.tensors.iter().zip(&expected.tensors) {
        assert_eq!((&made_tensor.name, made_tensor.dtype), (&tensor.name, tensor.dtype));
        assert!(made.bytes(made_tensor)[..] == expected.bytes(tensor)[..], "{}", tensor.name);
    }
}

#[test]
fn a_gguf_file_that_is_no_model_is_refused_by_the_key_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    for lacking in ["general.architecture", "llama.block_count"] {
        let path = renamed_model(dir.path(), |key, value| (key != lacking).then(|| (key.to_owned(), value.clone())));
        let error = open_model(&path).err().unwrap().to_string();
        assert!(error.contains("renamed.gguf") && error.contains(lacking), "{error}");
    }
}

#[test]
fn a_tensor_of_many_blocks_is_the_same_as_encoded_at_once() {
    // 20000 rows of 256 weights are more than one block of rows.
    let source = Memory::of_matrices(&["blk.0.attn_q.weight"], 20_000);
    let made = encode_tensor(&source, "blk.0.attn_q.weight", DType::Q8_0, None).unwrap();
    assert!(source.reads.lock().unwrap().len() > 1, "one block only: the test shows nothing");
    let weights: Vec<f32> = source.bytes["blk.0.attn_q.weight"].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let mut expected = vec![0; made.len()];
    for (row, out) in weights.chunks(256).zip(expected.chunks_mut(272)) {
        DType::Q8_0.encode_row(row, None, out);
    }
    assert!(made == expected);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    run(&source, &[output(&source, "q8_0", &path, &Metadata::new())]).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert!(file.bytes(&file.tensors[0])[..] == expected[..]);
}

#[test]
fn a_weight_that_is_no_number_is_named_and_nothing_is_left_behind() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut source = Memory::of_matrices(&["a.weight", "b.weight"], 8);
        source.set("b.weight", 3 * 256 + 17, value);
        let dir = tempfile::tempdir().unwrap();
        let outputs = ["q4_0", "f32"].map(|r| output(&source, r, &dir.path().join(r), &Metadata::new()));
        let error = run(&source, &outputs).unwrap_err().to_string();
        assert!(error.contains(&format!("memory: tensor b.weight: row 3, column 17: the weight is {value}")), "{error}");
        assert_eq!(files_in(dir.path()), 0);
    }
}

#[test]
fn a_weight_too_large_for_its_encoding_is_an_error_and_fits_a_larger_one() {
    let check = |recipe: &str, value: f32, expected: Option<&str>| {
        let mut source = Memory::of_matrices(&["a.weight", "output.weight"], 8);
        source.set("a.weight", 256, value);
        let dir = tempfile::tempdir().unwrap();
        let result = run(&source, &[output(&source, recipe, &dir.path().join("o.gguf"), &Metadata::new())]);
        match expected {
            None => assert_eq!(result.unwrap().len(), 1, "{recipe}"),
            Some(expected) => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("tensor a.weight: row 1") && error.contains(expected), "{recipe}: {error}");
                assert_eq!(files_in(dir.path()), 0);
            }
        }
    };
    check("f16", 65504.0, None);
    check("f16", 65519.0, None);
    check("f16", 65520.0, Some("as F16"));
    check("q4_0", 1e5, None);
    check("q4_0", 1e6, Some("as Q4_0"));
    check("q8_0", 1e38, Some("as Q8_0"));
    check("bf16", 1e38, None);
    check("bf16", f32::MAX, Some("as BF16"));
    check("f32", f32::MAX, None);
}

#[test]
fn cancelling_leaves_nothing_behind() {
    let source = Memory::of_matrices(&["a.weight"], 8);
    let dir = tempfile::tempdir().unwrap();
    let output = output(&source, "q8_0", &dir.path().join("a.gguf"), &Metadata::new());
    let error = quantize(&source, &[output], &QuantizeOptions::default(), &AtomicBool::new(true), &Silent).unwrap_err();
    assert!(matches!(error, bitworth_quant::Error::Cancelled), "{error}");
    assert_eq!(files_in(dir.path()), 0);
}

#[test]
fn two_outputs_may_not_be_one_file_and_a_plan_must_fit_its_model() {
    let source = Memory::of_matrices(&["a.weight"], 8);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let twice = ["q8_0", "q4_0"].map(|r| output(&source, r, &path, &Metadata::new()));
    let error = run(&source, &twice).unwrap_err().to_string();
    assert!(error.contains("a.gguf: is asked for twice"), "{error}");

    let other = Memory::of_matrices(&["a.weight"], 9);
    let error = run(&other, &twice[..1]).unwrap_err().to_string();
    assert!(error.contains("tensor a.weight: the plan for") && error.contains("is not one for this model"), "{error}");
    assert_eq!(files_in(dir.path()), 0);
}

#[derive(Default)]
struct Counted {
    total: AtomicU64,
    done: AtomicU64,
    finished: AtomicBool,
}

impl Progress for Counted {
    fn start(&self, total: u64, _unit: Unit, _what: &str) {
        self.total.store(total, Ordering::Relaxed);
    }
    fn advance(&self, delta: u64) {
        self.done.fetch_add(delta, Ordering::Relaxed);
    }
    fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
    }
}

#[test]
fn progress_counts_source_bytes_once_per_output() {
    let source = Memory::of_matrices(&["a.weight", "b.weight"], 20_000);
    let dir = tempfile::tempdir().unwrap();
    let outputs = ["q8_0", "f16"].map(|r| output(&source, r, &dir.path().join(r), &Metadata::new()));
    let progress = Counted::default();
    quantize(&source, &outputs, &QuantizeOptions::default(), &AtomicBool::new(false), &progress).unwrap();
    let expected = 2 * 2 * 20_000 * 256 * 4;
    assert_eq!((progress.total.into_inner(), progress.done.into_inner()), (expected, expected));
    assert!(progress.finished.into_inner());
}

#[test]
fn metadata_end_with_version_and_file_type_and_lose_the_split() {
    let mut source = Metadata::new();
    source.set("general.file_type", Value::U32(32));
    source.set("a", Value::Bool(true));
    source.set("split.count", Value::U16(3));
    source.set("split.no", Value::U16(0));
    source.set("split.tensors.count", Value::I32(9));
    let made = quantized_metadata(&source, &Recipe::find("q4_k_m").unwrap());
    let pairs: Vec<_> = made.iter().map(|(k, v)| (k, v.clone())).collect();
    let expected =
        [("a", Value::Bool(true)), ("general.quantization_version", Value::U32(2)), ("general.file_type", Value::U32(15))];
    assert_eq!(pairs, expected);
}

#[test]
fn numbers_that_are_no_weights_are_copied_by_every_recipe() {
    let mut source = Memory::of_matrices(&["token_embd.weight", "blk.0.attn_q.weight"], 4);
    let carried = DType::CARRIED.iter().map(|&dtype| {
        let name = format!("blk.0.ffn_gate_tid2eid_{}.weight", dtype.name().to_lowercase());
        // Every byte value, so that doubles are not finite among others.
        let bytes: Vec<u8> = (0..4 * 64 * dtype.block_bytes()).map(|i| (255 - i % 256) as u8).collect();
        (Tensor { name, dtype, shape: vec![64, 4] }, bytes)
    });
    for (tensor, bytes) in carried {
        source.bytes.insert(tensor.name.clone(), bytes);
        source.tensors.push(tensor);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut metadata = Metadata::new();
    metadata.set("llama.block_count", Value::U32(1));
    for recipe in ["f16", "q4_k_m", "q8_0", "copy"] {
        let path = dir.path().join(recipe);
        run(&source, &[output(&source, recipe, &path, &metadata)]).unwrap();
        let made = GgufFile::open(&path).unwrap();
        for tensor in source.tensors.iter().filter(|t| t.dtype.is_carried()) {
            let found = made.tensors.iter().find(|t| t.name == tensor.name).unwrap();
            assert_eq!((found.dtype, &found.shape), (tensor.dtype, &tensor.shape), "{recipe}");
            assert!(made.bytes(found)[..] == source.bytes[&tensor.name][..], "{recipe}: {}", tensor.name);
        }
    }
}
