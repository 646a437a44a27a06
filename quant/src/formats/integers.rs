//! Weights as small integers: `weight = scale * code + offset`, with one scale and one offset for 16 or 32 neighbours. What
//! products with activations in 8 bits are made of.
//!
//! The codes of a block are what it decodes to with every scale 1 and every offset 0, so nothing here unpacks bits. A scale is a
//! base, shared by more neighbours, times a level of 8 bits; so is an offset. Floats have no such form.

use super::Format;
use super::block::QuantBlock;
use super::grid::signed;

/// How a format's weights come apart.
pub struct Integers {
    /// Neighbours that share a scale: 16 or 32.
    pub group: usize,
    /// Neighbours that share a base: a multiple of `group`.
    pub base: usize,
    /// Whether offsets may be other than 0.
    pub has_offsets: bool,
    /// What the codes can be.
    pub codes: CodeValues,
    /// What the levels can be.
    pub levels: LevelValues,
    take_apart: fn(bytes: &[u8], parts: &mut TakenApart),
    /// The same with signs apart, where the format stores them so.
    take_signs_apart: Option<fn(bytes: &[u8], parts: &mut TakenApart)>,
}

/// The values that codes have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CodeValues {
    /// `-offset .. 2^bits - offset`
    Range {
        /// Bits that hold one.
        bits: u8,
        /// What is added to make it one from 0 on.
        offset: u8,
    },
    /// -1 and 1
    Signs,
    /// The entries of a table.
    Table(&'static [i8; 16]),
    /// Any of 8 bits, stored in fewer as points of a grid.
    Grid,
}

/// The values that levels have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelValues {
    /// All are 1.
    One,
    /// 0 .. 16
    Nibbles,
    /// Any of 8 bits.
    Bytes,
}

/// Weights that were taken apart: `scale = base * level`, and the same for offsets.
#[derive(Debug, Clone, Default)]
pub struct TakenApart {
    /// One per weight.
    pub codes: Vec<i8>,
    /// Of each eight weights a bit for each that is negative, where signs are apart ([`Integers::take_signs_apart`]); the codes
    /// are then from 1 on. Else empty.
    pub signs: Vec<u8>,
    /// One per group.
    pub scale_levels: Vec<i8>,
    /// One per group.
    pub offset_levels: Vec<i8>,
    /// One per base.
    pub scale_bases: Vec<f32>,
    /// One per base.
    pub offset_bases: Vec<f32>,
}

impl TakenApart {
    /// The scale and the offset of a group.
    pub fn factors(&self, group: usize) -> (f32, f32) {
        let base = group / (self.scale_levels.len() / self.scale_bases.len());
        let scale = self.scale_bases[base] * f32::from(self.scale_levels[group]);
        (scale, self.offset_bases[base] * f32::from(self.offset_levels[group]))
    }

    /// The scales of all groups, in order.
    pub fn scales(&self, scales: &mut Vec<f32>) {
        let levels = self.scale_levels.chunks(self.scale_levels.len() / self.scale_bases.len().max(1));
        scales.clear();
        for (base, levels) in self.scale_bases.iter().zip(levels) {
            scales.extend(levels.iter().map(|&level| base * f32::from(level)));
        }
    }

    fn resize(&mut self, weights: usize, groups: usize, bases: usize) {
        self.codes.resize(weights, 0);
        self.signs.clear();
        self.scale_levels.resize(groups, 0);
        self.offset_levels.resize(groups, 0);
        self.scale_bases.resize(bases, 0.0);
        self.offset_bases.resize(bases, 0.0);
    }
}

/// What the scales and offsets of a block are made of.
pub(super) struct Factors<const GROUPS: usize, const BASES: usize = 1> {
    pub scale_bases: [f32; BASES],
    pub offset_bases: [f32; BASES],
    pub scale_levels: [i8; GROUPS],
    pub offset_levels: [i8; GROUPS],
}

