// out[t, n] = sum_k x[t, k] * w[n, k] in tiles of 64 x 64 outputs. Per step of 16 k, each of the 64 invocations brings a block
// of 4 x 4 numbers of x and of decoded weights into workgroup memory, transposed so that four rows of one k lie together;
// then each adds 16 outer products to its 8 x 8 outputs. The next step's numbers are loaded before that, so that the loads
// overlap the arithmetic. Every output is one chain of fused multiply-adds in the order of k, whatever the tile.

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

const TILE: u32 = 64u;
const STEP: u32 = 16u;
const QUADS: u32 = TILE / 4u;

// [STEP][QUADS], four rows (columns) in each element.
var<workgroup> xs: array<vec4<f32>, STEP * QUADS>;
var<workgroup> ws: array<vec4<f32>, STEP * QUADS>;

// x[row, k .. k + 4], the last row repeated below the edge, zeros right of it.
fn load_x(row: u32, k: u32) -> vec4<f32> {
    let at = min(row, p.row_end - 1u) * p.inner + k;
    if (k + 4u <= p.inner) {
        return vec4<f32>(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
    }
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
    return v;
}

fn load_w(col: u32, k: u32) -> vec4<f32> {
    if (k >= p.inner) {
        return vec4<f32>(0.0);
    }
    return decode4((p.w_first + min(col, p.cols - 1u)) * p.row_bytes, k);
}

fn store(row: u32, col: u32, v: vec4<f32>) {
    if (row >= p.row_end) {
        return;
    }
    let at = row * p.out_cols + p.out_first + col;
    if (col < p.cols) {
        out[at] = v.x;
    }
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

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile_row = p.row_first + group.y * TILE;
    let tile_col = group.x * TILE;

    // The block this invocation loads: rows block * 4 .. + 4, numbers k_block .. + 4 of the step.
    let block = lane % QUADS;
    let k_block = lane / QUADS * 4u;
    let load_row = tile_row + block * 4u;
    let load_col = tile_col + block * 4u;
    let slot = k_block * QUADS + block;

    // The outputs it computes: rows 4 * down .. + 4 and those 32 below, columns 4 * right .. + 4 and those 32 to the right.
    let right = lane % 8u;
    let down = lane / 8u;

    var x0 = load_x(load_row, k_block);
    var x1 = load_x(load_row + 1u, k_block);
    var x2 = load_x(load_row + 2u, k_block);
    var x3 = load_x(load_row + 3u, k_block);
    var w0 = load_w(load_col, k_block);
    var w1 = load_w(load_col + 1u, k_block);
    var w2 = load_w(load_col + 2u, k_block);
    var w3 = load_w(load_col + 3u, k_block);

    // acc[2 r] and acc[2 r + 1]: the left and right four columns of output row r.
    var acc: array<vec4<f32>, 16>;

    for (var k = 0u; k < p.inner; k += STEP) {
        workgroupBarrier(); // the step before has been read
        xs[slot] = vec4<f32>(x0.x, x1.x, x2.x, x3.x);
        xs[slot + QUADS] = vec4<f32>(x0.y, x1.y, x2.y, x3.y);
        xs[slot + 2u * QUADS] = vec4<f32>(x0.z, x1.z, x2.z, x3.z);
        xs[slot + 3u * QUADS] = vec4<f32>(x0.w, x1.w, x2.w, x3.w);
        ws[slot] = vec4<f32>(w0.x, w1.x, w2.x, w3.x);
        ws[slot + QUADS] = vec4<f32>(w0.y, w1.y, w2.y, w3.y);
        ws[slot + 2u * QUADS] = vec4<f32>(w0.z, w1.z, w2.z, w3.z);
        ws[slot + 3u * QUADS] = vec4<f32>(w0.w, w1.w, w2.w, w3.w);
        workgroupBarrier(); // this step is written

        let next = k + STEP + k_block;
        x0 = load_x(load_row, next);
        x1 = load_x(load_row + 1u, next);
        x2 = load_x(load_row + 2u, next);
        x3 = load_x(load_row + 3u, next);
        w0 = load_w(load_col, next);
        w1 = load_w(load_col + 1u, next);
        w2 = load_w(load_col + 2u, next);
        w3 = load_w(load_col + 3u, next);

        for (var j = 0u; j < STEP; j++) {
            let a = xs[j * QUADS + down];
            let b = xs[j * QUADS + 8u + down];
            let left = ws[j * QUADS + right];
            let far = ws[j * QUADS + 8u + right];
            acc[0] = fma(vec4<f32>(a.x), left, acc[0]);
            acc[1] = fma(vec4<f32>(a.x), far, acc[1]);
            acc[2] = fma(vec4<f32>(a.y), left, acc[2]);
            acc[3] = fma(vec4<f32>(a.y), far, acc[3]);
            acc[4] = fma(vec4<f32>(a.z), left, acc[4]);
            acc[5] = fma(vec4<f32>(a.z), far, acc[5]);
            acc[6] = fma(vec4<f32>(a.w), left, acc[6]);
            acc[7] = fma(vec4<f32>(a.w), far, acc[7]);
            acc[8] = fma(vec4<f32>(b.x), left, acc[8]);
            acc[9] = fma(vec4<f32>(b.x), far, acc[9]);
            acc[10] = fma(vec4<f32>(b.y), left, acc[10]);
            acc[11] = fma(vec4<f32>(b.y), far, acc[11]);
            acc[12] = fma(vec4<f32>(b.z), left, acc[12]);
            acc[13] = fma(vec4<f32>(b.z), far, acc[13]);
            acc[14] = fma(vec4<f32>(b.w), left, acc[14]);
            acc[15] = fma(vec4<f32>(b.w), far, acc[15]);
        }
    }

    let row = tile_row + down * 4u;
    let col = tile_col + right * 4u;
    store(row, col, acc[0]);
    store(row, col + 32u, acc[1]);
    store(row + 1u, col, acc[2]);
    store(row + 1u, col + 32u, acc[3]);
    store(row + 2u, col, acc[4]);
    store(row + 2u, col + 32u, acc[5]);
    store(row + 3u, col, acc[6]);
    store(row + 3u, col + 32u, acc[7]);
    store(row + 32u, col, acc[8]);
    store(row + 32u, col + 32u, acc[9]);
    store(row + 33u, col, acc[10]);
    store(row + 33u, col + 32u, acc[11]);
    store(row + 34u, col, acc[12]);
    store(row + 34u, col + 32u, acc[13]);
    store(row + 35u, col, acc[14]);
    store(row + 35u, col + 32u, acc[15]);
}
