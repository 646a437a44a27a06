// Q3_K (q3_k.rs draws it): 110 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 110u;
    let lower = load_u32(block + 32u + ((k & 128u) >> 2u) + (k & 31u)) >> ((k >> 4u) & 6u);
    let upper = load_u32(block + (k & 31u)) >> ((k >> 5u) & 7u);
    let q = unpack_u8((lower & 0x03030303u) | ((upper & 0x01010101u) << 2u));

    let sub = (k >> 4u) & 15u;
    let sc_lower = (load_u8(block + 96u + (sub & 7u)) >> ((sub & 8u) >> 1u)) & 15u;
    let sc_upper = (load_u8(block + 104u + (sub & 3u)) >> ((sub >> 2u) << 1u)) & 3u;
    let scale = f16_to_f32(load_u16(block + 108u)) * f32(i32(sc_lower | (sc_upper << 4u)) - 32);
    return scale * vec4<f32>(vec4<i32>(q) - vec4<i32>(4));
}
