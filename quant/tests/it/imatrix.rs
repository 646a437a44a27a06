//! Importance matrices from files: both formats as llama.cpp writes them, and what strangers may write. The oracle's
//! matrices are stand-ins made by its `quant_manifest.py`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::gguf::{Array, GgufWriter, Layout, Metadata, TensorSpec, Value};
use bitworth_quant::plan::{ModelOrigin, PlanInput, PlanOptions};
use bitworth_quant::recipe::ModelFacts;
use bitworth_quant::{DType, Imatrix, Plan, Recipe, Result};

use crate::support::oracle;

/// The keys that `llama-imatrix` writes.
fn keys() -> Metadata {
    let mut out = Metadata::new();
    out.set("general.type", Value::String("imatrix".into()));
    out.set("imatrix.datasets", Value::Array(Array::String(vec!["calibration.txt".into(), "more.txt".into()])));
    out.set("imatrix.chunk_count", Value::U32(7));
    out.set("imatrix.chunk_size", Value::U32(512));
    out
}

/// Writes a GGUF file of F32 tensors.
fn write(path: &Path, metadata: &Metadata, tensors: &[(&str, &[usize], &[f32])]) {
    let spec = |(name, shape, _): &(&str, &[usize], &[f32])| TensorSpec {
        name: (*name).to_owned(),
        dtype: DType::F32,
        shape: shape.to_vec(),
    };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    let mut writer = GgufWriter::create(path, Layout::new(path, metadata, &specs).unwrap()).unwrap();
    for (i, (_, _, values)) in tensors.iter().enumerate() {
        writer.write(i, 0, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    }
    writer.commit().unwrap();
}

fn read_gguf(metadata: &Metadata, tensors: &[(&str, &[usize], &[f32])]) -> Result<Imatrix> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write(&path, metadata, tensors);
    Imatrix::open(&path)
}

/// An entry of the older format.
fn entry(name: &str, calls: i32, values: &[f32]) -> Vec<u8> {
    let mut out = (name.len() as i32).to_le_bytes().to_vec();
    out.extend(name.as_bytes());
    out.extend(calls.to_le_bytes());
    out.extend((values.len() as i32).to_le_bytes());
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    out
}

fn legacy(entries: &[Vec<u8>]) -> Vec<u8> {
    [(entries.len() as i32).to_le_bytes().to_vec(), entries.concat()].concat()
}

fn read_bytes(bytes: &[u8]) -> Result<Imatrix> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.dat");
    std::fs::write(&path, bytes).unwrap();
    Imatrix::open(&path)
}

#[track_caller]
fn refused(read: Result<Imatrix>, expected: &[&str]) {
    let error = read.unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn sums_are_divided_by_counts_and_experts_never_reached_weigh_one() {
    let sums = [2.0, 4.0, 9.0, 9.0, 5.0, 0.0];
    let matrix = read_gguf(
        &keys(),
        &[("blk.0.ffn_up_exps.weight.in_sum2", &[2, 3], &sums), ("blk.0.ffn_up_exps.weight.counts", &[1, 3], &[2.0, 0.0, 4.6])],
    );
    let matrix = matrix.unwrap();
    assert_eq!(matrix.weights("blk.0.ffn_up_exps.weight").unwrap(), [1.0, 2.0, 1.0, 1.0, 1.0, 0.0]);
    assert_eq!(matrix.weights("blk.0.ffn_up.weight"), None);
    assert_eq!((matrix.len(), matrix.chunk_count()), (1, 7));
    assert_eq!(matrix.datasets(), ["calibration.txt", "more.txt"]);
}

#[test]
fn the_older_format_is_divided_by_calls() {
    let entries = [entry("a", 4, &[2.0, 8.0]), entry("b", 0, &[3.0]), entry("c", -1, &[0.5])];
    let mut bytes = legacy(&entries);
    let bare = read_bytes(&bytes).unwrap();
    assert_eq!(bare.weights("a").unwrap(), [0.5, 2.0]);
    assert_eq!((bare.weights("b").unwrap(), bare.weights("c").unwrap()), (&[3.0][..], &[0.5][..]));
    assert_eq!((bare.chunk_count(), bare.datasets()), (0, &[][..]));
    bytes.extend(9i32.to_le_bytes());
    bytes.extend(5i32.to_le_bytes());
    bytes.extend(b"a.txt");
    let named = read_bytes(&bytes).unwrap();
    assert_eq!((named.chunk_count(), named.datasets()), (9, &["a.txt".to_owned()][..]));
}

#[test]
fn what_is_written_into_quantized_files_names_the_matrix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{}.gguf", "é".repeat(80)));
    write(&path, &keys(), &[("a.in_sum2", &[2], &[1.0, 1.0]), ("a.counts", &[1], &[1.0])]);
    let metadata = Imatrix::open(&path).unwrap().metadata();
    let names: Vec<&str> = metadata.iter().map(|(key, _)| *key).collect();
    let stems = ["file", "dataset", "entries_count", "chunks_count"].map(|stem| format!("quantize.imatrix.{stem}"));
    assert_eq!(names, stems);
    let Value::String(file) = &metadata[0].1 else { panic!("{:?}", metadata[0]) };
    assert!(path.to_str().unwrap().starts_with(file.as_str()) && (126..=127).contains(&file.len()), "{file}");
    assert_eq!(metadata[1].1, Value::String("calibration.txt".into()));
    assert_eq!((&metadata[2].1, &metadata[3].1), (&Value::U32(1), &Value::U32(7)));
    let nameless = Imatrix::new(Path::new("m"), BTreeMap::from([("a".to_owned(), vec![1.0])]));
    assert_eq!(nameless.metadata().len(), 2, "neither data set nor chunks");
}

