// BF16 (bf16.rs draws it): two upper halves a word.
alias Words = vec4<u32>;
const OFFSETS: bool = false;

fn halves(low: u32, high: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn decode16(row: u32, k: u32) -> Sixteen {
    let at = (row >> 4u) + (k >> 3u);
    let a = weights[at];
    let b = weights[at + 1u];
    return Sixteen(mat4x4<f32>(halves(a.x, a.y), halves(a.z, a.w), halves(b.x, b.y), halves(b.z, b.w)), 1.0, 0.0);
}
