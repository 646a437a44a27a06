// IQ3_S (iq3_s.rs draws it): 110 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 110u;
    let group = (k >> 5u) & 7u;
    let ninth = (load_u8(block + 66u + group) >> ((k >> 2u) & 7u)) & 1u;
    let codes = iq3_codes(grid_point(load_u8(block + 2u + ((k >> 2u) & 63u)) | (ninth << 8u)));
    let s = (load_u8(block + 106u + (group >> 1u)) >> ((group & 1u) << 2u)) & 15u;
    let scale = f16_to_f32(load_u16(block)) * f32(1u + 2u * s);
    return with_signs(scale * vec4<f32>(1u + 2u * codes), load_u8(block + 74u + ((k >> 3u) & 31u)) >> (k & 4u));
}
