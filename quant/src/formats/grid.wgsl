// What the decoders of the grid types share (grid_points.rs, grid.rs). Before this text stands the type's own grid, written
// from the table in Rust, two points a word:
//     GRID: array<u32, POINTS / 2>
// or, of points of four codes, one point a word with a code in each byte:
//     GRID: array<u32, POINTS>

// The packed codes at `index`, where two points stand in a word.
fn grid_point(index: u32) -> u32 {
    return (GRID[index >> 1u] >> ((index & 1u) << 4u)) & 0xffffu;
}

// A point's eight two-bit codes: in the bytes of the first word those of even place, of the second those of odd place.
fn two_bit_codes(point: u32) -> vec2<u32> {
    let bytes = (point | (point << 8u)) & 0x00ff00ffu;
    let nibbles = (bytes | (bytes << 4u)) & 0x0f0f0f0fu;
    return vec2<u32>(nibbles & 0x03030303u, (nibbles >> 2u) & 0x03030303u);
}

// The bytes of two such pairs of words as sixteen numbers in order.
fn interleaved(a: vec2<u32>, b: vec2<u32>) -> mat4x4<f32> {
    let q = numbers(vec4<u32>(a, b));
    return mat4x4<f32>(
        vec4<f32>(q[0].x, q[1].x, q[0].y, q[1].y),
        vec4<f32>(q[0].z, q[1].z, q[0].w, q[1].w),
        vec4<f32>(q[2].x, q[3].x, q[2].y, q[3].y),
        vec4<f32>(q[2].z, q[3].z, q[2].w, q[3].w),
    );
}

// The levels 8, 25, 43 of codes in bytes.
fn iq2_bytes(codes: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(0x08080808u) + (codes << vec2<u32>(4u)) + codes + ((codes >> vec2<u32>(1u)) & vec2<u32>(0x01010101u));
}

// The levels of two points, with the signs of their eight weights each, those of the second from the bit `b_first` on.
fn iq2_levels(a: u32, a_signs: u32, b: u32, b_signs: u32, b_first: u32) -> mat4x4<f32> {
    let levels = interleaved(iq2_bytes(two_bit_codes(a)), iq2_bytes(two_bit_codes(b)));
    return mat4x4<f32>(
        with_signs(levels[0], a_signs, 0u),
        with_signs(levels[1], a_signs, 4u),
        with_signs(levels[2], b_signs, b_first),
        with_signs(levels[3], b_signs, b_first + 4u),
    );
}

// Seven signs and the eighth, which makes the number of minus signs even. Above them stands anything.
fn even_signs(word: u32) -> u32 {
    let seven = word & 127u;
    return seven | (countOneBits(seven) << 7u);
}
