// Q2_0 (q2_0.rs draws it): 18 bytes for 64 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 6u) * 18u;
    let codes = vec4<u32>(load_u8(block + 2u + ((k & 63u) >> 2u))) >> vec4<u32>(0u, 2u, 4u, 6u);
    let q = vec4<i32>(codes & vec4<u32>(3u)) - vec4<i32>(1);
    return vec4<f32>(q) * f16_to_f32(load_u16(block));
}
