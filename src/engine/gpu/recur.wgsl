// The state S [KEY_DIM, value_dim] of a head along the rows of a run, by S <- g S + k d^T, and the outputs S^T q in the place of
// the values v. If KIND is 0, a gated delta net (Yang et al. 2024): g = exp(a softplus(gate + dt_bias)) and
// d = (v - g S^T k) sigmoid(beta). If it is 1, Mamba-2 (Dao and Gu 2024): dt = softplus(gate + dt_bias) within its limits,
// g = exp(dt a), d = dt v, and the output has the head's own multiple of v beside. A workgroup takes COLUMNS columns of a head
// and run, an invocation one of them: none sees what another writes, so nothing waits. `functions.wgsl` precedes this text.

struct Params {
    heads: u32,
    key_heads: u32,
    value_dim: u32,
    tiled: u32,
    run_first: u32,
    part_first: u32,
    part_end: u32,
    dt_min: f32,
    dt_max: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
// First row, one past the last, slot + 1 to begin with, slot + 1 to leave; 0 for none.
@group(0) @binding(1) var<storage, read> runs: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> k: array<f32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read> betas: array<f32>;
// [3, heads]: a, dt_bias, and the multiple of v.
@group(0) @binding(6) var<storage, read> parameters: array<f32>;
@group(0) @binding(7) var<storage, read_write> state: array<f32>;
@group(0) @binding(8) var<storage, read_write> values: array<f32>;

var<workgroup> s: array<f32, KEY_DIM * COLUMNS>;

@compute @workgroup_size(COLUMNS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let part = p.part_first + group.y * groups.x + group.x;
    let tiles = (p.value_dim + COLUMNS - 1u) / COLUMNS;
    let column = part % tiles * COLUMNS + lane;
    if (part >= p.part_end || column >= p.value_dim) {
        return;
    }
    let head = part / tiles % p.heads;
    let run = runs[p.run_first + part / tiles / p.heads];
    let key_head = select(head / (p.heads / p.key_heads), head % p.key_heads, p.tiled == 1u);
    for (var i = 0u; i < KEY_DIM; i++) {
        s[i * COLUMNS + lane] = 0.0;
        if (run.z > 0u) {
            s[i * COLUMNS + lane] = state[(((run.z - 1u) * p.heads + head) * KEY_DIM + i) * p.value_dim + column];
        }
    }
    let a = parameters[head];
    let dt_bias = parameters[p.heads + head];
    let multiple = parameters[2u * p.heads + head];
    for (var t = run.x; t < run.y; t++) {
        let keys = (t * p.key_heads + key_head) * KEY_DIM;
        let at = (t * p.heads + head) * p.value_dim + column;
        let v = values[at];
        var dt = softplus_of(gates[t * p.heads + head] + dt_bias);
        var d = 0.0;
        var decay = 0.0;
        if (KIND == 0u) {
            decay = exp(a * dt);
            var known = 0.0;
            for (var i = 0u; i < KEY_DIM; i++) {
                known = fma(s[i * COLUMNS + lane], k[keys + i], known);
            }
            d = fma(-decay, known, v) * sigmoid(betas[t * p.heads + head]);
        } else {
            dt = clamp(dt, p.dt_min, p.dt_max);
            decay = exp(a * dt);
            d = dt * v;
        }
        var sum = 0.0;
        for (var i = 0u; i < KEY_DIM; i++) {
            let next = fma(k[keys + i], d, decay * s[i * COLUMNS + lane]);
            s[i * COLUMNS + lane] = next;
            sum = fma(next, q[keys + i], sum);
        }
        if (KIND == 1u) {
            sum = fma(multiple, v, sum);
        }
        values[at] = sum;
    }
    if (run.w > 0u) {
        for (var i = 0u; i < KEY_DIM; i++) {
            state[(((run.w - 1u) * p.heads + head) * KEY_DIM + i) * p.value_dim + column] = s[i * COLUMNS + lane];
        }
    }
}
