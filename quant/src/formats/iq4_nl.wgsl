// IQ4_NL (iq4_nl.rs draws it): 18 bytes for 32 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 5u) * 18u;
    let codes = load_16(block + 2u) >> vec4<u32>((k & 16u) >> 2u);
    return Sixteen(iq4_numbers(codes & vec4<u32>(0x0f0f0f0fu)), f16_to_f32(load_u16(block)), 0.0);
}
