// dst <- src, vector by vector.

struct Params {
    count: u32,
    factor: f32,
    term: f32,
    start: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> src: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> dst: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let step = groups.x * 256u;
    for (var i = group.x * 256u + lane; i < p.count; i += step) {
        dst[i] = src[i];
    }
}
