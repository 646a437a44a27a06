// Q5_1 (q5_1.rs draws it): 24 bytes for 32 weights. The only rounding is that of the addition.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 5u) * 24u;
    let codes = load_u32(block + 8u + (k & 15u)) >> ((k & 16u) >> 2u);
    let fifth = vec4<u32>(load_u32(block + 4u) >> (k & 31u)) >> vec4<u32>(0u, 1u, 2u, 3u);
    let q = unpack_u8(codes & 0x0f0f0f0fu) | ((fifth & vec4<u32>(1u)) << vec4<u32>(4u));
    let halves = load_u32(block);
    return vec4<f32>(q) * f16_to_f32(halves & 0xffffu) + vec4<f32>(f16_to_f32(halves >> 16u));
}
