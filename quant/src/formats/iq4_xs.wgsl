// IQ4_XS (iq4_xs.rs draws it): 136 bytes for 256 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 136u;
    let sub = (k >> 5u) & 7u;
    let codes = load_words(block + 8u + (sub << 4u)) >> vec4<u32>((k & 16u) >> 2u);
    let lower = (weights[(block >> 2u) + 1u] >> (sub << 2u)) & 15u;
    let head = weights[block >> 2u];
    let upper = (head >> (16u + (sub << 1u))) & 3u;
    let scale = f16_to_f32(head & 0xffffu) * f32(i32(lower | (upper << 4u)) - 32);
    return Sixteen(iq4_numbers(codes & vec4<u32>(0x0f0f0f0fu)), scale, 0.0);
}
