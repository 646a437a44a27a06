//! Every tensor encoding of the table against ggml itself, and properties that hold for any weights.
//!
//! ggml's bytes come from the oracle `shared/oracle/block_vectors.safetensors` (its maker, `block_vectors.py` beside it,
//! gives the layout). `fixtures/formats/block_vectors.safetensors` is a cut of it that is always there: the types of our
//! table, less the decoded importance rows. After a change of the table, cut it anew:
//! `cargo test -p bitworth-quant --test it formats::cut_the_fixture -- --ignored`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bitworth_quant::DType;
use proptest::prelude::*;
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::support::oracle;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/formats/block_vectors.safetensors");

/// ggml's rows, read from one file.
struct Vectors<'a> {
    tensors: SafeTensors<'a>,
    row_names: Vec<String>,
    undefined: Vec<String>,
}

impl<'a> Vectors<'a> {
    fn new(file: &'a [u8]) -> Self {
        let metadata = SafeTensors::read_metadata(file).unwrap().1.metadata().clone().unwrap();
        let list = |key: &str| serde_json::from_str(&metadata[key]).unwrap();
        Self { tensors: SafeTensors::deserialize(file).unwrap(), row_names: list("rows"), undefined: list("undefined") }
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.tensors.tensor(name).ok().map(|tensor| tensor.data())
    }

    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        Some(self.bytes(name)?.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }

    /// What ggml's C leaves undefined in row `row`.
    fn is_undefined(&self, row: usize) -> bool {
        self.undefined.contains(&self.row_names[row])
    }

    /// Compares all rows `TYPE.q` or the like; returns how many there were.
    fn check_encoding(&self, dtype: DType, tensor: &str, input: &str, importance: Option<&str>) -> usize {
        let Some(expected) = self.bytes(&format!("{dtype}.{tensor}")) else { return 0 };
        let importance = importance.map(|name| self.floats(name).unwrap());
        let input_rows = self.floats(input).unwrap();
        let rows = self.tensors.tensor(input).unwrap().shape()[0];
        let (cols, row_bytes) = (input_rows.len() / rows, expected.len() / rows);
        let mut compared = 0;
        for (row, (x, expected)) in input_rows.chunks(cols).zip(expected.chunks(row_bytes)).enumerate() {
            if input == "input" && self.is_undefined(row) {
                continue;
            }
            let mut encoded = vec![0xee; row_bytes];
            dtype.encode_row(x, importance.as_deref(), &mut encoded);
            assert!(encoded == expected, "{dtype}.{tensor}, row {row}: {}", first_difference(&encoded, expected));
            compared += 1;
        }
        compared
    }

    /// Decodes all rows of `TYPE.q` or `TYPE.imat.q` and compares the bits; returns how many there were.
    fn check_decoding(&self, dtype: DType, suffix: &str) -> usize {
        let encoded = self.bytes(&format!("{dtype}{suffix}.q"));
        let Some((encoded, expected)) = encoded.zip(self.floats(&format!("{dtype}{suffix}.dq"))) else { return 0 };
        let rows = self.row_names.len();
        let rows = encoded.chunks(encoded.len() / rows).zip(expected.chunks(expected.len() / rows));
        let mut compared = 0;
        for (row, (encoded, expected)) in rows.enumerate() {
            let mut decoded = vec![f32::NAN; expected.len()];
            dtype.decode_row(encoded, &mut decoded);
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&decoded) == bits(expected), "{dtype}{suffix}.dq, row {row} ({})", self.row_names[row]);
            compared += 1;
        }
        compared
    }
}

fn first_difference(found: &[u8], expected: &[u8]) -> String {
    let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap();
    let count = found.iter().zip(expected).filter(|(a, b)| a != b).count();
    format!("byte {at} is {:#04x}, ggml's {:#04x} ({count} of {} differ)", found[at], expected[at], expected.len())
}

/// Every type but F32, which ggml has no encoder for, byte for byte in both directions.
fn check_all(file: &[u8]) -> Vec<(DType, [usize; 6])> {
    let vectors = Vectors::new(file);
    let check = |dtype: DType| {
        [
            vectors.check_encoding(dtype, "q", "input", None),
            vectors.check_encoding(dtype, "imat.q", "input", Some("imatrix")),
            vectors.check_encoding(dtype, "wide.q", "wide_input", None),
            vectors.check_encoding(dtype, "wide.imat.q", "wide_input", Some("wide_imatrix")),
            vectors.check_decoding(dtype, ""),
            vectors.check_decoding(dtype, ".imat"),
        ]
    };
    DType::ALL.iter().filter(|&&dtype| dtype != DType::F32).map(|&dtype| (dtype, check(dtype))).collect()
}

