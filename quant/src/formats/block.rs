//! What a block format must be able to do, and the one place where the instruction set is chosen.
//!
//! Rust code is compiled for the oldest processor of its family, which on 64-bit Arm has NEON. On x86-64 the loops here are
//! compiled once more with AVX2 and picked at run time. All are the same source, and Rust never contracts or reorders float
//! operations, so the bytes are the same.
//! Encoders and decoders themselves are not here.

#[cfg(target_arch = "x86_64")]
use super::simd::Avx2;
use super::simd::{Baseline, F32x8};
use super::{DType, Format};

/// The bytes of `N` weights as they lie in a file: only `u8` and `i8` fields, so that any byte address will do.
///
/// Implementations are `#[inline(always)]`: a function that is not inlined would keep the old instruction set.
pub(super) trait QuantBlock<const N: usize>: bytemuck::Pod {
    /// Encodes `x` (`N * blocks.len()` weights) in ggml's reference arithmetic; see [`super::Encode`].
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]);

    /// Decodes one block, bit-exact.
    fn decode(&self, out: &mut [f32; N]);
}

impl Format {
    /// The table row of a format stored in blocks `B`.
    pub(super) const fn of<B: QuantBlock<N>, const N: usize>(
        dtype: DType,
        name: &'static str,
        ggml_id: u32,
        wgsl: &'static str,
    ) -> Self {
        Self {
            dtype,
            name,
            ggml_id,
            block_len: N,
            block_bytes: size_of::<B>(),
            float: N == 1,
            encode: encode::<B, N>,
            decode: decode::<B, N>,
            #[cfg(test)]
            plain: (
                |x, importance, out| B::encode::<super::simd::Plain>(x, importance, bytemuck::cast_slice_mut(out)),
                |bytes, out| decode_blocks(bytemuck::cast_slice::<u8, B>(bytes), out.as_chunks_mut::<N>().0),
            ),
            wgsl,
            needs_importance: false,
            integers: None,
            grid: None,
            grid_of_fours: false,
        }
    }
}

fn encode<B: QuantBlock<N>, const N: usize>(x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let blocks: &mut [B] = bytemuck::cast_slice_mut(out);
    assert_eq!(x.len(), blocks.len() * N);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        #[allow(unsafe_code)]
        return unsafe { encode_avx2::<B, N>(x, importance, blocks) };
    }
    B::encode::<Baseline>(x, importance, blocks);
}

fn decode<B: QuantBlock<N>, const N: usize>(bytes: &[u8], out: &mut [f32]) {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    let (out, rest) = out.as_chunks_mut::<N>();
    assert!(rest.is_empty() && out.len() == blocks.len());
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        #[allow(unsafe_code)]
        return unsafe { decode_avx2(blocks, out) };
    }
    decode_blocks(blocks, out);
}

#[inline(always)]
fn decode_blocks<B: QuantBlock<N>, const N: usize>(blocks: &[B], out: &mut [[f32; N]]) {
    for (block, out) in blocks.iter().zip(out) {
        block.decode(out);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn encode_avx2<B: QuantBlock<N>, const N: usize>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [B]) {
    B::encode::<Avx2>(x, importance, blocks);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn decode_avx2<B: QuantBlock<N>, const N: usize>(blocks: &[B], out: &mut [[f32; N]]) {
    decode_blocks(blocks, out);
}

#[cfg(test)]
mod tests {
    use super::super::TABLE;

    /// All compilations of one source give the same bytes.
    #[test]
    fn plain_code_and_the_one_picked_agree() {
        // A block each of zeros, of one number, and of numbers that count as zeros, among ordinary ones.
        let number = |i: usize| match i / 256 {
            1 => 0.0,
            3 => -0.37,
            5 => 1e-20 * i as f32,
            block => ((i * i) as f32 * 0.37).sin() * (1 + block) as f32,
        };
        let x: Vec<f32> = (0..2048).map(number).collect();
        let importance: Vec<f32> = (0..2048).map(|i| 0.1 + (i % 37) as f32).collect();
        for format in TABLE {
            for importance in [None, Some(&importance[..])] {
                let mut plain = vec![0; format.dtype.row_bytes(x.len()).unwrap()];
                let mut fast = plain.clone();
                (format.plain.0)(&x, importance, &mut plain);
                (format.encode)(&x, importance, &mut fast);
                assert!(plain == fast, "{}", format.name);
                let (mut slow_out, mut fast_out) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                (format.plain.1)(&plain, &mut slow_out);
                (format.decode)(&fast, &mut fast_out);
                assert_eq!(slow_out, fast_out, "{}", format.name);
            }
        }
    }
}
