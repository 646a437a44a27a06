// IQ3_XXS (iq3_xxs.rs draws it): 98 bytes for 256 weights.
const OFFSETS: bool = false;

// The levels 4, 12, ... 52 and 62 of the point of the lower eight bits.
fn levels(point: u32, signs: u32, first: u32) -> vec4<f32> {
    let codes = GRID[point & 255u];
    let last = (codes + 0x01010101u) >> 3u;
    return with_signs(vec4<f32>(unpack_u8(0x04040404u + (codes << 3u) + ((last & 0x01010101u) << 1u))), signs, first);
}

fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 98u;
    let word = load_u32(block + 66u + ((k >> 3u) & 28u));
    let points = load_u32(block + 2u + ((k >> 2u) & 60u));
    // Seven bits for each eight weights.
    let seven = word >> (7u * ((k >> 3u) & 2u));
    let a = even_signs(seven);
    let b = even_signs(seven >> 7u);
    let q = mat4x4<f32>(
        levels(points, a, 0u),
        levels(points >> 8u, a, 4u),
        levels(points >> 16u, b, 0u),
        levels(points >> 24u, b, 4u),
    );
    return Sixteen(q, f16_to_f32(load_u16(block)) * (0.25 + 0.5 * f32(word >> 28u)), 0.0);
}
