//! Where the numbers of a block lie, bit by bit: every bit is flipped to see what changes, so that no format says the same thing
//! twice. Absent: which numbers those are (codes in `code_bits.rs`, scales in `scale_bits.rs`).

use super::{Integers, TakenApart};

/// No place.
pub(super) const NOWHERE: u16 = u16::MAX;

/// A block of zeros, taken apart.
pub(super) fn zeros(integers: &Integers, block_bytes: usize) -> TakenApart {
    let mut parts = TakenApart::default();
    integers.take_apart(&vec![0; block_bytes], &mut parts);
    parts
}

/// Shows what each bit of a block of zeros makes of it, with the bit's place.
pub(super) fn flip_each(integers: &Integers, block_bytes: usize, mut see: impl FnMut(u16, &TakenApart)) {
    let (mut block, mut parts) = (vec![0; block_bytes], TakenApart::default());
    for place in 0..8 * block_bytes {
        block[place / 8] = 1 << (place % 8);
        integers.take_apart(&block, &mut parts);
        block[place / 8] = 0;
        see(place as u16, &parts);
    }
}

/// Sets the bits at these places to those of a number, from the lowest on.
pub(super) fn set(block: &mut [u8], places: &[u16], value: u16) {
    for (bit, &place) in places.iter().enumerate() {
        let (byte, shift) = (usize::from(place / 8), place % 8);
        block[byte] = block[byte] & !(1 << shift) | ((value >> bit & 1) as u8) << shift;
    }
}
