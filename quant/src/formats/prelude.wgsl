// What the decoders of all formats share: the 16-bit floats, and bytes of words as numbers. The decoders themselves stand in the
// other .wgsl files, one of which follows this text, after `bytes.wgsl` unless it reads whole quads of words. The engine declares
// the binding
//     var<storage, read> weights: array<Words>
// and pads it, so that a load may touch the four words after the last byte.
//
// Every product of a scale and a code is exact in f32 (11 bits of a half, at most 7 of a sub-scale and 7 of a code, never more
// than 24 in all), and so is its sum with an offset that only centres codes. A compiler's choice to fuse or reorder changes
// nothing then, and the results equal the CPU's bit for bit; only infinite and NaN scales, which no sound file has, may come out
// differently.

// Sixteen neighbouring weights: `scale` times a number of `q`, plus `offset`.
struct Sixteen {
    q: mat4x4<f32>,
    scale: f32,
    offset: f32,
}

// The four bytes of a word, first byte first.
fn unpack_u8(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}

// The bytes of four words as numbers.
fn numbers(words: vec4<u32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        vec4<f32>(unpack_u8(words.x)),
        vec4<f32>(unpack_u8(words.y)),
        vec4<f32>(unpack_u8(words.z)),
        vec4<f32>(unpack_u8(words.w)),
    );
}

// The lower or the upper halves of the bytes of four words: `upper` is 0 or not. The upper ones stay where they are, sixteen
// times as large; `upper_scale` makes up for it.
fn halves_of_bytes(words: vec4<u32>, upper: u32) -> mat4x4<f32> {
    return numbers(words & vec4<u32>(select(0x0f0f0f0fu, 0xf0f0f0f0u, upper != 0u)));
}

fn upper_scale(scale: f32, upper: u32) -> f32 {
    return scale * select(1.0, 0.0625, upper != 0u);
}

// The bytes of four words less `centre`.
fn centred(words: vec4<u32>, centre: f32) -> mat4x4<f32> {
    let q = numbers(words);
    let c = vec4<f32>(centre);
    return mat4x4<f32>(q[0] - c, q[1] - c, q[2] - c, q[3] - c);
}

// The four bytes of a word, signed.
fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(word) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// Each of the lower four bits in a byte of its own.
fn spread_bits(bits: u32) -> u32 {
    return ((bits & 15u) * 0x204081u) & 0x01010101u;
}

// Each of the lower four pairs of bits in a byte of its own.
fn spread_pairs(pairs: u32) -> u32 {
    let halves = ((pairs & 0xffu) | (pairs << 12u)) & 0x000f000fu;
    return (halves | (halves << 6u)) & 0x03030303u;
}

// IEEE half to single, exact; subnormal halves without subnormal singles, which some GPUs flush to zero.
fn f16_to_f32(half: u32) -> f32 {
    let magnitude = half & 0x7fffu;
    let special = select(0x38000000u, 0x70000000u, magnitude >= 0x7c00u);
    let normal = bitcast<f32>((magnitude << 13u) + special);
    // Read as a normal number of exponent 0, a subnormal is 2^-15 too large and half as steep.
    let subnormal = fma(normal, 2.0, -6.103515625e-5);
    return bitcast<f32>(bitcast<u32>(select(normal, subnormal, magnitude < 0x400u)) | ((half << 16u) & 0x80000000u));
}

// Four numbers, none negative, that become so where the four bits of `signs` from the bit `first` on are set.
fn with_signs(x: vec4<f32>, signs: u32, first: u32) -> vec4<f32> {
    let bits = (vec4<u32>(signs) << (vec4<u32>(31u, 30u, 29u, 28u) - vec4<u32>(first))) & vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) | bits);
}

// The sixteen values of IQ4_NL and IQ4_XS (iq4.rs), by code: a polynomial that is nowhere as far as 0.44 from them, rounded.
fn iq4_values(codes: vec4<f32>) -> vec4<f32> {
    let high = fma(fma(codes, vec4<f32>(0.0015860428), vec4<f32>(0.03108644)), codes, vec4<f32>(-1.371927));
    let slope = fma(high, codes, vec4<f32>(24.17383));
    return round(fma(slope, codes, vec4<f32>(-126.56701)));
}

fn iq4_numbers(words: vec4<u32>) -> mat4x4<f32> {
    let codes = numbers(words);
    return mat4x4<f32>(iq4_values(codes[0]), iq4_values(codes[1]), iq4_values(codes[2]), iq4_values(codes[3]));
}

// The doubled values of the 4-bit floats of MXFP4 and NVFP4 (fp4.rs), by code, of the four codes in a word's bytes: up to 4 the
// magnitude is its own code, 6, 8 and 12 exceed 5, 6 and 7 by 1, 2 and 5.
fn fp4_values(codes: u32) -> vec4<f32> {
    let m = codes & 0x07070707u;
    let large = (codes >> 2u) & 0x01010101u;
    let over = codes & (large | (large << 1u));
    let last = over & (over >> 1u) & 0x01010101u;
    let signs = vec4<u32>(codes) << vec4<u32>(28u, 20u, 12u, 4u);
    let magnitudes = bitcast<vec4<u32>>(vec4<f32>(unpack_u8(m + over + (last << 1u))));
    return bitcast<vec4<f32>>(magnitudes | (signs & vec4<u32>(0x80000000u)));
}
