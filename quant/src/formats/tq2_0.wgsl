// TQ2_0 (tq2_0.rs draws it): 66 bytes for 256 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 66u;
    let codes = load_16(block + ((k & 128u) >> 2u) + (k & 16u)) >> vec4<u32>((k >> 4u) & 6u);
    return Sixteen(centred(codes & vec4<u32>(0x03030303u), 1.0), f16_to_f32(load_u16(block + 64u)), 0.0);
}
