//! Reading and writing GGUF: broken files each give one clear error, whole ones come back as they were written, and what
//! llama.cpp wrote is read and laid out again byte for byte.

use std::path::Path;

use bitworth_quant::DType;
use bitworth_quant::gguf::{Array, GgufFile, GgufWriter, Layout, Metadata, TensorSpec, Value};
use proptest::prelude::*;

use crate::support::{bf16_file, fixture};

// Type ids of the specification, written out here so that a slip in the reader's own table shows.
const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// A GGUF file put together by hand, to be broken in one place.
#[derive(Clone)]
struct Draft {
    magic: [u8; 4],
    version: u32,
    n_tensors: Option<u64>,
    n_pairs: Option<u64>,
    pairs: Vec<u8>,
    pair_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: usize,
}

fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

impl Draft {
    /// A sound file: no pairs, no tensors, version 3.
    fn new() -> Self {
        let magic = *b"GGUF";
        let (pairs, tensors) = (Vec::new(), Vec::new());
        Self { magic, version: 3, n_tensors: None, n_pairs: None, pairs, pair_count: 0, tensors, tensor_count: 0, data: 0 }
    }

    fn pair(mut self, key: &[u8], type_id: u32, value: &[u8]) -> Self {
        self.pairs.extend([text(key), type_id.to_le_bytes().to_vec(), value.to_vec()].concat());
        self.pair_count += 1;
        self
    }

    fn tensor(mut self, name: &[u8], dims: &[u64], type_id: u32, offset: u64) -> Self {
        self.tensors.extend(text(name));
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| self.tensors.extend(d.to_le_bytes()));
        self.tensors.extend(type_id.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensor_count).to_le_bytes());
        out.extend(self.n_pairs.unwrap_or(self.pair_count).to_le_bytes());
        out.extend(&self.pairs);
        out.extend(&self.tensors);
        out.resize(out.len().next_multiple_of(32) + self.data, 0);
        out
    }
}

fn open(bytes: &[u8]) -> bitworth_quant::Result<GgufFile> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    GgufFile::open(&path)
}

/// Array value: type id of the elements, count, elements.
fn array(of: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&of.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

#[test]
fn a_sound_draft_opens() {
    let draft = Draft::new()
        .pair(b"a", U32, &7u32.to_le_bytes())
        .pair(b"b", STRING, &text(b"word"))
        .pair(b"c", ARRAY, &array(ARRAY, 1, &array(U32, 2, &[1, 0, 0, 0, 2, 0, 0, 0])))
        .tensor(b"x", &[4, 2], 0, 0)
        .tensor(b"y", &[32], 8, 32)
        .data(66);
    for version in [2, 3] {
        let file = open(&Draft { version, ..draft.clone() }.bytes()).unwrap();
        assert_eq!(file.version, version);
        assert_eq!(file.metadata.u64("a"), Some(7));
        assert_eq!(file.metadata.str("b"), Some("word"));
        assert_eq!(file.metadata.get("c"), Some(&Value::Array(Array::Array(vec![Array::U32(vec![1, 2])]))));
        let seen: Vec<_> = file.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.shape.clone(), t.bytes)).collect();
        assert_eq!(seen, [("x", DType::F32, vec![4, 2], 32), ("y", DType::Q8_0, vec![32], 34)]);
        assert_eq!(file.tensors[1].offset, file.data_offset + 32);
    }
}

