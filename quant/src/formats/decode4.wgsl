// The weights k .. k + 4 (k a multiple of 4) of the row that begins at byte `row`, for kernels that do not want sixteen.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let w = decode16(row, k & 0xfffffff0u);
    let odd = (k & 4u) != 0u;
    let q = select(select(w.q[0], w.q[1], odd), select(w.q[2], w.q[3], odd), (k & 8u) != 0u);
    return fma(vec4<f32>(w.scale), q, vec4<f32>(w.offset));
}
