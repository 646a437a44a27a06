// dst[t, to_first + n] = src[t / repeat, from_first + n]: one invocation per number.

struct Params {
    rows: u32,
    count: u32,
    from_stride: u32,
    from_first: u32,
    repeat: u32,
    to_stride: u32,
    to_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> src: array<f32>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.y * groups.x + group.x) * 256u + lane;
    let t = at / p.count;
    if (t < p.rows) {
        let n = at % p.count;
        dst[t * p.to_stride + p.to_first + n] = src[t / p.repeat * p.from_stride + p.from_first + n];
    }
}
