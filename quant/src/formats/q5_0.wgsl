// Q5_0 (q5_0.rs draws it): 22 bytes for 32 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 5u) * 22u;
    let codes = load_16(block + 6u) >> vec4<u32>((k & 16u) >> 2u);
    let fifth = load_u16(block + 2u + ((k & 16u) >> 3u));
    let spread = vec4<u32>(spread_bits(fifth), spread_bits(fifth >> 4u), spread_bits(fifth >> 8u), spread_bits(fifth >> 12u));
    let q = centred((codes & vec4<u32>(0x0f0f0f0fu)) | (spread << vec4<u32>(4u)), 16.0);
    return Sixteen(q, f16_to_f32(load_u16(block)), 0.0);
}
