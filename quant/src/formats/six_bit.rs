//! What Q4_K and Q5_K share: 256 weights in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum. Weight `i` of
//! sub-block `j` = `d * sc[j] * code[i] - dmin * m[j]`. Storing the codes is left to the formats.
//!
//! ```text
//! scales  0..4    SSssssss   s sc[j]                 S upper two bits of sc[j + 4]
//!         4..8    MMmmmmmm   m m[j]                  M upper two bits of m[j + 4]       (j = 0..4)
//!         8..12   mmmmssss   s lower four of sc[j + 4], m lower four of m[j + 4]
//! ```

use super::f16::F16;
use super::integers::Factors;
use super::search::{AffineSearch, Groups, affine, in_steps, mean_square, positive, scale_importance, sum, transpose};
use super::simd::{F32x8, SIMD_WIDTH, nearest_int};

/// How a format searches.
pub(super) struct Searches {
    /// ggml's search without an importance matrix.
    pub plain: AffineSearch,
    /// ggml's search with one.
    pub weighted: AffineSearch,
}

/// The scale of the scales, that of the minimums, and both in their 12 bytes.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct SixBit {
    pub d: F16,
    pub dmin: F16,
    pub scales: [u8; 12],
}
const _: () = assert!(size_of::<SixBit>() == 16);

/// One code for each weight, by sub-block.
pub(super) type Codes = [[u8; 32]; 8];

/// The 6-bit scales `sc` and minimums `m` of the sub-blocks in their 12 bytes.
#[inline(always)]
pub(super) fn pack_scales(sc: &[u8; 8], m: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = sc[j] | sc[j + 4] >> 4 << 6;
        packed[j + 4] = m[j] | m[j + 4] >> 4 << 6;
        packed[j + 8] = sc[j + 4] & 15 | m[j + 4] << 4;
    }
    packed
}

/// `sc` and `m` out of the 12 bytes.
#[inline(always)]
fn unpack_scales(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut sc, mut m) = ([0; 8], [0; 8]);
    for j in 0..4 {
        sc[j] = packed[j] & 63;
        m[j] = packed[j + 4] & 63;
        sc[j + 4] = packed[j + 8] & 15 | packed[j] >> 6 << 4;
        m[j + 4] = packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4;
    }
    (sc, m)
}

impl SixBit {
    /// Scales of 1 and minimums of 0.
    pub(super) const UNIT: Self = Self { d: F16::ONE, dmin: F16::ZERO, scales: [1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1] };

    /// Calls `store` with the scales and codes of each super-block of `x`.
    #[inline(always)]
    pub(super) fn encode<V: F32x8, B>(
        x: &[f32],
        importance: Option<&[f32]>,
        searches: &Searches,
        blocks: &mut [B],
        store: impl Fn(Self, &Codes) -> B,
    ) {
        let x = x.as_chunks::<32>().0.as_chunks::<8>().0;
        match importance {
            None => {
                for (x, block) in x.iter().zip(blocks) {
                    let (scales, codes) = Self::plain::<V>(x, &searches.plain);
                    *block = store(scales, &codes);
                }
            }
            Some(importance) => {
                let importance = importance.as_chunks::<32>().0.as_chunks::<8>().0;
                for ((x, importance), block) in x.iter().zip(importance).zip(blocks) {
                    let (scales, codes) = Self::weighted::<V>(x, importance, &searches.weighted);
                    *block = store(scales, &codes);
                }
            }
        }
    }

    /// ggml's `quantize_row_q4_K_ref`: weights `rms of the sub-block + |x|`, scales rounded to 63rds of the largest.
    #[inline(always)]
    fn plain<V: F32x8>(x: &[[f32; 32]; 8], search: &AffineSearch) -> (Self, Codes) {
        let lanes = transpose(x);
        let mut sum = V::splat(0.0);
        for x in &lanes {
            sum = sum + V::load(x) * V::load(x);
        }
        let rms = (sum / V::splat(32.0)).sqrt();
        let mut w = [[0.0; SIMD_WIDTH]; 32];
        for (w, x) in w.iter_mut().zip(&lanes) {
            *w = (rms + V::load(x).abs()).store();
        }
        let mut codes = [[0.0; SIMD_WIDTH]; 32];
        let found = affine::<V, 32>(&lanes, &w, search, &mut codes);
        let ((d, sc), (dmin, m)) = (in_steps(&found.scale, 63.0), in_steps(&found.min, 63.0));
        Self::with_scales(x, d, dmin, &sc.map(|sc| sc.min(63)), &m.map(|m| m.min(63)), &codes, search.max_code)
    }

    /// ggml's `quantize_row_q4_K_impl`: weights `importance * sqrt(2 mean square of the block + x^2)`, scales by search.
    #[inline(always)]
    fn weighted<V: F32x8>(x: &[[f32; 32]; 8], importance: &[[f32; 32]; 8], search: &AffineSearch) -> (Self, Codes) {
        let sigma2 = V::splat(mean_square(x.as_flattened(), 2.0));
        let (lanes, mut w) = (transpose(x), transpose(importance));
        scale_importance::<V, 32>(&lanes, &mut w, sigma2);
        let sum_w = sum::<V, 32>(&w);
        let mut codes = [[0.0; SIMD_WIDTH]; 32];
        let found = affine::<V, 32>(&lanes, &w, search, &mut codes);
        let (mut sc, mut m) = ([0; 8], [0; 8]);
        let d = positive(&found.scale, &sum_w, 63, &mut sc);
        let dmin = positive(&found.min, &sum_w, 63, &mut m);
        Self::with_scales(x, d, dmin, &sc, &m, &codes, search.max_code)
    }

    /// Rounds the weights anew to the scales as stored; a sub-block whose scale became 0 keeps the codes of the search.
    #[inline(always)]
    fn with_scales(
        x: &[[f32; 32]; 8],
        d: f32,
        dmin: f32,
        sc: &[u8; 8],
        m: &[u8; 8],
        searched: &Groups<32>,
        max_code: i32,
    ) -> (Self, Codes) {
        let stored = Self { d: F16::from_f32(d), dmin: F16::from_f32(dmin), scales: pack_scales(sc, m) };
        let (scale, min) = stored.unpack();
        let mut codes = [[0; 32]; 8];
        for j in 0..8 {
            for i in 0..32 {
                let rounded = nearest_int((x[j][i] + min[j]) / scale[j]).clamp(0, max_code) as u8;
                codes[j][i] = if scale[j] == 0.0 { searched[i][j] as u8 } else { rounded };
            }
        }
        (stored, codes)
    }

    /// Scale and minimum of each sub-block.
    #[inline(always)]
    pub(super) fn unpack(&self) -> ([f32; 8], [f32; 8]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        let (sc, m) = unpack_scales(&self.scales);
        (sc.map(|sc| d * f32::from(sc)), m.map(|m| dmin * f32::from(m)))
    }

    /// What scales and offsets are made of.
    #[inline(always)]
    pub(super) fn factors(&self) -> Factors<8, 1> {
        let (sc, m) = unpack_scales(&self.scales);
        Factors {
            scale_bases: [self.d.to_f32()],
            offset_bases: [-self.dmin.to_f32()],
            scale_levels: sc.map(|sc| sc as i8),
            offset_levels: m.map(|m| m as i8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_survive_packing() {
        let (sc, m) = ([0, 1, 15, 16, 47, 48, 62, 63], [63, 33, 2, 60, 31, 17, 5, 42]);
        assert_eq!(unpack_scales(&pack_scales(&sc, &m)), (sc, m));
    }
}
