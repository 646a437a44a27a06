// IQ3_XXS (iq3_xxs.rs draws it): 98 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 98u;
    let word = load_u32(block + 66u + ((k >> 3u) & 28u));
    let codes = iq3_codes(grid_point(load_u8(block + 2u + ((k >> 2u) & 63u))));
    let levels = vec4<f32>(4u + 8u * codes + 2u * ((codes + 1u) >> vec4<u32>(3u)));
    let scale = f16_to_f32(load_u16(block)) * (0.5 + f32(word >> 28u)) * 0.5;
    return with_signs(scale * levels, even_signs(word >> (7u * ((k >> 3u) & 3u))) >> (k & 4u));
}
