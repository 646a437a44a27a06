//! The options of `quantize --fit`: weights chosen by what the outputs of their matrices lose on a text.

use anyhow::{Context, Result, anyhow, bail};
use bitworth_quant::quantize::{Output, Split};
use clap::Args;
use serde_json::json;

use super::files::{NewFolders, WriteArgs, entry, lines};
use super::session::Session;
use super::{DeviceArgs, Outcome, output};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::SweepLimits;
use bitworth_eval::job::FitSpec;
use bitworth_measure::device::Device;
use bitworth_measure::fit::{self, FitText};
use bitworth_measure::{models, on_device};
use bitworth_text::tokenizer::Tokenizer;

/// Which texts, and how much of them.
#[derive(Args)]
pub struct FitTextArgs {
    /// Fit weights to these texts, separated by commas: the same types and sizes, but codes and scales chosen by what the outputs
    /// of each matrix lose.
    #[arg(long, value_name = "FILES", value_delimiter = ',')]
    fit: Vec<String>,
    /// Tokens of them, at most; the same number of each text.
    #[arg(long, value_name = "N", default_value_t = 32768, requires = "fit")]
    fit_tokens: usize,
    /// Tokens in a window of these texts.
    #[arg(long, value_name = "N", default_value_t = 512, requires = "fit")]
    fit_ctx: usize,
}

impl FitTextArgs {
    /// The texts; `None` where nothing is to be fitted.
    pub fn spec(&self) -> Option<FitSpec> {
        let spec = || FitSpec { texts: self.fit.clone(), tokens: self.fit_tokens, ctx: self.fit_ctx };
        (!self.fit.is_empty()).then(spec)
    }
}

/// What `quantize` fits weights to, and where the walk is computed.
#[derive(Args)]
pub struct FitArgs {
    #[command(flatten)]
    text: FitTextArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl FitArgs {
    /// Whether weights are to be fitted.
    pub fn is_asked(&self) -> bool {
        self.text.spec().is_some()
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
        let spec = self.text.spec().context("no text to fit to")?;
        spec.check().map_err(|what| anyhow!("{}", what.describe(&output::flag)))?;
        let checkpoint = models::open(model, session.watch())?;
        let text = FitText::read(&spec, &Tokenizer::new(&checkpoint)?)?;
        let mut folders = NewFolders::default();
        for folder in outputs.iter().filter_map(|output| output.path.parent()) {
            folders.create("--out", folder)?;
        }
        let plans: Vec<Output> = outputs.clone();
        let device = Device::open(self.device.device)?;
        let variant = Variant::Stored(checkpoint);
        // Activations of all tokens are in memory at once, and nothing is cut.
        let cut = SweepLimits { memory_bytes: usize::MAX, ..SweepLimits::default() };
        let (written, fitted) =
            on_device!(&device, backend => fit::fit(backend, &variant, outputs, &text, cut, session.watch()))?;
        folders.keep();
        let rows: Vec<_> = written.iter().zip(&plans).collect();
        let entries: Vec<_> = rows.iter().map(|(written, output)| entry(written, output)).collect();
        let document =
            json!({ "files": entries, "fitted": fitted, "tokens": text.sequences.iter().map(Vec::len).sum::<usize>() });
        session.print(&document, || {
            let files: String = rows.iter().map(|(written, output)| lines(written, output)).collect();
            format!("{files}{}\n", fit::summary(&fitted))
        })?;
        Ok(Outcome::Done)
    }
}
