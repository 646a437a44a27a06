// Q5_1 (q5_1.rs draws it): 24 bytes for 32 weights. The only rounding is that of the addition.
const OFFSETS: bool = true;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 5u) * 24u;
    let codes = load_words(block + 8u) >> vec4<u32>((k & 16u) >> 2u);
    let fifth = weights[(block >> 2u) + 1u] >> (k & 16u);
    let spread = vec4<u32>(spread_bits(fifth), spread_bits(fifth >> 4u), spread_bits(fifth >> 8u), spread_bits(fifth >> 12u));
    let q = numbers((codes & vec4<u32>(0x0f0f0f0fu)) | (spread << vec4<u32>(4u)));
    let halves = weights[block >> 2u];
    return Sixteen(q, f16_to_f32(halves & 0xffffu), f16_to_f32(halves >> 16u));
}
