// out[t, k] = (x[t, k] - m) / sqrt(mean_k((x - m)^2) + eps) * weights[t % gain_rows, k], where m is the row's mean if CENTERED is
// 1 (layer norm) and 0 else (RMS norm): one workgroup per row, partial sums joined as a tree.

struct Params {
    rows: u32,
    cols: u32,
    gain_rows: u32,
    gain_row_bytes: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<Words>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const LANES: u32 = 128u;
var<workgroup> sums: array<f32, LANES>;

// The sum of every invocation's number, for all of them.
fn join(lane: u32, part: f32) -> f32 {
    workgroupBarrier(); // the sum before has been read
    sums[lane] = part;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            sums[lane] += sums[lane + half];
        }
    }
    workgroupBarrier();
    return sums[0];
}

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
    var mean = 0.0;
    if (CENTERED == 1u) {
        var total = 0.0;
        for (var k = lane; k < p.cols; k += LANES) {
            total += x[row + k];
        }
        mean = join(lane, total) / f32(p.cols);
    }
    var sum = 0.0;
    for (var k = lane; k < p.cols; k += LANES) {
        let d = x[row + k] - mean;
        sum = fma(d, d, sum);
    }
    let scale = 1.0 / sqrt(join(lane, sum) / f32(p.cols) + p.eps);
    let gain = (t % p.gain_rows) * p.gain_row_bytes;
    for (var k = lane * 4u; k < p.cols; k += LANES * 4u) {
        let w = decode4(gain, k);
        let at = row + k;
        out[at] = (x[at] - mean) * scale * w.x;
        if (k + 1u < p.cols) {
            out[at + 1u] = (x[at + 1u] - mean) * scale * w.y;
        }
        if (k + 2u < p.cols) {
            out[at + 2u] = (x[at + 2u] - mean) * scale * w.z;
        }
        if (k + 3u < p.cols) {
            out[at + 3u] = (x[at + 3u] - mean) * scale * w.w;
        }
    }
}
