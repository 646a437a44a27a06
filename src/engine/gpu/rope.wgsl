// Rotates pair i of each head by the angle of the row's position: (a, b) <- (a cos - b sin, a sin + b cos).
// table: [positions, pairs, (cos, sin)].

struct Params {
    row_heads: u32,
    heads: u32,
    head_dim: u32,
    first: u32,
    pairs: u32,
    first_step: u32,
    second_step: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> positions: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = (group.y * groups.x + group.x) * 64u + lane;
    let row_head = at / p.pairs;
    let i = at % p.pairs;
    if (row_head >= p.row_heads) {
        return;
    }
    let angle = (positions[row_head / p.heads] * p.pairs + i) * 2u;
    let c = table[angle];
    let s = table[angle + 1u];
    let first = row_head * p.head_dim + p.first + i * p.first_step;
    let second = first + p.second_step;
    let a = x[first];
    let b = x[second];
    x[first] = a * c - b * s;
    x[second] = a * s + b * c;
}
