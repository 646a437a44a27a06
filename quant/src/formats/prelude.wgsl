// What the decoders of all formats share: unaligned loads and the 16-bit floats. The engine declares the binding
//     var<storage, read> weights: array<u32>
// and pads it with one zero word, so that a load may touch the word after the last byte. The decoders themselves stand in
// the other .wgsl files, one of which follows this text.
//
// Every product of a scale and a code is exact in f32 (11 bits of a half, at most 7 of a sub-scale and 7 of a code, never more
// than 24 in all), so that a compiler's choice to fuse or reorder changes nothing and the results equal the CPU's bit for
// bit; only infinite and NaN scales, which no sound file has, may come out differently.

// Byte `at`, any address.
fn load_u8(at: u32) -> u32 {
    return (weights[at >> 2u] >> ((at & 3u) << 3u)) & 0xffu;
}

// Signed byte `at`, any address.
fn load_i8(at: u32) -> i32 {
    return i32(weights[at >> 2u] << (24u - ((at & 3u) << 3u))) >> 24u;
}

// The two bytes from `at` on, an even address (as all blocks have whose formats have such fields).
fn load_u16(at: u32) -> u32 {
    return (weights[at >> 2u] >> ((at & 2u) << 3u)) & 0xffffu;
}

// The four bytes from `at` on, any address.
fn load_u32(at: u32) -> u32 {
    let word = at >> 2u;
    let shift = (at & 3u) << 3u;
    // Two shifts to the left, since one by 32 is undefined.
    return (weights[word] >> shift) | ((weights[word + 1u] << 1u) << (31u - shift));
}

// The four bytes of a word, first byte first.
fn unpack_u8(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}

// IEEE half to single, exact; subnormal halves without subnormal singles, which some GPUs flush to zero.
fn f16_to_f32(half: u32) -> f32 {
    let magnitude = half & 0x7fffu;
    let special = select(0x38000000u, 0x70000000u, magnitude >= 0x7c00u);
    let normal = (magnitude << 13u) + special;
    let subnormal = bitcast<u32>(f32(magnitude) * 5.9604644775390625e-8);
    return bitcast<f32>(select(normal, subnormal, magnitude < 0x400u) | ((half & 0x8000u) << 16u));
}

// Upper half of a single.
fn bf16_to_f32(upper: u32) -> f32 {
    return bitcast<f32>(upper << 16u);
}

// The sixteen values of IQ4_NL and IQ4_XS (iq4.rs), by code; a byte each in four words.
fn iq4_values(codes: vec4<u32>) -> vec4<f32> {
    let odd = (codes & vec4<u32>(4u)) != vec4<u32>(0u);
    let lower = select(vec4<u32>(0xbfad9881u), vec4<u32>(0xf6eaddcfu), odd);
    let upper = select(vec4<u32>(0x26190d01u), vec4<u32>(0x71594535u), odd);
    let word = select(lower, upper, codes > vec4<u32>(7u));
    return vec4<f32>(vec4<i32>(word << (vec4<u32>(24u) - ((codes & vec4<u32>(3u)) << vec4<u32>(3u)))) >> vec4<u32>(24u));
}

// The doubled values of the 4-bit floats of MXFP4 and NVFP4 (fp4.rs), by code.
fn fp4_values(codes: vec4<u32>) -> vec4<f32> {
    let m = codes & vec4<u32>(7u);
    let exponent = max(m >> vec4<u32>(1u), vec4<u32>(1u)) - vec4<u32>(1u);
    let normal = ((m & vec4<u32>(1u)) | vec4<u32>(2u)) << exponent;
    let magnitude = vec4<i32>(select(normal, m, m < vec4<u32>(2u)));
    return vec4<f32>(select(magnitude, -magnitude, codes > vec4<u32>(7u)));
}
