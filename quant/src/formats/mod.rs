//! The table of tensor encodings. One row and one file (plus its `.wgsl` twin) per format; everything else is derived.
//!
//! Encoding follows ggml's reference encoders in strict IEEE f32 without fused multiply-add, so that the bytes equal
//! those of llama.cpp; decoding is bit-exact. Nothing here knows tensors, files or threads: callers hand over whole rows.

mod bf16;
mod block;
mod f16;
mod f32;
mod q4_0;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod search;
mod simd;
mod six_bit;

/// WGSL helpers that every format's [`Format::wgsl`] calls; they read the binding `weights: array<u32>`.
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
    /// Encoder.
    pub encode: Encode,
    /// Decoder.
    pub decode: Decode,
    /// The GPU's decoder: WGSL text that defines `fn decode4(row: u32, k: u32) -> vec4<f32>`, the weights `k..k+4` (`k` a
    /// multiple of 4) of the row that begins at byte `row` of the weight buffer. See [`PRELUDE_WGSL`].
    pub wgsl: &'static str,
}

/// Makes the enum and the table from one list, so that they cannot disagree.
macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident: $file:ident,)+) => {
        /// A tensor encoding, named as ggml names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)]
        pub enum DType {
            $($(#[$doc])* $variant,)+
        }

        static TABLE: &[Format] = &[$($file::FORMAT),+];

        impl DType {
            /// Every encoding, in the order of the table.
            pub const ALL: &'static [DType] = &[$(DType::$variant),+];
        }
    };
}

formats! {
    /// IEEE single precision.
    F32: f32,
    /// IEEE half precision.
    F16: f16,
    /// The upper half of a single.
    BF16: bf16,
    /// 32 weights: f16 scale, 4-bit codes.
    Q4_0: q4_0,
    /// 32 weights: f16 scale, 5-bit codes.
    Q5_0: q5_0,
    /// 32 weights: f16 scale and offset, 5-bit codes.
    Q5_1: q5_1,
    /// 32 weights: f16 scale, 8-bit codes.
    Q8_0: q8_0,
    /// 256 weights: 8 sub-blocks with 6-bit scale and minimum, 4-bit codes.
    Q4_K: q4_k,
    /// 256 weights: 8 sub-blocks with 6-bit scale and minimum, 5-bit codes.
    Q5_K: q5_k,
    /// 256 weights: 16 sub-blocks with 8-bit scale, 6-bit codes.
    Q6_K: q6_k,
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

    /// The encoding of that name, whatever its case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.name().eq_ignore_ascii_case(name))
    }

    /// `ggml_type` in a GGUF file.
    pub fn ggml_id(self) -> u32 {
        self.format().ggml_id
    }

    /// The encoding with that `ggml_type`.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.ggml_id() == id)
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
            assert!(row.wgsl.contains("fn decode4(row: u32, k: u32) -> vec4<f32>"), "{dtype}");
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
            ("Q5_0", 6, 32, 22, false),
            ("Q5_1", 7, 32, 24, false),
            ("Q8_0", 8, 32, 34, false),
            ("Q4_K", 12, 256, 144, false),
            ("Q5_K", 13, 256, 176, false),
            ("Q6_K", 14, 256, 210, false),
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
