//! Two 4-bit codes in a byte, and codes that stand for the entries of a table, as several formats have them.

/// The lower four bits of `HALF` bytes, then the upper four; `N` is twice `HALF`.
#[inline(always)]
pub(super) fn nibbles<const HALF: usize, const N: usize>(qs: &[u8; HALF]) -> [u8; N] {
    const { assert!(N == 2 * HALF) };
    // One loop, since a compiler that unrolls two goes on to gather single bytes from eight blocks at a time.
    let mut codes = [0; N];
    codes[..HALF].copy_from_slice(qs);
    codes[HALF..].copy_from_slice(qs);
    for (i, code) in codes.iter_mut().enumerate() {
        *code = *code >> (i / HALF * 4) & 15;
    }
    codes
}

/// Bit `i` of the result is the fifth bit of code `i`.
#[inline(always)]
pub(super) fn fifth_bits(codes: &[u8; 32]) -> u32 {
    let eight = |codes: &[u8; 8]| {
        let bits = u64::from_le_bytes(*codes) >> 4 & 0x0101_0101_0101_0101;
        // Multiplying moves the bit of byte `i` to place 56 + i; no two of the products meet.
        (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    };
    let chunks = codes.as_chunks::<8>().0;
    u32::from_le_bytes(std::array::from_fn(|i| eight(&chunks[i])))
}

/// `table[code]` of every code, by comparing all with 1, 2 .. 15, which vectorizes where looking up does not.
#[inline(always)]
pub(super) fn look_up<const N: usize>(table: &[i8; 16], codes: &[u8; N]) -> [i8; N] {
    let mut values = [0; N];
    for (value, &code) in values.iter_mut().zip(codes) {
        *value = table[0];
        for k in 1..16 {
            let step = table[k].wrapping_sub(table[k - 1]);
            *value = value.wrapping_add(step & -i8::from(code >= k as u8));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifth_bits_are_in_order() {
        for bits in [0, 1, 0x8000_0000, 0xdead_beef, u32::MAX] {
            let codes = std::array::from_fn(|i| ((bits >> i & 1) << 4) as u8 | 0xef & (i * 37) as u8);
            assert_eq!(fifth_bits(&codes), bits);
        }
    }

    #[test]
    fn tables_are_looked_up() {
        let table = std::array::from_fn(|i| (i * 89) as u8 as i8);
        let codes: [u8; 32] = nibbles::<16, 32>(&std::array::from_fn(|i| (i * 55) as u8));
        assert_eq!((codes[3], codes[19]), (0x5, 0xa));
        assert_eq!(look_up(&table, &codes), codes.map(|code| table[usize::from(code)]));
    }
}
