// Q4_1 (q4_1.rs draws it): 20 bytes for 32 weights. The only rounding is that of the addition.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 5u) * 20u;
    let codes = load_u32(block + 4u + (k & 15u)) >> ((k & 16u) >> 2u);
    let halves = load_u32(block);
    let q = vec4<f32>(unpack_u8(codes & 0x0f0f0f0fu));
    return q * f16_to_f32(halves & 0xffffu) + vec4<f32>(f16_to_f32(halves >> 16u));
}
