// What the decoders of the grid types share (grid_points.rs, grid.rs). Before this text stands the type's own grid, written
// from the table in Rust, two points a word:
//     GRID: array<u32, POINTS / 2>

// The packed codes at `index`.
fn grid_point(index: u32) -> u32 {
    return (GRID[index >> 1u] >> ((index & 1u) << 4u)) & 0xffffu;
}

// The lower four two-bit codes.
fn two_bit_codes(point: u32) -> vec4<u32> {
    return (vec4<u32>(point) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
}

// The levels 8, 25, 43 of the lower four two-bit codes.
fn iq2_levels(point: u32) -> vec4<f32> {
    let codes = two_bit_codes(point);
    return vec4<f32>(8u + 17u * codes + (codes >> vec4<u32>(1u)));
}

// The four three-bit codes.
fn iq3_codes(point: u32) -> vec4<u32> {
    return (vec4<u32>(point) >> vec4<u32>(0u, 3u, 6u, 9u)) & vec4<u32>(7u);
}

// Seven signs and the eighth, which makes the number of minus signs even.
fn even_signs(word: u32) -> u32 {
    let seven = word & 127u;
    return seven | ((countOneBits(seven) & 1u) << 7u);
}

// Negative where the lower four bits of `signs` are set.
fn with_signs(x: vec4<f32>, signs: u32) -> vec4<f32> {
    return select(x, -x, (vec4<u32>(signs) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>(0u));
}
