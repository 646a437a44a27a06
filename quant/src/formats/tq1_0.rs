//! TQ1_0: 256 ternary weights with one scale, five to a byte, 1.6875 bits per weight. Weight `i` = `d * (code[i] - 1)`.
//!
//! ```text
//! byte  0 .......... 31   32 ......... 47   48 ........ 51   52 53
//!       qs32[32]          qs16[16]          qh[4]            d f16
//!       byte i, weights   byte i, weights   byte i, weights
//!       i, i + 32,        160 + i, 176 + i, 240 + i, 244 + i,
//!       .. i + 128        .. 224 + i        248 + i, 252 + i
//!
//! A byte is ceil(256/243 * n), n the number with the ternary digits code (the fifth of qh 0), first weight first: three
//! times the byte, above bit 8, is the first digit, and what is below goes on with the others.
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::simd::F32x8;
use super::tq2_0::ternary;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockTq1_0, 256>(DType::TQ1_0, "TQ1_0", 34, include_str!("tq1_0.wgsl"))
    .of_integers(integers::<BlockTq1_0, 256, 8, 1>(CodeValues::Range { bits: 2, offset: 1 }, LevelValues::One, false));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockTq1_0 {
    qs32: [u8; 32],
    qs16: [u8; 16],
    qh: [u8; 4],
    d: F16,
}
const _: () = assert!(size_of::<BlockTq1_0>() == 54);

/// Bytes of the digits `codes[i]`, `codes[i + N]` and so on; missing ones are 0.
#[inline(always)]
fn pack<const N: usize>(codes: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| {
        let n = (0..5).fold(0, |n, digit| 3 * n + codes.get(digit * N + i).map_or(0, |&code| u32::from(code)));
        (n * 256).div_ceil(243) as u8
    })
}

/// Weights out of bytes, the digits of which are `N` weights apart.
#[inline(always)]
fn unpack<const N: usize>(bytes: &[u8; N], d: f32, out: &mut [f32]) {
    let mut rest = *bytes;
    for out in out.as_chunks_mut::<N>().0 {
        for (out, rest) in out.iter_mut().zip(&mut rest) {
            let tripled = 3 * u16::from(*rest);
            *out = (f32::from(tripled >> 8) - 1.0) * d;
            *rest = tripled as u8;
        }
    }
}

impl QuantBlock<256> for BlockTq1_0 {
    /// ggml's `quantize_row_tq1_0_ref`; it takes no notice of importance.
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.as_chunks::<256>().0.iter().zip(blocks) {
            let (d, codes) = ternary::<V>(x);
            *block = Self { qs32: pack(&codes[..160]), qs16: pack(&codes[160..240]), qh: pack(&codes[240..]), d };
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        unpack(&self.qs32, d, &mut out[..160]);
        unpack(&self.qs16, d, &mut out[160..240]);
        unpack(&self.qh, d, &mut out[240..]);
    }
}

impl Affine<256, 8> for BlockTq1_0 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<8, 1>) {
        (Self { d: F16::ONE, ..*self }, Factors::scales([self.d.to_f32()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 256] = std::array::from_fn(|i| ((i / 32 * 2 + i) % 3) as f32 / 2.0 - 0.5);
        let mut bytes = [0; 54];
        (FORMAT.encode)(&x, None, &mut bytes);
        // 0, 1, 2, 0, 1 in base three is 46.
        assert_eq!(bytes[0], 49);
        assert_eq!(bytes[52..], [0x00, 0x38]);
        let mut back = [0.0; 256];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }
}
