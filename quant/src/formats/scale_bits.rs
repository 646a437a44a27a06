//! New scales for a block: where the bits of its bases and levels lie, as `block_bits.rs` shows them.

use super::block_bits::{NOWHERE, set};
use super::f16::F16;
use super::{Integers, TakenApart};

/// Bits of the widest level.
const WIDEST: usize = 8;
/// Of a base, an f16.
const BASE_BITS: usize = 16;

/// The scales of a block, `base * level` for each group of neighbours, and its offsets.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockScales {
    /// What the scales are multiples of.
    pub base: f32,
    /// By group; of no meaning where all levels are 1.
    pub levels: Vec<i8>,
    /// What the offsets are multiples of.
    pub offset_base: f32,
    /// By group; of no meaning where all levels are 1.
    pub offset_levels: Vec<i8>,
}

/// Where the scales and offsets of a format's block lie.
#[derive(Debug)]
pub struct ScaleBits {
    scale: Field,
    /// `None` where offsets are always 0.
    offset: Option<Field>,
}

/// Scales or offsets.
#[derive(Debug)]
struct Field {
    /// The base of a block of zeros: 0, of the other sign where the base is stored with the other sign.
    zero_base: f32,
    /// The levels of such a block.
    zero_levels: Vec<i8>,
    /// The place of each bit of the base, from the lowest on.
    base: [u16; BASE_BITS],
    /// By group: the place of each bit of the level.
    levels: Vec<[u16; WIDEST]>,
    /// Bits of a level: 0 where all are 1.
    bits: usize,
    /// Whether the uppermost bit of a level is its sign.
    is_signed: bool,
}

impl BlockScales {
    /// All scales and offsets times a number, rounded as files hold them.
    #[must_use]
    pub fn stretched(&self, by: f32) -> Self {
        let (base, offset_base) = (ScaleBits::stored(by * self.base), ScaleBits::stored(by * self.offset_base));
        Self { base, offset_base, ..self.clone() }
    }
}

impl ScaleBits {
    /// Nothing is known but a block of zeros; `None` where a block has other than one base.
    pub(super) fn new(integers: &Integers, zeros: &TakenApart) -> Option<Self> {
        let scale = Field::new(&zeros.scale_bases, &zeros.scale_levels)?;
        let offset = Field::new(&zeros.offset_bases, &zeros.offset_levels)?;
        Some(Self { scale, offset: integers.has_offsets.then_some(offset) })
    }

    /// Learns from what a bit changed; `None` where scales are other than a base in f16 and levels of whole bits.
    pub(super) fn see(mut self, place: u16, parts: &TakenApart) -> Option<Self> {
        self.scale.see(place, parts.scale_bases[0], &parts.scale_levels)?;
        if let Some(offset) = &mut self.offset {
            offset.see(place, parts.offset_bases[0], &parts.offset_levels)?;
        }
        Some(self)
    }

    /// Whether every bit was found.
    pub(super) fn is_whole(&self) -> bool {
        self.scale.is_whole() && self.offset.as_ref().is_none_or(Field::is_whole)
    }

    /// The number that a base becomes in a file: the nearest f16.
    pub fn stored(base: f32) -> f32 {
        F16::from_f32(base).to_f32()
    }

    /// The least and the largest level of scales; `None` where all are 1, so that the block has one scale.
    pub fn scale_range(&self) -> Option<(i8, i8)> {
        self.scale.range()
    }

    /// The same for offsets.
    pub fn offset_range(&self) -> Option<(i8, i8)> {
        self.offset.as_ref().and_then(Field::range)
    }

    /// Replaces the scales and offsets of a block; codes stay.
    ///
    /// # Panics
    /// If the block is none of the format.
    pub fn place(&self, scales: &BlockScales, block: &mut [u8]) {
        self.scale.place(scales.base, &scales.levels, block);
        if let Some(offset) = &self.offset {
            offset.place(scales.offset_base, &scales.offset_levels, block);
        }
    }
}

impl Field {
    fn new(bases: &[f32], levels: &[i8]) -> Option<Self> {
        let &[zero_base] = bases else { return None };
        let (base, places) = ([NOWHERE; BASE_BITS], vec![[NOWHERE; WIDEST]; levels.len()]);
        Some(Self { zero_base, zero_levels: levels.to_vec(), base, levels: places, bits: 0, is_signed: false })
    }

