// IQ4_NL (iq4_nl.rs draws it): 18 bytes for 32 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 5u) * 18u;
    let codes = load_u32(block + 2u + (k & 15u)) >> ((k & 16u) >> 2u);
    return f16_to_f32(load_u16(block)) * iq4_values(unpack_u8(codes & 0x0f0f0f0fu));
}