#[test]
fn every_broken_file_gives_its_error() {
    let check = |name: &str, draft: Draft, expected: &str| {
        let error = match open(&draft.bytes()) {
            Ok(_) => panic!("{name}: opened"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected) && error.contains("model.gguf"), "{name}: {error}");
    };
    let new = Draft::new;
    let number = 7u32.to_le_bytes();

    check("bad magic", Draft { magic: *b"GGML", ..new() }, "begins with \"GGML\" instead of \"GGUF\"");
    check("version 0", Draft { version: 0, ..new() }, "version 0 is not supported");
    check("version 1", Draft { version: 1, ..new() }, "version 1 is not supported; convert the model again");
    check("version 4", Draft { version: 4, ..new() }, "version 4 is not supported");
    check("big-endian", Draft { version: 3u32.swap_bytes(), ..new() }, "big-endian");
    check("too many tensors", Draft { n_tensors: Some(u64::MAX), ..new() }, "the number of tensors is 18446744073709551615");
    check("too many keys", Draft { n_pairs: Some(1 << 40), ..new() }, "the number of metadata keys is 1099511627776");
    check("one key too many", Draft { n_pairs: Some(2), ..new().pair(b"a", U32, &number).data(64) }, "metadata key 1 is empty");

    check("empty key", new().pair(b"", U32, &number), "metadata key 0 is empty");
    check(
        "key past the end",
        new().pair(&[b'k'; 5], U32, &number).with_key_length(1 << 50),
        "metadata key 0 is 1125899906842624",
    );
    check("key not UTF-8", new().pair(&[0xff, 0xfe], U32, &number), "metadata key 0 is not UTF-8");
    check("duplicate key", new().pair(b"a", U32, &number).pair(b"a", U32, &number), "duplicate metadata key \"a\"");
    check("unknown value type", new().pair(b"a", 13, &number), "key \"a\" has the unknown value type 13");
    check("string past the end", new().pair(b"a", STRING, &u64::MAX.to_le_bytes()), "a is 18446744073709551615, but the rest");
    check("boolean of 2", new().pair(b"a", 7, &[2]), "boolean 0 is 2");
    check("array past the end", new().pair(b"a", ARRAY, &array(U32, 1 << 60, &[])), "length of the array \"a\"");
    check("strings past the end", new().pair(b"a", ARRAY, &array(STRING, 1 << 20, &[])), "length of the array \"a\"");
    check("array of an unknown type", new().pair(b"a", ARRAY, &array(99, 0, &[])), "array of the unknown value type 99");
    let nested = (0..5).fold(array(U32, 0, &[]), |inner, _| array(ARRAY, 1, &inner));
    check("arrays nested too deep", new().pair(b"a", ARRAY, &nested), "nests arrays more than 4 deep");

    let align = |n: u32| new().pair(b"general.alignment", U32, &n.to_le_bytes());
    check("alignment 0", align(0), "alignment 0 is not a power of two");
    check("alignment 33", align(33), "alignment 33 is not a power of two");
    check("alignment 4", align(4), "alignment 4 is not a power of two from 8");
    check("alignment 2^31", align(1 << 31), "alignment 2147483648 is not a power of two from 8 to 1048576");
    check("alignment of a wrong type", new().pair(b"general.alignment", STRING, &text(b"32")), "must be a u32");

    check("tensor without a name", new().tensor(b"", &[4], 0, 0).data(32), "the name of tensor 0 has 0 bytes");
    check("tensor name of 64 bytes", new().tensor(&[b'n'; 64], &[4], 0, 0).data(32), "the name of tensor 0 has 64 bytes");
    check("no dimensions", new().tensor(b"x", &[], 0, 0).data(32), "tensor x: has 0 dimensions");
    check("five dimensions", new().tensor(b"x", &[1; 5], 0, 0).data(32), "tensor x: has 5 dimensions");
    check("dimension of 0", new().tensor(b"x", &[4, 0], 0, 0).data(32), "tensor x: shape [4, 0]");
    check("dimensions overflow", new().tensor(b"x", &[1 << 32, 1 << 32], 0, 0).data(32), "tensor x: the size of shape");
    check("bytes overflow", new().tensor(b"x", &[1 << 62], 0, 0).data(32), "tensor x: the size of shape");
    check("unknown tensor type", new().tensor(b"x", &[4], 250, 0).data(32), "tensor x: has the tensor type 250");
    let refused = |id| new().tensor(b"x", &[4], id, 0).data(32);
    check("FP8", refused(43), "tensor x: is of the type F8_E4M3 (43), which llama.cpp's converter writes since b12032");
    check("a type given up", refused(31), "tensor x: is of the type Q4_0_4_4 (31)");
    check(
        "rows of half a block",
        new().tensor(b"x", &[48], 8, 0).data(64),
        "tensor x: rows of 48 weights do not divide into Q8_0",
    );
    check(
        "duplicate tensor",
        new().tensor(b"x", &[8], 0, 0).tensor(b"x", &[8], 0, 32).data(64),
        "tensor x: duplicate tensor name",
    );
    check(
        "misaligned tensor",
        new().tensor(b"x", &[4], 0, 4).data(64),
        "tensor x: its offset 4 is not a multiple of the alignment 32",
    );
    check(
        "offset overflows",
        new().tensor(b"x", &[4], 0, u64::MAX - 31).data(64),
        "tensor x: its offset 18446744073709551584 overflows",
    );
    check("tensor past the end", new().tensor(b"x", &[64], 0, 0).data(255), "tensor x: truncated file: it needs bytes up to");
    check(
        "overlap",
        new().tensor(b"x", &[16], 0, 0).tensor(b"y", &[8], 0, 32).data(64),
        "tensor y: its bytes overlap those of tensor x",
    );
}

