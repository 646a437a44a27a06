//! What must not change the bytes: threads, memory, hashing, the report, and who else is written.

use bitworth_quant::DType;
use bitworth_quant::checkpoint::{Tensor, TensorBytes};
use bitworth_quant::gguf::{GgufFile, Metadata};
use bitworth_quant::hex::hex;
use bitworth_quant::quantize::{QuantizeOptions, Source, encode_tensor};
use sha2::{Digest, Sha256};

use super::{names_in, run};
use crate::support::memory::{Memory, output, output_of};

/// Large and small matrices, single rows, and one row longer than any piece.
fn mixed() -> Memory {
    let tensor = |(i, shape): (usize, &[usize])| {
        let n: usize = shape.iter().product();
        let bytes = (0..n).flat_map(|k| (((k * 2654435761 + i) % 65521) as f32 / 65521.0 - 0.5).to_le_bytes()).collect();
        (Tensor { name: format!("{i}.weight"), dtype: DType::F32, shape: shape.to_vec() }, bytes)
    };
    let shapes: [&[usize]; 6] = [&[256], &[256, 2_500], &[32, 3, 5], &[65_536, 3], &[7], &[512, 70]];
    Memory::new(shapes.into_iter().enumerate().map(tensor).collect())
}

/// A quantized type where rows allow it.
fn fitting(dtype: DType) -> impl Fn(&Tensor) -> DType {
    move |t| if t.shape.len() > 1 && t.cols().is_multiple_of(dtype.block_len()) { dtype } else { DType::F32 }
}

#[test]
fn neither_threads_nor_memory_change_the_bytes_hashes_and_reports() {
    let source = mixed();
    let dir = tempfile::tempdir().unwrap();
    let clock = || 0.0;
    let mut expected = None;
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for max_memory in [0, 1 << 20, 1 << 40] {
            let types = [DType::Q8_0, DType::F32, DType::Q4_K];
            let outputs = types.map(|dtype| output_of(&source, &dir.path().join(dtype.name()), fitting(dtype)));
            let options =
                QuantizeOptions { max_memory, sync_bytes: 1, sha256: true, report: Some(&clock), ..QuantizeOptions::default() };
            let made = pool.install(|| run(&source, &outputs, &options)).unwrap();
            for made in &made {
                let bytes = std::fs::read(&made.path).unwrap();
                let hash = hex(&Sha256::digest(&bytes));
                assert_eq!(made.files[0].sha256.as_ref(), Some(&hash));
                assert_eq!((made.bytes, made.files[0].bytes), (bytes.len() as u64, bytes.len() as u64));
            }
            assert_eq!(*expected.get_or_insert_with(|| made.clone()), made, "{threads} threads, {max_memory} bytes");
        }
    }
    assert_eq!(names_in(dir.path()), ["F32", "Q4_K", "Q8_0"]);
}

#[test]
fn blocks_are_as_small_as_the_memory_asks_for() {
    let source = mixed();
    let dir = tempfile::tempdir().unwrap();
    let largest = |max_memory: u64| {
        source.reads.lock().unwrap().clear();
        let output = output_of(&source, &dir.path().join("a"), fitting(DType::Q8_0));
        run(&source, &[output], &QuantizeOptions { max_memory, ..QuantizeOptions::default() }).unwrap();
        let reads = source.reads.lock().unwrap();
        reads.iter().filter(|(name, _)| name == "1.weight").map(|(_, rows)| rows.len()).max().unwrap()
    };
    assert_eq!(largest(0), 64, "16 Ki weights");
    assert_eq!(largest(1 << 40), 1024, "256 Ki weights");
}

#[test]
fn the_hash_of_a_file_that_is_not_written_in_order_is_that_of_the_file() {
    let source = mixed();
    let dir = tempfile::tempdir().unwrap();
    let [first, mut second] = ["a", "b"].map(|name| output_of(&source, &dir.path().join(name), fitting(DType::F16)));
    second.plan.entries.reverse();
    let made = run(&source, &[first, second], &QuantizeOptions { sha256: true, ..QuantizeOptions::default() }).unwrap();
    let hash = hex(&Sha256::digest(std::fs::read(&made[1].path).unwrap()));
    assert_eq!(made[1].files[0].sha256.as_ref(), Some(&hash));
}

