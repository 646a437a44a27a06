// MXFP4 (mxfp4.rs draws it): 17 bytes for 32 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 5u) * 17u;
    let codes = load_u32(block + 1u + (k & 15u)) >> ((k & 16u) >> 2u);
    // Where the scale is a subnormal single, which some GPUs flush to zero, four times the scale and a quarter of the values.
    let e = load_u8(block);
    let scale = bitcast<f32>(select(e - 1u, e + 1u, e < 2u) << 23u);
    return fp4_values(unpack_u8(codes & 0x0f0f0f0fu)) * select(1.0, 0.25, e < 2u) * scale;
}
