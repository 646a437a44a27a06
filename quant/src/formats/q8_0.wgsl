// Q8_0 (q8_0.rs draws it): 34 bytes for 32 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 5u) * 34u;
    let codes = vec4<i32>(vec4<u32>(load_u32(block + 2u + (k & 31u))) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u);
    return vec4<f32>(codes) * f16_to_f32(load_u16(block));
}
