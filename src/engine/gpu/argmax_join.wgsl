// Of the likeliest columns of the parts of a row (argmax.wgsl) the likeliest: one workgroup per row.

struct Params {
    cols: u32,
    parts: u32,
    log_at: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> found: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> next: array<u32>;
@group(0) @binding(3) var<storage, read_write> log: array<u32>;

const LANES: u32 = 64u;
const BROKEN: u32 = 0xffffffffu;
// What negative infinity turns into: the largest logit of a row that has no other.
const NOTHING: u32 = 0x007fffffu;

var<workgroup> best: array<vec2<u32>, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var top = vec2<u32>(0u, p.cols);
    // Parts come in ascending order, so that the first of equals has the smallest column.
    for (var i = lane; i < p.parts; i += LANES) {
        let other = found[group.x * p.parts + i];
        if (other.x > top.x) {
            top = other;
        }
    }
    best[lane] = top;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let mine = best[lane];
            let other = best[lane + half];
            if (other.x > mine.x || (other.x == mine.x && other.y < mine.y)) {
                best[lane] = other;
            }
        }
    }
    if (lane == 0u) {
        let top = best[0];
        let none = top.x == BROKEN || top.x <= NOTHING;
        next[group.x] = select(top.y, 0u, none);
        log[p.log_at + group.x] = select(top.y, p.cols, none);
    }
}
