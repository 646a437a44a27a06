//! The options of `quantize --fit`: weights chosen by what the outputs of their matrices lose on a text.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bitworth_quant::quantize::{Output, Split, hex};
use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::files::{NewFolders, WriteArgs, entry, lines};
use super::session::Session;
use super::{DeviceArgs, Outcome};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::SweepLimits;
use bitworth_measure::device::Device;
use bitworth_measure::fit::{self, FitText};
use bitworth_measure::{imatrix, models, on_device};
use bitworth_text::tokenizer::Tokenizer;

/// Which text, and how much of it.
#[derive(Args)]
pub struct FitArgs {
    /// Fit weights to these texts, separated by commas: the same types and sizes, but codes and scales chosen by what the outputs
    /// of each matrix lose. Without it the bytes are those of llama-quantize.
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    fit: Vec<PathBuf>,
    /// Tokens of them, at most; the same number of each text.
    #[arg(long, value_name = "N", default_value_t = 32768, requires = "fit")]
    fit_tokens: usize,
    /// Tokens in a window of these texts.
    #[arg(long, value_name = "N", default_value_t = 512, requires = "fit")]
    fit_ctx: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

impl FitArgs {
    /// Whether weights are to be fitted.
    pub fn is_asked(&self) -> bool {
        !self.fit.is_empty()
    }

    /// Makes the files and says what came of it.
    ///
    /// # Errors
    /// As [`fit::fit`]; a text that cannot be read or is too short.
    pub fn write(&self, model: &str, outputs: Vec<Output>, write: &WriteArgs, session: &Session) -> Result<Outcome> {
        if outputs.iter().any(|output| output.split != Split::None) {
            bail!("--fit writes whole files; leave out --split-max-size, --split-max-tensors and --keep-split");
        }
        write.refuse_with_fit()?;
        let checkpoint = models::open(model, session.watch())?;
        let tokenizer = Tokenizer::new(&checkpoint)?;
        let (mut sequences, mut sha256) = (Vec::new(), Vec::new());
        for path in &self.fit {
            let name = path.display().to_string();
            let text = models::read_text(&name)?;
            sha256.push(hex(&Sha256::digest(text.as_bytes())));
            let windows = (self.fit_tokens / self.fit.len() / self.fit_ctx.max(1)).max(2);
            sequences.extend(imatrix::windows(&tokenizer, &text, self.fit_ctx, 0, Some(windows)).with_context(|| name.clone())?);
        }
        let mut folders = NewFolders::default();
        for folder in outputs.iter().filter_map(|output| output.path.parent()) {
            folders.create("--out", folder)?;
        }
        let plans: Vec<Output> = outputs.clone();
        let device = Device::open(self.device.device)?;
        let variant = Variant::Stored(checkpoint);
        let text = FitText { sequences: &sequences, sha256: &sha256 };
        // Activations of all tokens are in memory at once, and nothing is cut.
        let cut = SweepLimits { memory_bytes: usize::MAX, ..SweepLimits::default() };
        let (written, fitted) =
            on_device!(&device, backend => fit::fit(backend, &variant, outputs, &text, cut, session.watch()))?;
        folders.keep();
        let rows: Vec<_> = written.iter().zip(&plans).collect();
        let entries: Vec<_> = rows.iter().map(|(written, output)| entry(written, output)).collect();
        let document = json!({ "files": entries, "fitted": fitted, "tokens": sequences.iter().map(Vec::len).sum::<usize>() });
        session.print(&document, || {
            let files: String = rows.iter().map(|(written, output)| lines(written, output)).collect();
            format!("{files}{}\n", fit::summary(&fitted))
        })?;
        Ok(Outcome::Done)
    }
}