#[test]
fn entries_are_included_and_excluded_by_parts_of_names() {
    let matrix =
        || read_bytes(&legacy(&[entry("blk.0.a", 1, &[1.0]), entry("blk.1.a", 1, &[1.0]), entry("b", 1, &[1.0])])).unwrap();
    let left = |m: &Imatrix| ["blk.0.a", "blk.1.a", "b"].map(|name| m.weights(name).is_some());
    let parts = |parts: &[&str]| parts.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
    assert_eq!(left(&matrix().without(&parts(&["blk.0", "b"])).unwrap()), [false, false, false]);
    assert_eq!(left(&matrix().without(&parts(&["blk.0"])).unwrap()), [false, true, true]);
    assert_eq!(left(&matrix().only(&parts(&["blk.1", "0.a"])).unwrap()), [true, true, false]);
    refused(matrix().only(&parts(&["blk.2"])), &["include_weights blk.2", "no entry"]);
    refused(matrix().without(&parts(&["q"])), &["exclude_weights q", "no entry"]);
}

#[test]
fn broken_gguf_matrices_are_refused() {
    let sums: (&str, &[usize], &[f32]) = ("a.in_sum2", &[3], &[1.0, 1.0, 1.0]);
    let counts: (&str, &[usize], &[f32]) = ("a.counts", &[1], &[1.0]);
    for key in ["imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size"] {
        let mut metadata = keys();
        metadata.remove(key);
        refused(read_gguf(&metadata, &[sums, counts]), &[key, "holds no importance matrix"]);
        metadata.set(key, Value::F32(1.0));
        refused(read_gguf(&metadata, &[sums, counts]), &[key, "is not a"]);
    }
    refused(read_gguf(&keys(), &[]), &["m.gguf", "no entries"]);
    refused(read_gguf(&keys(), &[("a.other", &[1], &[1.0])]), &["no entries"]);
    refused(read_gguf(&keys(), &[sums]), &["a.in_sum2", "no counts"]);
    refused(read_gguf(&keys(), &[counts]), &["a.counts", "no sums"]);
    refused(read_gguf(&keys(), &[sums, ("a.counts", &[2], &[1.0, 1.0])]), &["a.in_sum2", "3 sums", "2 counts"]);
    refused(read_gguf(&keys(), &[sums, ("a.counts", &[1], &[0.0])]), &["a.counts", "all counts are zero"]);
    refused(read_gguf(&keys(), &[sums, ("a.counts", &[1], &[-1.0])]), &["a.counts", "a count is -1"]);
    refused(read_gguf(&keys(), &[sums, ("a.counts", &[1], &[f32::NAN])]), &["a.counts", "not a number"]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
        refused(read_gguf(&keys(), &[("a.in_sum2", &[2], &[1.0, bad]), counts]), &["tensor a", "weight 1", "finite"]);
    }
}

#[test]
fn broken_matrices_of_the_older_format_are_refused() {
    refused(read_bytes(b"\0\0\0\0"), &["no entries"]);
    refused(read_bytes(b"abcdefgh"), &["at byte 0", "number of entries"]);
    refused(read_bytes(&(-1i32).to_le_bytes()), &["number of entries", "-1"]);
    refused(read_bytes(&legacy(&[entry("", 1, &[1.0])])), &["no name"]);
    refused(read_bytes(&legacy(&[entry("a", 1, &[]), vec![0; 32]])), &["no name or no values"]);
    refused(read_bytes(&legacy(&[entry("a", 1, &[1.0]), entry("a", 1, &[1.0])])), &["occurs twice"]);
    refused(read_bytes(&legacy(&[entry("a", 1, &[f32::NAN])])), &["tensor a", "weight 0"]);
    let mut lying = legacy(&[entry("a", 1, &[1.0])]);
    lying[13..17].copy_from_slice(&i32::MAX.to_le_bytes());
    refused(read_bytes(&lying), &["number of values", "2147483647"]);
}

