// IQ1_S (iq1_s.rs draws it): 50 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 50u;
    let eight = (k >> 3u) & 31u;
    let qh = load_u16(block + 34u + ((k >> 4u) & 14u));
    let upper = (qh >> (3u * (eight & 3u))) & 7u;
    let codes = two_bit_codes(grid_point(load_u8(block + 2u + eight) | (upper << 8u)) >> ((k & 4u) << 1u));
    let scale = f16_to_f32(load_u16(block)) * f32(2u * ((qh >> 12u) & 7u) + 1u);
    return scale * (vec4<f32>(codes) - vec4<f32>(select(0.875, 1.125, (qh & 0x8000u) != 0u)));
}
