// out[t, h] of the parts into which a row's keys were split (attention.wgsl): sums of weighted values and of weights, each below
// a power of two of its own. One workgroup per row and head. Parts come in order, and scaling them is exact.

struct Params {
    row_heads: u32,
    parts: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> found: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

const LANES: u32 = 64u;
const STRIDE: u32 = VALUE_DIM + 2u;
// Below every reference.
const NONE: f32 = -3.0e38;

// 2^n for whole n <= 0; 0 below the smallest normal number.
fn power_of_two(n: f32) -> f32 {
    return bitcast<f32>(u32(clamp(n, -127.0, 0.0) + 127.0) << 23u);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group.y * groups.x + group.x;
    if (t >= p.row_heads) {
        return;
    }
    let first = t * p.parts * STRIDE;
    var reference = NONE;
    for (var part = 0u; part < p.parts; part++) {
        reference = max(reference, found[first + part * STRIDE + VALUE_DIM + 1u]);
    }
    for (var d = lane; d < VALUE_DIM; d += LANES) {
        var sum = 0.0;
        var value = 0.0;
        for (var part = 0u; part < p.parts; part++) {
            let at = first + part * STRIDE;
            let factor = power_of_two(found[at + VALUE_DIM + 1u] - reference);
            sum = fma(found[at + VALUE_DIM], factor, sum);
            value = fma(found[at + d], factor, value);
        }
        out[t * VALUE_DIM + d] = value / sum;
    }
}
