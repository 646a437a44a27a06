// Q4_0 (q4_0.rs draws it): 18 bytes for 32 weights.
const OFFSETS: bool = true;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 5u) * 18u;
    let codes = load_16(block + 2u);
    let d = f16_to_f32(load_u16(block));
    return Sixteen(halves_of_bytes(codes, k & 16u), upper_scale(d, k & 16u), -8.0 * d);
}
