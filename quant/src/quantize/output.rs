//! What is to be made and how, and what was made, as values.
//!
//! Absent: making it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::TensorReport;
use super::split::Split;
use crate::checkpoint::Model;
use crate::convert::facts::has_no_form_in_llama_cpp;
use crate::gguf::Metadata;
use crate::message::Setting;
use crate::plan::{PlanEntry, PlanOptions};
use crate::recipe::Category;
use crate::{DType, Imatrix, Plan, Recipe, Result, vocab};

/// [`QuantizeOptions::allow_non_finite`].
pub const ALLOW_NON_FINITE: Setting = Setting::new("allow_non_finite");

/// A file to be made.
#[derive(Debug, Clone)]
pub struct Output {
    /// What every tensor becomes.
    pub plan: Plan,
    /// Where the file will stand.
    pub path: PathBuf,
    /// Its metadata, see [`Plan::metadata`]; without `split.` keys.
    pub metadata: Metadata,
    /// How much each column matters, for the encodings that ask.
    pub imatrix: Option<Arc<Imatrix>>,
    /// Into which files it is cut.
    pub split: Split,
}

impl Output {
    /// The file at `path` that `recipe` makes of `model`.
    ///
    /// # Errors
    /// As [`Plan::of_file`], [`Plan::check_importance`] and [`Model::output_metadata`].
    pub fn of(model: &dyn Model, recipe: &Arc<Recipe>, options: &PlanOptions, path: &Path) -> Result<Self> {
        let plan = Plan::of_file(model, recipe, options)?;
        plan.check_importance(model.path())?;
        // Asked for in any case, because it says what cannot be written.
        let metadata = model.output_metadata()?;
        let kept = Plan::kept_of(model, recipe, options);
        let metadata = plan.metadata(kept.map_or(&metadata, |kept| kept.metadata()));
        Ok(Self { plan, path: path.to_owned(), metadata, imatrix: options.imatrix.clone(), split: Split::None })
    }

    /// Cuts it as its source, the GGUF model at `like`, is cut (llama-quantize `--keep-split`). It must have been planned with
    /// [`PlanOptions::keep_split`].
    ///
    /// # Errors
    /// As [`Split::like`].
    pub fn keep_split(&mut self, like: &Path) -> Result<()> {
        self.split = Split::like(like, &self.plan)?;
        Ok(())
    }

    /// The tensors that the importance matrix should weigh and has no entry for; embedding and head aside, for which
    /// llama-imatrix collects nothing unless asked to. They are encoded as without a matrix.
    pub fn unweighted(&self) -> Vec<&str> {
        let Some(imatrix) = &self.imatrix else { return Vec::new() };
        let aside = |name: &str| matches!(Category::of(name), Category::TokenEmbd | Category::Output);
        let weighed = |entry: &&PlanEntry| entry.from != entry.to && !entry.to.is_float() && !aside(entry.source());
        let weighed = self.plan.entries.iter().filter(weighed).map(PlanEntry::source);
        weighed.filter(|name| imatrix.weights(name).is_none()).collect()
    }

    /// What is to be known of these files of one model, in sentences: what llama.cpp will not do with them, recipes that do not
    /// fit the model, and tensors that the importance matrix says nothing of.
    pub fn notes(outputs: &[Self]) -> Vec<String> {
        let mut notes = Vec::new();
        if outputs.iter().any(|output| has_no_form_in_llama_cpp(&output.metadata)) {
            let what = "some blocks of this model have experts and some have none; llama.cpp has no form for that and will not \
                        open the file, bitworth does";
            notes.push(what.to_owned());
        }
        if let Some(Self { metadata, .. }) = outputs.first() {
            for (key, id) in vocab::ids_beyond_the_tokens(metadata) {
                notes.push(format!("{key} is {id}, which is no token; it counts as absent, for llama.cpp too"));
            }
            let cut = vocab::cut_by_llama_cpp(metadata);
            if let Some(first) = cut.first() {
                notes.push(format!(
                    "only tokenizer.json calls {first:?} and {} others tokens to be kept whole; llama.cpp will cut them to \
                     pieces, bitworth does not",
                    cut.len() - 1
                ));
            }
        }
        for output in outputs {
            notes.extend(output.plan.fall_back_note());
            let unweighted = output.unweighted();
            if let Some(first) = unweighted.first() {
                let (recipe, count) = (&output.plan.recipe.name, unweighted.len());
                notes.push(format!("{recipe}: the importance matrix has no entry for {count} tensors, as {first}"));
            }
        }
        notes
    }

    /// The importance of the columns of a tensor, see [`importance_of`].
    pub(super) fn importance(&self, entry: &PlanEntry) -> Result<Option<&[f32]>> {
        self.imatrix
            .as_deref()
            .map_or(Ok(None), |imatrix| importance_of(imatrix, entry.source(), &entry.shape, entry.from, entry.to))
    }
}

/// Seconds since some moment; the caller's, because nothing here reads a clock.
pub type Clock<'a> = &'a (dyn Fn() -> f64 + Sync);

/// How outputs are made. The bytes do not depend on it, but for [`Self::allow_non_finite`].
#[derive(Clone, Copy)]
pub struct QuantizeOptions<'a> {
    /// Bytes that all rows under way may take: the pages of the source and the encoded rows. At least a piece of 16 Ki
    /// weights, or one row, is under way in each thread however little this is.
    pub max_memory: u64,
    /// Whether weights may be infinite or not a number. They become what ggml's arithmetic makes of them. llama-quantize
    /// knows no such permission: it refuses such weights in the source, and in what it made.
    pub allow_non_finite: bool,
    /// Whether to take up what an earlier run of the same outputs left, and to leave what is done when this one ends early.
    pub resume: bool,
    /// How many bytes of an output are written until they begin to be put on the disk (and into the journal).
    pub sync_bytes: u64,
    /// Whether to hash the files made.
    pub sha256: bool,
    /// With a clock, [`Written::report`] is made.
    pub report: Option<Clock<'a>>,
    /// Receives what the user should know and is no error: an unfinished file that could not be taken up.
    pub note: &'a (dyn Fn(&str) + Sync),
}

impl Default for QuantizeOptions<'_> {
    fn default() -> Self {
        Self {
            max_memory: 256 << 20,
            allow_non_finite: false,
            resume: false,
            sync_bytes: 64 << 20,
            sha256: false,
            report: None,
            note: &|_| {},
        }
    }
}

/// An output that was made.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Written {
    /// Where it stands: its first file, by which all of them are opened.
    pub path: PathBuf,
    /// Its size, all files together.
    pub bytes: u64,
    /// Its files; one, unless it was split.
    pub files: Vec<WrittenFile>,
    /// What each tensor lost, in the order of the plan; empty unless asked for.
    #[serde(skip)]
    pub report: Vec<TensorReport>,
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WrittenFile {
    /// Where it stands.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 as 64 hexadecimal digits, where asked for.
    pub sha256: Option<String>,
}

/// The importance of the columns of a tensor (see [`Imatrix::weights_for`]); `None` where it is not asked for, because the
/// tensor is copied or becomes floats.
pub(super) fn importance_of<'a>(
    imatrix: &'a Imatrix,
    name: &str,
    shape: &[usize],
    from: DType,
    to: DType,
) -> Result<Option<&'a [f32]>> {
    if from == to || to.is_float() { Ok(None) } else { imatrix.weights_for(name, shape) }
}
