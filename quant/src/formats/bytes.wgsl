// Loads of bytes wherever they lie, for the formats whose blocks are no whole quads of words.
alias Words = u32;

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

// The four bytes from `at` on, an even address.
fn load_u32(at: u32) -> u32 {
    let word = at >> 2u;
    let low = weights[word];
    return select(low, (low >> 16u) | (weights[word + 1u] << 16u), (at & 2u) != 0u);
}

// Sixteen bytes from `at` on, a multiple of 4.
fn load_words(at: u32) -> vec4<u32> {
    let word = at >> 2u;
    return vec4<u32>(weights[word], weights[word + 1u], weights[word + 2u], weights[word + 3u]);
}

// Sixteen bytes from `at` on, an even address.
fn load_16(at: u32) -> vec4<u32> {
    let low = load_words(at);
    let high = vec4<u32>(low.yzw, weights[(at >> 2u) + 4u]);
    return select(low, (low >> vec4<u32>(16u)) | (high << vec4<u32>(16u)), (at & 2u) != 0u);
}

// Sixteen bytes from `at` on, any address.
fn load_any_16(at: u32) -> vec4<u32> {
    let low = load_words(at);
    let high = vec4<u32>(low.yzw, weights[(at >> 2u) + 4u]);
    // Two shifts to the left, since one by 32 is undefined.
    let shift = (at & 3u) << 3u;
    return (low >> vec4<u32>(shift)) | ((high << vec4<u32>(1u)) << vec4<u32>(31u - shift));
}
