//! Q6_K: 256 weights in 16 sub-blocks of 16, each with an 8-bit scale, and 6-bit codes: 6.5625 bits per weight.
//! Weight `i` of sub-block `j` = `d * scales[j] * (code[i] - 32)`.
//!
//! ```text
//! byte  0 ......... 127   128 ....... 191   192 ..... 207   208 209
//!       ql[128]           qh[64]            scales[16] i8   d f16
//!
//! The two halves of 128 weights have 64 bytes of ql and 32 of qh each. With i = 0..32 within a half:
//!       ql[i]       hhhhllll   lower four bits of weights i (l) and i + 64 (h)
//!       ql[i + 32]  hhhhllll   those of weights i + 32 (l) and i + 96 (h)
//!       qh[i]       ddccbbaa   upper two bits of weights i (a), i + 32 (b), i + 64 (c), i + 96 (d)
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{ZERO_GROUP, by_group, symmetric, transpose};
use super::simd::{F32x8, SIMD_WIDTH, nearest_int};
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ6K, 256>(DType::Q6_K, "Q6_K", 14, include_str!("q6_k.wgsl"))
    .of_integers(integers::<BlockQ6K, 256, 16, 1>(CodeValues::Range { bits: 6, offset: 32 }, LevelValues::Bytes, false));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ6K {
    ql: [u8; 128],
    qh: [u8; 64],
    scales: [i8; 16],
    d: F16,
}
const _: () = assert!(size_of::<BlockQ6K>() == 210);

impl BlockQ6K {
    /// ggml's `quantize_row_q6_K_ref` and `_impl`, which differ only in the weights: `x^2`, or the importance alone.
    #[inline(always)]
    fn new<V: F32x8>(x: &[[f32; 16]; 16], importance: Option<&[[f32; 16]; 16]>) -> Self {
        let (scales, searched) = Self::search::<V>(x, importance);
        let (mut max, mut amax) = (0.0, 0.0);
        for scale in scales {
            if scale.abs() > amax {
                (max, amax) = (scale, scale.abs());
            }
        }
        let mut block: Self = bytemuck::Zeroable::zeroed();
        if amax < ZERO_GROUP {
            return block;
        }
        let inverse = -128.0 / max;
        block.d = F16::from_f32(1.0 / inverse);
        block.scales = scales.map(|scale| nearest_int(inverse * scale).min(127) as i8);

        // Round the weights anew to the scales as stored; a sub-block whose scale became 0 keeps the codes of the search.
        let d = block.d.to_f32();
        let mut codes = searched;
        for j in 0..16 {
            let scale = d * f32::from(block.scales[j]);
            if scale != 0.0 {
                codes[j] = x[j].map(|x| (nearest_int(x / scale).clamp(-32, 31) + 32) as u8);
            }
        }
        block.pack(codes.as_flattened());
        block
    }

    /// The best scale of each sub-block and the codes that go with it.
    #[inline(always)]
    fn search<V: F32x8>(x: &[[f32; 16]; 16], importance: Option<&[[f32; 16]; 16]>) -> ([f32; 16], [[u8; 16]; 16]) {
        let (mut scales, mut codes) = ([0.0; 16], [[0; 16]; 16]);
        for first in [0, SIMD_WIDTH] {
            let lanes = transpose(&x[first..first + SIMD_WIDTH]);
            let w = match importance {
                Some(importance) => transpose(&importance[first..first + SIMD_WIDTH]),
                None => lanes.map(|x| x.map(|x| x * x)),
            };
            let mut found = [[0.0; SIMD_WIDTH]; 16];
            scales[first..first + SIMD_WIDTH].copy_from_slice(&symmetric::<V, 16>(&lanes, &w, 32, &mut found));
            codes[first..first + SIMD_WIDTH].copy_from_slice(&by_group(&found));
        }
        (scales, codes)
    }

    #[inline(always)]
    fn pack(&mut self, codes: &[u8]) {
        let halves = codes.as_chunks::<128>().0.iter();
        for ((q, ql), qh) in halves.zip(self.ql.as_chunks_mut::<64>().0).zip(self.qh.as_chunks_mut::<32>().0) {
            for i in 0..32 {
                ql[i] = q[i] & 15 | q[i + 64] << 4;
                ql[i + 32] = q[i + 32] & 15 | q[i + 96] << 4;
                qh[i] = q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 | q[i + 96] >> 4 << 6;
            }
        }
    }
}

impl QuantBlock<256> for BlockQ6K {
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
        let d = self.d.to_f32();
        let scale = self.scales.map(|scale| d * f32::from(scale));
        let halves = self.ql.as_chunks::<64>().0.iter().zip(self.qh.as_chunks::<32>().0).zip(out.as_chunks_mut::<128>().0);
        for (half, ((ql, qh), out)) in halves.enumerate() {
            // Runs of 16 weights share a scale.
            for run in 0..2 {
                let scale: [f32; 4] = std::array::from_fn(|quarter| scale[8 * half + 2 * quarter + run]);
                for i in 16 * run..16 * run + 16 {
                    let codes = [
                        ql[i] & 15 | (qh[i] & 3) << 4,
                        ql[i + 32] & 15 | (qh[i] >> 2 & 3) << 4,
                        ql[i] >> 4 | (qh[i] >> 4 & 3) << 4,
                        ql[i + 32] >> 4 | (qh[i] >> 6) << 4,
                    ];
                    for quarter in 0..4 {
                        out[32 * quarter + i] = scale[quarter] * (i32::from(codes[quarter]) - 32) as f32;
                    }
                }
            }
        }
    }
}

impl Affine<256, 16> for BlockQ6K {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<16, 1>) {
        (Self { scales: [1; 16], d: F16::ONE, ..*self }, Factors::leveled([self.d.to_f32()], self.scales))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 % 64) as u8);
        let mut block = BlockQ6K { ql: [0; 128], qh: [0; 64], scales: [0; 16], d: F16::from_f32(0.25) };
        block.scales = std::array::from_fn(|j| j as i8 - 8);
        block.pack(&codes);
        assert_eq!(block.ql[64 + 33], codes[128 + 33] & 15 | codes[128 + 97] << 4);
        let mut out = [0.0; 256];
        block.decode(&mut out);
        let expected = std::array::from_fn(|i| 0.25 * ((i / 16) as f32 - 8.0) * (f32::from(codes[i]) - 32.0));
        assert_eq!(out, expected);
    }
}
