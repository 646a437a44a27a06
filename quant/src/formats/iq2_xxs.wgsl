// IQ2_XXS (iq2_xxs.rs draws it): 66 bytes for 256 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 66u;
    let group = block + 2u + ((k >> 2u) & 56u);
    let word = load_u32(group + 4u);
    let points = load_u16(group + ((k >> 3u) & 2u));
    // Seven bits for each eight weights.
    let signs = word >> (7u * ((k >> 3u) & 2u));
    let q = iq2_levels(grid_point(points & 255u), even_signs(signs), grid_point(points >> 8u), even_signs(signs >> 7u), 0u);
    return Sixteen(q, f16_to_f32(load_u16(block)) * (0.125 + 0.25 * f32(word >> 28u)), 0.0);
}
