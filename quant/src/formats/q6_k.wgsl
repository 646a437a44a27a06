// Q6_K (q6_k.rs draws it): 210 bytes for 256 weights.
const OFFSETS: bool = false;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 210u;
    let half = (k >> 7u) & 1u;
    let quarter = (k >> 5u) & 3u;
    let i = k & 16u;
    let lower = load_16(block + (half << 6u) + ((quarter & 1u) << 5u) + i) >> vec4<u32>((quarter >> 1u) << 2u);
    let upper = load_16(block + 128u + (half << 5u) + i) >> vec4<u32>(quarter << 1u);
    let q = centred((lower & vec4<u32>(0x0f0f0f0fu)) | ((upper & vec4<u32>(0x03030303u)) << vec4<u32>(4u)), 32.0);
    let scale = f16_to_f32(load_u16(block + 208u)) * f32(load_i8(block + 192u + ((k >> 4u) & 15u)));
    return Sixteen(q, scale, 0.0);
}
