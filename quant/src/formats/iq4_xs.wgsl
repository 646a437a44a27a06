// IQ4_XS (iq4_xs.rs draws it): 136 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 136u;
    let sub = (k >> 5u) & 7u;
    let codes = load_u32(block + 8u + (sub << 4u) + (k & 15u)) >> ((k & 16u) >> 2u);
    let lower = (load_u8(block + 4u + (sub >> 1u)) >> ((sub & 1u) << 2u)) & 15u;
    let upper = (load_u16(block + 2u) >> (sub << 1u)) & 3u;
    let scale = f16_to_f32(load_u16(block)) * f32(i32(lower | (upper << 4u)) - 32);
    return scale * iq4_values(unpack_u8(codes & 0x0f0f0f0fu));
}
