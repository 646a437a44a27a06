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
    if isa == Isa::Avx512 && panel.is_multiple_of(SQUARE) {
        let whole = k - k % SQUARE;
        for j in (0..panel).step_by(SQUARE) {
            for c in (0..whole).step_by(SQUARE) {
                // SAFETY: the rows j .. j + 16 and columns c .. c + 16 are within both, as was just checked; the processor has
                // AVX-512.
                unsafe { exchange(rows.as_ptr().add(j * k + c), k, out.as_mut_ptr().add(c * panel + j), panel) };
            }
        }
        return from_column(isa, rows, k, panel, whole, out);
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
unsafe fn exchange(rows: *const f32, stride: usize, out: *mut f32, out_stride: usize) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_finds_its_place() {
        for (k, panel) in [(1, 16), (15, 48), (16, 16), (40, 32), (64, 48), (33, 5)] {
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
