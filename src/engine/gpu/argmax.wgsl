// The likeliest column of a part of a row of logits: one workgroup per part and row. A logit is compared by its bits, turned so
// that they order as numbers do: what is no number, or infinite, is seen without an assumption about how such compare.

struct Params {
    cols: u32,
    // Columns of a part.
    part: u32,
    parts: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
// [rows, parts]: the turned bits of the largest logit and its column.
@group(0) @binding(2) var<storage, read_write> found: array<vec2<u32>>;

const LANES: u32 = 256u;
// Above all numbers: something in the row is none, or infinite.
const BROKEN: u32 = 0xffffffffu;

var<workgroup> best: array<vec2<u32>, LANES>;

fn turned(bits: u32) -> u32 {
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u || bits == 0x7f800000u) {
        return BROKEN;
    }
    // Both zeros are one.
    let sign = select(bits >> 31u, 0u, size == 0u);
    return select(size | 0x80000000u, ~(size | 0x80000000u), sign == 1u);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * p.cols;
    let end = min(p.cols, (group.x + 1u) * p.part);
    // No logit turns into 0.
    var top = vec2<u32>(0u, p.cols);
    for (var n = group.x * p.part + lane; n < end; n += LANES) {
        let value = turned(logits[row + n]);
        if (value > top.x) {
            top = vec2<u32>(value, n);
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
        found[group.y * p.parts + group.x] = best[0];
    }
}
