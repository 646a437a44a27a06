//! Split files equal those of gguf-py's writer and of llama-quantize (b11434), by their hashes.

use std::path::Path;

use bitworth_quant::DType;
use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::gguf::{GgufFile, Metadata, Value};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::quantize::{Output, QuantizeOptions, Split};

use super::{names_in, run};
use crate::support::bf16_file;
use crate::support::memory::{Memory, output_by, output_of};

/// Makes one output and compares the files by name and hash.
fn check(source: &Memory, output: Output, expected: &[(&str, &str)]) {
    let foretold = output.files().unwrap();
    let made = run(source, &[output], &QuantizeOptions { sha256: true, ..QuantizeOptions::default() }).unwrap().remove(0);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files: Vec<_> = made.files.iter().map(|f| (name(&f.path), f.sha256.clone().unwrap())).collect();
    let expected: Vec<_> = expected.iter().map(|&(name, hash)| (name.to_owned(), hash.to_owned())).collect();
    assert_eq!(files, expected);
    assert_eq!(made.path, made.files[0].path);
    assert!(made.files.iter().map(|f| (f.path.clone(), f.bytes)).eq(foretold));
    assert_eq!(made.bytes, made.files.iter().map(|f| f.path.metadata().unwrap().len()).sum::<u64>());
}

fn limits(max_bytes: Option<u64>, max_tensors: Option<usize>, metadata_alone: bool) -> Split {
    Split::Limits { max_bytes, max_tensors, metadata_alone }
}

/// `GGUFWriter(path, "llama", split_max_size=..., split_max_tensors=..., small_first_shard=...)` with the name "tiny", block
/// count 1, and these tensors of F32, whose elements count up in eighths.
#[test]
fn limits_cut_as_the_converter_does() {
    let mut n = 0;
    let tensor = |(name, shape): (&str, &[usize])| {
        let elements: usize = shape.iter().product();
        n += elements;
        let bytes = (n - elements..n).flat_map(|i| (i as f32 / 8.0).to_le_bytes()).collect();
        (Tensor { name: format!("{name}.weight"), dtype: DType::F32, shape: shape.to_vec() }, bytes)
    };
    let shapes: [(&str, &[usize]); 6] =
        [("a", &[8, 3]), ("b", &[5]), ("c", &[8, 6]), ("d", &[8, 2]), ("e", &[7]), ("f", &[8, 1])];
    let source = Memory::new(shapes.into_iter().map(tensor).collect());
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("llama".into()));
    metadata.set("general.name", Value::String("tiny".into()));
    metadata.set("llama.block_count", Value::U32(1));
    let dir = tempfile::tempdir().unwrap();
    let output = |name: &str, split: Split| Output {
        metadata: metadata.clone(),
        split,
        ..output_of(&source, &dir.path().join(name), |t| t.dtype)
    };

    let whole = [("tiny.gguf", "3d1d8eb64d51fc035cb000b8f7f32262bc8c3f51ef16e8ca4378a8b65fd4554d")];
    check(&source, output("tiny.gguf", Split::None), &whole);
    check(&source, output("tiny.gguf", limits(Some(1 << 40), Some(6), false)), &whole);
    let first = "b75d2106773e2408829e1a2652352284dc598eec56c72a8bf5b1e3848ee1c12e";
    let size = [
        ("size-00001-of-00003.gguf", first),
        ("size-00002-of-00003.gguf", "c06a2d1c3e5ebdc16eac2ff4dc687753ef179e06b6928b866482341a1960121d"),
        ("size-00003-of-00003.gguf", "38293723c85ae40d07f4405737656ab4cc681898b741e9f0ce0b7e6007c12ffb"),
    ];
    check(&source, output("size.gguf", limits(Some(150), None, false)), &size);
    let tensors = [
        ("tensors-00001-of-00003.gguf", first),
        ("tensors-00002-of-00003.gguf", "9f0844b7e2176394234a4c7f2e2327e58bbbb578216f761d95b6077af0958ecb"),
        ("tensors-00003-of-00003.gguf", "60e09e5e42d3261bc0070c6c6e705bfa7aeebedcffe084a9dd1e693493a8ccf7"),
    ];
    check(&source, output("tensors.gguf", limits(None, Some(2), false)), &tensors);
    let alone = [
        ("alone-00001-of-00005.gguf", "4ed7506b1242a59e4023f003bffbc6c0a7833f1c71ca36c34eac8caf50bada61"),
        ("alone-00002-of-00005.gguf", "c57af7851fc2dd1a70223660efb87829f662d91b433065732beec7ff9b2fd0bd"),
        ("alone-00003-of-00005.gguf", "80de82538b6e5fe8a289fdf798cd1fd94c02da6cdbb16bb2fd8f2b3ad7ab4d9d"),
        ("alone-00004-of-00005.gguf", "b42bbfd1577dd9999296ead4b248ed74bd2a3d2f01844da5881995e4e77264d2"),
        ("alone-00005-of-00005.gguf", "2d907573c3bbfe8169ee74216bd4def170de5bb9b689173ee738327fc6d2359b"),
    ];
    check(&source, output("alone.gguf", limits(Some(150), Some(2), true)), &alone);
}

