// out[i] <- the sum (modulo 2^32) of every number of the vectors i, i + n, i + 2 n, ... with n invocations.

struct Params {
    count: u32,
    factor: f32,
    term: f32,
    start: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> memory: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = group.x * 256u + lane;
    let step = groups.x * 256u;
    var sum = vec4<u32>(0u);
    for (var i = first; i < p.count; i += step) {
        sum += memory[i];
    }
    out[first] = sum.x + sum.y + sum.z + sum.w;
}
