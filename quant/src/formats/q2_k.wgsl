// Q2_K (q2_k.rs draws it): 84 bytes for 256 weights. The only rounding is that of the subtraction.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 84u;
    let codes = load_u32(block + 16u + ((k & 128u) >> 2u) + (k & 31u)) >> ((k >> 4u) & 6u);
    let scales = load_u8(block + ((k >> 4u) & 15u));
    let halves = load_u32(block + 80u);
    let scale = f16_to_f32(halves & 0xffffu) * f32(scales & 15u);
    let min = f16_to_f32(halves >> 16u) * f32(scales >> 4u);
    return scale * vec4<f32>(unpack_u8(codes & 0x03030303u)) - vec4<f32>(min);
}
