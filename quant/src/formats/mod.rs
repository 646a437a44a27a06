//! The table of tensor encodings. One row and one file (plus its `.wgsl` twin) per format; everything else is derived.
//!
//! Encoding follows ggml's reference encoders in strict IEEE f32 without fused multiply-add, so that the bytes equal
//! those of llama.cpp; decoding is bit-exact. Nothing here knows tensors, files or threads: callers hand over whole rows.

mod bf16;
mod block;
mod block_bits;
mod carried;
mod code_bits;
mod f16;
mod f32;
pub(crate) mod fp4;
mod grid;
mod grid_points;
mod grid_search;
mod integers;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nibbles;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod scale_bits;
mod search;
mod simd;
mod six_bit;
mod ternary;
mod tq1_0;
mod tq2_0;
mod two_bit;

pub use code_bits::CodeBits;
pub use integers::{CodeValues, Integers, LevelValues, TakenApart};
pub use scale_bits::{BlockScales, ScaleBits};

use std::fmt::Write;

/// WGSL helpers that every [`Format::wgsl`] calls.
pub const PRELUDE_WGSL: &str = include_str!("prelude.wgsl");

/// Encodes whole blocks: `x.len()` is a multiple of the block length, `out` has exactly the bytes for it. `importance`,
/// where given, holds one weight per column, and then `x` is exactly one row (some types weigh by statistics of the row).
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
    /// Whether a block is one floating-point number.
    pub float: bool,
    /// Whether it is not to be encoded without importance; see [`DType::needs_importance`].
    pub needs_importance: bool,
    /// Encoder.
    pub encode: Encode,
    /// Decoder.
    pub decode: Decode,
    /// Encoder and decoder as they are on a processor without the vector instructions known here.
    #[cfg(test)]
    plain: (Encode, Decode),
    /// The `.wgsl` twin.
    wgsl: &'static str,
    /// Its weights as integers, where they are.
    integers: Option<Integers>,
    /// The grid whose points the codes are indexes of (`grid_points.rs`).
    grid: Option<&'static [u16]>,
    /// Whether a point stands for four weights and not for eight.
    grid_of_fours: bool,
}

impl Format {
    /// The same with codes that are indexes of `points`.
    const fn on_grid(self, points: &'static [u16]) -> Self {
        Self { grid: Some(points), ..self }
    }

    /// The same with codes that are indexes of `points` of four codes each.
    const fn on_grid_of_fours(self, points: &'static [u16]) -> Self {
        Self { grid: Some(points), grid_of_fours: true, ..self }
    }

    /// The same for a format that is not to be encoded without importance.
    const fn needing_importance(self) -> Self {
        Self { needs_importance: true, ..self }
    }

    /// The GPU's decoder, to stand after [`PRELUDE_WGSL`]: WGSL text that defines, over the binding `weights: array<Words>`,
    /// - `alias Words`: what loads of this format take, `u32` or `vec4<u32>`,
    /// - `const OFFSETS: bool`: whether any of its offsets is not zero,
    /// - `fn decode16(row: u32, k: u32) -> Sixteen`: the weights `k..k+16` (`k` a multiple of 16) of the row that begins at byte
    ///   `row` of the weight buffer, a multiple of 16 where `Words` is `vec4<u32>`; a weight is `fma(scale, q, offset)`,
    /// - `fn decode4(row: u32, k: u32) -> vec4<f32>`: four of them, `k` a multiple of 4.
    pub fn wgsl(&self) -> String {
        let mut text = String::new();
        if !self.wgsl.contains("alias Words") {
            text.push_str(include_str!("bytes.wgsl"));
        }
        if let Some(grid) = self.grid {
            // Points of four codes have three bits for each and fill a word by bytes; those of eight have two, and fill half a
            // word.
            let words: Vec<u32> = if self.grid_of_fours {
                grid.iter().map(|&point| (0..4).map(|i| u32::from(point >> (3 * i) & 7) << (8 * i)).sum()).collect()
            } else {
                grid.as_chunks().0.iter().map(|&[even, odd]| u32::from(even) | u32::from(odd) << 16).collect()
            };
            // Private, because naga copies a constant array at every use that indexes it by a variable.
            let count = words.len();
            let _ = write!(text, "var<private> GRID: array<u32, {count}> = array<u32, {count}>(");
            for word in words {
                let _ = write!(text, "{word}u,");
            }
            text.push_str(");\n");
            text.push_str(include_str!("grid.wgsl"));
        }
        text + self.wgsl + include_str!("decode4.wgsl")
    }
}

