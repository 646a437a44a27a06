// IQ1_S (iq1_s.rs draws it): 50 bytes for 256 weights.
const OFFSETS: bool = true;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 50u;
    let qh = load_u16(block + 34u + ((k >> 4u) & 14u));
    let lower = load_u16(block + 2u + ((k >> 3u) & 30u));
    // Three bits for each eight weights.
    let upper = qh >> (3u * ((k >> 3u) & 2u));
    let a = grid_point((lower & 255u) | ((upper & 7u) << 8u));
    let b = grid_point((lower >> 8u) | ((upper & 56u) << 5u));
    let scale = f16_to_f32(load_u16(block)) * f32(2u * ((qh >> 12u) & 7u) + 1u);
    return Sixteen(interleaved(two_bit_codes(a), two_bit_codes(b)), scale, scale * select(-0.875, -1.125, (qh & 0x8000u) != 0u));
}
