// x[t, n] += weights[index[t], n]: one invocation takes four neighbouring columns. The table may come in parts; each dispatch
// takes the rows whose index lies in its part.

struct Params {
    rows: u32,
    cols: u32,
    row_bytes: u32,
    part_first: u32,
    part_rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

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
    // An index before the part wraps around to a large number.
    let row = index[t] - p.part_first;
    if (row >= p.part_rows) {
        return;
    }
    let n = (i % quads) * 4u;
    let w = decode4(row * p.row_bytes, n);
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