/// Makes the enum and the table from one list, so that they cannot disagree.
macro_rules! formats {
    (weights { $($(#[$doc:meta])* $variant:ident: $file:ident,)+ } carried { $($(#[$note:meta])* $number:ident,)+ }) => {
        /// A tensor encoding, named as ggml names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)]
        pub enum DType {
            $($(#[$doc])* $variant,)+
            $($(#[$note])* $number,)+
        }

        static TABLE: &[Format] = &[$($file::FORMAT,)+ $(carried::$number),+];

        impl DType {
            /// Every encoding of weights, in the order of the table.
            pub const ALL: &'static [DType] = &[$(DType::$variant),+];

            /// What files hold that is no encoding of weights; see [`DType::is_carried`].
            pub const CARRIED: &'static [DType] = &[$(DType::$number),+];
        }
    };
}

formats! {
    weights {
        /// IEEE single precision.
        F32: f32,
        /// IEEE half precision.
        F16: f16,
        /// The upper half of a single.
        BF16: bf16,
        /// 32 weights: f16 scale, 4-bit codes.
        Q4_0: q4_0,
        /// 32 weights: f16 scale and offset, 4-bit codes.
        Q4_1: q4_1,
        /// 32 weights: f16 scale, 5-bit codes.
        Q5_0: q5_0,
        /// 32 weights: f16 scale and offset, 5-bit codes.
        Q5_1: q5_1,
        /// 32 weights: f16 scale, 8-bit codes.
        Q8_0: q8_0,
        /// 256 weights: 16 sub-blocks with 4-bit scale and minimum, 2-bit codes.
        Q2_K: q2_k,
        /// 256 weights: 16 sub-blocks with 6-bit scale, 3-bit codes.
        Q3_K: q3_k,
        /// 256 weights: 8 sub-blocks with 6-bit scale and minimum, 4-bit codes.
        Q4_K: q4_k,
        /// 256 weights: 8 sub-blocks with 6-bit scale and minimum, 5-bit codes.
        Q5_K: q5_k,
        /// 256 weights: 16 sub-blocks with 8-bit scale, 6-bit codes.
        Q6_K: q6_k,
        /// 32 weights: f16 scale, 4-bit codes of unevenly spaced values.
        IQ4_NL: iq4_nl,
        /// 256 weights: 8 sub-blocks with 6-bit scale, 4-bit codes of unevenly spaced values.
        IQ4_XS: iq4_xs,
        /// 256 weights: f16 scale, three values, five weights a byte.
        TQ1_0: tq1_0,
        /// 256 weights: f16 scale, three values, 2-bit codes.
        TQ2_0: tq2_0,
        /// 32 weights: a power of two as scale, 4-bit floats.
        MXFP4: mxfp4,
        /// 64 weights: 4 sub-blocks with 8-bit float scale, 4-bit floats.
        NVFP4: nvfp4,
        /// 128 weights: f16 scale, signs.
        Q1_0: q1_0,
        /// 64 weights: f16 scale, 2-bit codes.
        Q2_0: q2_0,
        /// 256 weights: 8 groups with 4-bit scale, of 256 points for eight weights.
        IQ2_XXS: iq2_xxs,
        /// 256 weights: 16 groups with 4-bit scale, of 512 points for eight weights.
        IQ2_XS: iq2_xs,
        /// 256 weights: 16 groups with 4-bit scale, of 1024 points for eight weights.
        IQ2_S: iq2_s,
        /// 256 weights: 8 groups with 4-bit scale, of 256 points for four weights.
        IQ3_XXS: iq3_xxs,
        /// 256 weights: 8 groups with 4-bit scale, of 512 points for four weights.
        IQ3_S: iq3_s,
        /// 256 weights: 8 groups with 3-bit scale and a shift, of 2048 points for eight ternary weights.
        IQ1_S: iq1_s,
        /// 256 weights: 16 groups with 3-bit scale and two shifts, of 2048 points for eight ternary weights.
        IQ1_M: iq1_m,
    }
    carried {
        /// An integer of 8 bits.
        I8,
        /// An integer of 16 bits.
        I16,
        /// An integer of 32 bits.
        I32,
        /// An integer of 64 bits.
        I64,
        /// IEEE double precision.
        F64,
    }
}

impl DType {
    /// The table row.
    pub fn format(self) -> &'static Format {
        &TABLE[self as usize]
    }

    /// ggml's name, as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.format().name
    }

    /// The encoding of weights of that name, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.name().eq_ignore_ascii_case(name))
    }

    /// `ggml_type` in a GGUF file.
    pub fn ggml_id(self) -> u32 {
        self.format().ggml_id
    }

    /// The encoding with that `ggml_type`.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        Self::ALL.iter().chain(Self::CARRIED).copied().find(|dtype| dtype.ggml_id() == id)
    }

    /// Whether these are numbers that are no weights (integers, double precision): they are copied from file to file, and
    /// no model is run with them.
    pub fn is_carried(self) -> bool {
        Self::CARRIED.contains(&self)
    }

    /// Weights per block.
    pub fn block_len(self) -> usize {
        self.format().block_len
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.format().block_bytes
    }

    /// Bytes of a row of `cols` weights; `None` where the row is not a whole number of blocks or the size overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let whole = cols.is_multiple_of(self.block_len());
        whole.then(|| (cols / self.block_len()).checked_mul(self.block_bytes())).flatten()
    }

    /// Bits per weight, scales included.
    pub fn bits_per_weight(self) -> f64 {
        (8 * self.block_bytes()) as f64 / self.block_len() as f64
    }

    /// Whether this is F32, F16 or BF16: one number a weight, no blocks, no importance.
    pub fn is_float(self) -> bool {
        self.format().float
    }

    /// Whether ggml refuses to encode this without importance (`ggml_quantize_requires_imatrix`): the result would be
    /// garbage. [`Self::encode_row`] takes missing importance for 1 everywhere; to refuse is for whoever plans.
    pub fn needs_importance(self) -> bool {
        self.format().needs_importance
    }

    /// How its weights are integers times a scale; `None` where they are not.
    pub fn integers(self) -> Option<&'static Integers> {
        self.format().integers.as_ref()
    }

    /// Decodes whole blocks (a row, or several adjacent ones), bit-exact.
    ///
    /// # Panics
    /// If `bytes` is not what `out.len()` weights take.
    pub fn decode_row(&self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(self.row_bytes(out.len()), Some(bytes.len()), "{self}: {} weights to decode", out.len());
        (self.format().decode)(bytes, out);
    }

    /// Encodes a row; with `importance` (one weight per column, ggml's imatrix) it minimizes the weighted squared error,
    /// as ggml does. The floats and Q8_0 take no notice of it.
    ///
    /// # Panics
    /// If `out` is not what `x.len()` weights take, or `importance` is not as long as `x`.
    pub fn encode_row(&self, x: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        assert_eq!(self.row_bytes(x.len()), Some(out.len()), "{self}: {} weights to encode", x.len());
        assert!(importance.is_none_or(|w| w.len() == x.len()), "{self}: importance for other columns");
        (self.format().encode)(x, importance, out);
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl serde::Serialize for DType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_found_by_all_its_names() {
        for (row, &dtype) in TABLE.iter().zip(DType::ALL) {
            assert_eq!(row.dtype, dtype);
            assert_eq!(format!("{dtype:?}"), row.name);
            assert_eq!(dtype.to_string(), row.name);
            assert_eq!(serde_json::to_string(&dtype).unwrap(), format!("{:?}", row.name));
            assert_eq!(DType::from_name(row.name), Some(dtype));
            assert_eq!(DType::from_name(&row.name.to_lowercase()), Some(dtype));
            assert_eq!(DType::from_ggml_id(row.ggml_id), Some(dtype));
            assert!(row.wgsl().contains("fn decode16(row: u32, k: u32) -> Sixteen"), "{dtype}");
        }
    }

    #[test]
    fn sizes_are_those_of_ggml() {
        let sizes: Vec<_> =
            DType::ALL.iter().map(|d| (d.name(), d.ggml_id(), d.block_len(), d.block_bytes(), d.is_float())).collect();
        let expected = [
            ("F32", 0, 1, 4, true),
            ("F16", 1, 1, 2, true),
            ("BF16", 30, 1, 2, true),
            ("Q4_0", 2, 32, 18, false),
            ("Q4_1", 3, 32, 20, false),
            ("Q5_0", 6, 32, 22, false),
            ("Q5_1", 7, 32, 24, false),
            ("Q8_0", 8, 32, 34, false),
            ("Q2_K", 10, 256, 84, false),
            ("Q3_K", 11, 256, 110, false),
            ("Q4_K", 12, 256, 144, false),
            ("Q5_K", 13, 256, 176, false),
            ("Q6_K", 14, 256, 210, false),
            ("IQ4_NL", 20, 32, 18, false),
            ("IQ4_XS", 23, 256, 136, false),
            ("TQ1_0", 34, 256, 54, false),
            ("TQ2_0", 35, 256, 66, false),
            ("MXFP4", 39, 32, 17, false),
            ("NVFP4", 40, 64, 36, false),
            ("Q1_0", 41, 128, 18, false),
            ("Q2_0", 42, 64, 18, false),
            ("IQ2_XXS", 16, 256, 66, false),
            ("IQ2_XS", 17, 256, 74, false),
            ("IQ2_S", 22, 256, 82, false),
            ("IQ3_XXS", 18, 256, 98, false),
            ("IQ3_S", 21, 256, 110, false),
            ("IQ1_S", 19, 256, 50, false),
            ("IQ1_M", 29, 256, 56, false),
        ];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn a_row_is_whole_blocks_and_its_size_never_overflows() {
        assert_eq!(DType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(DType::Q4_K.row_bytes(0), Some(0));
        assert_eq!(DType::Q4_K.row_bytes(128), None);
        assert_eq!(DType::F32.row_bytes(usize::MAX), None);
        assert_eq!(DType::Q4_K.bits_per_weight(), 4.5);
        assert_eq!(DType::Q6_K.bits_per_weight(), 6.5625);
        assert_eq!(DType::from_name("Q9_9"), None);
        assert_eq!(DType::from_ggml_id(u32::MAX), None);
    }

    #[test]
    #[should_panic(expected = "Q8_0: 32 weights to decode")]
    fn decoding_the_wrong_number_of_bytes_is_refused() {
        DType::Q8_0.decode_row(&[0; 33], &mut [0.0; 32]);
    }
}
