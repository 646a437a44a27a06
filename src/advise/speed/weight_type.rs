//! Weight types whose speeds are told apart: for each tensor encoding its class, with what is known of the class beforehand.
//!
//! Absent: speeds (they are fitted, see `fit`).

use bitworth_quant::DType;

/// Encodings that have a speed of their own, together.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Class {
    /// As measurements and constants name it.
    name: &'static str,
    /// Bits of a weight that files of the class have on the whole.
    bits: f64,
    family: Family,
}

/// Kernels of one family share how they unpack, and how well somebody has tuned them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Float,
    /// Codes that stand for points of a grid.
    Codebook,
    /// Super-blocks of 256 with scales that are quantized themselves.
    K,
    Plain,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Codebook => "codebook",
            Self::K => "k",
            Self::Plain => "plain",
        }
    }
}

/// The class of an encoding; `None` where nobody published speeds of files like that, and none are forecast.
fn class_of(dtype: DType) -> Option<Class> {
    use Family::{Codebook, Float, K, Plain};
    let class = |name, bits, family| Some(Class { name, bits, family });
    match dtype {
        DType::F32 => class("F32", 32.0, Float),
        DType::F16 => class("F16", 16.0, Float),
        DType::BF16 => class("BF16", 16.0, Float),
        DType::Q8_0 => class("Q8_0", 8.5, Plain),
        DType::Q6_K => class("Q6_K", 6.5625, K),
        DType::Q5_K => class("Q5_K", 5.6, K),
        DType::Q5_1 => class("Q5_1", 6.0, Plain),
        DType::Q5_0 => class("Q5_0", 5.5, Plain),
        DType::Q4_K => class("Q4_K", 4.85, K),
        DType::Q4_1 => class("Q4_1", 5.0, Plain),
        DType::Q4_0 => class("Q4_0", 4.5, Plain),
        DType::IQ4_NL | DType::IQ4_XS => class("IQ4", 4.4, Plain),
        DType::Q3_K => class("Q3_K", 3.9, K),
        DType::IQ3_XXS | DType::IQ3_S => class("IQ3", 3.5, Codebook),
        DType::Q2_K => class("Q2_K", 3.0, K),
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S => class("IQ2", 2.6, Codebook),
        DType::IQ1_S | DType::IQ1_M => class("IQ1", 1.8, Codebook),
        DType::MXFP4 => class("MXFP4", 4.25, Plain),
        DType::NVFP4 => class("NVFP4", 4.5, Plain),
        DType::TQ1_0 | DType::TQ2_0 => class("TQ", 2.06, Codebook),
        DType::Q1_0 | DType::Q2_0 => None,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::F64 => None,
    }
}

/// How names begin that are no encoding's, and the one they are classed with: llama.cpp's file types between two encodings, and
/// other spellings. Publishers' `Q8_K_XL` is Q8_0 with some tensors in 16 bits.
const SPELLINGS: &[(&str, DType)] = &[
    ("FP16", DType::F16),
    ("Q8", DType::Q8_0),
    ("IQ4", DType::IQ4_XS),
    ("IQ3", DType::IQ3_S),
    ("IQ2", DType::IQ2_S),
    ("IQ1", DType::IQ1_S),
    ("TQ", DType::TQ2_0),
];

/// The class of a quantization's name: `UD-Q4_K_XL` and `q4_k_m` are `Q4_K`; what is not known is its own class.
pub fn type_class(quant: &str) -> String {
    let upper = quant.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("UD-").unwrap_or(&upper);
    let encoding = DType::ALL.iter().copied().find(|dtype| name.starts_with(dtype.name()));
    let spelled = || SPELLINGS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, dtype)| *dtype);
    let class = encoding.or_else(spelled).and_then(class_of);
    class.map_or_else(|| name.to_owned(), |class| class.name.to_owned())
}

fn find(class: &str) -> Option<Class> {
    DType::ALL.iter().copied().filter_map(class_of).find(|known| known.name == class)
}

/// The family of a class.
pub(super) fn type_family(class: &str) -> &'static str {
    let unknown = if class.ends_with("_K") { Family::K } else { Family::Plain };
    find(class).map_or(unknown, |class| class.family).name()
}

/// Bits of a weight that files of a class have on the whole.
pub(super) fn nominal_bits(class: &str) -> Option<f64> {
    find(class).map(|class| class.bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_of_one_class_say_the_same_of_it() {
        for class in DType::ALL.iter().copied().filter_map(class_of) {
            assert_eq!(find(class.name), Some(class));
        }
    }

    #[test]
    fn quantizations_fall_into_classes() {
        for (quant, class) in [
            ("UD-Q4_K_XL", "Q4_K"),
            ("q4_k_m", "Q4_K"),
            ("Q4_0 (QAT)", "Q4_0"),
            ("IQ4_XS mix", "IQ4"),
            ("BF16", "BF16"),
            ("UD-Q8_K_XL", "Q8_0"),
        ] {
            assert_eq!(type_class(quant), class);
        }
    }
}