impl<const GROUPS: usize, const BASES: usize> Factors<GROUPS, BASES> {
    /// Stores those of block `i`.
    #[inline(always)]
    fn put(&self, i: usize, parts: &mut TakenApart) {
        parts.scale_levels[i * GROUPS..][..GROUPS].copy_from_slice(&self.scale_levels);
        parts.offset_levels[i * GROUPS..][..GROUPS].copy_from_slice(&self.offset_levels);
        parts.scale_bases[i * BASES..][..BASES].copy_from_slice(&self.scale_bases);
        parts.offset_bases[i * BASES..][..BASES].copy_from_slice(&self.offset_bases);
    }

    /// Scales that are their bases, and no offsets.
    pub fn scales(scale_bases: [f32; BASES]) -> Self {
        Self { scale_bases, offset_bases: [0.0; BASES], scale_levels: [1; GROUPS], offset_levels: [1; GROUPS] }
    }

    /// Scales of these levels, and no offsets.
    pub fn leveled(scale_bases: [f32; BASES], scale_levels: [i8; GROUPS]) -> Self {
        Self { scale_levels, ..Self::scales(scale_bases) }
    }
}

/// A block of `N` weights in `GROUPS` groups with `BASES` bases.
pub(super) trait Affine<const N: usize, const GROUPS: usize, const BASES: usize = 1>: QuantBlock<N> {
    /// The block with scales of 1 and offsets of 0, and what its own are made of. The decoder computes `scale * code + offset`
    /// with just these.
    fn split(&self) -> (Self, Factors<GROUPS, BASES>);

    /// The codes: what the block decodes to with scales of 1 and offsets of 0.
    #[inline(always)]
    fn codes(&self, codes: &mut [i8; N]) {
        let mut decoded = [0.0; N];
        self.split().0.decode(&mut decoded);
        for (code, decoded) in codes.iter_mut().zip(&decoded) {
            *code = *decoded as i8;
        }
    }
}

/// The form of a format with offsets, or without.
pub(super) const fn integers<B: Affine<N, GROUPS, BASES>, const N: usize, const GROUPS: usize, const BASES: usize>(
    codes: CodeValues,
    levels: LevelValues,
    has_offsets: bool,
) -> Integers {
    const { assert!(N / GROUPS == 16 || N / GROUPS == 32) };
    let take_apart = take_apart::<B, N, GROUPS, BASES>;
    Integers { group: N / GROUPS, base: N / BASES, has_offsets, codes, levels, take_apart, take_signs_apart: None }
}

fn take_apart<B: Affine<N, GROUPS, BASES>, const N: usize, const GROUPS: usize, const BASES: usize>(
    bytes: &[u8],
    parts: &mut TakenApart,
) {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    parts.resize(blocks.len() * N, blocks.len() * GROUPS, blocks.len() * BASES);
    for (i, block) in blocks.iter().enumerate() {
        block.codes(&mut parts.codes.as_chunks_mut::<N>().0[i]);
        block.split().1.put(i, parts);
    }
}

/// A block of 256 weights whose codes have their signs apart.
pub(super) trait SignedPoints {
    /// Gives `put` each eight weights in turn: their number, the codes without signs, from the lowest byte on and none of them 0,
    /// and a bit for each that is negative.
    fn points(&self, put: impl FnMut(usize, u64, u32));

    /// The codes with their signs.
    #[inline(always)]
    fn signed_codes(&self, codes: &mut [i8; 256]) {
        let codes = codes.as_chunks_mut::<8>().0;
        self.points(|i, levels, signs| codes[i] = signed(levels, signs));
    }
}

fn take_signs_apart<B: Affine<256, GROUPS, 1> + SignedPoints, const GROUPS: usize>(bytes: &[u8], parts: &mut TakenApart) {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    parts.resize(blocks.len() * 256, blocks.len() * GROUPS, blocks.len());
    parts.signs.resize(blocks.len() * 32, 0);
    for (i, block) in blocks.iter().enumerate() {
        let codes = parts.codes.as_chunks_mut::<256>().0[i].as_chunks_mut::<8>().0;
        let signs = &mut parts.signs.as_chunks_mut::<32>().0[i];
        block.points(|i, levels, bits| {
            codes[i] = bytemuck::cast(levels.to_le_bytes());
            signs[i] = bits as u8;
        });
        block.split().1.put(i, parts);
    }
}

