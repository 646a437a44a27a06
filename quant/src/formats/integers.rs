//! Weights as small integers: `weight = scale * code + offset`, with one scale and one offset for 16 or 32 neighbours. What
//! products with activations in 8 bits are made of.
//!
//! The codes of a block are what it decodes to with every scale 1 and every offset 0, so nothing here unpacks bits. Formats whose
//! weights are no integers of 8 bits times a scale (floats, grids of points) have no such form.

use super::Format;
use super::block::QuantBlock;

/// How a format's weights come apart.
pub struct Integers {
    /// Neighbours that share a scale: 16 or 32.
    pub group: usize,
    /// Whether offsets may be other than 0.
    pub has_offsets: bool,
    /// Takes whole blocks apart.
    pub unpack: Unpack,
}

/// Takes whole blocks apart: a code per weight, a scale and an offset per group.
pub type Unpack = fn(bytes: &[u8], codes: &mut [i8], scales: &mut [f32], offsets: &mut [f32]);

/// A block of `N` weights in `GROUPS` groups.
pub(super) trait Affine<const N: usize, const GROUPS: usize>: QuantBlock<N> {
    /// The block with scales of 1 and offsets of 0; the scales; the offsets. The decoder computes `scale * code + offset` with
    /// just these.
    fn split(&self) -> (Self, [f32; GROUPS], [f32; GROUPS]);
}

/// The form of a format with offsets, or without.
pub(super) const fn integers<B: Affine<N, GROUPS>, const N: usize, const GROUPS: usize>(has_offsets: bool) -> Integers {
    const { assert!(N / GROUPS == 16 || N / GROUPS == 32) };
    Integers { group: N / GROUPS, has_offsets, unpack: unpack::<B, N, GROUPS> }
}

fn unpack<B: Affine<N, GROUPS>, const N: usize, const GROUPS: usize>(
    bytes: &[u8],
    codes: &mut [i8],
    scales: &mut [f32],
    offsets: &mut [f32],
) {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    let (codes, scales) = (codes.as_chunks_mut::<N>().0, scales.as_chunks_mut::<GROUPS>().0);
    let offsets = offsets.as_chunks_mut::<GROUPS>().0;
    assert!([codes.len(), scales.len(), offsets.len()] == [blocks.len(); 3], "so many blocks were not expected");
    let mut decoded = [0.0; N];
    for (((block, codes), scales), offsets) in blocks.iter().zip(codes).zip(scales).zip(offsets) {
        let unit;
        (unit, *scales, *offsets) = block.split();
        unit.decode(&mut decoded);
        *codes = decoded.map(|code| code as i8);
    }
}

impl Format {
    /// The same for weights that are integers times a scale.
    pub(super) const fn of_integers(self, integers: Integers) -> Self {
        Self { integers: Some(integers), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::DType;
    use crate::random::SplitMix64;

    /// Any bytes but scales that are not finite: codes, scales and offsets give the decoder's weights to the last bit.
    #[test]
    fn integers_scales_and_offsets_are_the_weights() {
        let mut random = SplitMix64::new(1);
        let mut tried = Vec::new();
        for &dtype in DType::ALL {
            let Some(integers) = dtype.integers() else { continue };
            tried.push(dtype);
            let (mut offsets_seen, mut finite) = (false, 0);
            for _ in 0..200 {
                let bytes: Vec<u8> = (0..dtype.row_bytes(512).unwrap()).map(|_| random.bits() as u8).collect();
                let (mut decoded, mut codes) = ([0.0; 512], [0; 512]);
                let (mut scales, mut offsets) = (vec![0.0; 512 / integers.group], vec![0.0; 512 / integers.group]);
                dtype.decode_row(&bytes, &mut decoded);
                (integers.unpack)(&bytes, &mut codes, &mut scales, &mut offsets);
                for (i, decoded) in decoded.iter().enumerate().filter(|(_, weight)| weight.is_finite()) {
                    let product = scales[i / integers.group] * f32::from(codes[i]);
                    let offset = offsets[i / integers.group];
                    let weight = if integers.has_offsets { product + offset } else { product };
                    assert_eq!(weight.to_bits(), decoded.to_bits(), "{dtype}: weight {i}");
                    offsets_seen |= offset != 0.0;
                    finite += 1;
                }
            }
            assert_eq!(offsets_seen, integers.has_offsets, "{dtype}");
            assert!(finite > 1000, "{dtype}");
        }
        assert!(tried.len() >= 13, "{tried:?}");
    }
}
