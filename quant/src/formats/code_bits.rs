//! New codes for weights whose scales stand: where the bits of each code lie in a block, as `block_bits.rs` shows them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::block_bits::{NOWHERE, flip_each, set, zeros};
use super::{CodeValues, DType, ScaleBits, TakenApart};

/// Bits of the widest code that can be placed.
const WIDEST: usize = 6;

/// Codes of a format, and where they lie.
#[derive(Debug)]
pub struct CodeBits {
    block_len: usize,
    block_bytes: usize,
    /// What each code stands for, rising: the weight is `scale * value + offset`.
    values: Vec<i8>,
    /// By value: the bits of its code.
    codes: Vec<u8>,
    /// By weight of a block: the place of each bit of its code, from the lowest on.
    places: Vec<[u16; WIDEST]>,
    bits: usize,
    /// Where scales lie; `None` where they cannot be replaced.
    scales: Option<ScaleBits>,
}

impl CodeBits {
    /// Those of a format; `None` where a weight has no code of its own of 2 to 6 bits.
    pub fn of(dtype: DType) -> Option<&'static Self> {
        static FOUND: Mutex<Option<HashMap<DType, Option<&'static CodeBits>>>> = Mutex::new(None);
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let known = found.get_or_insert_with(HashMap::new);
        // Found once for each format, and kept for good.
        *known.entry(dtype).or_insert_with(|| Self::find(dtype).map(|bits| &*Box::leak(Box::new(bits))))
    }

    fn find(dtype: DType) -> Option<Self> {
        let integers = dtype.integers()?;
        let (bits, by_code) = match integers.codes {
            CodeValues::Range { bits, offset } if (2..=WIDEST as u8).contains(&bits) => {
                (usize::from(bits), (0..1i16 << bits).map(|code| (code - i16::from(offset)) as i8).collect())
            }
            CodeValues::Table(table) => (4, table.to_vec()),
            _ => return None,
        };
        let mut order: Vec<u8> = (0..1 << bits).collect();
        order.sort_by_key(|&code| by_code[usize::from(code)]);
        let values: Vec<i8> = order.iter().map(|&code| by_code[usize::from(code)]).collect();
        let (block_len, block_bytes) = (dtype.block_len(), dtype.block_bytes());
        let zeros = zeros(integers, block_bytes);
        let mut places = Some(vec![[NOWHERE; WIDEST]; block_len]);
        let mut scales = ScaleBits::new(integers, &zeros);
        flip_each(integers, block_bytes, |place, parts| {
            places = places.take().and_then(|places| see(places, place, (&zeros, parts), &by_code));
            scales = scales.take().and_then(|scales| scales.see(place, parts));
        });
        let places = places.filter(|places| places.iter().all(|places| !places[..bits].contains(&NOWHERE)))?;
        let scales = scales.filter(ScaleBits::is_whole);
        Some(Self { block_len, block_bytes, values, codes: order, places, bits, scales })
    }

    /// Where the scales of these codes lie; `None` where they cannot be replaced.
    pub fn scales(&self) -> Option<&ScaleBits> {
        self.scales.as_ref()
    }

    /// What codes stand for, rising: a weight is `scale * value + offset`.
    pub fn values(&self) -> &[i8] {
        &self.values
    }

    /// Replaces the codes of whole blocks; scales stay. `chosen` holds for every weight the number of its value in
    /// [`CodeBits::values`].
    ///
    /// # Panics
    /// If `bytes` are not the blocks of as many weights, or a number is too large.
    pub fn place(&self, chosen: &[u8], bytes: &mut [u8]) {
        assert_eq!(chosen.len() / self.block_len * self.block_bytes, bytes.len());
        for (chosen, block) in chosen.chunks_exact(self.block_len).zip(bytes.chunks_exact_mut(self.block_bytes)) {
            for (&chosen, places) in chosen.iter().zip(&self.places) {
                set(block, &places[..self.bits], self.codes[usize::from(chosen)].into());
            }
        }
    }
}

/// Learns from what a bit changed in a block of zeros; `None` where that is several codes, or several bits of one.
fn see(
    mut places: Vec<[u16; WIDEST]>,
    place: u16,
    (zeros, parts): (&TakenApart, &TakenApart),
    by_code: &[i8],
) -> Option<Vec<[u16; WIDEST]>> {
    let mut changed = (0..places.len()).filter(|&weight| parts.codes[weight] != zeros.codes[weight]);
    let Some(weight) = changed.next() else { return Some(places) };
    let code = by_code.iter().position(|&value| value == parts.codes[weight])?;
    if changed.next().is_some() || !code.is_power_of_two() {
        return None;
    }
    places[weight][code.trailing_zeros() as usize] = place;
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    /// Scales stay to the bit, and each weight becomes what was chosen.
    #[test]
    fn codes_are_replaced_and_scales_stay() {
        let mut random = SplitMix64::new(3);
        let mut formats = Vec::new();
        for &dtype in DType::ALL {
            let Some(bits) = CodeBits::of(dtype) else { continue };
            formats.push(dtype.name());
            assert!(bits.values().is_sorted(), "{dtype}");
            let integers = dtype.integers().unwrap();
            let mut bytes: Vec<u8> = (0..dtype.row_bytes(512).unwrap()).map(|_| random.bits() as u8).collect();
            let (mut before, mut after) = (TakenApart::default(), TakenApart::default());
            integers.take_apart(&bytes, &mut before);
            let chosen: Vec<u8> = (0..512).map(|_| random.below(bits.values().len()) as u8).collect();
            bits.place(&chosen, &mut bytes);
            integers.take_apart(&bytes, &mut after);
            assert_eq!(before.scale_levels, after.scale_levels, "{dtype}");
            assert_eq!(before.offset_levels, after.offset_levels, "{dtype}");
            let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same(&before.scale_bases, &after.scale_bases) && same(&before.offset_bases, &after.offset_bases), "{dtype}");
            let expected: Vec<i8> = chosen.iter().map(|&chosen| bits.values()[usize::from(chosen)]).collect();
            assert_eq!(after.codes, expected, "{dtype}");
        }
        // At least these: a format whose codes are no longer found would go without being fitted, and nobody would see it.
        let expected =
            ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ2_0", "Q2_0"];
        let missing: Vec<_> = expected.iter().filter(|&name| !formats.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
