// x[t, n] += weights[n]: one invocation takes four neighbouring columns.

struct Params {
    rows: u32,
    cols: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<Words>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = (p.cols + 3u) / 4u;
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let t = i / quads;
    if (t >= p.rows) {
        return;
    }
    let n = (i % quads) * 4u;
    let w = decode4(0u, n);
    let at = t * p.cols + n;
    x[at] += w.x;
    if (n + 1u < p.cols) {
        x[at + 1u] += w.y;
    }
    if (n + 2u < p.cols) {
        x[at + 2u] += w.z;
    }
    if (n + 3u < p.cols) {
        x[at + 3u] += w.w;
    }
}
