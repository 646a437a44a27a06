// Rows of x that are whole sixteens of numbers: every load is four of them.

@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;

// x[row, k .. k + 4], k a multiple of 4 and below the next multiple of 16 of the columns.
fn load_x(row: u32, k: u32) -> vec4<f32> {
    return x[(row * p.inner + k) >> 2u];
}
