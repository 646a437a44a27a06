// out[t, k] = weights[rows[t], k], added to what stands there if ADD is 1: one invocation decodes four neighbouring weights. The
// table may come in parts; each dispatch takes the rows whose index lies in its part.

struct Params {
    count: u32,
    cols: u32,
    row_bytes: u32,
    part_first: u32,
    part_rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<Words>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn put(at: u32, value: f32) {
    if (ADD == 1u) {
        out[at] += value;
    } else {
        out[at] = value;
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = (p.cols + 3u) / 4u;
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let t = i / quads;
    if (t >= p.count) {
        return;
    }
    // An index before the part wraps around to a large number.
    let row = rows[t] - p.part_first;
    if (row >= p.part_rows) {
        return;
    }
    let k = (i % quads) * 4u;
    let w = decode4(row * p.row_bytes, k);
    let at = t * p.cols + k;
    put(at, w.x);
    if (k + 1u < p.cols) {
        put(at + 1u, w.y);
    }
    if (k + 2u < p.cols) {
        put(at + 2u, w.z);
    }
    if (k + 3u < p.cols) {
        put(at + 3u, w.w);
    }
}
