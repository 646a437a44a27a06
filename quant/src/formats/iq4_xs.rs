//! IQ4_XS: 256 weights in 8 sub-blocks of 32, each with a 6-bit scale, and 4-bit codes of unevenly spaced values: 4.25 bits
//! per weight. Weight `i` of sub-block `j` = `d * (sc[j] - 32) * value[code[i]]`; `iq4.rs` has the values.
//!
//! ```text
//! byte  0 1   2 3                4 .. 7                8 ............. 135
//!       d     scales_h           scales_l[4]           qs[128], 16 bytes a sub-block
//!       f16   bits 2j, 2j + 1:   byte i: hhhhllll      byte i: hhhhllll
//!             upper two of sc[j] lower four of         l weight i, h weight i + 16
//!                                sc[2i] (l), sc[2i + 1] (h)
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{mean_square, signed_max, transpose};
use super::simd::{F32x8, nearest_int};
use super::{DType, Format, iq4};

pub(super) const FORMAT: Format = Format::of::<BlockIq4Xs, 256>(DType::IQ4_XS, "IQ4_XS", 23, include_str!("iq4_xs.wgsl"))
    .of_integers(integers::<BlockIq4Xs, 256, 8, 1>(CodeValues::Table(&iq4::VALUES), LevelValues::Bytes, false));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIq4Xs {
    d: F16,
    scales_h: [u8; 2],
    scales_l: [u8; 4],
    qs: [[u8; 16]; 8],
}
const _: () = assert!(size_of::<BlockIq4Xs>() == 136);

impl BlockIq4Xs {
    /// ggml's `quantize_iq4_xs`.
    #[inline(always)]
    fn new<V: F32x8>(x: &[[f32; 32]; 8], importance: Option<&[[f32; 32]]>) -> Self {
        let lanes = transpose(x);
        let scales = iq4::scales(&lanes, importance, V::splat(mean_square(x.as_flattened(), 2.0)));
        let d = -signed_max::<V, 8>(&scales) / 32.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let sc = scales.map(|scale| nearest_int(inverse * scale).clamp(-32, 31));
        let qs = iq4::codes::<V>(&lanes, &sc.map(|sc| d * sc as f32));
        let mut block = Self { d: F16::from_f32(d), scales_h: [0; 2], scales_l: [0; 4], qs };
        for (j, sc) in sc.iter().enumerate() {
            let sc = (sc + 32) as u8;
            block.scales_l[j / 2] |= (sc & 15) << (j % 2 * 4);
            block.scales_h[j / 4] |= sc >> 4 << (j % 4 * 2);
        }
        block
    }
}

impl BlockIq4Xs {
    #[inline(always)]
    fn unpack_scales(&self) -> [f32; 8] {
        let d = self.d.to_f32();
        self.scale_levels().map(|level| d * f32::from(level))
    }

    #[inline(always)]
    fn scale_levels(&self) -> [i8; 8] {
        std::array::from_fn(|j| {
            let lower = self.scales_l[j / 2] >> (j % 2 * 4) & 15;
            let upper = self.scales_h[j / 4] >> (j % 4 * 2) & 3;
            (lower | upper << 4) as i8 - 32
        })
    }
}

impl QuantBlock<256> for BlockIq4Xs {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        let x = x.as_chunks::<32>().0.as_chunks::<8>().0;
        let importance = importance.map(|w| w.as_chunks::<32>().0);
        for (i, (x, block)) in x.iter().zip(blocks).enumerate() {
            *block = Self::new::<V>(x, importance.map(|w| &w[8 * i..][..8]));
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        for ((qs, scale), out) in self.qs.iter().zip(self.unpack_scales()).zip(out.as_chunks_mut::<32>().0) {
            iq4::decode(qs, scale, out);
        }
    }
}

impl Affine<256, 8> for BlockIq4Xs {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<8, 1>) {
        // A scale of 1 is stored as 33.
        let unit = Self { d: F16::ONE, scales_h: [0xaa; 2], scales_l: [0x11; 4], ..*self };
        (unit, Factors::leveled([self.d.to_f32()], self.scale_levels()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block = BlockIq4Xs { d: F16::from_f32(0.5), scales_h: [0; 2], scales_l: [0; 4], qs: [[0; 16]; 8] };
        block.scales_h[1] = 0b10_00_00_00;
        block.scales_l[3] = 0x5a;
        block.qs[7][3] = 0xf2;
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], 0.5 * -32.0 * -127.0);
        assert_eq!(out[6 * 32], 0.5 * -22.0 * -127.0);
        assert_eq!(out[7 * 32 + 3], 0.5 * 5.0 * -83.0);
        assert_eq!(out[7 * 32 + 19], 0.5 * 5.0 * 113.0);
    }
}
