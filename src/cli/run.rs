//! `bitworth run`: the main job, from a checkpoint to its smarts-versus-speed table.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::session::Session;
use super::{DeviceArgs, Outcome, output};
use bitworth_measure::config::RunConfig;
use bitworth_measure::device::{Device, DeviceSelector};
use bitworth_measure::run::{self, Finished};
use bitworth_report::Report;

/// Quantize, score, time and report what a configuration asks for; without one, the embedded demo. Goes on where an earlier
/// run stopped.
#[derive(Args)]
pub struct RunArgs {
    /// The configuration [default: the embedded demo].
    config: Option<PathBuf>,
    /// Folder for records, models and reports [default: results/NAME of the configuration, results/NAME-DEVICE with --device].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave the timings out: what is left is the same to the bit every time.
    #[arg(long)]
    no_speed: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &RunArgs, session: &Session) -> Result<Outcome> {
    let mut config = RunConfig::load(args.config.as_deref())?;
    if args.no_speed {
        config.speed = None;
        if config.text.is_none() && config.tasks.is_none() {
            bail!("--no-speed leaves nothing to measure: the configuration has neither [text] nor [tasks]");
        }
    }
    let stem = args.config.as_ref().and_then(|path| path.file_stem()).map(PathBuf::from);
    let mut name = stem.unwrap_or_else(|| "demo".into()).into_os_string();
    if args.device.device != DeviceSelector::Auto {
        // Runs on different devices are different runs.
        name.push(format!("-{}", args.device.device));
    }
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("results").join(name));
    let device = Device::open(args.device.device)?;
    session.note(&format!("running on {} ({})", device.info().name, device.info().driver));
    let Finished { found, notes } = run::run(&config, &out, &device, session.watch())?;
    for note in &notes {
        session.note(&note.describe(&output::flag));
    }
    if found > 0 {
        session.note(&format!("{found} items of work were in {} already", out.display()));
    }
    let report = Report::new(&bitworth_report::load(std::slice::from_ref(&out))?)?;
    let files = report.write(&out)?;
    session.print(
        &json!({ "out": out, "files": files, "device": device.info(), "summary": bitworth_report::export::json(&report.rows)? }),
        || {
            let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            format!("{}\n{}\n", report.to_text(), files.join("\n"))
        },
    )?;
    Ok(Outcome::Done)
}