/// llama-gguf-split --split --split-max-tensors 12 [--no-tensor-first-split], then llama-quantize --keep-split ... Q4_K_M. (The
/// files of llama-gguf-split itself have the same three keys in another order.)
#[test]
fn a_split_is_kept_as_llama_quantize_keeps_it() {
    let whole = GgufFile::open(&bf16_file()).unwrap();
    let memory = Memory::of_file(&whole);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let keep = |from: &Path, to: &str, expected: &[(&str, &str)]| {
        let file = GgufFile::open(from).unwrap();
        let source = Memory::of_file(&file);
        let choices = PlanOptions { keep_split: true, ..PlanOptions::default() };
        let mut output = output_by(&source, "q4_k_m", &path(to), &file.metadata, &choices);
        output.keep_split(from).unwrap();
        check(&source, output, expected);
    };

    let split = |name: &str, split: Split| {
        let mut output = output_of(&memory, &path(name), |t| t.dtype);
        (output.metadata, output.split) = (whole.metadata.clone(), split);
        let made = run(&memory, &[output], &QuantizeOptions::default()).unwrap().remove(0);
        made.files.into_iter().map(|f| f.path).collect::<Vec<_>>()
    };
    let files = split("src.gguf", limits(None, Some(12), false));
    let kept = [
        ("q-00001-of-00002.gguf", "d94a8ac096d6c4dc2406708dc5d3239ee42a36fdb9391afbc33ad61a47bb0a2c"),
        ("q-00002-of-00002.gguf", "ff4df02eafefa76229fa0e93e342d75acacca2fa2d5daf221821cff49d6f12b3"),
    ];
    keep(&files[1], "q.gguf", &kept);

    let files = split("alone.gguf", limits(None, Some(12), true));
    let kept = [
        ("qalone-00001-of-00003.gguf", "368321b99ee519bc69d7b7816e62587647378a9a36831ba6310db9a0bac3213b"),
        ("qalone-00002-of-00003.gguf", "16115582f903736895721b6b999ed38ce1c0315a6f8d7fd6c2a9b2103223db28"),
        ("qalone-00003-of-00003.gguf", "7e06869c75b9786c2b51e60098591a7d8ee645b5a5e8e2dc4cc7b787bdf28e36"),
    ];
    keep(&files[0], "qalone.gguf", &kept);

    let one = [("one-00001-of-00001.gguf", "8160ccb375d8abf4829543e3ba93bb6022c75322becadd66c127fc1cec91553f")];
    keep(&bf16_file(), "one.gguf", &one);
}

