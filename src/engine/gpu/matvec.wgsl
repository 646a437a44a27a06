// out[t, n] = sum_k x[t, k] * w[n, k] for up to ROWS rows: one workgroup takes four weight rows, its invocations stride along k,
// each decoded weight serves all rows of x. Partial sums are joined as a tree. The order of an output's sum depends on k
// alone, not on ROWS.

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

const LANES: u32 = 64u;

// [ROWS][LANES], four columns in each element.
var<workgroup> sums: array<vec4<f32>, ROWS * LANES>;

fn load_x(row: u32, k: u32) -> vec4<f32> {
    let at = min(p.row_first + row, p.row_end - 1u) * p.inner + k;
    if (k + 4u <= p.inner) {
        return vec4<f32>(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
    }
    var v = vec4<f32>(x[at], 0.0, 0.0, 0.0);
    if (k + 1u < p.inner) {
        v.y = x[at + 1u];
    }
    if (k + 2u < p.inner) {
        v.z = x[at + 2u];
    }
    return v;
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let col = (group.y * groups.x + group.x) * 4u;
    if (col >= p.cols) {
        return;
    }
    let last = p.cols - 1u;
    let w0 = (p.w_first + col) * p.row_bytes;
    let w1 = (p.w_first + min(col + 1u, last)) * p.row_bytes;
    let w2 = (p.w_first + min(col + 2u, last)) * p.row_bytes;
    let w3 = (p.w_first + min(col + 3u, last)) * p.row_bytes;

    var acc: array<vec4<f32>, ROWS>;
    for (var k = lane * 4u; k < p.inner; k += LANES * 4u) {
        let w = transpose(mat4x4<f32>(decode4(w0, k), decode4(w1, k), decode4(w2, k), decode4(w3, k)));
        for (var row = 0u; row < ROWS; row++) {
            let v = load_x(row, k);
            var sum = acc[row];
            sum = fma(vec4<f32>(v.x), w[0], sum);
            sum = fma(vec4<f32>(v.y), w[1], sum);
            sum = fma(vec4<f32>(v.z), w[2], sum);
            sum = fma(vec4<f32>(v.w), w[3], sum);
            acc[row] = sum;
        }
    }
    for (var row = 0u; row < ROWS; row++) {
        sums[row * LANES + lane] = acc[row];
    }
    // Each level of the tree is shared out among all invocations.
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        for (var i = lane; i < ROWS * half; i += LANES) {
            let at = i / half * LANES + i % half;
            sums[at] += sums[at + half];
        }
    }
    workgroupBarrier();

    // Four invocations a row write one number each.
    let row = p.row_first + lane / 4u;
    let n = lane % 4u;
    if (row < p.row_end && col + n < p.cols) {
        out[row * p.out_cols + p.out_first + col + n] = sums[lane / 4u * LANES][n];
    }
}