#[test]
fn a_tensor_encoded_on_the_fly_is_the_one_in_the_file() {
    let source = mixed();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    run(&source, &[output(&source, "q8_0", &path, &Metadata::new())], &QuantizeOptions::default()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    for entry in &file.tensors {
        let made = encode_tensor(&source, &entry.name, entry.dtype, None).unwrap();
        assert!(made == file.bytes(entry)[..], "{}", entry.name);
    }
}

/// A copy is checked by the stored bits alone; every exponent must be told apart.
#[test]
fn copies_are_finite_exactly_where_their_weights_are() {
    let stored = |dtype: DType, bits: u32| match dtype {
        DType::F32 => bits.to_le_bytes().to_vec(),
        _ => (bits as u16).to_le_bytes().to_vec(),
    };
    for (dtype, step) in [(DType::F16, 1), (DType::BF16, 1), (DType::F32, 1 << 16)] {
        let numbers: Vec<u32> = (0..=u16::MAX).map(|i| u32::from(i) * step).collect();
        let finite = |bits: &u32| {
            let mut weight = [0.0];
            dtype.decode_row(&stored(dtype, *bits), &mut weight);
            weight[0].is_finite()
        };
        let (good, bad): (Vec<u32>, Vec<u32>) = numbers.iter().partition(|bits| finite(bits));
        let check = |numbers: &[u32]| {
            let bytes = numbers.iter().flat_map(|&bits| stored(dtype, bits)).collect();
            let tensor = Tensor { name: "a".to_owned(), dtype, shape: vec![numbers.len()] };
            encode_tensor(&Memory::new(vec![(tensor, bytes)]), "a", dtype, None)
        };
        assert!(check(&good).is_ok(), "{dtype}");
        assert!(bad.iter().all(|&bits| check(&[good[0], bits, good[1]]).is_err()), "{dtype}");
    }
}

/// A source that maps a file gives the same as one in memory, however the pages come and go.
#[test]
fn a_mapped_file_is_read_as_it_is() {
    struct Mapped(GgufFile, Memory);
    impl Source for Mapped {
        fn path(&self) -> &std::path::Path {
            &self.0.path
        }
        fn files(&self) -> &[std::path::PathBuf] {
            std::slice::from_ref(&self.0.path)
        }
        fn tensors(&self) -> &[Tensor] {
            &self.1.tensors
        }
        fn read(&self, tensor: &Tensor, rows: std::ops::Range<usize>) -> bitworth_quant::Result<TensorBytes> {
            let entry = self.0.tensors.iter().find(|t| t.name == tensor.name).unwrap();
            let TensorBytes::Mapped(map, range) = self.0.bytes(entry) else { unreachable!() };
            let row = range.len() / tensor.rows();
            Ok(TensorBytes::Mapped(map, range.start + rows.start * row..range.start + rows.end * row))
        }
    }
    let memory = mixed();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    run(&memory, &[output_of(&memory, &path("source.gguf"), |t| t.dtype)], &QuantizeOptions::default()).unwrap();
    let mapped = Mapped(GgufFile::open(&path("source.gguf")).unwrap(), mixed());
    let options = QuantizeOptions { max_memory: 0, ..QuantizeOptions::default() };
    for (name, source) in [("memory", &memory as &dyn Source), ("mapped", &mapped)] {
        let outputs = [DType::F32, DType::Q4_0, DType::F16]
            .map(|dtype| output_of(&memory, &path(&format!("{name}.{dtype}")), fitting(dtype)));
        run(source, &outputs, &options).unwrap();
    }
    for dtype in ["F32", "Q4_0", "F16"] {
        let [a, b] = ["memory", "mapped"].map(|name| std::fs::read(path(&format!("{name}.{dtype}"))).unwrap());
        assert!(a == b, "{dtype}");
    }
}
