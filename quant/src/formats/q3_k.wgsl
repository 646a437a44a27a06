// Q3_K (q3_k.rs draws it): 110 bytes for 256 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 110u;
    let lower = load_16(block + 32u + ((k & 128u) >> 2u) + (k & 16u)) >> vec4<u32>((k >> 4u) & 6u);
    let upper = load_16(block + (k & 16u)) >> vec4<u32>((k >> 5u) & 7u);
    let q = centred((lower & vec4<u32>(0x03030303u)) | ((upper & vec4<u32>(0x01010101u)) << vec4<u32>(2u)), 4.0);

    let sub = (k >> 4u) & 15u;
    let sc_lower = (load_u8(block + 96u + (sub & 7u)) >> ((sub & 8u) >> 1u)) & 15u;
    let sc_upper = (load_u8(block + 104u + (sub & 3u)) >> ((sub >> 2u) << 1u)) & 3u;
    let scale = f16_to_f32(load_u16(block + 108u)) * f32(i32(sc_lower | (sc_upper << 4u)) - 32);
    return Sixteen(q, scale, 0.0);
}
