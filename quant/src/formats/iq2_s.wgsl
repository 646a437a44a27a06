// IQ2_S (iq2_s.rs draws it): 82 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 82u;
    let eight = (k >> 3u) & 31u;
    let upper = (load_u8(block + 66u + (eight >> 2u)) >> ((eight & 3u) << 1u)) & 3u;
    let levels = iq2_levels(grid_point(load_u8(block + 2u + eight) | (upper << 8u)) >> ((k & 4u) << 1u));
    let s = (load_u8(block + 74u + (eight >> 2u)) >> ((k >> 2u) & 4u)) & 15u;
    let scale = f16_to_f32(load_u16(block)) * (0.5 + f32(s)) * 0.25;
    return with_signs(scale * levels, load_u8(block + 34u + eight) >> (k & 4u));
}
