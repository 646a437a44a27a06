// Q1_0 (q1_0.rs draws it): 18 bytes for 128 weights, d where the bit is set and -d else.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 7u) * 18u;
    // Minus where a bit is not set.
    let signs = ~load_u16(block + 2u + ((k & 112u) >> 3u));
    let one = vec4<f32>(1.0);
    let q = mat4x4<f32>(
        with_signs(one, signs, 0u),
        with_signs(one, signs, 4u),
        with_signs(one, signs, 8u),
        with_signs(one, signs, 12u),
    );
    return Sixteen(q, f16_to_f32(load_u16(block)), 0.0);
}