/// How many rows of each kind [`check_all`] compares: ggml encodes no floats with importance and some types only with it.
fn rows_of(dtype: DType, decoded_with_importance: usize) -> [usize; 6] {
    match dtype {
        dtype if dtype.is_float() => [15, 0, 0, 0, 16, 0],
        dtype if dtype.needs_importance() => [0, 15, 0, 4, 0, decoded_with_importance],
        _ => [15, 15, 4, 4, 16, decoded_with_importance],
    }
}

#[test]
fn every_type_gives_ggmls_bytes_and_values() {
    let Some(path) = oracle("block_vectors.safetensors") else { return };
    for (dtype, rows) in check_all(&std::fs::read(path).unwrap()) {
        assert_eq!(rows, rows_of(dtype, 16), "rows compared for {dtype}");
    }
}

#[test]
fn every_type_gives_ggmls_bytes_and_values_in_the_fixture() {
    for (dtype, rows) in check_all(&std::fs::read(FIXTURE).unwrap()) {
        assert_eq!(rows, rows_of(dtype, 0), "rows compared for {dtype}");
    }
}

#[test]
#[ignore = "writes the fixture; needs the oracle"]
fn cut_the_fixture() {
    let file = std::fs::read(oracle("block_vectors.safetensors").expect("the oracle")).unwrap();
    let metadata = SafeTensors::read_metadata(&file).unwrap().1.metadata().clone().unwrap();
    let kept = |name: &str| {
        let (stem, suffix) = name.split_once('.').unwrap_or((name, ""));
        suffix != "imat.dq" && (suffix.is_empty() || DType::from_name(stem).is_some())
    };
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let kept: BTreeMap<String, TensorView> = tensors.tensors().into_iter().filter(|(name, _)| kept(name)).collect();
    let metadata: HashMap<String, String> =
        metadata.into_iter().filter(|(key, _)| ["rows", "undefined", "source"].contains(&key.as_str())).collect();
    assert_eq!(kept["input"].dtype(), Dtype::F32);
    safetensors::serialize_to_file(kept, Some(metadata), Path::new(FIXTURE)).unwrap();
}

/// 512 weights of three magnitudes and degrees of unevenness. Every 32nd is at full size, so that no block's scale vanishes
/// in f16.
fn row() -> impl Strategy<Value = Vec<f32>> {
    let magnitude = prop_oneof![Just(1e-2f32), Just(1.0), Just(300.0)];
    let power = prop_oneof![Just(1), Just(3), Just(5)];
    (magnitude, power, proptest::collection::vec(-1.0f32..1.0, 512)).prop_map(|(magnitude, power, x)| {
        x.iter().enumerate().map(|(i, x)| magnitude * if i % 32 == 7 { x.signum() } else { x.powi(power) }).collect()
    })
}

/// Any bits at all: infinities, NaN, subnormals, numbers near the end of the range.
fn any_bits(len: usize) -> impl Strategy<Value = Vec<f32>> {
    let number =
        prop_oneof![any::<u32>().prop_map(f32::from_bits), Just(f32::INFINITY), Just(f32::NAN), Just(0.0), Just(f32::MAX)];
    proptest::collection::vec(number, len)
}

fn encode(dtype: DType, x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; dtype.row_bytes(x.len()).unwrap()];
    dtype.encode_row(x, importance, &mut bytes);
    bytes
}

fn decode(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut x = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dtype.decode_row(bytes, &mut x);
    x
}

