// Q1_0 (q1_0.rs draws it): 18 bytes for 128 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 7u) * 18u;
    let bits = vec4<u32>(load_u8(block + 2u + ((k & 127u) >> 3u)) >> (k & 4u)) >> vec4<u32>(0u, 1u, 2u, 3u);
    let d = vec4<f32>(f16_to_f32(load_u16(block)));
    return select(-d, d, (bits & vec4<u32>(1u)) != vec4<u32>(0u));
}
