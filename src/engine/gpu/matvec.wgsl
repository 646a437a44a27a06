// Products for up to ROWS rows: one workgroup takes four weight rows, its invocations stride along k by sixteens, and each
// decoded weight serves all rows of x. What a sixteen adds is its scale times the sum of x times the codes, plus its offset times
// the sum of x, which all four weight rows share. Partial sums are joined as a tree. The order of an output's sum depends on k
// alone, not on ROWS.

const LANES: u32 = 64u;

// [ROWS][LANES], four columns in each element.
var<workgroup> sums: array<vec4<f32>, ROWS * LANES>;

// The sum of x times codes, one chain in the order of k.
fn dot16(x: mat4x4<f32>, q: mat4x4<f32>) -> f32 {
    return dot_on(dot_on(dot_on(dot_on(0.0, x[0], q[0]), x[1], q[1]), x[2], q[2]), x[3], q[3]);
}

fn dot_on(sum: f32, x: vec4<f32>, q: vec4<f32>) -> f32 {
    return fma(x.w, q.w, fma(x.z, q.z, fma(x.y, q.y, fma(x.x, q.x, sum))));
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
    for (var k = lane * 16u; k < p.inner; k += LANES * 16u) {
        let a = decode16(w0, k);
        let b = decode16(w1, k);
        let c = decode16(w2, k);
        let d = decode16(w3, k);
        let scales = vec4<f32>(a.scale, b.scale, c.scale, d.scale);
        let offsets = vec4<f32>(a.offset, b.offset, c.offset, d.offset);
        for (var row = 0u; row < ROWS; row++) {
            let t = min(p.row_first + row, p.row_end - 1u);
            let v = mat4x4<f32>(load_x(t, k), load_x(t, k + 4u), load_x(t, k + 8u), load_x(t, k + 12u));
            let dots = vec4<f32>(dot16(v, a.q), dot16(v, b.q), dot16(v, c.q), dot16(v, d.q));
            var sum = fma(scales, dots, acc[row]);
            if (OFFSETS) {
                let four = (v[0] + v[1]) + (v[2] + v[3]);
                sum = fma(offsets, vec4<f32>((four.x + four.y) + (four.z + four.w)), sum);
            }
            acc[row] = sum;
        }
    }
    for (var row = 0u; row < ROWS; row++) {
        sums[row * LANES + lane] = acc[row];
    }
    // Each level of the tree is shared out among all invocations. After the last, `bits` wraps around.
    for (var bits = 5u; bits < 6u; bits--) {
        workgroupBarrier();
        let half = 1u << bits;
        for (var i = lane; i < ROWS * half; i += LANES) {
            let at = ((i >> bits) * LANES) + (i & (half - 1u));
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
