// F32 (f32.rs draws it): plain words.
alias Words = vec4<u32>;
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let at = (row >> 4u) + (k >> 2u);
    let q = mat4x4<f32>(
        bitcast<vec4<f32>>(weights[at]),
        bitcast<vec4<f32>>(weights[at + 1u]),
        bitcast<vec4<f32>>(weights[at + 2u]),
        bitcast<vec4<f32>>(weights[at + 3u]),
    );
    return Sixteen(q, 1.0, 0.0);
}
