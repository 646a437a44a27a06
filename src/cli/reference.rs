//! The options of a reference that is kept: where it comes from, where it goes. What is absent: the files (see
//! `measure::reference`).

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::files::check_replaceable;
use bitworth_engine::sweep::Lane;
use bitworth_measure::reference::lane::{Kept, ReferenceSource};
use bitworth_measure::reference::store::HiddenType;
use bitworth_measure::reference::{logits_file, store};
use bitworth_measure::text::TextWindows;

/// Where the scored model is kept for later comparisons.
#[derive(Args)]
pub struct KeepArgs {
    /// Keep the model's final hidden states and its tokens, to compare with later by --reference.
    #[arg(long, value_name = "FILE")]
    save_reference: Option<PathBuf>,
    /// Numbers of the hidden states that are kept: f32 (exact), or f16 (half the size).
    #[arg(long, default_value = "f32", value_name = "TYPE", requires = "save_reference")]
    reference_type: HiddenType,
    /// Keep the model's log-probabilities as llama-perplexity's --kl-divergence-base reads them.
    #[arg(long, value_name = "FILE")]
    save_logits: Option<PathBuf>,
}

impl KeepArgs {
    /// Whether anything is to be kept.
    pub fn is_asked(&self) -> bool {
        self.save_reference.is_some() || self.save_logits.is_some()
    }

    /// Where it is to be kept.
    ///
    /// # Errors
    /// A place that holds anything but such a file, or one of `inputs`.
    pub fn kept<'a>(&self, inputs: impl Iterator<Item = &'a Path> + Clone) -> Result<Kept> {
        if let Some(path) = &self.save_reference {
            check_replaceable(path, inputs.clone(), "reference store", store::is_one)?;
        }
        if let Some(path) = &self.save_logits {
            check_replaceable(path, inputs, "logits file", logits_file::is_one)?;
        }
        let store = self.save_reference.clone().map(|path| (path, self.reference_type));
        Ok(Kept { store, logits: self.save_logits.clone() })
    }
}

/// What takes the place of a walk through the reference.
#[derive(Args)]
pub struct SourceArgs {
    /// Take the reference's final hidden states from a file that --save-reference made of the same text; of REFERENCE only the
    /// head is read.
    #[arg(long = "reference", id = "stored", value_name = "FILE", conflicts_with = "logits")]
    stored: Option<PathBuf>,
    /// Take the reference's log-probabilities from a file of llama-perplexity (--save-all-logits) or of --save-logits, and
    /// compare as llama-perplexity --kl-divergence does; REFERENCE gives tokenizer and vocabulary.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["save_reference", "save_logits"])]
    logits: Option<PathBuf>,
}

impl SourceArgs {
    /// Opens it, and checks that it belongs to the text and to the reference.
    ///
    /// # Errors
    /// As [`ReferenceSource::store`] and [`ReferenceSource::logits`].
    pub fn open(&self, reference: &Lane, text: &TextWindows, device: &str) -> Result<ReferenceSource> {
        match (&self.stored, &self.logits) {
            (Some(path), _) => Ok(ReferenceSource::store(path, reference, text, device)?),
            (None, Some(path)) => Ok(ReferenceSource::logits(path, reference.variant.checkpoint(), text)?),
            (None, None) => Ok(ReferenceSource::Walked),
        }
    }

    /// The files to be read.
    pub fn files(&self) -> impl Iterator<Item = &Path> + Clone {
        self.stored.iter().chain(&self.logits).map(PathBuf::as_path)
    }
}
