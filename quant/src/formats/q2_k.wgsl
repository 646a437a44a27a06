// Q2_K (q2_k.rs draws it): 84 bytes for 256 weights. The only rounding is that of the subtraction.
const OFFSETS: bool = true;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 8u) * 84u;
    let codes = load_words(block + 16u + ((k & 128u) >> 2u) + (k & 16u)) >> vec4<u32>((k >> 4u) & 6u);
    let scales = load_u8(block + ((k >> 4u) & 15u));
    let halves = weights[(block >> 2u) + 20u];
    let scale = f16_to_f32(halves & 0xffffu) * f32(scales & 15u);
    let min = f16_to_f32(halves >> 16u) * f32(scales >> 4u);
    return Sixteen(numbers(codes & vec4<u32>(0x03030303u)), scale, -min);
}
