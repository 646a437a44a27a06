//! What every backend must compute: each operation against a plain referee in f64, over awkward shapes and every encoding, with
//! sentinels around all that it writes (`guarded.rs`). A backend's tests call [`run`]. Absent: speed, errors, and anything only
//! one backend has.
//!
//! Bounds are stated per operation, relative to the size of what was summed; u is the rounding of one f32 operation.

use bitworth_quant::DType;
use bitworth_quant::checkpoint::TensorBytes;
use bitworth_quant::random::SplitMix64;

use super::backend::{Backend, HostTensor};

mod argmax;
mod attention;
mod batch;
mod guarded;
mod head;
mod recurrent;
mod rowwise;
mod weights;

pub(crate) use attention::attend;

/// 2^-24: half a unit in the last place of f32.
const U: f64 = 1.0 / 16_777_216.0;
/// Row counts around the tile sizes of kernels.
const ROWS: [usize; 5] = [1, 3, 64, 65, 130];

/// Runs every check on `backend`; panics at the first operation that is wrong, naming it.
pub(crate) fn run<B: Backend>(backend: &B) {
    plain(backend);
    encoded(backend, DType::ALL);
}

/// Operations on plain numbers.
pub(crate) fn plain<B: Backend>(backend: &B) {
    rowwise::transfers(backend);
    attention::rope(backend);
    attention::attention(backend);
    attention::attention_few(backend);
    rowwise::elementwise(backend);
    rowwise::combine(backend);
    rowwise::copy_columns(backend);
    rowwise::gather(backend);
    recurrent(backend);
    head::head(backend);
    argmax::argmax(backend);
    head::small_divergences_keep_their_leading_digits(backend);
    batch::attention_rows_do_not_depend_on_their_batch(backend);
    batch::head_rows_do_not_depend_on_their_batch(backend);
}

/// Operations on the states of mixers.
pub(crate) fn recurrent<B: Backend>(backend: &B) {
    recurrent::conv(backend);
    recurrent::recurrences(backend);
    recurrent::results_do_not_depend_on_runs(backend);
}

/// Operations on weights in these encodings.
pub(crate) fn encoded<B: Backend>(backend: &B, dtypes: &[DType]) {
    weights::embed(backend, dtypes);
    weights::norm(backend, dtypes);
    weights::products(backend, dtypes);
    weights::products_of_parts_of_the_weights(backend, dtypes);
    weights::products_in_every_arithmetic_write_their_own(backend, dtypes);
    weights::add_bias(backend, dtypes);
    weights::add_rows(backend, dtypes);
    batch::rows_do_not_depend_on_their_batch(backend, dtypes);
}

/// Repeatable numbers, roughly normal.
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(crate) fn below(&mut self, bound: usize) -> u32 {
        self.0.below(bound) as u32
    }

    /// Mean 0, variance 1.
    fn number(&mut self) -> f32 {
        let sum: f64 = (0..12).map(|_| self.0.unit()).sum();
        (sum - 6.0) as f32
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    /// A random encoded matrix and what it decodes to.
    pub(crate) fn weight(&mut self, dtype: DType, rows: usize, cols: usize) -> (HostTensor, Vec<f32>) {
        let row_bytes = dtype.row_bytes(cols).unwrap();
        let (mut bytes, mut decoded) = (vec![0; rows * row_bytes], vec![0.0; rows * cols]);
        for row in 0..rows {
            let encoded = &mut bytes[row * row_bytes..][..row_bytes];
            dtype.encode_row(&self.numbers(cols), None, encoded);
            dtype.decode_row(encoded, &mut decoded[row * cols..][..cols]);
        }
        (HostTensor { dtype, rows, cols, bytes: TensorBytes::Owned(bytes) }, decoded)
    }
}

/// Column counts that a weight of this encoding may have: odd ones for plain numbers, whole blocks for the others.
fn widths(dtype: DType) -> Vec<usize> {
    if dtype.is_float() { vec![1, 7, 64, 130] } else { vec![dtype.block_len(), 3 * dtype.block_len()] }
}

fn f64s(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

/// Every number of `found` lies within its own bound of `expected`.
fn check(what: &str, found: &[f32], expected: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let (error, bound) = ((f64::from(found) - expected).abs(), bound(i));
        assert!(
            error <= bound,
            "{what}: number {i} is {found} where {expected} is expected: off by {error:e}, allowed {bound:e}"
        );
    }
}

fn check_bits(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "{what}: number {i} is {found} where exactly {expected} is expected");
    }
}
