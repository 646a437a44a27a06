// Takes one tile of logits into each row's running statistics, one workgroup per row: first the maxima (and the arg-max), then
// the sums of exponentials below the new maxima, both joined as trees. With a reference r, KL(r || l) later needs the sum of
// exp(r) and of exp(r) * (r - l). What was summed below an older maximum is scaled down to the new one.

struct Params {
    rows: u32,
    cols: u32,
    first_token: u32,
    has_reference: u32,
}

// One row's state, as head.rs has it.
struct State {
    max: f32,
    sum: f32,
    target_logit: f32,
    argmax: u32,
    reference_max: f32,
    reference_sum: f32,
    cross: f32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> reference: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<u32>;
@group(0) @binding(4) var<storage, read_write> states: array<State>;

const LANES: u32 = 256u;
const NOTHING_YET: f32 = -3.0e38;

var<workgroup> maxima: array<vec2<f32>, LANES>;
var<workgroup> argmaxes: array<u32, LANES>;
// Sum of exp(l), of exp(r), of exp(r) * (r - l).
var<workgroup> sums: array<vec3<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = group.y * groups.x + group.x;
    if (t >= p.rows) {
        return;
    }
    let row = t * p.cols;
    let old = states[t];

    var top = NOTHING_YET;
    var reference_top = NOTHING_YET;
    var argmax = 0u;
    for (var n = lane; n < p.cols; n += LANES) {
        let l = logits[row + n];
        if (l > top) {
            top = l;
            argmax = n;
        }
        if (p.has_reference != 0u) {
            reference_top = max(reference_top, reference[row + n]);
        }
    }
    maxima[lane] = vec2<f32>(top, reference_top);
    argmaxes[lane] = argmax;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let mine = maxima[lane];
            let other = maxima[lane + half];
            let id = argmaxes[lane + half];
            if (other.x > mine.x || (other.x == mine.x && id < argmaxes[lane])) {
                argmaxes[lane] = id;
            }
            maxima[lane] = max(mine, other);
        }
    }
    workgroupBarrier();
    let below = max(old.max, maxima[0].x);
    let reference_below = max(old.reference_max, maxima[0].y);

    var sum = vec3<f32>(0.0);
    for (var n = lane; n < p.cols; n += LANES) {
        let l = logits[row + n];
        sum.x += exp(l - below);
        if (p.has_reference != 0u) {
            let r = reference[row + n];
            let e = exp(r - reference_below);
            sum.y += e;
            sum.z = fma(e, r - l, sum.z);
        }
    }
    sums[lane] = sum;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            sums[lane] += sums[lane + half];
        }
    }
    workgroupBarrier();

    if (lane != 0u) {
        return;
    }
    var state = old;
    let total = sums[0];
    state.max = below;
    state.sum = old.sum * exp(old.max - below) + total.x;
    // Earlier tiles hold the smaller ids, so that a tie leaves theirs.
    if (maxima[0].x > old.max) {
        state.argmax = p.first_token + argmaxes[0];
    }
    let wanted = targets[t] - p.first_token;
    if (wanted < p.cols) {
        state.target_logit = logits[row + wanted];
    }
    if (p.has_reference != 0u) {
        let scale = exp(old.reference_max - reference_below);
        state.reference_max = reference_below;
        state.reference_sum = old.reference_sum * scale + total.y;
        state.cross = old.cross * scale + total.z;
    }
    states[t] = state;
}
