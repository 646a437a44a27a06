// Rows of x of any length: zeros stand right of the edge.

@group(0) @binding(2) var<storage, read> x: array<f32>;

// x[row, k .. k + 4], k a multiple of 4 and below the next multiple of 16 of the columns.
fn load_x(row: u32, k: u32) -> vec4<f32> {
    let at = row * p.inner + k;
    var v = vec4<f32>(0.0);
    if (k < p.inner) {
        v.x = x[at];
    }
    if (k + 1u < p.inner) {
        v.y = x[at + 1u];
    }
    if (k + 2u < p.inner) {
        v.z = x[at + 2u];
    }
    if (k + 3u < p.inner) {
        v.w = x[at + 3u];
    }
    return v;
}
