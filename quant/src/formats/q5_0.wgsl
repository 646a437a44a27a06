// Q5_0 (q5_0.rs draws it): 22 bytes for 32 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 5u) * 22u;
    let codes = load_u32(block + 6u + (k & 15u)) >> ((k & 16u) >> 2u);
    let fifth = vec4<u32>(load_u32(block + 2u) >> (k & 31u)) >> vec4<u32>(0u, 1u, 2u, 3u);
    let q = unpack_u8(codes & 0x0f0f0f0fu) | ((fifth & vec4<u32>(1u)) << vec4<u32>(4u));
    return vec4<f32>(vec4<i32>(q) - vec4<i32>(16)) * f16_to_f32(load_u16(block));
}
