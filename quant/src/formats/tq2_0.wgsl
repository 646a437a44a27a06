// TQ2_0 (tq2_0.rs draws it): 66 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 66u;
    let codes = load_u32(block + ((k & 128u) >> 2u) + (k & 31u)) >> ((k >> 4u) & 6u);
    let q = vec4<i32>(unpack_u8(codes & 0x03030303u)) - vec4<i32>(1);
    return vec4<f32>(q) * f16_to_f32(load_u16(block + 64u));
}
