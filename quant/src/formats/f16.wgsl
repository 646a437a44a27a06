// F16 (f16.rs draws it): two halves a word.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let at = row + 2u * k;
    let low = load_u32(at);
    let high = load_u32(at + 4u);
    return vec4<f32>(
        f16_to_f32(low & 0xffffu),
        f16_to_f32(low >> 16u),
        f16_to_f32(high & 0xffffu),
        f16_to_f32(high >> 16u),
    );
}
