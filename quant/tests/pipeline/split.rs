//! Split files equal those of gguf-py's writer and of llama-quantize (b11434), by their hashes.

use std::path::Path;

use quant::DType;
use quant::checkpoint::Tensor;
use quant::gguf::{GgufFile, Metadata, Value};
use quant::quantize::{Options, Output, Split};

use super::support::fixture;
use super::support::memory::{Memory, output, output_of};
use super::{names_in, run};

/// Makes one output and compares the files by name and hash.
fn check(source: &Memory, output: Output, expected: &[(&str, &str)]) {
    let foretold = output.files().unwrap();
    let made = run(source, &[output], &Options { sha256: true, ..Options::default() }).unwrap().remove(0);
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
    let whole = GgufFile::open(&fixture("llama31_gqa.bf16.gguf")).unwrap();
    let memory = Memory::of_file(&whole);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let keep = |from: &Path, to: &str, expected: &[(&str, &str)]| {
        let file = GgufFile::open(from).unwrap();
        let source = Memory::of_file(&file);
        let mut output = output(&source, "q4_k_m", &path(to), &file.metadata);
        output.keep_split(&source, from).unwrap();
        check(&source, output, expected);
    };

    let split = |name: &str, split: Split| {
        let mut output = output_of(&memory, &path(name), |t| t.dtype);
        (output.metadata, output.split) = (whole.metadata.clone(), split);
        let made = run(&memory, &[output], &Options::default()).unwrap().remove(0);
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
    keep(&fixture("llama31_gqa.bf16.gguf"), "one.gguf", &one);
}

#[test]
fn a_split_that_does_not_fit_the_model_is_refused() {
    let source = Memory::of_matrices(&["a.weight", "b.weight"], 8);
    let dir = tempfile::tempdir().unwrap();
    let mut output = output_of(&source, &dir.path().join("a.gguf"), |t| t.dtype);
    output.split = Split::Like(vec![1, 2]);
    let error = run(&source, &[output], &Options::default()).unwrap_err().to_string();
    assert!(error.contains("a.gguf: is to be split into 3 tensors, but the model has 2"), "{error}");
    assert_eq!(names_in(dir.path()), [""; 0]);
}
