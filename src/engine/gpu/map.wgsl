// x <- f(x): the tanh form of GELU, x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), if KIND is 0; value * x if it is 1;
// value * tanh(x / value) if it is 2. `functions.wgsl` precedes this text.

struct Params {
    len: u32,
    value: f32,
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
        x[i] = v * p.value;
    } else {
        x[i] = p.value * tanh_of(v / p.value);
    }
}
