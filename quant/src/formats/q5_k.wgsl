// Q5_K (q5_k.rs draws it): 176 bytes for 256 weights, 11 quads of words. The only rounding is that of the subtraction.
alias Words = vec4<u32>;
const OFFSETS: bool = true;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = (row >> 4u) + (k >> 8u) * 11u;
    let sub = (k >> 5u) & 7u;
    let half = (k >> 4u) & 1u;
    let codes = (weights[block + 3u + ((sub >> 1u) << 1u) + half] >> vec4<u32>((sub & 1u) << 2u)) & vec4<u32>(0x0f0f0f0fu);
    let fifth = ((weights[block + 1u + half] >> vec4<u32>(sub)) & vec4<u32>(0x01010101u)) << vec4<u32>(4u);

    // Bytes j, j + 4 and j + 8 of the packed scales, j = sub modulo 4: six bits of the first two below 4, else four bits of the
    // third and the upper two of the first two.
    let head = weights[block];
    let upper = sub >= 4u;
    let j = (sub & 3u) << 3u;
    let own = select(63u, 15u, upper);
    let more = select(0u, 48u, upper);
    let sc = ((select(head.y, head.w, upper) >> j) & own) | ((head.y >> (j + 2u)) & more);
    let m = ((select(head.z, head.w, upper) >> select(j, j + 4u, upper)) & own) | ((head.z >> (j + 2u)) & more);
    let scale = f16_to_f32(head.x & 0xffffu) * f32(sc);
    let min = f16_to_f32(head.x >> 16u) * f32(m);
    return Sixteen(numbers(codes | fifth), scale, -min);
}