impl Draft {
    /// Overwrites the length of the first key.
    fn with_key_length(mut self, length: u64) -> Self {
        self.pairs[..8].copy_from_slice(&length.to_le_bytes());
        self
    }
}

#[test]
fn known_types_are_listed_for_an_unknown_one() {
    let error = open(&Draft::new().tensor(b"x", &[4], 250, 0).data(32).bytes()).err().unwrap().to_string();
    for dtype in DType::ALL {
        assert!(error.contains(&format!("{dtype} ({})", dtype.ggml_id())), "{error}");
    }
}

#[test]
fn empty_files_directories_and_missing_files_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.gguf");
    std::fs::write(&empty, b"").unwrap();
    let check = |path: &Path, expected: &str| {
        let error = GgufFile::open(path).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains(path.to_str().unwrap()), "{error}");
    };
    check(&empty, "the file is empty");
    check(dir.path(), "not a regular file");
    check(&dir.path().join("none.gguf"), "No such file");
}

/// A small file with a bit of everything.
fn sample() -> (Metadata, Vec<TensorSpec>, Vec<Vec<u8>>) {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::String("llama".into()));
    metadata.set("tokens", Value::Array(Array::String(vec!["a".into(), String::new(), "ü".into()])));
    metadata.set("scores", Value::Array(Array::F32(vec![0.5, -1.0])));
    let spec = |name: &str, dtype, shape: &[usize]| TensorSpec { name: name.into(), dtype, shape: shape.to_vec() };
    let tensors = vec![spec("x", DType::F32, &[3]), spec("y", DType::Q8_0, &[32, 2]), spec("z", DType::F16, &[5, 1, 2])];
    let data = vec![vec![1; 12], vec![2; 68], vec![3; 20]];
    (metadata, tensors, data)
}

fn write(path: &Path, metadata: &Metadata, tensors: &[TensorSpec], data: &[Vec<u8>]) {
    let mut writer = GgufWriter::create(path, Layout::new(path, metadata, tensors).unwrap()).unwrap();
    // Back to front and in two parts, because order must not matter.
    for (i, bytes) in data.iter().enumerate().rev() {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        writer.write(i, first.len() as u64, second).unwrap();
        writer.write(i, 0, first).unwrap();
    }
    let size = writer.commit().unwrap();
    assert_eq!(size, std::fs::metadata(path).unwrap().len());
}

#[test]
fn a_file_cut_at_any_length_is_an_error_or_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole.gguf");
    let (metadata, tensors, data) = sample();
    write(&path, &metadata, &tensors, &data);
    let whole = std::fs::read(&path).unwrap();
    let last = GgufFile::open(&path).unwrap().tensors[2].clone();
    let needed = last.offset as usize + last.bytes;
    assert!(needed < whole.len(), "the last tensor is padded");
    for length in 0..whole.len() {
        match open(&whole[..length]) {
            Err(_) => assert!(length < needed, "only padding is missing at {length} bytes"),
            Ok(file) => {
                assert!(length >= needed, "opened with {length} of {needed} bytes");
                assert_eq!(file.metadata, metadata);
                for (t, bytes) in file.tensors.iter().zip(&data) {
                    assert_eq!(file.bytes(t)[..], bytes[..]);
                }
            }
        }
    }
}

