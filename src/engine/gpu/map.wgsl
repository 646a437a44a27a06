// x <- f(x): the tanh form of GELU, x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), if KIND is 0; value * x if it is 1;
// value * tanh(x / value) if it is 2.

struct Params {
    len: u32,
    value: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

// By its series near 0, where the quotient would lose digits, and by exp(-2|x|), which cannot overflow, elsewhere.
fn tanh_of(x: f32) -> f32 {
    let s = x * x;
    let series = x * fma(s, fma(s, fma(s, fma(s, 0.021869488, -0.053968254), 0.13333334), -0.33333334), 1.0);
    let e = exp(-2.0 * min(abs(x), 40.0));
    let tail = sign(x) * (1.0 - e) / (1.0 + e);
    return select(tail, series, abs(x) < 0.25);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if (i >= p.len) {
        return;
    }
    let v = x[i];
    if (KIND == 0u) {
        let u = 1.5957692 * fma(0.044715 * v * v, v, v);
        // exp(80) is finite, and shaders may not assume that infinity works.
        x[i] = v / (1.0 + exp(min(-u, 80.0)));
    } else if (KIND == 1u) {
        x[i] = v * p.value;
    } else {
        x[i] = p.value * tanh_of(v / p.value);
    }
}
