//! Numbers that are no weights: integers and double precision, little-endian, as ggml stores them. Files hold tables of such
//! (from tokens to experts, for one). They are copied, and read as the nearest f32; no plan encodes to them.
//!
//! Absent: a decoder for the GPU, because nothing that is run has them.

use super::{DType, Decode, Encode, Format};

/// The row of a type that stands in memory as Rust's `$number`.
macro_rules! carried {
    ($dtype:ident, $number:ident, $ggml_id:literal) => {{
        const ENCODE: Encode = |x, _, out| {
            for (x, out) in x.iter().zip(out.as_chunks_mut::<{ size_of::<$number>() }>().0) {
                *out = (*x as $number).to_le_bytes();
            }
        };
        const DECODE: Decode = |bytes, out| {
            for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
                *out = $number::from_le_bytes(*bytes) as f32;
            }
        };
        Format {
            dtype: DType::$dtype,
            name: stringify!($dtype),
            ggml_id: $ggml_id,
            block_len: 1,
            block_bytes: size_of::<$number>(),
            float: false,
            needs_importance: false,
            encode: ENCODE,
            decode: DECODE,
            #[cfg(test)]
            plain: (ENCODE, DECODE),
            wgsl: "",
            integers: None,
            grid: None,
            grid_of_fours: false,
        }
    }};
}

pub(super) const I8: Format = carried!(I8, i8, 24);
pub(super) const I16: Format = carried!(I16, i16, 25);
pub(super) const I32: Format = carried!(I32, i32, 26);
pub(super) const I64: Format = carried!(I64, i64, 27);
pub(super) const F64: Format = carried!(F64, f64, 28);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_nearest_f32_and_come_back() {
        let check = |dtype: DType, bytes: &[u8], expected: f32| {
            let (mut out, mut back) = ([0.0], vec![0; bytes.len()]);
            dtype.decode_row(bytes, &mut out);
            assert_eq!(out[0], expected, "{dtype}");
            dtype.encode_row(&out, None, &mut back);
            assert_eq!(back, bytes, "{dtype}");
        };
        check(DType::I8, &(-7i8).to_le_bytes(), -7.0);
        check(DType::I16, &(-300i16).to_le_bytes(), -300.0);
        check(DType::I32, &70_000i32.to_le_bytes(), 70_000.0);
        check(DType::I64, &(1i64 << 40).to_le_bytes(), 1_099_511_627_776.0);
        check(DType::F64, &0.375f64.to_le_bytes(), 0.375);
    }

    #[test]
    fn they_are_known_by_their_number_and_by_no_name_that_one_can_ask_for() {
        for &dtype in DType::CARRIED {
            assert_eq!(DType::from_ggml_id(dtype.ggml_id()), Some(dtype));
            assert_eq!(DType::from_name(dtype.name()), None);
            assert!(dtype.is_carried() && !dtype.is_float() && !DType::ALL.contains(&dtype));
        }
        assert!(DType::ALL.iter().all(|dtype| !dtype.is_carried()));
    }
}