#[test]
fn what_llama_cpp_wrote_is_laid_out_again_byte_for_byte() {
    for original in [bf16_file(), fixture("llama31_gqa.Q4_K_M.gguf")] {
        let file = GgufFile::open(&original).unwrap();
        let spec =
            |t: &bitworth_quant::gguf::TensorEntry| TensorSpec { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() };
        let specs: Vec<_> = file.tensors.iter().map(spec).collect();
        let data: Vec<Vec<u8>> = file.tensors.iter().map(|t| file.bytes(t).to_vec()).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("again.gguf");
        write(&path, &file.metadata, &specs, &data);
        assert!(std::fs::read(&path).unwrap() == std::fs::read(&original).unwrap(), "{} differs", original.display());
    }
}

#[test]
fn a_layout_refuses_what_no_reader_would_take() {
    let check = |tensors: &[(&str, DType, &[usize])], expected: &str| {
        let spec =
            |&(name, dtype, shape): &(&str, DType, &[usize])| TensorSpec { name: name.into(), dtype, shape: shape.to_vec() };
        let tensors: Vec<_> = tensors.iter().map(spec).collect();
        let error = Layout::new(Path::new("out.gguf"), &Metadata::new(), &tensors).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("out.gguf"), "{error}");
    };
    check(&[("x", DType::F32, &[4]), ("x", DType::F32, &[4])], "tensor x: duplicate tensor name");
    check(&[("", DType::F32, &[4])], "its name has 0 bytes");
    check(&[(&"n".repeat(64), DType::F32, &[4])], "its name has 64 bytes");
    check(&[("x", DType::Q4_K, &[128])], "rows of 128 weights do not divide into Q4_K blocks of 256");
    check(&[("x", DType::F32, &[])], "shape []");
    check(&[("x", DType::F32, &[usize::MAX, 2])], "overflows");
}

#[test]
fn an_unfinished_file_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    let (metadata, tensors, data) = sample();
    let mut writer = GgufWriter::create(&path, Layout::new(&path, &metadata, &tensors).unwrap()).unwrap();
    writer.write(0, 0, &data[0]).unwrap();
    let error = writer.write(0, 4, &data[0]).unwrap_err().to_string();
    assert!(error.contains("go past its 12 bytes"), "{error}");
    let error = writer.commit().unwrap_err().to_string();
    assert!(error.contains("tensor 1 got 0 of its 68 bytes"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Writes the parts of a split model, two tensors, one in each; `count` is what the second part says of the whole.
fn write_split(dir: &Path, count: u16) -> Vec<std::path::PathBuf> {
    let name = |i: u16| dir.join(format!("m-{:05}-of-00002.gguf", i + 1));
    for i in 0..2 {
        let mut metadata = Metadata::new();
        metadata.set("split.no", Value::U16(i));
        metadata.set("split.count", Value::U16(if i == 0 { 2 } else { count }));
        metadata.set("split.tensors.count", Value::I32(2));
        let tensors = [TensorSpec { name: format!("t{i}"), dtype: DType::F32, shape: vec![1] }];
        write(&name(i), &metadata, &tensors, &[vec![i as u8; 4]]);
    }
    vec![name(0), name(1)]
}

#[test]
fn a_split_model_opens_as_one_by_any_of_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let paths = write_split(dir.path(), 2);
    for path in &paths {
        let file = GgufFile::open(path).unwrap();
        assert_eq!(file.files().collect::<Vec<_>>(), paths);
        let seen: Vec<_> = file.tensors.iter().map(|t| (t.name.as_str(), file.bytes(t)[0], file.file_of(t))).collect();
        assert_eq!(seen, [("t0", 0, paths[0].as_path()), ("t1", 1, paths[1].as_path())]);
    }
}

#[test]
fn a_split_model_with_a_missing_or_foreign_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let check = |path: &Path, expected: &str| {
        let error = GgufFile::open(path).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let paths = write_split(dir.path(), 3);
    check(&paths[0], "m-00002-of-00002.gguf: should be file 1 (from 0) of 2, but says 1 of 3");
    let paths = write_split(dir.path(), 2);
    let renamed = dir.path().join("other.gguf");
    std::fs::copy(&paths[0], &renamed).unwrap();
    check(&renamed, "not named like NAME-00001-of-00002.gguf");
    std::fs::remove_file(&paths[1]).unwrap();
    check(&paths[0], "m-00002-of-00002.gguf: this file of a model split into 2 is missing");
}

/// Strings that are not UTF-8.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    any::<Vec<u8>>().prop_map(|bytes| [bytes, vec![0xff]].concat())
}

