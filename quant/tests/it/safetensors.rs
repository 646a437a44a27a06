//! Opening safetensors checkpoints: order, types, and one clear error for everything that can be missing or wrong.

use std::path::Path;

use bitworth_quant::DType;
use bitworth_quant::safetensors::HfTensors;

/// A safetensors file of one-dimensional tensors of four bytes each.
fn file(tensors: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(i, (name, dtype)): (usize, &(&str, &str))| {
        let length = if *dtype == "F32" { 1 } else { 2 };
        format!(r#""{name}":{{"dtype":"{dtype}","shape":[{length}],"data_offsets":[{},{}]}}"#, 4 * i, 4 * i + 4)
    };
    let entries: Vec<_> = tensors.iter().enumerate().map(entry).collect();
    with_header(&format!("{{{}}}", entries.join(",")), 4 * tensors.len())
}

fn with_header(header: &str, data: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..data).map(|i| (i / 4) as u8).collect();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// A directory with these files.
fn directory(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn index(pairs: &[(&str, &str)]) -> Vec<u8> {
    let pairs: Vec<_> = pairs.iter().map(|(tensor, shard)| format!(r#""{tensor}":"{shard}""#)).collect();
    format!(r#"{{"metadata":{{}},"weight_map":{{{}}}}}"#, pairs.join(",")).into_bytes()
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn tensors_come_by_shard_then_by_name() {
    let dir = directory(&[
        (
            INDEX,
            index(&[("a", "s2.safetensors"), ("z", "s1.safetensors"), ("b", "s2.safetensors"), ("layers.10", "s1.safetensors")]),
        ),
        ("s1.safetensors", file(&[("z", "F32"), ("layers.10", "BF16")])),
        ("s2.safetensors", file(&[("b", "F16"), ("a", "F32")])),
    ]);
    let found = HfTensors::open(dir.path()).unwrap();
    let seen: Vec<_> =
        found.tensors().iter().map(|t| (t.name.as_str(), t.dtype().unwrap(), t.shape.clone(), t.bytes()[0])).collect();
    let expected = [
        ("layers.10", DType::BF16, vec![2], 1),
        ("z", DType::F32, vec![1], 0),
        ("a", DType::F32, vec![1], 1),
        ("b", DType::F16, vec![2], 0),
    ];
    assert_eq!(seen, expected);
    assert_eq!(found.get("a").unwrap().file.file_name().unwrap(), "s2.safetensors");
    assert_eq!(found.files().len(), 2);
}

#[test]
fn one_file_opens_by_its_directory_and_by_its_name() {
    let dir = directory(&[("model.safetensors", file(&[("a", "F32")]))]);
    for path in [dir.path().to_owned(), dir.path().join("model.safetensors")] {
        assert_eq!(HfTensors::open(&path).unwrap().tensors().len(), 1);
    }
}

#[test]
fn a_type_that_gguf_cannot_take_is_an_error_only_when_it_is_used() {
    let dir = directory(&[("model.safetensors", with_header(r#"{"mask":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, 8))]);
    let found = HfTensors::open(dir.path()).unwrap();
    let mask = found.get("mask").unwrap();
    assert_eq!(mask.stored_dtype(), "I64");
    let error = mask.dtype().unwrap_err().to_string();
    assert!(error.contains("model.safetensors: tensor mask: its type I64 is not supported"), "{error}");
}

#[test]
fn everything_missing_or_wrong_is_named() {
    let check = |name: &str, files: &[(&str, Vec<u8>)], expected: &[&str]| {
        let dir = directory(files);
        let error = match HfTensors::open(dir.path()) {
            Ok(_) => panic!("{name}: opened"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(dir.path().to_str().unwrap()), "{name}: {error}");
        assert!(expected.iter().all(|e| error.contains(e)), "{name}: {error}");
    };
    let one = || file(&[("a", "F32")]);
    check("no checkpoint", &[], &["holds neither model.safetensors nor"]);
    check("missing shard", &[(INDEX, index(&[("a", "s1.safetensors")]))], &["s1.safetensors: this shard", "is missing"]);
    let listed_more = index(&[("a", "s.safetensors"), ("b", "s.safetensors")]);
    check(
        "tensor in no shard",
        &[(INDEX, listed_more), ("s.safetensors", one())],
        &["tensor b: the index puts it into s.safetensors"],
    );
    let both = file(&[("a", "F32"), ("b", "F32")]);
    check(
        "tensor not listed",
        &[(INDEX, index(&[("a", "s.safetensors")])), ("s.safetensors", both)],
        &["s.safetensors: tensor b: is not in"],
    );
    let swapped = index(&[("a", "t.safetensors"), ("b", "s.safetensors")]);
    let (s, t) = (("s.safetensors", file(&[("a", "F32")])), ("t.safetensors", file(&[("b", "F32")])));
    check("tensor in another shard", &[(INDEX, swapped), s.clone(), t], &["tensor a: the index puts it into t.safetensors"]);
    let twice = index(&[("a", "s.safetensors"), ("b", "t.safetensors")]);
    let t = ("t.safetensors", file(&[("a", "F32"), ("b", "F32")]));
    check("tensor in two shards", &[(INDEX, twice), s, t], &["t.safetensors: tensor a: is in an earlier shard too"]);
    check("listed twice", &[(INDEX, index(&[("a", "s"), ("a", "t")]))], &["tensor a: is listed twice"]);
    check("shard elsewhere", &[(INDEX, index(&[("a", "../s.safetensors")]))], &["names the shard \"../s.safetensors\""]);
    check("no shards", &[(INDEX, index(&[]))], &["names no shards"]);
    check("index not JSON", &[(INDEX, b"{".to_vec())], &[INDEX, "is not an index of shards"]);
    check("empty file", &[("model.safetensors", Vec::new())], &["model.safetensors: the file is empty"]);
    let header_past_end = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    check("header past the end", &[("model.safetensors", header_past_end)], &["not a whole safetensors file"]);
    let whole = one();
    for length in 1..whole.len() {
        check("cut file", &[("model.safetensors", whole[..length].to_vec())], &["not a whole safetensors file"]);
    }
    let wrong_size = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#;
    check("shape of another size", &[("model.safetensors", with_header(wrong_size, 4))], &["not a whole safetensors file"]);
    let overflow = r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,4]}}"#;
    check("shape overflows", &[("model.safetensors", with_header(overflow, 4))], &["not a whole safetensors file"]);
}

#[test]
fn a_path_that_is_not_there_says_so() {
    let error = HfTensors::open(Path::new("/nowhere/model")).err().unwrap().to_string();
    assert!(error.contains("/nowhere/model: no such file or directory"), "{error}");
}
