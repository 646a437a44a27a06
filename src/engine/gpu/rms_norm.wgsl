// out[t, k] = x[t, k] / sqrt(mean_k(x^2) + eps) * weights[k]: one workgroup per row, partial sums joined as a tree.

struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const LANES: u32 = 128u;
var<workgroup> sums: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group.y * groups.x + group.x;
    if (t >= p.rows) {
        return;
    }
    let row = t * p.cols;
    var sum = 0.0;
    for (var k = lane; k < p.cols; k += LANES) {
        sum = fma(x[row + k], x[row + k], sum);
    }
    sums[lane] = sum;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            sums[lane] += sums[lane + half];
        }
    }
    workgroupBarrier();
    let scale = 1.0 / sqrt(sums[0] / f32(p.cols) + p.eps);
    for (var k = lane * 4u; k < p.cols; k += LANES * 4u) {
        let w = decode4(0u, k);
        let at = row + k;
        out[at] = x[at] * scale * w.x;
        if (k + 1u < p.cols) {
            out[at + 1u] = x[at + 1u] * scale * w.y;
        }
        if (k + 2u < p.cols) {
            out[at + 2u] = x[at + 2u] * scale * w.z;
        }
        if (k + 3u < p.cols) {
            out[at + 3u] = x[at + 3u] * scale * w.w;
        }
    }
}
