//! Q2_K: 256 weights in 16 sub-blocks of 16, each with a 4-bit scale and a 4-bit minimum, and 2-bit codes: 2.625 bits per
//! weight. Weight `i` of sub-block `j` = `d * sc[j] * code[i] - dmin * m[j]`.
//!
//! ```text
//! byte  0 ......... 15    16 .......... 79    80 81   82 83
//!       scales[16]        qs[64]              d       dmin
//!       byte j: mmmmssss  see two_bit.rs      f16     f16
//!               s sc[j], m m[j]
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{AffineSearch, Loss, affine, by_group, in_steps, mean_square, positive, scale_importance, sum, transpose};
use super::simd::{F32x8, SIMD_WIDTH, nearest_int};
use super::{DType, Format, two_bit};

pub(super) const FORMAT: Format = Format::of::<BlockQ2K, 256>(DType::Q2_K, "Q2_K", 10, include_str!("q2_k.wgsl"))
    .of_integers(integers::<BlockQ2K, 256, 16, 1>(CodeValues::Range { bits: 2, offset: 0 }, LevelValues::Nibbles, true));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ2K {
    scales: [u8; 16],
    qs: [u8; 64],
    d: F16,
    dmin: F16,
}
const _: () = assert!(size_of::<BlockQ2K>() == 84);

/// ggml's search without an importance matrix (`quantize_row_q2_K_ref`) and with one (`quantize_row_q2_K_impl`).
const PLAIN: AffineSearch =
    AffineSearch { max_code: 3, first: -0.5, delta: 0.1, count: 16, clamp_first: false, loss: Loss::Absolute };
const WEIGHTED: AffineSearch =
    AffineSearch { max_code: 3, first: -0.9, delta: 0.05, count: 37, clamp_first: true, loss: Loss::Squared };

/// What the search found for each sub-block.
struct Searched {
    scale: [f32; 16],
    min: [f32; 16],
    sum_w: [f32; 16],
    codes: [[u8; 16]; 16],
}

impl BlockQ2K {
    /// Weighs by `|x|`, or by `importance * sqrt(mean square of the block + x^2)`.
    #[inline(always)]
    fn new<V: F32x8>(x: &[[f32; 16]; 16], importance: Option<&[[f32; 16]; 16]>) -> Self {
        let found = Self::search::<V>(x, importance);
        let (mut sc, mut m) = ([0; 16], [0; 16]);
        let (d, dmin);
        match importance {
            None => {
                (d, sc) = in_steps(&found.scale, 15.0);
                (dmin, m) = in_steps(&found.min, 15.0);
            }
            Some(_) => {
                d = positive(&found.scale, &found.sum_w, 15, &mut sc);
                dmin = positive(&found.min, &found.sum_w, 15, &mut m);
            }
        }
        let scales = std::array::from_fn(|j| sc[j] | m[j] << 4);
        let mut block = Self { scales, qs: [0; 64], d: F16::from_f32(d), dmin: F16::from_f32(dmin) };

        // Round the weights anew to the scales as stored; a sub-block whose scale became 0 keeps the codes of the search.
        let (scale, min) = block.unpack();
        let mut codes = found.codes;
        for j in 0..16 {
            if scale[j] != 0.0 {
                codes[j] = x[j].map(|x| nearest_int((x + min[j]) / scale[j]).clamp(0, 3) as u8);
            }
        }
        block.qs = two_bit::pack(bytemuck::cast_ref(&codes));
        block
    }

    #[inline(always)]
    fn search<V: F32x8>(x: &[[f32; 16]; 16], importance: Option<&[[f32; 16]; 16]>) -> Searched {
        let mut all = Searched { scale: [0.0; 16], min: [0.0; 16], sum_w: [0.0; 16], codes: [[0; 16]; 16] };
        let sigma2 = V::splat(importance.map_or(0.0, |_| mean_square(x.as_flattened(), 1.0)));
        for first in [0, SIMD_WIDTH] {
            let eight = first..first + SIMD_WIDTH;
            let lanes = transpose(&x[eight.clone()]);
            let mut codes = [[0.0; SIMD_WIDTH]; 16];
            let found = match importance {
                None => affine::<V, 16>(&lanes, &lanes.map(|x| x.map(f32::abs)), &PLAIN, &mut codes),
                Some(importance) => {
                    let mut w = transpose(&importance[eight.clone()]);
                    scale_importance::<V, 16>(&lanes, &mut w, sigma2);
                    all.sum_w[eight.clone()].copy_from_slice(&sum::<V, 16>(&w));
                    affine::<V, 16>(&lanes, &w, &WEIGHTED, &mut codes)
                }
            };
            all.scale[eight.clone()].copy_from_slice(&found.scale);
            all.min[eight.clone()].copy_from_slice(&found.min);
            all.codes[eight].copy_from_slice(&by_group(&codes));
        }
        all
    }

    /// Scale and minimum of each sub-block.
    #[inline(always)]
    fn unpack(&self) -> ([f32; 16], [f32; 16]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        (self.scales.map(|byte| d * f32::from(byte & 15)), self.scales.map(|byte| dmin * f32::from(byte >> 4)))
    }
}

impl QuantBlock<256> for BlockQ2K {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        let x = x.as_chunks::<16>().0.as_chunks::<16>().0;
        let importance = importance.map(|w| w.as_chunks::<16>().0.as_chunks::<16>().0);
        for (i, (x, block)) in x.iter().zip(blocks).enumerate() {
            *block = Self::new::<V>(x, importance.map(|w| &w[i]));
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, min) = self.unpack();
        let codes = two_bit::unpack(&self.qs);
        for (j, (out, codes)) in out.as_chunks_mut::<16>().0.iter_mut().zip(codes.as_chunks::<16>().0).enumerate() {
            *out = codes.map(|code| scale[j] * f32::from(code) - min[j]);
        }
    }
}

impl Affine<256, 16> for BlockQ2K {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<16, 1>) {
        let factors = Factors {
            scale_bases: [self.d.to_f32()],
            offset_bases: [-self.dmin.to_f32()],
            scale_levels: self.scales.map(|byte| (byte & 15) as i8),
            offset_levels: self.scales.map(|byte| (byte >> 4) as i8),
        };
        (Self { scales: [1; 16], d: F16::ONE, dmin: F16::ZERO, ..*self }, factors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let scales = std::array::from_fn(|j| (j | (15 - j) << 4) as u8);
        let mut block = BlockQ2K { scales, qs: [0; 64], d: F16::from_f32(0.5), dmin: F16::from_f32(2.0) };
        block.qs[32 + 20] = 0b10_01_11_00;
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], -30.0);
        assert_eq!(out[128 + 32 + 20], 0.5 * 11.0 * 3.0 - 2.0 * 4.0);
        assert_eq!(out[128 + 96 + 20], 0.5 * 15.0 * 2.0);
    }
}
