//! MXFP4: 32 weights with one power of two as scale and 4-bit floats, 4.25 bits per weight (OCP Microscaling Formats
//! Specification 1.0). Weight `i` = `2^(e - 128) * value[code[i]]`; `fp4.rs` has the values, doubled.
//!
//! ```text
//! byte  0    1        2             16
//!       e    qs[0]    qs[1]   ...   qs[15]
//!       u8   hhhhllll               l code of weight i, h code of weight i + 16
//! ```

use super::block::QuantBlock;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::nibbles::{look_up, nibbles};
use super::search::largest_magnitude;
use super::simd::F32x8;
use super::{DType, Format, fp4};

pub(super) const FORMAT: Format = Format::of::<BlockMxfp4, 32>(DType::MXFP4, "MXFP4", 39, include_str!("mxfp4.wgsl"))
    .of_integers(integers::<BlockMxfp4, 32, 1, 1>(CodeValues::Table(&fp4::VALUES), LevelValues::One, false));

/// 32 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockMxfp4 {
    e: u8,
    qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockMxfp4>() == 17);

/// `floor(log2(x))` of a positive number as C's `floorf(log2f(x))` gives it: `log2f` rounds to nearest, so that numbers a few
/// places below a power of two already count as that power.
#[inline(always)]
fn floor_log2(x: f32) -> i32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let bits = if subnormal { x * 8_388_608.0 } else { x }.to_bits();
    let next = (bits >> 23) as i32 - 126 - if subnormal { 23 } else { 0 };
    // 1 + r = x / 2^next; only where r is within 2^-17 of 0 does rounding matter, and there log2(1 + r) = r / ln 2.
    let r = f64::from(f32::from_bits(bits & 0x7f_ffff | 0x3f00_0000)) - 1.0;
    let rounded = (f64::from(next) + r * std::f64::consts::LOG2_E) as f32;
    if rounded == next as f32 { next } else { next - 1 }
}

impl QuantBlock<32> for BlockMxfp4 {
    /// ggml's `quantize_row_mxfp4_ref`; it takes no notice of importance.
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.as_chunks::<32>().0.iter().zip(blocks) {
            let amax = largest_magnitude::<V, 32>(x);
            // Under 2^-125 it wraps around, as in x86 builds of ggml; all codes are 0 then.
            block.e = if amax == 0.0 { 0 } else { (floor_log2(amax) - 2 + 127) as u8 };
            let mut codes = [0; 32];
            fp4::nearest::<V>(x, fp4::half_of_e8m0(block.e), &mut codes);
            block.qs = std::array::from_fn(|i| codes[i] | codes[i + 16] << 4);
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = fp4::half_of_e8m0(self.e);
        for (out, value) in out.iter_mut().zip(look_up::<32>(&fp4::VALUES, &nibbles(&self.qs))) {
            *out = f32::from(value) * d;
        }
    }
}

impl Affine<32, 1> for BlockMxfp4 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<1, 1>) {
        // 2^(128 - 128)
        (Self { e: 128, ..*self }, Factors::scales([fp4::half_of_e8m0(self.e)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 32] = std::array::from_fn(|i| 0.25 * f32::from(fp4::VALUES[i % 16]));
        let mut bytes = [0; 17];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..3], [126, 0x00, 0x11]);
        assert_eq!(bytes[16], 0xff);
        let mut back = [0.0; 32];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }

    /// The expected numbers are those of glibc 2.36.
    #[test]
    fn the_logarithm_is_rounded_before_it_is_cut() {
        let check = |x: f32, expected: i32| assert_eq!(floor_log2(x), expected, "{x:e}");
        check(1.0, 0);
        check(3.0, 1);
        check(4.0f32.next_down(), 1);
        check(8.0f32.next_down(), 3);
        check(1.0f32.next_down(), -1);
        check(f32::MAX, 128);
        check(f32::MIN_POSITIVE, -126);
        check(f32::from_bits(1), -149);
        check(0.125f32.next_down(), -3);
    }
}
