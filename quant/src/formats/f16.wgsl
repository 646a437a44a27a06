// F16 (f16.rs draws it): two halves a word.
alias Words = vec4<u32>;
const OFFSETS: bool = false;

fn halves(low: u32, high: u32) -> vec4<f32> {
    return vec4<f32>(
        f16_to_f32(low & 0xffffu),
        f16_to_f32(low >> 16u),
        f16_to_f32(high & 0xffffu),
        f16_to_f32(high >> 16u),
    );
}

fn decode16(row: u32, k: u32) -> Sixteen {
    let at = (row >> 4u) + (k >> 3u);
    let a = weights[at];
    let b = weights[at + 1u];
    return Sixteen(mat4x4<f32>(halves(a.x, a.y), halves(a.z, a.w), halves(b.x, b.y), halves(b.z, b.w)), 1.0, 0.0);
}
