//! The table of tensor encodings. One row and one file (plus its `.wgsl` twin) per format; everything else is derived.
//!
//! Encoding follows ggml's reference encoders in strict IEEE f32 without fused multiply-add, so that the bytes equal
//! those of llama.cpp; decoding is bit-exact.

mod bf16;
mod f16;
mod f32;
mod q4_0;
mod q4_k;
mod q5_0;
mod q6_k;
mod q8_0;
mod search;

/// Encodes whole blocks: `x.len()` is a multiple of the block length, `out` has exactly the bytes for it. `importance`,
/// where given, holds one weight per column of the row `x`.
pub type Encode = fn(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]);
/// Decodes whole blocks, bit-exact.
pub type Decode = fn(bytes: &[u8], out: &mut [f32]);

/// One tensor encoding: all that the rest of the program needs to know of it.
pub struct Format {
    /// The encoding itself.
    pub dtype: DType,
    /// ggml's name, as `Q4_K`.
    pub name: &'static str,
    /// `ggml_type` in a GGUF file.
    pub ggml_id: u32,
    /// Weights per block.
    pub block_len: usize,
    /// Bytes per block.
    pub block_bytes: usize,
    /// Encoder.
    pub encode: Encode,
    /// Decoder.
    pub decode: Decode,
    /// The GPU's decoder: WGSL text that defines `fn decode4(row: u32, k: u32) -> vec4<f32>`, the weights `k..k+4` (`k` a
    /// multiple of 4) of the row that begins at byte `row` of the weight buffer. See `formats/prelude.wgsl`.
    pub wgsl: &'static str,
}
