// out[t, n] = sum_k x[t, k] * w[n, k], 4 x 4 outputs an invocation and nothing shared. On an adapter that is computed by the CPU,
// workgroup memory is ordinary memory and a barrier a switch of coroutines, so tiles in registers are all there is to gain.
// Every output is one chain of fused multiply-adds in the order of k, whatever the tile.

struct Params {
    row_first: u32,
    row_end: u32,
    inner: u32,
    row_bytes: u32,
    w_first: u32,
    cols: u32,
    out_cols: u32,
    out_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn load_x(at: u32) -> vec4<f32> {
    return vec4<f32>(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
}

// The last one to three numbers of a row, filled up with zeros.
fn load_x_tail(at: u32, count: u32) -> vec4<f32> {
    var v = vec4<f32>(x[at], 0.0, 0.0, 0.0);
    if (count > 1u) {
        v.y = x[at + 1u];
    }
    if (count > 2u) {
        v.z = x[at + 2u];
    }
    return v;
}

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

// acc + x * (w0, w1, w2, w3), four steps of k.
fn add_products(acc: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
    let a = fma(vec4<f32>(x.x), w[0], acc);
    let b = fma(vec4<f32>(x.y), w[1], a);
    let c = fma(vec4<f32>(x.z), w[2], b);
    return fma(vec4<f32>(x.w), w[3], c);
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
    let x0 = row * p.inner;
    let x1 = min(row + 1u, last_row) * p.inner;
    let x2 = min(row + 2u, last_row) * p.inner;
    let x3 = min(row + 3u, last_row) * p.inner;
    let last_col = p.cols - 1u;
    let w0 = (p.w_first + col) * p.row_bytes;
    let w1 = (p.w_first + min(col + 1u, last_col)) * p.row_bytes;
    let w2 = (p.w_first + min(col + 2u, last_col)) * p.row_bytes;
    let w3 = (p.w_first + min(col + 3u, last_col)) * p.row_bytes;

    var acc0 = vec4<f32>(0.0);
    var acc1 = vec4<f32>(0.0);
    var acc2 = vec4<f32>(0.0);
    var acc3 = vec4<f32>(0.0);
    let whole = p.inner & ~3u;
    for (var k = 0u; k < whole; k += 4u) {
        let w = transpose(mat4x4<f32>(decode4(w0, k), decode4(w1, k), decode4(w2, k), decode4(w3, k)));
        acc0 = add_products(acc0, load_x(x0 + k), w);
        acc1 = add_products(acc1, load_x(x1 + k), w);
        acc2 = add_products(acc2, load_x(x2 + k), w);
        acc3 = add_products(acc3, load_x(x3 + k), w);
    }
    if (whole < p.inner) {
        let count = p.inner - whole;
        let w = transpose(mat4x4<f32>(decode4(w0, whole), decode4(w1, whole), decode4(w2, whole), decode4(w3, whole)));
        acc0 = add_products(acc0, load_x_tail(x0 + whole, count), w);
        acc1 = add_products(acc1, load_x_tail(x1 + whole, count), w);
        acc2 = add_products(acc2, load_x_tail(x2 + whole, count), w);
        acc3 = add_products(acc3, load_x_tail(x3 + whole, count), w);
    }
    store(row, col, acc0);
    store(row + 1u, col, acc1);
    store(row + 2u, col, acc2);
    store(row + 3u, col, acc3);
}
