// gate <- silu(gate) * up with silu(g) = g / (1 + exp(-g)) (Shazeer 2020).

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
    if (i < p.len) {
        let g = gate[i];
        // exp(80) is finite; beyond it the result is below 1e-32 either way, and shaders may not assume that infinity works.
        gate[i] = g / (1.0 + exp(min(-g, 80.0))) * up[i];
    }
}