    /// Learns from what a bit changed; `None` where that is none of what a field can do.
    fn see(&mut self, place: u16, base: f32, levels: &[i8]) -> Option<()> {
        if base.to_bits() != self.zero_base.to_bits() {
            let is_of = |bit: &usize| {
                let one: F16 = bytemuck::cast((1u16 << bit).to_le_bytes());
                [one.to_f32(), -one.to_f32()].iter().any(|one| one.to_bits() == base.to_bits())
            };
            self.base[(0..BASE_BITS).find(is_of)?] = place;
        }
        for ((&level, &zero), places) in levels.iter().zip(&self.zero_levels).zip(&mut self.levels) {
            let step = i16::from(level) - i16::from(zero);
            if step != 0 {
                if !step.unsigned_abs().is_power_of_two() {
                    return None;
                }
                let bit = step.unsigned_abs().trailing_zeros() as usize;
                places[bit] = place;
                self.bits = self.bits.max(bit + 1);
                self.is_signed |= step < 0;
            }
        }
        Some(())
    }

    fn is_whole(&self) -> bool {
        let same = |level: &i8| *level == if self.bits == 0 { 1 } else { self.zero_levels[0] };
        let found = |places: &[u16; WIDEST]| !places[..self.bits].contains(&NOWHERE);
        !self.base.contains(&NOWHERE) && self.zero_levels.iter().all(same) && self.levels.iter().all(found)
    }

    fn range(&self) -> Option<(i8, i8)> {
        let count = 1i16 << self.bits;
        let low = if self.is_signed { -count / 2 } else { i16::from(*self.zero_levels.first()?) };
        (self.bits > 0).then_some((low as i8, (low + count - 1) as i8))
    }

    fn place(&self, base: f32, levels: &[i8], block: &mut [u8]) {
        let base = if self.zero_base.is_sign_negative() { -base } else { base };
        set(block, &self.base, u16::from_le_bytes(bytemuck::cast(F16::from_f32(base))));
        if self.bits == 0 {
            return;
        }
        assert_eq!(levels.len(), self.levels.len());
        for ((&level, &zero), places) in levels.iter().zip(&self.zero_levels).zip(&self.levels) {
            // The lower bits of a negative difference are those of its complement, as they are stored.
            set(block, &places[..self.bits], (i16::from(level) - i16::from(zero)) as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CodeBits, DType};
    use super::*;
    use crate::random::SplitMix64;

    /// Codes stay, and scales become what was asked for, to the bit.
    #[test]
    fn scales_are_replaced_and_codes_stay() {
        let mut random = SplitMix64::new(4);
        let mut ranges = Vec::new();
        for &dtype in DType::ALL {
            let Some(bits) = CodeBits::of(dtype).and_then(CodeBits::scales) else { continue };
            ranges.push((dtype.name(), bits.scale_range(), bits.offset_range()));
            let integers = dtype.integers().unwrap();
            for _ in 0..20 {
                let mut block: Vec<u8> = (0..dtype.block_bytes()).map(|_| random.bits() as u8).collect();
                let (mut before, mut after) = (TakenApart::default(), TakenApart::default());
                integers.take_apart(&block, &mut before);
                let groups = before.scale_levels.len();
                let mut levels = |range: Option<(i8, i8)>| -> Vec<i8> {
                    let (low, high) = range.unwrap_or((1, 1));
                    let count = (i16::from(high) - i16::from(low) + 1) as usize;
                    (0..groups).map(|_| (i16::from(low) + random.below(count) as i16) as i8).collect()
                };
                let (levels, offset_levels) = (levels(bits.scale_range()), levels(bits.offset_range()));
                let [base, offset_base] = [0; 2].map(|_| ScaleBits::stored(random.unit() as f32 - 0.5));
                bits.place(
                    &BlockScales { base, levels: levels.clone(), offset_base, offset_levels: offset_levels.clone() },
                    &mut block,
                );
                integers.take_apart(&block, &mut after);
                assert_eq!(before.codes, after.codes, "{dtype}");
                assert_eq!((after.scale_bases[0].to_bits(), after.scale_levels), (base.to_bits(), levels), "{dtype}");
                if integers.has_offsets {
                    let found = (after.offset_bases[0].to_bits(), after.offset_levels);
                    assert_eq!(found, (offset_base.to_bits(), offset_levels), "{dtype}");
                }
            }
        }
        let (one, six, nibble) = (None, Some((-32, 31)), Some((0, 15)));
        for expected in [
            ("Q4_0", one, one),
            ("Q4_1", one, one),
            ("Q5_0", one, one),
            ("Q5_1", one, one),
            ("Q2_K", nibble, nibble),
            ("Q3_K", six, one),
            ("Q4_K", Some((0, 63)), Some((0, 63))),
            ("Q5_K", Some((0, 63)), Some((0, 63))),
            ("Q6_K", Some((-128, 127)), one),
            ("IQ4_NL", one, one),
            ("IQ4_XS", six, one),
            ("TQ2_0", one, one),
        ] {
            assert!(ranges.contains(&expected), "{expected:?} is not among {ranges:?}");
        }
    }
}
