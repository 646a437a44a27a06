// x <- f(x): the tanh form of GELU, x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), if KIND is 0; a x if it is 1; a tanh(x / a) if it
// is 2; x sigmoid(x) if it is 3; max(x, 0)^2 if it is 4; xIELU (Huang and Schlag 2024) with alpha_p = a, alpha_n = b, beta = c
// and eps = d if it is 5. `functions.wgsl` precedes this text.

struct Params {
    len: u32,
    a: f32,
    b: f32,
    c: f32,
    d: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

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
        x[i] = v / sigmoid_divisor(u);
    } else if (KIND == 1u) {
        x[i] = v * p.a;
    } else if (KIND == 2u) {
        x[i] = p.a * tanh_of(v / p.a);
    } else if (KIND == 3u) {
        x[i] = v / sigmoid_divisor(v);
    } else if (KIND == 4u) {
        x[i] = max(v, 0.0) * max(v, 0.0);
    } else {
        let bent = select(p.b * (expm1_of(min(v, p.d)) - v), p.a * v * v, v > 0.0);
        x[i] = fma(p.c, v, bent);
    }
}