fn any_array() -> impl Strategy<Value = Array> {
    fn some<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
        proptest::collection::vec(of, 0..4)
    }
    let leaf = prop_oneof![
        some(any::<u8>()).prop_map(Array::U8),
        some(any::<i8>()).prop_map(Array::I8),
        some(any::<u16>()).prop_map(Array::U16),
        some(any::<i16>()).prop_map(Array::I16),
        some(any::<u32>()).prop_map(Array::U32),
        some(any::<i32>()).prop_map(Array::I32),
        some(-1e9f32..1e9).prop_map(Array::F32),
        some(any::<bool>()).prop_map(Array::Bool),
        some(any::<String>()).prop_map(Array::String),
        proptest::collection::vec(any_bytes(), 1..4).prop_map(Array::Bytes),
        some(any::<u64>()).prop_map(Array::U64),
        some(any::<i64>()).prop_map(Array::I64),
        some(-1e9f64..1e9).prop_map(Array::F64),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| proptest::collection::vec(inner, 0..3).prop_map(Array::Array))
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        (-1e9f32..1e9).prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::String),
        any_bytes().prop_map(Value::Bytes),
        any_array().prop_map(Value::Array),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        (-1e9f64..1e9).prop_map(Value::F64),
    ]
}

/// Shapes and encodings that fit: the row length is a multiple of the block.
fn any_tensor() -> impl Strategy<Value = (DType, Vec<usize>, u8)> {
    let dims = proptest::collection::vec(1usize..4, 0..3);
    (0..DType::ALL.len(), 1usize..3, dims, any::<u8>()).prop_map(|(i, blocks, dims, fill)| {
        let dtype = DType::ALL[i];
        (dtype, [vec![blocks * dtype.block_len()], dims].concat(), fill)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(
        values in proptest::collection::vec(any_value(), 0..6),
        tensors in proptest::collection::vec(any_tensor(), 0..5),
        alignment in prop_oneof![Just(None), Just(Some(8u32)), Just(Some(256))],
    ) {
        let mut metadata = Metadata::new();
        for (i, value) in values.into_iter().enumerate() {
            metadata.set(format!("key.{i}"), value);
        }
        if let Some(alignment) = alignment {
            metadata.set("general.alignment", Value::U32(alignment));
        }
        let specs: Vec<_> = tensors.iter().enumerate()
            .map(|(i, (dtype, shape, _))| TensorSpec { name: format!("t.{i}"), dtype: *dtype, shape: shape.clone() })
            .collect();
        let data: Vec<Vec<u8>> = tensors.iter()
            .map(|(dtype, shape, fill)| vec![*fill; shape.iter().product::<usize>() / dtype.block_len() * dtype.block_bytes()])
            .collect();

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("round.gguf");
        write(&path, &metadata, &specs, &data);
        let file = GgufFile::open(&path).unwrap();
        prop_assert_eq!(&file.metadata, &metadata);
        prop_assert_eq!(file.alignment, u64::from(alignment.unwrap_or(32)));
        let back: Vec<_> = file.tensors.iter()
            .map(|t| TensorSpec { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() })
            .collect();
        prop_assert_eq!(back, specs);
        for (t, bytes) in file.tensors.iter().zip(&data) {
            prop_assert_eq!(&file.bytes(t)[..], &bytes[..]);
        }
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0usize..400, to in any::<u8>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("changed.gguf");
        let (metadata, tensors, data) = sample();
        write(&path, &metadata, &tensors, &data);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(file) = open(&bytes) {
            for t in &file.tensors {
                prop_assert_eq!(file.bytes(t).len(), t.bytes);
            }
        }
    }
}
