// IQ2_S (iq2_s.rs draws it): 82 bytes for 256 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 82u;
    // Fields of bytes that are a multiple of 4 apart lie alike in their words.
    let pair = block + 2u + ((k >> 3u) & 30u);
    let pair_shift = (pair & 2u) << 3u;
    let lower = weights[pair >> 2u] >> pair_shift;
    let signs = weights[(pair >> 2u) + 8u] >> pair_shift;
    let byte = block + 66u + ((k >> 5u) & 7u);
    let shift = ((byte & 3u) << 3u) + ((k >> 2u) & 4u);
    let upper = weights[byte >> 2u] >> shift;
    let s = (weights[(byte >> 2u) + 2u] >> shift) & 15u;
    let a = grid_point((lower & 255u) | ((upper & 3u) << 8u));
    let b = grid_point(((lower >> 8u) & 255u) | ((upper & 12u) << 6u));
    return Sixteen(iq2_levels(a, signs, b, signs, 8u), f16_to_f32(load_u16(block)) * (0.125 + 0.25 * f32(s)), 0.0);
}