impl Integers {
    /// The same for blocks with signs apart.
    pub(super) const fn with_signs<B: Affine<256, GROUPS, 1> + SignedPoints, const GROUPS: usize>(self) -> Self {
        Self { take_signs_apart: Some(take_signs_apart::<B, GROUPS>), ..self }
    }

    /// Takes whole blocks apart.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    pub fn take_apart(&self, bytes: &[u8], parts: &mut TakenApart) {
        (self.take_apart)(bytes, parts);
    }

    /// The same, but signs stay apart where the format stores them so, which is less work. Else [`TakenApart::signs`] is empty.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    pub fn take_signs_apart(&self, bytes: &[u8], parts: &mut TakenApart) {
        self.take_signs_apart.unwrap_or(self.take_apart)(bytes, parts);
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
    use super::{CodeValues, LevelValues, TakenApart};
    use crate::random::SplitMix64;

    /// Any bytes but scales that are not finite: codes, scales and offsets give the decoder's weights to the last bit, and are
    /// what the form says.
    #[test]
    fn integers_scales_and_offsets_are_the_weights() {
        let mut random = SplitMix64::new(1);
        for &dtype in DType::ALL.iter().filter(|dtype| !dtype.is_float()) {
            let integers = dtype.integers().unwrap_or_else(|| panic!("{dtype} has no integers"));
            let (mut offsets_seen, mut finite) = (false, 0);
            for _ in 0..200 {
                let bytes: Vec<u8> = (0..dtype.row_bytes(512).unwrap()).map(|_| random.bits() as u8).collect();
                let (mut decoded, mut parts) = ([0.0; 512], TakenApart::default());
                dtype.decode_row(&bytes, &mut decoded);
                integers.take_apart(&bytes, &mut parts);
                assert_eq!(parts.codes.len(), 512, "{dtype}");
                assert_eq!(parts.scale_levels.len(), 512 / integers.group, "{dtype}");
                assert_eq!(parts.scale_bases.len(), 512 / integers.base, "{dtype}");
                let mut apart = TakenApart::default();
                integers.take_signs_apart(&bytes, &mut apart);
                let turned = |(i, &code): (usize, &i8)| match apart.signs.get(i / 8) {
                    Some(signs) if signs >> (i % 8) & 1 == 1 => -code,
                    _ => code,
                };
                let with_signs: Vec<i8> = apart.codes.iter().enumerate().map(turned).collect();
                assert!(with_signs == parts.codes, "{dtype}");
                let mut scales = Vec::new();
                apart.scales(&mut scales);
                assert_eq!(scales.len(), 512 / integers.group, "{dtype}");
                assert!(scales.iter().enumerate().all(|(g, scale)| scale.to_bits() == parts.factors(g).0.to_bits()), "{dtype}");
                for (i, decoded) in decoded.iter().enumerate().filter(|(_, weight)| weight.is_finite()) {
                    let (scale, offset) = parts.factors(i / integers.group);
                    let product = scale * f32::from(parts.codes[i]);
                    let weight = if integers.has_offsets { product + offset } else { product };
                    assert_eq!(weight.to_bits(), decoded.to_bits(), "{dtype}: weight {i}");
                    offsets_seen |= offset != 0.0;
                    finite += 1;
                }
                for &code in &parts.codes {
                    let known = match integers.codes {
                        CodeValues::Range { bits, offset } => (0..1 << bits).contains(&(i32::from(code) + i32::from(offset))),
                        CodeValues::Signs => code.abs() == 1,
                        CodeValues::Table(table) => table.contains(&code),
                        CodeValues::Grid => true,
                    };
                    assert!(known, "{dtype}: {code}");
                }
                for &level in parts.scale_levels.iter().chain(&parts.offset_levels) {
                    let known = match integers.levels {
                        LevelValues::One => level == 1,
                        LevelValues::Nibbles => (0..16).contains(&level),
                        LevelValues::Bytes => true,
                    };
                    assert!(known, "{dtype}: level {level}");
                }
            }
            assert_eq!(offsets_seen, integers.has_offsets, "{dtype}");
            assert!(finite > 1000, "{dtype}");
        }
    }
}
