// out[t, k] = weights[tokens[t], k]: one invocation decodes four neighbouring weights. The table may come in parts; each
// dispatch writes the rows whose token lies in its part.

struct Params {
    count: u32,
    cols: u32,
    row_bytes: u32,
    part_first: u32,
    part_rows: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<u32>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

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
    // A token before the part wraps around to a large number.
    let row = tokens[t] - p.part_first;
    if (row >= p.part_rows) {
        return;
    }
    let k = (i % quads) * 4u;
    let w = decode4(row * p.row_bytes, k);
    let at = t * p.cols + k;
    out[at] = w.x;
    if (k + 1u < p.cols) {
        out[at + 1u] = w.y;
    }
    if (k + 2u < p.cols) {
        out[at + 2u] = w.z;
    }
    if (k + 3u < p.cols) {
        out[at + 3u] = w.w;
    }
}
