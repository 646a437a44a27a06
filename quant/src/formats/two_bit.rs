//! 256 two-bit codes in 64 bytes, as Q2_K, Q3_K and TQ2_0 store them. What the codes mean is the formats' business.
//!
//! ```text
//! qs[64], two halves of 32 bytes for 128 weights each; byte i of a half:
//!       ddccbbaa   codes of weights i (a), i + 32 (b), i + 64 (c), i + 96 (d) of the half
//! ```

/// Codes `0..4` of 256 weights into bytes.
#[inline(always)]
pub(super) fn pack(codes: &[u8; 256]) -> [u8; 64] {
    let mut packed = [0; 64];
    for (qs, q) in packed.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<128>().0) {
        for i in 0..32 {
            qs[i] = q[i] | q[i + 32] << 2 | q[i + 64] << 4 | q[i + 96] << 6;
        }
    }
    packed
}

/// The codes back.
#[inline(always)]
pub(super) fn unpack(packed: &[u8; 64]) -> [u8; 256] {
    let mut codes = [0; 256];
    for (q, qs) in codes.as_chunks_mut::<128>().0.iter_mut().zip(packed.as_chunks::<32>().0) {
        for i in 0..32 {
            for quarter in 0..4 {
                q[32 * quarter + i] = qs[i] >> (2 * quarter) & 3;
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_packing() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 7 / 3 % 4) as u8);
        let packed = pack(&codes);
        assert_eq!(packed[32 + 5] >> 4 & 3, codes[128 + 64 + 5]);
        assert_eq!(unpack(&packed), codes);
    }
}