/// Cut anywhere, a file is refused or (where the cut takes the optional end away) read as far as it is whole; it never panics.
#[test]
fn files_cut_short_at_every_byte_do_no_harm() {
    let mut old = legacy(&[entry("a", 4, &[2.0, 8.0]), entry("b", 1, &[3.0])]);
    let whole_without_end = old.len();
    old.extend(9i32.to_le_bytes());
    let whole_without_name = old.len();
    old.extend(5i32.to_le_bytes());
    old.extend(b"a.txt");
    for cut in 0..old.len() {
        let whole = cut == whole_without_end || cut == whole_without_name;
        assert_eq!(read_bytes(&old[..cut]).is_ok(), whole, "cut at {cut}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    write(&path, &keys(), &[("a.in_sum2", &[8], &[1.0; 8]), ("a.counts", &[8], &[1.0; 8])]);
    let new = std::fs::read(&path).unwrap();
    for cut in 0..new.len() {
        assert!(read_bytes(&new[..cut]).is_err(), "cut at {cut}");
    }
    for flipped in 0..new.len() {
        let mut bytes = new.clone();
        bytes[flipped] ^= 0xff;
        // Any answer will do.
        drop(read_bytes(&bytes));
    }
}

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    Tensor { name: name.to_owned(), dtype: DType::F16, shape: shape.to_vec() }
}

fn plan(tensors: &[Tensor], recipe: &str, entries: &[(&str, usize)]) -> Result<Plan> {
    let model = ModelFacts { arch: "llama".into(), block_count: 2, head_count: 4, head_count_kv: 4, expert_count: 0 };
    let entries: BTreeMap<_, _> = entries.iter().map(|&(name, n)| (name.to_owned(), vec![1.0; n])).collect();
    let imatrix = (!entries.is_empty()).then(|| Arc::new(Imatrix::new(Path::new("m.gguf"), entries)));
    let input = PlanInput { path: Path::new("model.gguf"), origin: ModelOrigin::Gguf, model: &model, tensors };
    let plan = Plan::new(&input, &Recipe::find(recipe).unwrap(), &PlanOptions { imatrix, ..PlanOptions::default() })?;
    plan.check_importance(input.path)?;
    Ok(plan)
}

#[test]
fn types_that_need_a_matrix_are_refused_without() {
    let tensors = [tensor("token_embd.weight", &[256, 8]), tensor("blk.0.ffn_up.weight", &[256, 8])];
    let check = |recipe: &str, dtype: &str| {
        let error = plan(&tensors, recipe, &[]).unwrap_err().to_string();
        let expected = format!("model.gguf: tensor blk.0.ffn_up.weight: would become {dtype}, which is of use only");
        assert!(error.contains(&expected) && error.contains("with imatrix"), "{recipe}: {error}");
        let made = plan(&tensors, recipe, &[("blk.0.ffn_up.weight", 256)]).unwrap();
        assert_eq!(made.get("blk.0.ffn_up.weight").unwrap().to.name(), dtype, "{recipe}");
        let error = plan(&tensors, recipe, &[("token_embd.weight", 256)]).unwrap_err().to_string();
        assert!(error.contains("m.gguf has no entry for it"), "{recipe}: {error}");
    };
    check("iq1_s", "IQ1_S");
    check("iq1_m", "IQ1_M");
    check("iq2_xxs", "IQ2_XXS");
    check("iq2_xs", "IQ2_XS");
    check("iq2_s", "IQ2_XS");
    check("iq2_m", "IQ2_S");
    check("iq3_xxs", "IQ3_XXS");
    check("q2_k_s", "Q2_K");
    for without in ["q2_k", "iq3_s", "iq4_xs", "tq1_0", "q4_k_m"] {
        plan(&tensors, without, &[]).unwrap();
    }
}

#[test]
fn another_models_matrix_is_refused() {
    let tensors = [tensor("token_embd.weight", &[256, 8]), tensor("blk.0.ffn_up_exps.weight", &[256, 8, 3])];
    let check = |entries: &[(&str, usize)], expected: &[&str]| {
        let error = plan(&tensors, "q4_0", entries).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    plan(&tensors, "q4_0", &[("blk.0.ffn_up_exps.weight", 768)]).unwrap();
    check(
        &[("blk.0.ffn_up_exps.weight", 256)],
        &["m.gguf: tensor blk.0.ffn_up_exps.weight: has 256 weights", "256 columns in each of 3 matrices"],
    );
    check(&[("blk.0.ffn_up.weight", 256), ("x", 3)], &["m.gguf: none of the 2 entries", "model.gguf"]);
    // llama-quantize goes on without the weights of an embedding that it cannot use.
    plan(&tensors, "q4_0", &[("token_embd.weight", 8), ("blk.0.ffn_up_exps.weight", 768)]).unwrap();
    // A tensor that is not encoded asks for no weights.
    plan(&tensors, "copy", &[("blk.0.ffn_up_exps.weight", 256)]).unwrap();
}

#[test]
fn the_oracles_matrices_are_read() {
    for (name, entries, columns) in [("llama31_gqa", 14, 256), ("mixtral", 17, 256)] {
        let Some(path) = oracle(&format!("quant/imatrix/{name}.gguf")) else { return };
        let matrix = Imatrix::open(&path).unwrap();
        assert_eq!((matrix.len(), matrix.chunk_count(), matrix.datasets()), (entries, 1, &["stand-in".to_owned()][..]));
        assert_eq!(matrix.weights("blk.0.attn_q.weight").unwrap().len(), columns);
    }
}
