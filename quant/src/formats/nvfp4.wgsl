// NVFP4 (nvfp4.rs draws it): 36 bytes for 64 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 6u) * 36u;
    let sub = (k >> 4u) & 3u;
    let codes = load_u32(block + 4u + (sub << 3u) + (k & 7u)) >> ((k & 8u) >> 1u);
    let d = load_u8(block + sub);
    let exponent = (d >> 3u) & 15u;
    let normal = bitcast<f32>(((exponent + 119u) << 23u) | ((d & 7u) << 20u));
    let scale = select(normal, f32(d & 7u) * 0.0009765625, exponent == 0u);
    return fp4_values(unpack_u8(codes & 0x0f0f0f0fu)) * select(scale, 0.0, d == 127u);
}
