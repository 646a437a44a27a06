// Q6_K (q6_k.rs draws it): 210 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 210u;
    let half = (k >> 7u) & 1u;
    let quarter = (k >> 5u) & 3u;
    let i = k & 31u;
    let lower = load_u32(block + (half << 6u) + ((quarter & 1u) << 5u) + i) >> ((quarter >> 1u) << 2u);
    let upper = load_u32(block + 128u + (half << 5u) + i) >> (quarter << 1u);
    let q = unpack_u8((lower & 0x0f0f0f0fu) | ((upper & 0x03030303u) << 4u));
    let scale = f16_to_f32(load_u16(block + 208u)) * f32(load_i8(block + 192u + ((k >> 4u) & 15u)));
    return scale * vec4<f32>(vec4<i32>(q) - vec4<i32>(32));
}
