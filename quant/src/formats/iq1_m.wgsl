// IQ1_M (iq1_m.rs draws it): 56 bytes for 256 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 56u;
    let group = (k >> 4u) & 15u;
    let lower = load_u16(block + (group << 1u));
    let upper = load_u8(block + 32u + group);
    let codes = interleaved(
        two_bit_codes(grid_point((lower & 255u) | ((upper & 7u) << 8u))),
        two_bit_codes(grid_point((lower >> 8u) | ((upper & 112u) << 4u))),
    );
    // Each eight weights have a shift of their own.
    let a = vec4<f32>(select(0.875, 1.125, (upper & 8u) != 0u));
    let b = vec4<f32>(select(0.875, 1.125, (upper & 128u) != 0u));
    let q = mat4x4<f32>(codes[0] - a, codes[1] - a, codes[2] - b, codes[3] - b);
    // The four upper bits of each of four 16-bit words make up d.
    let words = vec2<u32>(weights[(block >> 2u) + 12u], weights[(block >> 2u) + 13u]);
    let low = words >> vec2<u32>(12u, 4u);
    let high = words >> vec2<u32>(24u, 16u);
    let d = (low.x & 0xfu) | (high.x & 0xf0u) | (low.y & 0xf00u) | (high.y & 0xf000u);
    let s = (load_u16(block + 48u + ((group >> 2u) << 1u)) >> (3u * (group & 3u))) & 7u;
    return Sixteen(q, f16_to_f32(d) * f32(2u * s + 1u), 0.0);
}
