//! Rows into the panel form that the kernels of `gemm.rs` read: the numbers of one column of all rows side by side.
//!
//! Absent: decoding, and what a panel is for.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::isa::{Isa, per_isa};

/// Rows and columns exchanged at a time.
const SQUARE: usize = 16;

/// `out[c, j] = rows[j, c]` for `panel` rows of `k` numbers.
pub fn interleave(isa: Isa, rows: &[f32], k: usize, panel: usize, out: &mut [f32]) {
    assert!(rows.len() >= panel * k && out.len() >= panel * k);
    #[cfg(target_arch = "x86_64")]
    {
        /// Exchanges a square of numbers; see [`exchange_16`].
        type Exchange = unsafe fn(*const f32, usize, *mut f32, usize);
        let (square, exchange): (usize, Exchange) = match isa {
            Isa::Avx512 => (16, exchange_16),
            Isa::Avx2 => (8, exchange_8),
            Isa::Portable => return from_column(isa, rows, k, panel, 0, out),
        };
        if panel.is_multiple_of(square) {
            let whole = k - k % square;
            for j in (0..panel).step_by(square) {
                for c in (0..whole).step_by(square) {
                    // SAFETY: the rows and columns of the square are within both, as was just checked; the processor has the
                    // instructions of `isa`.
                    unsafe { exchange(rows.as_ptr().add(j * k + c), k, out.as_mut_ptr().add(c * panel + j), panel) };
                }
            }
            return from_column(isa, rows, k, panel, whole, out);
        }
    }
    from_column(isa, rows, k, panel, 0, out);
}

per_isa! {
    /// The same for the columns from `first` on.
    fn from_column(rows: &[f32], k: usize, panel: usize, first: usize, out: &mut [f32]) {
        // Blocks of columns keep both sides in the first-level cache.
        for c0 in (first..k).step_by(SQUARE) {
            let c1 = (c0 + SQUARE).min(k);
            for j in 0..panel {
                let row = &rows[j * k..][c0..c1];
                for (c, &v) in (c0..c1).zip(row) {
                    out[c * panel + j] = v;
                }
            }
        }
    }
}

/// A square of 16 x 16 numbers, its rows `stride` apart, to one with rows `out_stride` apart: numbers, then pairs, then quarters
/// of vectors change places. SAFETY: all rows of both squares are valid.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn exchange_16(rows: *const f32, stride: usize, out: *mut f32, out_stride: usize) {
    let mut r = [_mm512_setzero_ps(); SQUARE];
    for (i, r) in r.iter_mut().enumerate() {
        // SAFETY: by the caller's promise.
        *r = unsafe { _mm512_loadu_ps(rows.add(i * stride)) };
    }
    let mut t = r;
    for i in (0..SQUARE).step_by(2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    // Afterwards quarter q of r[4 i + j] has column 4 q + j of the rows 4 i .. 4 i + 4.
    for i in (0..SQUARE).step_by(4) {
        let t = [_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 2]), _mm512_castps_pd(t[i + 3])];
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(t[0], t[2]));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(t[0], t[2]));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(t[1], t[3]));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(t[1], t[3]));
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    for j in 0..4 {
        let even = [_mm512_shuffle_f32x4::<EVEN>(r[j], r[4 + j]), _mm512_shuffle_f32x4::<EVEN>(r[8 + j], r[12 + j])];
        let odd = [_mm512_shuffle_f32x4::<ODD>(r[j], r[4 + j]), _mm512_shuffle_f32x4::<ODD>(r[8 + j], r[12 + j])];
        let columns = [
            _mm512_shuffle_f32x4::<EVEN>(even[0], even[1]),
            _mm512_shuffle_f32x4::<EVEN>(odd[0], odd[1]),
            _mm512_shuffle_f32x4::<ODD>(even[0], even[1]),
            _mm512_shuffle_f32x4::<ODD>(odd[0], odd[1]),
        ];
        for (q, column) in columns.into_iter().enumerate() {
            // SAFETY: by the caller's promise.
            unsafe { _mm512_storeu_ps(out.add((4 * q + j) * out_stride), column) };
        }
    }
}

/// The same for a square of 8 x 8 numbers: numbers, then pairs, then halves of vectors change places. SAFETY: all rows of both
/// squares are valid.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn exchange_8(rows: *const f32, stride: usize, out: *mut f32, out_stride: usize) {
    const LOW: i32 = 0b01_00_01_00;
    const HIGH: i32 = 0b11_10_11_10;
    // Half h of quarters[i + q] has column 4 h + q of the rows i .. i + 4.
    let mut quarters = [_mm256_setzero_ps(); 8];
    for i in [0, 4] {
        // SAFETY: by the caller's promise.
        let r: [__m256; 4] = std::array::from_fn(|j| unsafe { _mm256_loadu_ps(rows.add((i + j) * stride)) });
        let [a, b] = [_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1])];
        let [c, d] = [_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3])];
        quarters[i] = _mm256_shuffle_ps::<LOW>(a, c);
        quarters[i + 1] = _mm256_shuffle_ps::<HIGH>(a, c);
        quarters[i + 2] = _mm256_shuffle_ps::<LOW>(b, d);
        quarters[i + 3] = _mm256_shuffle_ps::<HIGH>(b, d);
    }
    for q in 0..4 {
        let halves = [
            _mm256_permute2f128_ps::<0x20>(quarters[q], quarters[4 + q]),
            _mm256_permute2f128_ps::<0x31>(quarters[q], quarters[4 + q]),
        ];
        for (h, column) in halves.into_iter().enumerate() {
            // SAFETY: by the caller's promise.
            unsafe { _mm256_storeu_ps(out.add((4 * h + q) * out_stride), column) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_finds_its_place() {
        for (k, panel) in [(1, 16), (15, 48), (16, 16), (40, 32), (64, 48), (24, 8), (33, 5)] {
            let rows: Vec<f32> = (0..k * panel).map(|i| i as f32).collect();
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; k * panel];
                interleave(isa, &rows, k, panel, &mut out);
                for (c, column) in out.chunks_exact(panel).enumerate() {
                    for (j, &v) in column.iter().enumerate() {
                        assert_eq!(v, rows[j * k + c], "{isa:?}, {k} columns of {panel} rows");
                    }
                }
            }
        }
    }
}
