// TQ1_0 (tq1_0.rs draws it): 54 bytes for 256 weights.
const OFFSETS: bool = false;

// The digits less one of four bytes, each byte times its power of three before.
fn digits(word: u32, power: u32) -> vec4<f32> {
    let rest = (unpack_u8(word) * vec4<u32>(power)) & vec4<u32>(0xffu);
    return vec4<f32>((rest * vec4<u32>(3u)) >> vec4<u32>(8u)) - vec4<f32>(1.0);
}

fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 54u;
    let i = k & 240u;
    // First byte, and which of its digits.
    var at = i & 16u;
    var digit = i >> 5u;
    if i >= 160u {
        at = 32u;
        digit = (i - 160u) >> 4u;
    }
    let power = select((0x1b090301u >> ((digit & 3u) << 3u)) & 0xffu, 81u, digit == 4u);
    var powers = vec4<u32>(power);
    if i == 240u {
        // The last four bytes have four digits each.
        at = 48u;
        powers = vec4<u32>(1u, 3u, 9u, 27u);
    }
    let bytes = load_16(block + at);
    let words = select(bytes, vec4<u32>(bytes.x), i == 240u);
    let q = mat4x4<f32>(
        digits(words.x, powers.x),
        digits(words.y, powers.y),
        digits(words.z, powers.z),
        digits(words.w, powers.w),
    );
    return Sixteen(q, f16_to_f32(load_u16(block + 52u)), 0.0);
}
