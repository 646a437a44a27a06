//! NVFP4: 64 weights in 4 sub-blocks of 16, each with an 8-bit float as scale, and 4-bit floats: 4.5 bits per weight. Weight
//! `i` of sub-block `j` = `d[j] / 2 * value[code[i]]`; `fp4.rs` has the values, doubled. The scale of the whole tensor that
//! NVIDIA's recipe has besides is a matter of the file, not of the block.
//!
//! ```text
//! byte  0 .... 3            4 ............. 35
//!       d[4]                qs[32], 8 bytes a sub-block
//!       UE4M3: 0eeeemmm     byte i: hhhhllll   l code of weight i, h code of weight i + 8
//! ```

use super::block::QuantBlock;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::nibbles::{look_up, nibbles};
use super::search::largest_magnitude;
use super::simd::F32x8;
use super::{DType, Format, fp4};

pub(super) const FORMAT: Format = Format::of::<BlockNvfp4, 64>(DType::NVFP4, "NVFP4", 40, include_str!("nvfp4.wgsl"))
    .of_integers(integers::<BlockNvfp4, 64, 4, 4>(CodeValues::Table(&fp4::VALUES), LevelValues::One, false));

/// 64 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockNvfp4 {
    d: [u8; 4],
    qs: [[u8; 8]; 4],
}
const _: () = assert!(size_of::<BlockNvfp4>() == 36);

/// The UE4M3 nearest to a non-negative number, halves up, as ggml's `ggml_fp32_to_ue4m3` gives it: 256 and up become 448.
#[inline(always)]
fn to_ue4m3(x: f32) -> u8 {
    if x >= 248.0 {
        return 0x7e;
    }
    if x < 1.0 / 64.0 {
        // Subnormal, in steps of 2^-9; ggml never carries over to the first normal number.
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    // Exponent with bias 7 instead of 127, three bits of mantissa, the fourth rounds; its carry is the exponent's.
    ((((x.to_bits() >> 19) + 1) >> 1) - (120 << 3)) as u8
}

impl QuantBlock<64> for BlockNvfp4 {
    /// ggml's `quantize_row_nvfp4_ref`; it takes no notice of importance.
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.as_chunks::<16>().0.as_chunks::<4>().0.iter().zip(blocks) {
            for (j, x) in x.iter().enumerate() {
                block.d[j] = to_ue4m3(largest_magnitude::<V, 16>(x) / 6.0);
                let mut codes = [0; 16];
                fp4::nearest::<V>(x, fp4::half_of_ue4m3(block.d[j]), &mut codes);
                block.qs[j] = std::array::from_fn(|i| codes[i] | codes[i + 8] << 4);
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 64]) {
        for (j, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let d = fp4::half_of_ue4m3(self.d[j]);
            for (out, value) in out.iter_mut().zip(look_up::<16>(&fp4::VALUES, &nibbles(&self.qs[j]))) {
                *out = f32::from(value) * d;
            }
        }
    }
}

impl Affine<64, 4, 4> for BlockNvfp4 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<4, 4>) {
        // Half of 2.0 in that format of four bits of exponent.
        (Self { d: [0x40; 4], ..*self }, Factors::scales(self.d.map(fp4::half_of_ue4m3)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 64] = std::array::from_fn(|i| (1 + i / 16) as f32 * f32::from(fp4::VALUES[i % 16]));
        let mut bytes = [0; 36];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..6], [0x40, 0x48, 0x4c, 0x50, 0x00, 0x91]);
        assert_eq!(bytes[35], 0xf7);
        let mut back = [0.0; 64];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }

    #[test]
    fn scales_are_rounded_as_ggml_does() {
        let check = |x: f32, expected: u8| assert_eq!(to_ue4m3(x), expected, "{x}");
        check(0.0, 0);
        check(1.0, 0x38);
        check(1.0625, 0x39);
        check(1.0624, 0x38);
        check(240.0, 0x77);
        check(248.0f32.next_down(), 0x77);
        check(248.0, 0x7e);
        check(300.0, 0x7e);
        check(1e30, 0x7e);
        check(1.0 / 64.0, 0x08);
        check((1.0f32 / 64.0).next_down(), 7);
        check(1.0 / 1025.0, 0);
        check(1.0 / 1024.0, 1);
        for d in 0..0x78 {
            check(2.0 * fp4::half_of_ue4m3(d), d);
        }
    }
}
