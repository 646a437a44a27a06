// Q5_K (q5_k.rs draws it): 176 bytes for 256 weights. The only rounding is that of the subtraction.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 176u;
    let sub = (k >> 5u) & 7u;
    let codes = load_u32(block + 48u + ((sub >> 1u) << 5u) + (k & 31u)) >> ((sub & 1u) << 2u);
    let fifth = load_u32(block + 16u + (k & 31u)) >> sub;
    let q = unpack_u8((codes & 0x0f0f0f0fu) | ((fifth & 0x01010101u) << 4u));

    // Bytes j, j + 4 and j + 8 of the packed scales, j = sub modulo 4.
    let packed = block + 4u + (sub & 3u);
    let first = load_u8(packed);
    let second = load_u8(packed + 4u);
    let third = load_u8(packed + 8u);
    let upper = sub >= 4u;
    let sc = select(first & 63u, (third & 15u) | ((first >> 6u) << 4u), upper);
    let m = select(second & 63u, (third >> 4u) | ((second >> 6u) << 4u), upper);

    let halves = load_u32(block);
    let scale = f16_to_f32(halves & 0xffffu) * f32(sc);
    let min = f16_to_f32(halves >> 16u) * f32(m);
    return scale * vec4<f32>(q) - vec4<f32>(min);
}
