// What the products with weights share: out[t, n] = sum_k x[t, k] * w[n, k]. `x_whole.wgsl` or `x_ragged.wgsl` follows.

struct Params {
    row_first: u32,
    row_end: u32,
    inner: u32,
    row_bytes: u32,
    w_first: u32,
    cols: u32,
    out_cols: u32,
    out_first: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> weights: array<Words>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

// Four steps of k for four columns: acc + x * (w[0], w[1], w[2], w[3]), one chain of fused multiply-adds for each column.
fn add_products(acc: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
    let a = fma(vec4<f32>(x.x), w[0], acc);
    let b = fma(vec4<f32>(x.y), w[1], a);
    let c = fma(vec4<f32>(x.z), w[2], b);
    return fma(vec4<f32>(x.w), w[3], c);
}

// Sixteen weights as numbers, in quads along k.
fn weights_at(row: u32, k: u32) -> mat4x4<f32> {
    let w = decode16(row, k);
    let scale = vec4<f32>(w.scale);
    let offset = vec4<f32>(w.offset);
    return mat4x4<f32>(
        fma(scale, w.q[0], offset),
        fma(scale, w.q[1], offset),
        fma(scale, w.q[2], offset),
        fma(scale, w.q[3], offset),
    );
}
