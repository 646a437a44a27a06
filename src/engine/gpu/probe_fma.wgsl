// 32 numbers of every invocation: x <- x factor + term, `count` times; out[i] <- their sum. `start` is 0, which no compiler
// knows: to it all numbers differ, and none is computed for several of them.

struct Params {
    count: u32,
    factor: f32,
    term: f32,
    start: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let factor = vec4<f32>(p.factor);
    let term = vec4<f32>(p.term);
    let s = p.start * f32(group.x * 256u + lane);
    var a = s * vec4<f32>(1.0, 2.0, 3.0, 4.0);
    var b = a + 4.0 * s;
    var c = a + 8.0 * s;
    var d = a + 12.0 * s;
    var e = a + 16.0 * s;
    var f = a + 20.0 * s;
    var g = a + 24.0 * s;
    var h = a + 28.0 * s;
    for (var i = 0u; i < p.count; i += 1u) {
        a = fma(a, factor, term);
        b = fma(b, factor, term);
        c = fma(c, factor, term);
        d = fma(d, factor, term);
        e = fma(e, factor, term);
        f = fma(f, factor, term);
        g = fma(g, factor, term);
        h = fma(h, factor, term);
    }
    let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
    out[group.x * 256u + lane] = (sum.x + sum.y) + (sum.z + sum.w);
}
