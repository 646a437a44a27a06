// Q8_0 (q8_0.rs draws it): 34 bytes for 32 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 5u) * 34u;
    let codes = load_16(block + 2u + (k & 16u));
    let q = mat4x4<f32>(signed_bytes(codes.x), signed_bytes(codes.y), signed_bytes(codes.z), signed_bytes(codes.w));
    return Sixteen(q, f16_to_f32(load_u16(block)), 0.0);
}
