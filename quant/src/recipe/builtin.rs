//! The recipes of llama-quantize by name, and the numbers of their file types.
//!
//! Absent: their rules (see `mixes`).

use std::sync::{Arc, LazyLock};

use super::mixes;
use super::rule::Recipe;
use crate::{DType, Error, Result};

static ALL: LazyLock<Vec<Arc<Recipe>>> = LazyLock::new(|| {
    let recipe = |row: &mixes::FileType| Recipe {
        name: row.name.to_owned(),
        ftype: row.ftype,
        default: row.default,
        rules: row.mix.concat(),
        only_copy: row.name == mixes::COPY,
    };
    mixes::FILE_TYPES.iter().map(|row| Arc::new(recipe(row))).collect()
});

impl Recipe {
    /// Every file type of llama-quantize, from most to fewest bits.
    pub fn all() -> &'static [Arc<Self>] {
        &ALL
    }
}

/// The recipe of that name, whatever its case.
pub(super) fn find(name: &str) -> Result<Arc<Recipe>> {
    let lower = name.to_ascii_lowercase();
    let stands_for = mixes::ALIASES.iter().find(|(alias, _)| *alias == lower).map_or(lower.as_str(), |(_, whole)| whole);
    let found = Recipe::all().iter().find(|r| r.name == stands_for);
    found.cloned().ok_or_else(|| Error::unknown("recipe", name, Recipe::all().iter().map(|r| r.name.as_str())))
}

/// The file type of files whose tensors are mostly `dtype`, as llama.cpp's loader guesses it; `None` where none is.
pub(crate) fn ftype_of(dtype: DType) -> Option<u32> {
    /// Not among llama-quantize's types: such files come from training only.
    const NVFP4: u32 = 39;
    let by_name = || find(dtype.name()).ok().map(|recipe| recipe.ftype);
    let by_default = || Recipe::all().iter().find(|recipe| recipe.default == dtype).map(|recipe| recipe.ftype);
    if dtype == DType::NVFP4 { Some(NVFP4) } else { by_name().or_else(by_default) }
}
