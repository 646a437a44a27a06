// BF16 (bf16.rs draws it): two upper halves a word.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let at = row + 2u * k;
    let low = load_u32(at);
    let high = load_u32(at + 4u);
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}
