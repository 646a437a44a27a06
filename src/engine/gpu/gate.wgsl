// gate <- f(gate) * up: with silu(g) = g / (1 + exp(-g)) (Shazeer 2020) if KIND is 0, the tanh form of GELU if it is 1,
// gpt-oss's clamped function if it is 2, the sigmoid if it is 3, and g itself if it is 4. `functions.wgsl` precedes this text.

struct Params {
    len: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> gate: array<f32>;
@group(0) @binding(2) var<storage, read> up: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if (i >= p.len) {
        return;
    }
    let g = gate[i];
    let u = up[i];
    if (KIND == 0u) {
        gate[i] = g / sigmoid_divisor(g) * u;
    } else if (KIND == 1u) {
        gate[i] = g * sigmoid(1.5957692 * fma(0.044715 * g * g, g, g)) * u;
    } else if (KIND == 3u) {
        gate[i] = sigmoid(g) * u;
    } else if (KIND == 4u) {
        gate[i] = g * u;
    } else {
        let clamped = min(g, 7.0);
        gate[i] = clamped * sigmoid(1.702 * clamped) * (clamp(u, -7.0, 7.0) + 1.0);
    }
}
