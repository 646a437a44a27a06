// NVFP4 (nvfp4.rs draws it): 36 bytes for 64 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 6u) * 36u;
    let sub = (k >> 4u) & 3u;
    let at = (block >> 2u) + 1u + (sub << 1u);
    let codes = vec2<u32>(weights[at], weights[at + 1u]);
    let lower = codes & vec2<u32>(0x0f0f0f0fu);
    let upper = (codes >> vec2<u32>(4u)) & vec2<u32>(0x0f0f0f0fu);
    let q = mat4x4<f32>(fp4_values(lower.x), fp4_values(lower.y), fp4_values(upper.x), fp4_values(upper.y));
    let d = load_u8(block + sub);
    let exponent = (d >> 3u) & 15u;
    let normal = bitcast<f32>(((exponent + 119u) << 23u) | ((d & 7u) << 20u));
    let scale = select(normal, f32(d & 7u) * 0.0009765625, exponent == 0u);
    return Sixteen(q, select(scale, 0.0, d == 127u), 0.0);
}
