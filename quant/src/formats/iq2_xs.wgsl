// IQ2_XS (iq2_xs.rs draws it): 74 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 74u;
    let q = load_u16(block + 2u + ((k >> 2u) & 62u));
    let levels = iq2_levels(grid_point(q & 511u) >> ((k & 4u) << 1u));
    let s = (load_u8(block + 66u + ((k >> 5u) & 7u)) >> ((k >> 2u) & 4u)) & 15u;
    let scale = f16_to_f32(load_u16(block)) * (0.5 + f32(s)) * 0.25;
    return with_signs(scale * levels, even_signs(q >> 9u) >> (k & 4u));
}