/// The largest error of one weight: as a part of the largest magnitude in its block, and in half places of f16's subnormals
/// (2^-25), which is what a small scale loses for each unit of the code it is multiplied with.
///
/// Q4_0 and Q5_0 clip the far side by up to a whole step (1/8, 1/16), Q8_0 rounds by half a step of 1/127; each adds the
/// rounding of the f16 scale, 2^-11. Q5_1 rounds by half a step of 2/31, and its scale and offset by three times 2^-11. Q4_K,
/// Q5_K and Q6_K may clip by a whole step too (2/15, 2/31 and 1/32 of the block's largest),
/// and their searches and the rounding of the sub-blocks' scales may widen the step by a tenth. Q4_1 is to Q4_0 as Q5_1 to
/// Q5_0, Q2_K to Q4_K as 3 to 15; Q3_K fits its scale to all weights of a block by least
/// squares: it may end a ninth below a quarter of the largest, and three such steps leave a third of that. IQ4_NL and IQ4_XS may
/// clip from 134 to 113; the ternary types round by half their scale, Q1_0 may lose all. The 4-bit floats clip from 8 to 6, and a
/// sub-block of NVFP4 vanishes where its scale would be less than half of 2^-9. IQ1, IQ2 and IQ3 have no code for 0, and a weight
/// that counts for little becomes whatever the point best for its neighbours says: a quarter more than the largest at most, and
/// nine times that for IQ1, where the largest may have the level 1/8 and others 9/8.
fn worst_error(dtype: DType) -> (f32, f32) {
    match dtype {
        DType::F32 => (0.0, 0.0),
        DType::F16 => (1.0 / 2048.0, 1.0),
        DType::BF16 => (1.0 / 256.0, 0.0),
        DType::Q4_0 => (1.0 / 8.0 + 1.0 / 2000.0, 8.0),
        DType::Q4_1 => (1.0 / 15.0 + 1.5 / 1000.0, 16.0),
        DType::Q5_0 => (1.0 / 16.0 + 1.0 / 2000.0, 16.0),
        DType::Q5_1 => (1.0 / 31.0 + 1.5 / 1000.0, 32.0),
        DType::Q8_0 => (1.0 / 254.0 + 1.0 / 2000.0, 127.0),
        DType::Q2_K => (1.1 * 2.0 / 3.0, 15.0 * 3.0 + 15.0),
        DType::Q3_K => (1.0 / 3.0, 32.0 * 4.0),
        DType::Q4_K => (1.1 * 2.0 / 15.0, 63.0 * 15.0 + 63.0),
        DType::Q5_K => (1.1 * 2.0 / 31.0, 63.0 * 31.0 + 63.0),
        DType::Q6_K => (1.1 / 32.0, 128.0 * 32.0),
        DType::IQ4_NL => (1.1 * 21.0 / 134.0, 127.0),
        DType::IQ4_XS => (1.1 * 21.0 / 134.0, 32.0 * 127.0),
        DType::TQ1_0 | DType::TQ2_0 | DType::Q2_0 => (1.0 / 2.0 + 1.0 / 2000.0, 1.0),
        DType::MXFP4 => (1.0 / 4.0, 0.0),
        DType::NVFP4 => (1.0 / 4.0, 6.0 * 32768.0),
        DType::Q1_0 => (1.0, 1.0),
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S | DType::IQ3_XXS | DType::IQ3_S => (1.25, 512.0),
        DType::IQ1_S | DType::IQ1_M => (9.0 * 1.25, 512.0),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::F64 => (0.0, 0.0),
    }
}

proptest! {
    #[test]
    fn no_weight_comes_back_further_off_than_its_type_allows(x in row()) {
        for &dtype in DType::ALL {
            let back = decode(dtype, &encode(dtype, &x, None));
            let len = dtype.block_len();
            let (relative, half_places) = worst_error(dtype);
            for (x, back) in x.chunks(len).zip(back.chunks(len)) {
                let amax = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                let bound = relative * amax + half_places * 2f32.powi(-25);
                for (x, back) in x.iter().zip(back) {
                    prop_assert!((x - back).abs() <= bound, "{dtype}: {x} became {back}, largest in the block {amax}");
                }
            }
        }
    }

    #[test]
    fn several_rows_at_once_are_encoded_as_one_by_one(x in row()) {
        for &dtype in DType::ALL {
            let halves = [encode(dtype, &x[..256], None), encode(dtype, &x[256..], None)].concat();
            prop_assert_eq!(encode(dtype, &x, None), halves);
        }
    }

    #[test]
    fn weights_already_on_the_grid_keep_their_bytes(x in row()) {
        let floats = [DType::F32, DType::F16, DType::BF16];
        let with_one_scale = [DType::Q4_0, DType::Q5_0, DType::Q8_0, DType::TQ1_0, DType::TQ2_0, DType::Q2_0, DType::MXFP4];
        for dtype in [&floats[..], &with_one_scale].concat() {
            let once = encode(dtype, &x, None);
            prop_assert_eq!(encode(dtype, &decode(dtype, &once), None), once, "{}", dtype);
        }
    }

    #[test]
    fn no_input_makes_the_encoders_or_decoders_panic(
        x in any_bits(256),
        importance in any_bits(256),
        bytes in any::<[u8; 32]>(),
    ) {
        DType::ALL.par_iter().for_each(|&dtype| {
            decode(dtype, &encode(dtype, &x, None));
            decode(dtype, &encode(dtype, &x, Some(&importance)));
            let any_bytes: Vec<u8> = bytes.iter().copied().cycle().take(dtype.row_bytes(256).unwrap()).collect();
            decode(dtype, &any_bytes);
        });
    }
}

