// MXFP4 (mxfp4.rs draws it): 17 bytes for 32 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 5u) * 17u;
    let codes = (load_any_16(block + 1u) >> vec4<u32>((k & 16u) >> 2u)) & vec4<u32>(0x0f0f0f0fu);
    // Where the scale is a subnormal single, which some GPUs flush to zero, four times the scale and a quarter of the values.
    let e = load_u8(block);
    let scale = bitcast<f32>(select(e - 1u, e + 1u, e < 2u) << 23u);
    let q = mat4x4<f32>(fp4_values(codes.x), fp4_values(codes.y), fp4_values(codes.z), fp4_values(codes.w));
    return Sixteen(q * select(1.0, 0.25, e < 2u), scale, 0.0);
}