#[test]
fn a_split_that_does_not_fit_the_model_is_refused() {
    let source = Memory::of_matrices(&["a.weight", "b.weight"], 8);
    let dir = tempfile::tempdir().unwrap();
    let mut output = output_of(&source, &dir.path().join("a.gguf"), |t| t.dtype);
    output.split = Split::Like(vec![1, 2]);
    let error = run(&source, &[output], &QuantizeOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a.gguf: is to be split into 3 tensors, but the model has 2"), "{error}");
    assert_eq!(names_in(dir.path()), [""; 0]);
}

/// A model of 16 blocks in the order of their names (0, 1, 10, 11 .. 15, 2 ..), which is not that of the layers.
fn in_order_of_names() -> (Memory, Metadata) {
    let mut names: Vec<String> = ["output_norm", "token_embd"].map(str::to_owned).to_vec();
    for block in 0..16 {
        let kinds = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
        names.extend(kinds.map(|kind| format!("blk.{block}.{kind}")));
    }
    names.sort();
    let names: Vec<String> = names.into_iter().map(|name| format!("{name}.weight")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("llama".into()));
    for (stem, number) in [
        ("block_count", 16),
        ("context_length", 64),
        ("embedding_length", 256),
        ("feed_forward_length", 256),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("vocab_size", 3),
    ] {
        metadata.set(format!("llama.{stem}"), Value::U32(number));
    }
    metadata.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    metadata.set("tokenizer.ggml.model", Value::String("no_vocab".into()));
    (Memory::of_matrices(&names, 3), metadata)
}

/// llama-quantize --keep-split [--prune-layers 3,11] ... Q4_K_M of that model in parts of 50 tensors. Which layers get more bits
/// follows from the order in which it meets them.
#[test]
fn a_kept_split_decides_in_the_order_of_the_file() {
    let (memory, metadata) = in_order_of_names();
    let dir = tempfile::tempdir().unwrap();
    let source = Output {
        metadata: metadata.clone(),
        split: limits(None, Some(50), false),
        ..output_of(&memory, &dir.path().join("names.gguf"), |_| DType::F32)
    };
    let made = run(&memory, &[source], &QuantizeOptions::default()).unwrap().remove(0);
    let keep = |prune: &str, to: &str, expected: &[(&str, &str)]| {
        let prune_layers = prune.split_terminator(',').map(|n| n.parse().unwrap()).collect();
        let choices = PlanOptions { keep_split: true, prune_layers, ..PlanOptions::default() };
        let mut output = output_by(&memory, "q4_k_m", &dir.path().join(to), &metadata, &choices);
        output.metadata = output.plan.metadata(&metadata);
        output.keep_split(&made.path).unwrap();
        check(&memory, output, expected);
    };
    let kept = [
        ("kept-00001-of-00003.gguf", "b1b065dc72aefb0495ed5f6f03eaab4143a879e4b110de0973186b694de5fc94"),
        ("kept-00002-of-00003.gguf", "2e38c86d35c097848ad41ffa980c598c88475735b3b0db1b4f66502a2aee3ddb"),
        ("kept-00003-of-00003.gguf", "0e0430e5ddefd0e8d4080b48853a7a02c520def5b57657e0e31063e4c1b3c74b"),
    ];
    keep("", "kept.gguf", &kept);
    let pruned = [
        ("pruned-00001-of-00003.gguf", "a7bb3f3a6ca2239d8f6c25ba5689257b24c4af46110d7980bfe71728a48409d3"),
        ("pruned-00002-of-00003.gguf", "0c65ee4d667659120a699b6469fce5bfd7c9d1c24dd345472ba17eb5b2bb1f09"),
        ("pruned-00003-of-00003.gguf", "f6c47e4be6439f91f9a99c0718d02e208bb8c2905319cbd222b04d69f1d4790b"),
    ];
    keep("3,11", "pruned.gguf", &pruned);
}

/// llama-quantize itself ends with a segmentation fault where a part keeps none.
#[test]
fn parts_at_the_end_that_keep_no_tensor_go_away() {
    let source = Memory::of_matrices(&["token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_q.weight"], 8);
    let dir = tempfile::tempdir().unwrap();
    let mut output = output_of(&source, &dir.path().join("a.gguf"), |t| t.dtype);
    output.split = limits(None, Some(1), false);
    let made = run(&source, &[output.clone()], &QuantizeOptions::default()).unwrap().remove(0);
    assert_eq!(made.files.len(), 3);
    output.plan.entries.pop();
    output.path = dir.path().join("b.gguf");
    output.keep_split(&made.path).unwrap();
    let kept = run(&source, &[output], &QuantizeOptions::default()).unwrap().remove(0);
    assert!(kept.files.len() == 2 && kept.path.ends_with("b-00001-of-00002.gguf"), "{kept:?}");
}
