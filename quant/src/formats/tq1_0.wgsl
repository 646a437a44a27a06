// TQ1_0 (tq1_0.rs draws it): 54 bytes for 256 weights.
fn decode4(row: u32, k: u32) -> vec4<f32> {
    let block = row + (k >> 8u) * 54u;
    let i = k & 255u;
    // First byte, and which of its digits.
    var at = i & 31u;
    var digit = i >> 5u;
    if i >= 240u {
        at = 48u;
        digit = (i - 240u) >> 2u;
    } else if i >= 160u {
        at = 32u + (i & 15u);
        digit = (i - 160u) >> 4u;
    }
    let power = select((0x1b090301u >> ((digit & 3u) << 3u)) & 0xffu, 81u, digit == 4u);
    let rest = (unpack_u8(load_u32(block + at)) * vec4<u32>(power)) & vec4<u32>(0xffu);
    let q = vec4<i32>((rest * vec4<u32>(3u)) >> vec4<u32>(8u)) - vec4<i32>(1);
    return vec4<f32>(q) * f16_to_f32(load_u16(block + 52u));
}
