//! The options of `quantize --fit`: weights chosen by what the outputs of their matrices lose on a text.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use bitworth_quant::quantize::{Output, Split};
use bitworth_quant::{Checkpoint, Plan};
use clap::Args;
use serde_json::{Value, json};

use super::files::{NewFolders, WriteArgs, entry, lines};
use super::session::Session;
use super::{DeviceArgs, Outcome, output};
use bitworth_engine::model::Variant;
use bitworth_eval::job::FitSpec;
use bitworth_measure::device::Device;
use bitworth_measure::fit::{self, FitOptions, FitPlan, FitText};
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
    /// Fit the output matrix, too: the token embedding where a model uses it for the output. An embedding that is no output
    /// matrix has no input to fit to and is encoded as ever.
    #[arg(long, requires = "fit")]
    fit_output: bool,
}

impl FitTextArgs {
    /// The texts; `None` where nothing is to be fitted.
    pub fn spec(&self) -> Option<FitSpec> {
        let spec = || FitSpec { texts: self.fit.clone(), tokens: self.fit_tokens, ctx: self.fit_ctx, output: self.fit_output };
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

    /// What making files of `plans` would take: for a program, and for a person.
    ///
    /// # Errors
    /// As [`FitPlan::new`]; a text that cannot be read or is too short.
    pub fn plan(&self, model: &str, plans: &[Plan], write: &WriteArgs, session: &Session) -> Result<(Value, String)> {
        let (checkpoint, text) = self.open(model, session)?;
        let plans: Vec<&Plan> = plans.iter().collect();
        let plan = FitPlan::new(&checkpoint, &plans, &text, &self.options(write))?;
        let document = serde_json::to_value(&plan)?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let FitPlan { tokens, windows, passes, inputs, tensors, .. } = &plan;
        let mut said = format!(
            "fitting: {tensors} tensors by {inputs} inputs, on {tokens} tokens in {windows} windows, {passes} pass\n\
             memory: {:.1} MiB: {:.1} MiB for activations, at most {:.1} MiB for moments, {:.1} MiB for weights\n",
            mib(plan.bytes()),
            mib(plan.activation_bytes),
            mib(plan.moment_bytes),
            mib(plan.weight_bytes),
        );
        said += &plan.grouped_note().map_or_else(String::new, |note| format!("{note}\n"));
        Ok((document, said))
    }

    /// The model, and the texts in its tokens.
    fn open(&self, model: &str, session: &Session) -> Result<(Arc<Checkpoint>, FitText)> {
        let spec = self.text.spec().context("no text to fit to")?;
        spec.check().map_err(|what| anyhow!("{}", what.describe(&output::flag)))?;
        let checkpoint = models::open(model, session.watch())?;
        let text = FitText::read(&spec, &Tokenizer::new(&checkpoint)?)?;
        Ok((checkpoint, text))
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
        let (checkpoint, text) = self.open(model, session)?;
        let mut folders = NewFolders::default();
        for folder in outputs.iter().filter_map(|output| output.path.parent()) {
            folders.create("--out", folder)?;
        }
        write.check_report(&outputs)?;
        let begin = Instant::now();
        let clock = || begin.elapsed().as_secs_f64();
        let note = |text: &str| session.note(text);
        let options = FitOptions { report: write.report.is_some().then_some(&clock), note: &note, ..self.options(write) };
        let plans: Vec<&Plan> = outputs.iter().map(|output| &output.plan).collect();
        FitPlan::new(&checkpoint, &plans, &text, &options)?;
        Output::notes(&outputs).iter().for_each(|note| session.note(note));
        let planned: Vec<Output> = outputs.clone();
        let device = Device::open(self.device.device)?;
        let variant = Variant::Stored(checkpoint);
        let (written, fitted) =
            on_device!(&device, backend => fit::fit(backend, &variant, outputs, &text, &options, session.watch()))?;
        write.write_report(&planned, &written)?;
        folders.keep();
        let rows: Vec<_> = written.iter().zip(&planned).collect();
        let entries: Vec<_> = rows.iter().map(|(written, output)| entry(written, output)).collect();
        let document = json!({ "files": entries, "fitted": fitted, "tokens": text.tokens() });
        session.print(&document, || {
            let files: String = rows.iter().map(|(written, output)| lines(written, output)).collect();
            format!("{files}{}\n", fit::summary(&fitted))
        })?;
        Ok(Outcome::Done)
    }

    /// How files are fitted; without a limit nothing is cut.
    fn options(&self, write: &WriteArgs) -> FitOptions<'static> {
        FitOptions {
            memory_bytes: write.max_memory.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            output: self.text.fit_output,
            sha256: write.sha256,
            resume: write.resume,
            ..FitOptions::default()
        }
    }
}
