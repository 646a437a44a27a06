//! Recipes: a default encoding and an ordered list of rules, of which the first that fits a tensor decides. The file types of
//! llama-quantize are rows of `mixes`; custom recipes are TOML files (`custom`). What is absent: walking a model's tensors,
//! counting its layers, and options that go before any rule (see `plan`).

mod builtin;
mod custom;
mod facts;
mod mixes;
mod rule;
mod when;

use std::path::Path;
use std::sync::Arc;

use crate::gguf::{Metadata, Value};
use crate::{DType, Error, Result};
pub(crate) use builtin::ftype_of;
pub use facts::{Category, Count, ModelFacts, TensorFacts};
pub use rule::{Recipe, Rule};
pub use when::{LayerSpan, When};

impl Recipe {
    /// The recipe of that name, whatever its case; a name that ends in `.toml` is the path of a custom recipe.
    ///
    /// # Errors
    /// [`Error::Unknown`] with all names; as [`Recipe::open`].
    pub fn find(name: &str) -> Result<Arc<Self>> {
        if Self::is_path(name) {
            return Self::open(Path::new(name)).map(Arc::new);
        }
        builtin::find(name)
    }

    /// Whether [`Recipe::find`] takes this for the path of a file.
    pub fn is_path(name: &str) -> bool {
        name.ends_with(".toml")
    }

    /// The recipe that a GGUF file says it was made by (`general.file_type`), if it says one that is known.
    pub fn of_file_type(metadata: &Metadata) -> Option<Arc<Self>> {
        // llama.cpp's LLAMA_FTYPE_GUESSED: the number was guessed from the tensors.
        const GUESSED: u32 = 1024;
        let Some(&Value::U32(ftype)) = metadata.get("general.file_type") else { return None };
        Self::all().iter().find(|recipe| !recipe.only_copy && recipe.ftype == ftype & !GUESSED).cloned()
    }

    /// Reads a custom recipe; `configs/recipes/` shows the keys.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] for TOML that does not parse, unknown keys and types, and rules that can never hold.
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(path, &std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?)
    }

    /// [`Recipe::open`] of a text that is no file yet; `path` is for messages.
    ///
    /// # Errors
    /// As there.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        custom::parse(path, text)
    }
}

/// What stands in for an encoding whose blocks do not divide a tensor's rows (llama.cpp's `tensor_type_fallback`). Where even
/// those do not divide the rows, F16.
const FALLBACKS: [(DType, DType); 16] = [
    (DType::IQ1_S, DType::IQ4_NL),
    (DType::IQ1_M, DType::IQ4_NL),
    (DType::IQ2_XXS, DType::IQ4_NL),
    (DType::IQ2_XS, DType::IQ4_NL),
    (DType::IQ2_S, DType::IQ4_NL),
    (DType::IQ3_XXS, DType::IQ4_NL),
    (DType::IQ3_S, DType::IQ4_NL),
    (DType::IQ4_XS, DType::IQ4_NL),
    (DType::Q2_0, DType::Q4_0),
    (DType::Q2_K, DType::Q4_0),
    (DType::Q3_K, DType::Q4_0),
    (DType::TQ1_0, DType::Q4_0),
    (DType::TQ2_0, DType::Q4_0),
    (DType::Q4_K, DType::Q5_0),
    (DType::Q5_K, DType::Q5_1),
    (DType::Q6_K, DType::Q8_0),
];

/// Blocks of at most so many weights need no stand-in of smaller blocks: there are none.
const SMALL_BLOCK: usize = 32;

/// The encoding that rows of `cols` weights get where `wanted` is wanted; `None` for large blocks that nothing stands in for.
pub fn fitting(wanted: DType, cols: usize) -> Option<DType> {
    let fits = |dtype: DType| cols.is_multiple_of(dtype.block_len());
    if fits(wanted) {
        return Some(wanted);
    }
    match FALLBACKS.iter().find(|(from, _)| *from == wanted) {
        Some(&(_, to)) if fits(to) => Some(to),
        None if wanted.block_len() > SMALL_BLOCK => None,
        _ => Some(DType::F16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_file_types_are_unique() {
        for (i, a) in Recipe::all().iter().enumerate() {
            for b in &Recipe::all()[i + 1..] {
                let same_number = a.ftype == b.ftype && !b.only_copy;
                assert!(a.name != b.name && !same_number, "{} and {}", a.name, b.name);
            }
        }
    }

    #[test]
    fn a_recipe_is_found_whatever_the_case_and_by_alias() {
        for recipe in Recipe::all() {
            assert_eq!(Recipe::find(&recipe.file_stem_suffix()).unwrap().name, recipe.name);
        }
        assert_eq!(Recipe::find("Q3_K").unwrap().name, "q3_k_m");
        assert_eq!(Recipe::find("q4_k").unwrap().name, "q4_k_m");
        assert_eq!(Recipe::find("q5_k").unwrap().name, "q5_k_m");
        let error = Recipe::find("q4_k_x").unwrap_err().to_string();
        assert!(error.contains("q4_k_x") && error.contains("q4_k_m") && error.contains("bf16"), "{error}");
    }

    #[test]
    fn rows_that_do_not_divide_fall_back() {
        let check = |wanted, cols, expected| assert_eq!(fitting(wanted, cols), expected, "{wanted} at {cols} columns");
        check(DType::Q4_K, 4096, Some(DType::Q4_K));
        check(DType::Q4_K, 576, Some(DType::Q5_0));
        check(DType::Q5_K, 576, Some(DType::Q5_1));
        check(DType::Q6_K, 576, Some(DType::Q8_0));
        check(DType::Q6_K, 100, Some(DType::F16));
        check(DType::Q4_0, 100, Some(DType::F16));
        check(DType::MXFP4, 100, Some(DType::F16));
        check(DType::IQ1_S, 576, Some(DType::IQ4_NL));
        check(DType::Q2_0, 96, Some(DType::Q4_0));
        check(DType::Q1_0, 576, None);
        check(DType::NVFP4, 96, None);
    }

    #[test]
    fn every_large_block_has_a_stand_in_or_is_known_to_have_none() {
        for &dtype in DType::ALL.iter().filter(|d| d.block_len() > SMALL_BLOCK) {
            let without = matches!(dtype, DType::Q1_0 | DType::NVFP4);
            assert_eq!(fitting(dtype, SMALL_BLOCK).is_none(), without, "{dtype}");
        }
    }
}
