// IQ3_S (iq3_s.rs draws it): 110 bytes for 256 weights.
const OFFSETS: bool = false;

// The odd levels 1, 3, ... 15 of the point whose index has the lower eight bits of `lower` and the last of `ninth`.
fn levels(lower: u32, ninth: u32, signs: u32, first: u32) -> vec4<f32> {
    let codes = GRID[(lower & 255u) | ((ninth & 1u) << 8u)];
    return with_signs(vec4<f32>(unpack_u8(0x01010101u + (codes << 1u))), signs, first);
}

fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 110u;
    let group = (k >> 5u) & 7u;
    let points = load_u32(block + 2u + ((k >> 2u) & 60u));
    let ninth = load_u8(block + 66u + group) >> ((k >> 2u) & 4u);
    let signs = load_u16(block + 74u + ((k >> 3u) & 30u));
    let q = mat4x4<f32>(
        levels(points, ninth, signs, 0u),
        levels(points >> 8u, ninth >> 1u, signs, 4u),
        levels(points >> 16u, ninth >> 2u, signs, 8u),
        levels(points >> 24u, ninth >> 3u, signs, 12u),
    );
    let s = (load_u8(block + 106u + (group >> 1u)) >> ((group & 1u) << 2u)) & 15u;
    return Sixteen(q, f16_to_f32(load_u16(block)) * f32(1u + 2u * s), 0.0);
}
