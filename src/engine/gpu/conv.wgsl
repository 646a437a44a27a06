// x[t, c] <- f(sum_j weights[c, j] * x[t - BEFORE + j, c] + bias[c]) along the rows of a run, which begins with the BEFORE rows
// that its slot of the state has and leaves its last BEFORE ones. One invocation takes a column of a run, row by row, with the
// rows before in registers: no other invocation sees them. `functions.wgsl` precedes this text.

struct Params {
    channels: u32,
    weight_row_bytes: u32,
    run_first: u32,
    bias: u32,
    silu: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<Words>;
// First row, one past the last, slot + 1 to begin with, slot + 1 to leave; 0 for none.
@group(0) @binding(2) var<storage, read> runs: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> state: array<f32>;
@group(0) @binding(5) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let c = group.x * 64u + lane;
    if (c >= p.channels) {
        return;
    }
    let run = runs[p.run_first + group.y];
    var w: array<f32, BEFORE + 1u>;
    for (var j = 0u; j <= BEFORE; j += 4u) {
        let four = decode4(c * p.weight_row_bytes, j);
        for (var i = 0u; i < 4u && j + i <= BEFORE; i++) {
            w[j + i] = four[i];
        }
    }
    var past: array<f32, BEFORE>;
    for (var j = 0u; j < BEFORE; j++) {
        past[j] = 0.0;
        if (run.z > 0u) {
            past[j] = state[((run.z - 1u) * BEFORE + j) * p.channels + c];
        }
    }
    var start = 0.0;
    if (p.bias == 1u) {
        start = bias[c];
    }
    for (var t = run.x; t < run.y; t++) {
        let own = x[t * p.channels + c];
        var sum = start;
        for (var j = 0u; j < BEFORE; j++) {
            sum = fma(w[j], past[j], sum);
        }
        sum = fma(w[BEFORE], own, sum);
        for (var j = 0u; j + 1u < BEFORE; j++) {
            past[j] = past[j + 1u];
        }
        past[BEFORE - 1u] = own;
        if (p.silu == 1u) {
            sum = sum / sigmoid_divisor(sum);
        }
        x[t * p.channels + c] = sum;
    }
    if (run.w > 0u) {
        for (var j = 0u; j < BEFORE; j++) {
            state[((run.w - 1u) * BEFORE + j) * p.channels + c] = past[j];
        }
    }
}
