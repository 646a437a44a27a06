// IQ1_M (iq1_m.rs draws it): 56 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 56u;
    let eight = (k >> 3u) & 31u;
    let group = eight >> 1u;
    let upper = load_u8(block + 32u + group) >> ((eight & 1u) << 2u);
    let codes = two_bit_codes(grid_point(load_u8(block + eight) | ((upper & 7u) << 8u)) >> ((k & 4u) << 1u));
    // The four upper bits of each of four 16-bit words make up d.
    let lower = load_u32(block + 48u);
    let higher = load_u32(block + 52u);
    let d = ((lower >> 12u) & 0xfu) | ((lower >> 24u) & 0xf0u) | ((higher >> 4u) & 0xf00u) | ((higher >> 16u) & 0xf000u);
    let s = (load_u16(block + 48u + ((group >> 2u) << 1u)) >> (3u * (group & 3u))) & 7u;
    let scale = f16_to_f32(d) * f32(2u * s + 1u);
    return scale * (vec4<f32>(codes) - vec4<f32>(select(0.875, 1.125, (upper & 8u) != 0u)));
}
