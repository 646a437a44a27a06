// Q4_1 (q4_1.rs draws it): 20 bytes for 32 weights. The only rounding is that of the addition.
const OFFSETS: bool = true;
fn decode16(row: u32, k: u32) -> Sixteen {
    let block = row + (k >> 5u) * 20u;
    let halves = weights[block >> 2u];
    let q = halves_of_bytes(load_words(block + 4u), k & 16u);
    return Sixteen(q, upper_scale(f16_to_f32(halves & 0xffffu), k & 16u), f16_to_f32(halves >> 16u));
}
