//! `bitworth run`: the main job, from a checkpoint to its smarts-versus-speed table.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::session::Session;
use super::{DeviceArgs, Outcome, job, output};
use bitworth_eval::job::Job;
use bitworth_eval::slice::Slice;
use bitworth_measure::device::{Device, DeviceSelector};
use bitworth_measure::execute::Ready;

/// Quantize, score, time and report what a configuration asks for; without one, the embedded demo. Goes on where an earlier
/// run stopped, and does what was added to the configuration since.
#[derive(Args)]
pub struct RunArgs {
    /// The configuration [default: the embedded demo].
    config: Option<PathBuf>,
    /// Folder for records, models and reports [default: results/NAME of the configuration, results/NAME-DEVICE with --device,
    /// results/NAME-1of2 with --slice 1/2].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the timings out: all figures that are left are the same to the bit every time.
    #[arg(long)]
    no_speed: bool,
    /// Print the plan (files, passes, bytes to be read, memory, estimated time) and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do the K-th of N parts of the windows and items only, as 2/3: each part into a folder of its own, on any machine;
    /// `bitworth report` of all the folders is the report of the whole.
    #[arg(long, value_name = "K/N", default_value_t = Slice::WHOLE, hide_default_value = true)]
    slice: Slice,
    #[command(flatten)]
    subjects: job::SubjectsArgs,
    #[command(flatten)]
    strict: job::StrictArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &RunArgs, session: &Session) -> Result<Outcome> {
    // What is wrong stands in the configuration, under its keys.
    run_configuration(args, session).map_err(|e| anyhow!("{}", output::told(&e, &output::key)))
}

fn run_configuration(args: &RunArgs, session: &Session) -> Result<Outcome> {
    let mut job = Job::load(args.config.as_deref())?;
    job.strict |= args.strict.strict;
    if args.no_speed {
        job.speed = None;
        if job.texts.is_empty() && job.tasks.is_none() && job.requests.is_none() {
            bail!("--no-speed leaves nothing to measure: the configuration has neither [text] nor [tasks]");
        }
    }
    if !args.slice.is_whole() {
        let (number, of) = args.slice.parts();
        job = job.slice(number, of).map_err(|what| anyhow!("--slice: {what}"))?;
    }
    let out = args.out.clone().unwrap_or_else(|| default_folder(args));
    let device = Device::open(args.device.device)?;
    if !args.dry_run {
        session.note(&format!("running on {} ({})", device.info().name, device.info().driver));
    }
    let ready = Ready::new(&job, Some(&out), &device, session.watch())?;
    if args.dry_run {
        return job::print_plan(&ready, &device, session);
    }
    let written = job::execute(&job, ready, Some(&out), args.subjects.subjects, session)?;
    let document = json!({
        "out": out, "files": written.files, "device": device.info(), "summary": written.summary()?,
        "left_out": written.report.left_out, "warnings": written.report.warnings(),
    });
    session.print(&document, || written.to_text())?;
    Ok(Outcome::Done)
}

/// `results/NAME`; runs on different devices are different runs.
fn default_folder(args: &RunArgs) -> PathBuf {
    let (config, device) = (args.config.as_deref(), args.device.device);
    let stem = config.and_then(Path::file_stem).map(PathBuf::from);
    let mut name = stem.unwrap_or_else(|| "demo".into()).into_os_string();
    if device != DeviceSelector::Auto {
        name.push(format!("-{device}"));
    }
    if !args.slice.is_whole() {
        name.push(format!("-{}", args.slice.to_string().replace('/', "of")));
    }
    PathBuf::from("results").join(name)
}
