// Products of 4 x 4 outputs an invocation and nothing shared. On an adapter that is computed by the CPU, workgroup memory is
// ordinary memory and a barrier a switch of coroutines, so tiles in registers are all there is to gain. Every output is one
// chain of fused multiply-adds in the order of k, whatever the tile.

fn store(row: u32, col: u32, v: vec4<f32>) {
    if (row >= p.row_end) {
        return;
    }
    let at = row * p.out_cols + p.out_first + col;
    out[at] = v.x;
    if (col + 1u < p.cols) {
        out[at + 1u] = v.y;
    }
    if (col + 2u < p.cols) {
        out[at + 2u] = v.z;
    }
    if (col + 3u < p.cols) {
        out[at + 3u] = v.w;
    }
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = p.row_first + group.y * 4u;
    let col = (group.x * 8u + lane) * 4u;
    if (col >= p.cols) {
        return;
    }
    // Past the edge the last row and column are computed again, and dropped.
    let last_row = p.row_end - 1u;
    let x1 = min(row + 1u, last_row);
    let x2 = min(row + 2u, last_row);
    let x3 = min(row + 3u, last_row);
    let last_col = p.cols - 1u;
    let w0 = (p.w_first + col) * p.row_bytes;
    let w1 = (p.w_first + min(col + 1u, last_col)) * p.row_bytes;
    let w2 = (p.w_first + min(col + 2u, last_col)) * p.row_bytes;
    let w3 = (p.w_first + min(col + 3u, last_col)) * p.row_bytes;

    var acc = mat4x4<f32>();
    for (var k = 0u; k < p.inner; k += 16u) {
        let a = weights_at(w0, k);
        let b = weights_at(w1, k);
        let c = weights_at(w2, k);
        let d = weights_at(w3, k);
        for (var quad = 0u; quad < 4u; quad++) {
            let w = transpose(mat4x4<f32>(a[quad], b[quad], c[quad], d[quad]));
            let at = k + 4u * quad;
            acc[0] = add_products(acc[0], load_x(row, at), w);
            acc[1] = add_products(acc[1], load_x(x1, at), w);
            acc[2] = add_products(acc[2], load_x(x2, at), w);
            acc[3] = add_products(acc[3], load_x(x3, at), w);
        }
    }
    store(row, col, acc[0]);
    store(row + 1u, col, acc[1]);
    store(row + 2u, col, acc[2]);
    store(row + 3u, col, acc[3]);
}
