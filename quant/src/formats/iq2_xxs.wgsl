// IQ2_XXS (iq2_xxs.rs draws it): 66 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 66u;
    let group = block + 2u + (((k >> 5u) & 7u) << 3u);
    let eight = (k >> 3u) & 3u;
    let word = load_u32(group + 4u);
    let levels = iq2_levels(grid_point(load_u8(group + eight)) >> ((k & 4u) << 1u));
    let scale = f16_to_f32(load_u16(block)) * (0.5 + f32(word >> 28u)) * 0.25;
    return with_signs(scale * levels, even_signs(word >> (7u * eight)) >> (k & 4u));
}
