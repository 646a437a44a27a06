//! `bitworth calibrate`: the constants of the speed model from a table of measured speeds, and how wrong its forecasts are.

use std::path::PathBuf;

use anyhow::Result;
use bitworth_quant::Error;
use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::hex::hex;
use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::forecast::{self, HardwareDirs};
use super::session::Session;
use super::{Outcome, output};
use bitworth_advise::speed::resolve::{self, Observations};
use bitworth_advise::speed::{Calibration, error_model};

/// Fit the speed model to measured speeds, and check it on measurements left out.
#[derive(Args)]
pub struct CalibrateArgs {
    /// Table of measured speeds: hardware, model, quant, backend, date, model_file_gib, n_prompt, pp_tok_s, n_gen, tg_tok_s,
    /// depth; rows with 0 in score_tg or score_pp do not count.
    #[arg(long, value_name = "FILE.csv")]
    rows: PathBuf,
    /// File of the constants, as configs/speed.toml.
    #[arg(long, value_name = "FILE.toml")]
    out: Option<PathBuf>,
    #[command(flatten)]
    dirs: HardwareDirs,
}

/// Fewest measurements of a phase: an 80 % range is two quantiles of the errors of rows that were left out.
const LEAST: usize = 20;

pub fn run(args: &CalibrateArgs, session: &Session) -> Result<Outcome> {
    let (text, table) = forecast::read(&args.rows)?;
    let catalogue = args.dirs.catalogue(table.rows.iter().map(|row| row.hardware.as_str()))?;
    let Observations { decode, prefill, left_out } = resolve::observations(&catalogue, &table);
    for reason in &left_out {
        session.note(&reason.describe(&output::flag));
    }
    for (phase, found) in [("decode (tg_tok_s)", decode.len()), ("prefill (pp_tok_s, n_prompt)", prefill.len())] {
        if found < LEAST {
            let what = format!("has {found} measured speeds of {phase} that count; ranges take {LEAST} or more");
            return Err(Error::file(&args.rows, what).into());
        }
    }
    let calibration = Calibration::fit(hex(&Sha256::digest(text.as_bytes())), &decode, &prefill);
    if let Some(out) = &args.out {
        write_whole(out, calibration.render().as_bytes())?;
    }
    let document = json!({
        "rows": table.rows.len(), "not_placed": left_out, "range": error_model::SHARE,
        "decode": { "rows": calibration.decode.rows, "validation": calibration.decode.validation },
        "prefill": { "rows": calibration.prefill.rows, "validation": calibration.prefill.validation },
        "out": args.out,
    });
    session.print(&document, || render(&calibration))?;
    Ok(Outcome::Done)
}

fn render(calibration: &Calibration) -> String {
    let mut text =
        format!("{:8} {:9} {:>5} {:>13} {:>12} {:>11}\n", "phase", "left out", "rows", "median error", "within 30 %", "in range");
    for (name, fitted) in [("decode", &calibration.decode), ("prefill", &calibration.prefill)] {
        for v in &fitted.validation {
            let scheme = format!("{:?}", v.left_out).to_lowercase();
            let [median, within, range] =
                [v.median_error, v.within_30, v.in_range].map(|share| format!("{:.1} %", 100.0 * share));
            text += &format!("{name:8} {scheme:9} {:>5} {median:>13} {within:>12} {range:>11}\n", v.rows);
        }
    }
    text + "in range: share of rows inside of the stated 80 % range\n"
}