/// 64 rows of 256 normal numbers, by Box and Muller from a fixed generator. Not SplitMix64 as elsewhere: the bounds below were
/// set on these numbers.
fn normal_rows() -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 + 0.5) / (1u64 << 24) as f64
    };
    (0..64 * 256).map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32).collect()
}

/// `sum w (x - decode(encode(x)))^2 / sum w x^2` over rows of 256, `w` = 1 without importance.
fn relative_error(dtype: DType, x: &[f32], encode_with: Option<&[f32]>, measure_with: Option<&[f32]>) -> f64 {
    let (mut lost, mut total) = (0.0, 0.0);
    for x in x.chunks(256) {
        let back = decode(dtype, &encode(dtype, x, encode_with));
        for (i, (&x, &back)) in x.iter().zip(&back).enumerate() {
            let w = f64::from(measure_with.map_or(1.0, |w| w[i]));
            lost += w * f64::from(x - back).powi(2);
            total += w * f64::from(x).powi(2);
        }
    }
    lost / total
}

/// The relative root mean square error of normal weights: no less and no more than so much.
fn normal_error(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F32 => (0.0, 1e-12),
        DType::F16 => (1e-4, 3e-4),
        DType::BF16 => (1e-3, 2e-3),
        DType::Q8_0 => (0.004, 0.007),
        DType::Q6_K => (0.014, 0.022),
        DType::Q5_0 => (0.035, 0.050),
        DType::Q5_1 => (0.025, 0.045),
        DType::Q5_K => (0.028, 0.042),
        DType::Q4_K => (0.06, 0.08),
        DType::Q4_0 => (0.075, 0.1),
        DType::Q4_1 => (0.07, 0.09),
        DType::IQ4_NL => (0.065, 0.085),
        DType::IQ4_XS => (0.065, 0.085),
        DType::NVFP4 => (0.085, 0.105),
        DType::MXFP4 => (0.1, 0.13),
        DType::Q3_K => (0.13, 0.17),
        DType::Q2_K => (0.26, 0.33),
        DType::Q2_0 => (0.6, 0.8),
        DType::TQ1_0 => (0.7, 0.9),
        DType::TQ2_0 => (0.7, 0.9),
        DType::Q1_0 => (0.55, 0.65),
        DType::IQ3_S => (0.15, 0.18),
        DType::IQ3_XXS => (0.19, 0.23),
        DType::IQ2_S => (0.24, 0.28),
        DType::IQ2_XS => (0.28, 0.32),
        DType::IQ2_XXS => (0.32, 0.36),
        DType::IQ1_M => (0.32, 0.9),
        DType::IQ1_S => (0.32, 0.9),
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::F64 => (0.0, 0.0),
    }
}

#[test]
fn normal_weights_lose_what_the_bits_allow() {
    let x = normal_rows();
    for &dtype in DType::ALL {
        let (low, high) = normal_error(dtype);
        let error = relative_error(dtype, &x, None, None).sqrt();
        assert!((low..high).contains(&error), "{dtype}: relative rms error {error}");
    }
}

#[test]
fn importance_lowers_the_weighted_error() {
    let x = normal_rows();
    let importance: Vec<f32> = (0..256).map(|i| if i % 7 == 0 { 20.0 } else { 0.2 }).collect();
    let old = [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1];
    let searched = [DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K, DType::Q6_K, DType::IQ4_NL, DType::IQ4_XS];
    for dtype in [&old[..], &searched].concat() {
        let plain = relative_error(dtype, &x, None, Some(&importance));
        let weighted = relative_error(dtype, &x, Some(&importance), Some(&importance));
        assert!(weighted < 0.9 * plain, "{dtype}: {weighted} with importance, {plain} without");
    }
}
