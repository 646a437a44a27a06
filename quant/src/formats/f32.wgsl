// F32 (f32.rs draws it): plain words. `row` is a multiple of 4.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let word = (row >> 2u) + k;
    return bitcast<vec4<f32>>(vec4<u32>(weights[word], weights[word + 1u], weights[word + 2u], weights[word + 3u]));
}
