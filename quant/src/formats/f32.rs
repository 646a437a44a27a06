//! F32: IEEE single precision, little-endian, 32 bits per weight.
//!
//! ```text
//! byte  0        1        2        3
//!       mmmmmmmm mmmmmmmm emmmmmmm seeeeeee      s sign, e exponent, m mantissa
//! ```

use super::block::QuantBlock;
use super::simd::F32x8;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<F32, 1>(DType::F32, "F32", 0, include_str!("f32.wgsl"));

/// One weight.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct F32([u8; 4]);
const _: () = assert!(size_of::<F32>() == 4);

impl QuantBlock<1> for F32 {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.iter().zip(blocks) {
            block.0 = x.to_le_bytes();
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 1]) {
        out[0] = f32::from_le_bytes(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_pass_unchanged() {
        let x = [1.0, -0.0, f32::INFINITY, f32::from_bits(1), f32::from_bits(0x7fa0_1234)];
        let mut bytes = [0; 20];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..4], [0, 0, 128, 63]);
        let mut back = [0.0; 5];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back.map(f32::to_bits), x.map(f32::to_bits));
    }
}
