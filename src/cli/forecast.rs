//! `bitworth forecast`: a table of machines, models and workloads gets its forecast speeds.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bitworth_quant::Error;
use bitworth_quant::atomic_file::write_whole;
use clap::Args;
use serde_json::json;

use super::session::Session;
use super::{Outcome, output};
use bitworth_advise::hardware::Catalogue;
use bitworth_advise::settings::HARDWARE;
use bitworth_advise::speed::Calibration;
use bitworth_advise::speed::resolve::{self, RowForecast};
use bitworth_advise::speed::table::SpeedTable;
use bitworth_measure::probe;

/// Forecast the speeds of a table's rows.
#[derive(Args)]
pub struct ForecastArgs {
    /// Table with hardware, model, quant, and what is known of gpu_cores_or_variant, memory_gb, bandwidth_gbs, backend, date,
    /// params_b, model_file_gib, n_prompt, n_gen, depth, n_devices.
    #[arg(long, value_name = "IN.csv")]
    rows: PathBuf,
    /// The same table with tg_forecast, tg_low, tg_high, pp_forecast, pp_low, pp_high (tokens/s, 80 % ranges), fits, reason.
    #[arg(long, value_name = "OUT.csv")]
    out: PathBuf,
    /// Constants of the speed model, made by calibrate [default: those that come with the program].
    #[arg(long, value_name = "FILE.toml")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    dirs: HardwareDirs,
}

/// The machine at hand.
const THIS: &str = "this";

/// Further machines.
#[derive(Args)]
pub struct HardwareDirs {
    /// Folder with further machines, as configs/hardware.
    #[arg(long, value_name = "DIR")]
    hardware_dir: Vec<PathBuf>,
}

impl HardwareDirs {
    /// The machines that come with the program, and those of the folders; `this`, as `bitworth probe` measured it, if it is among
    /// the `names` asked for: what a user once measured is to change no forecast of other machines.
    pub fn catalogue<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Catalogue> {
        let mut catalogue = Catalogue::builtin();
        for folder in &self.hardware_dir {
            catalogue.add_folder(folder)?;
        }
        let asked = names.into_iter().any(|name| name.trim().eq_ignore_ascii_case(THIS));
        if asked && !catalogue.profiles().iter().any(|profile| profile.id == THIS) {
            let measured = probe::default_path().filter(|path| path.is_file());
            let what = "has not been measured; run bitworth probe, or give the folder of its this.toml with --hardware-dir";
            catalogue.add_file(&measured.ok_or_else(|| Error::option(HARDWARE, THIS, what))?)?;
        }
        Ok(catalogue)
    }
}

/// The text of a table's file, and the table.
pub fn read(path: &Path) -> Result<(String, SpeedTable)> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let table = SpeedTable::parse(path, &text)?;
    Ok((text, table))
}

/// The calibration of a file, or the one that comes with the program.
pub fn calibration(path: Option<&Path>) -> Result<Calibration> {
    let Some(path) = path else { return Ok(Calibration::embedded().clone()) };
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    Ok(Calibration::parse(path, &text)?)
}

pub fn run(args: &ForecastArgs, session: &Session) -> Result<Outcome> {
    let (_, table) = read(&args.rows)?;
    let calibration = calibration(args.calibration.as_deref())?;
    let catalogue = args.dirs.catalogue(table.rows.iter().map(|row| row.hardware.as_str()))?;
    let answers: Vec<RowForecast> = table.rows.iter().map(|row| resolve::forecast_row(&catalogue, &calibration, row)).collect();
    let cells: Vec<Vec<String>> = answers.iter().map(|answer| answer.cells(&output::flag)).collect();
    write_whole(&args.out, table.render_with(&RowForecast::COLUMNS, &cells).as_bytes())?;
    let count = |has: fn(&RowForecast) -> bool| answers.iter().filter(|a| has(a)).count();
    let (decode, prefill) = (count(|a| a.decode.is_some()), count(|a| a.prefill.is_some()));
    let document = json!({ "rows": answers.len(), "decode": decode, "prefill": prefill, "out": args.out });
    session.print(&document, || {
        format!("{} rows, {decode} with a forecast of decoding, {prefill} of prefill: {}", answers.len(), args.out.display())
    })?;
    Ok(Outcome::Done)
}
