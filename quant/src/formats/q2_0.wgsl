// Q2_0 (q2_0.rs draws it): 18 bytes for 64 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 6u) * 18u;
    let codes = load_u32(block + 2u + ((k & 48u) >> 2u));
    let words = vec4<u32>(spread_pairs(codes), spread_pairs(codes >> 8u), spread_pairs(codes >> 16u), spread_pairs(codes >> 24u));
    return Sixteen(centred(words, 1.0), f16_to_f32(load_u16(block)), 0.0);
}
