// Takes one tile of logits into each row's running statistics, one workgroup per row: first the maxima (and the arg-max), then
// the sums of exponentials below the new maxima, both joined as trees. What was summed below an older maximum is scaled down
// to the new one.
//
// With a reference r, head.rs makes KL(r || l) of the means, under the reference's distribution, of d and of
// d + exp(-d) - 1, where d = r - l - shift and the shift, which may be any number, brings d near zero: it is r - l at the
// reference's likeliest token of the first tile. The textbook's sum p (r - l) - (lse(r) - lse(l)) would drown a small
// divergence in the rounding of its large terms. KL(l || r) is the same of -d, with means under this lane's distribution.
//
// The rank counts the logits above the target's, which is given from the first tile on, and its equals of smaller ids.

struct Params {
    rows: u32,
    cols: u32,
    first_token: u32,
    has_reference: u32,
    has_targets: u32,
}

// One row's state, as head.rs has it.
struct State {
    max: f32,
    sum: f32,
    target_logit: f32,
    argmax: u32,
    rank: u32,
    moment: f32,
    reference_max: f32,
    reference_sum: f32,
    shift: f32,
    difference: f32,
    curvature: f32,
    own_difference: f32,
    own_curvature: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> reference: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<u32>;
@group(0) @binding(4) var<storage, read> target_logits: array<f32>;
@group(0) @binding(5) var<storage, read_write> states: array<State>;

const LANES: u32 = 256u;
const NOTHING_YET: f32 = -3.0e38;

var<workgroup> maxima: array<vec2<f32>, LANES>;
// Columns of the two maxima, the smallest among equals.
var<workgroup> argmaxes: array<vec2<u32>, LANES>;
// Sums of exp(l), of exp(r), of exp(r) d, of exp(r) (d + exp(-d) - 1).
var<workgroup> sums: array<vec4<f32>, LANES>;
// Sums of exp(l) (l - max), of exp(l) -d, of exp(l) (-d + exp(d) - 1), and the number of tokens before the target, which f32
// holds.
var<workgroup> own_sums: array<vec4<f32>, LANES>;

// d + exp(-d) - 1 for |d| < 1/4: its Taylor series, the next term of which is below 2e-8 of the whole.
fn curvature(d: f32) -> f32 {
    let tail = 1.0 / 24.0 - d * (1.0 / 120.0 - d * (1.0 / 720.0 - d * (1.0 / 5040.0)));
    return d * d * (0.5 - d * (1.0 / 6.0 - d * tail));
}

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

    var top = vec2<f32>(NOTHING_YET);
    var argmax = vec2<u32>(0u);
    for (var n = lane; n < p.cols; n += LANES) {
        let l = logits[row + n];
        if (l > top.x) {
            top.x = l;
            argmax.x = n;
        }
        if (p.has_reference != 0u) {
            let r = reference[row + n];
            if (r > top.y) {
                top.y = r;
                argmax.y = n;
            }
        }
    }
    maxima[lane] = top;
    argmaxes[lane] = argmax;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let mine = maxima[lane];
            let other = maxima[lane + half];
            let id = argmaxes[lane];
            let other_id = argmaxes[lane + half];
            let take = (other > mine) | ((other == mine) & (other_id < id));
            argmaxes[lane] = select(id, other_id, take);
            maxima[lane] = max(mine, other);
        }
    }
    workgroupBarrier();
    let below = max(old.max, maxima[0].x);
    let reference_below = max(old.reference_max, maxima[0].y);

    var shift = old.shift;
    if (p.has_reference != 0u && old.reference_sum == 0.0) {
        shift = maxima[0].y - logits[row + argmaxes[0].y];
    }

    var wanted = 0u;
    var target_logit = 0.0;
    if (p.has_targets != 0u) {
        wanted = targets[t];
        target_logit = target_logits[t];
    }
    var sum = vec4<f32>(0.0);
    var own = vec4<f32>(0.0);
    for (var n = lane; n < p.cols; n += LANES) {
        let l = logits[row + n];
        let lower = max(l - below, -100.0); // infinitely low ones must not become 0 times infinity
        let q = exp(lower);
        sum.x += q;
        own.x = fma(q, lower, own.x);
        let before = (l > target_logit) | ((l == target_logit) & (p.first_token + n < wanted));
        own.w += select(0.0, 1.0, before);
        if (p.has_reference != 0u) {
            let r = reference[row + n];
            let e = exp(r - reference_below);
            let d = r - l - shift;
            sum.y += e;
            sum.z = fma(e, d, sum.z);
            own.y = fma(q, -d, own.y);
            if (abs(d) < 0.25) {
                sum.w = fma(e, curvature(d), sum.w);
                own.z = fma(q, curvature(-d), own.z);
            } else {
                // exp(-d) alone may overflow where its product with e does not.
                sum.w += fma(e, d - 1.0, exp(l + shift - reference_below));
                own.z += fma(q, -d - 1.0, exp(r - shift - below));
            }
        }
    }
    sums[lane] = sum;
    own_sums[lane] = own;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            sums[lane] += sums[lane + half];
            own_sums[lane] += own_sums[lane + half];
        }
    }
    workgroupBarrier();

    if (lane != 0u) {
        return;
    }
    var state = old;
    let total = sums[0];
    let own_total = own_sums[0];
    let own_scale = exp(old.max - below);
    state.max = below;
    state.sum = old.sum * own_scale + total.x;
    if (old.sum > 0.0) {
        state.moment = (old.moment + old.sum * (old.max - below)) * own_scale;
    }
    state.moment += own_total.x;
    // Earlier tiles hold the smaller ids, so that a tie leaves theirs.
    if (maxima[0].x > old.max) {
        state.argmax = p.first_token + argmaxes[0].x;
    }
    if (p.has_targets != 0u) {
        state.rank += u32(own_total.w);
        if (wanted - p.first_token < p.cols) {
            state.target_logit = logits[row + wanted - p.first_token];
        }
    }
    if (p.has_reference != 0u) {
        let scale = exp(old.reference_max - reference_below);
        state.reference_max = reference_below;
        state.reference_sum = old.reference_sum * scale + total.y;
        state.shift = shift;
        state.difference = old.difference * scale + total.z;
        state.curvature = old.curvature * scale + total.w;
        state.own_difference = old.own_difference * own_scale + own_total.y;
        state.own_curvature = old.own_curvature * own_scale + own_total.z;
    }
    states[t] = state;
}
