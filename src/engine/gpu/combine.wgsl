// out[t, n] <- sum_j factors[t, j] * x[slots[t, j], n] in the order of j, added to what stands there if p.accumulate is 1: one
// invocation per number.

struct Params {
    rows: u32,
    per_row: u32,
    cols: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> factors: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.y * groups.x + group.x) * 256u + lane;
    let t = at / p.cols;
    if (t >= p.rows) {
        return;
    }
    let n = at % p.cols;
    var sum = 0.0;
    if (p.accumulate == 1u) {
        sum = out[at];
    }
    for (var j = t * p.per_row; j < (t + 1u) * p.per_row; j++) {
        sum = fma(factors[j], x[slots[j] * p.cols + n], sum);
    }
    out[at] = sum;
}
