// IQ2_XS (iq2_xs.rs draws it): 74 bytes for 256 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 74u;
    let two = load_u32(block + 2u + ((k >> 2u) & 60u));
    let a = grid_point(two & 511u);
    let b = grid_point((two >> 16u) & 511u);
    let q = iq2_levels(a, even_signs(two >> 9u), b, even_signs(two >> 25u), 0u);
    let s = (load_u8(block + 66u + ((k >> 5u) & 7u)) >> ((k >> 2u) & 4u)) & 15u;
    return Sixteen(q, f16_to_f32(load_u16(block)) * (0.125 + 0.25 * f32(s)), 0.0);
}
