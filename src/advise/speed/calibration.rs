//! A fitted speed model as a file: the effects of both formulas, the ranges, and how well forecasts did on rows left out. The one
//! that comes with the program is `configs/speed.toml`, which `bitworth calibrate` makes.

use std::path::Path;
use std::sync::LazyLock;

use bitworth_quant::message::{Command, Message};
use bitworth_quant::{Error, Result};
use serde::{Deserialize, Serialize};

use super::case::Case;
use super::error_model::{ErrorModel, FEATURES, features, knows_type};
use super::fit::{Measurement, Values, fit, predict};
use super::formula::{DECODE, PREFILL, SpeedFormula};
use super::validate::{Observation, Validation, validate};

/// Tokens per second with the range that holds four of five measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Forecast {
    /// The forecast.
    pub tps: f64,
    /// Lower end of the 80 % range.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One fitted phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// Rows behind it.
    pub rows: usize,
    /// Its ranges.
    pub spread: ErrorModel,
    /// How well it does on rows it has not seen.
    pub validation: Vec<Validation>,
    /// Its effects.
    pub effects: Values,
}

/// A fitted speed model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// SHA-256 of the table of measurements, in hexadecimal.
    pub rows_sha256: String,
    /// Decoding.
    pub decode: Fitted,
    /// Prefill.
    pub prefill: Fitted,
}

static EMBEDDED: LazyLock<Calibration> = LazyLock::new(|| {
    let text = include_str!("../../../configs/speed.toml");
    Calibration::parse(Path::new("configs/speed.toml"), text).expect("a test reads the embedded calibration")
});

impl Calibration {
    /// The calibration that comes with the program.
    pub fn embedded() -> &'static Self {
        &EMBEDDED
    }

    /// Reads a calibration from the text of a file.
    ///
    /// # Errors
    /// What is not a calibration, with the line.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let read: Self = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
        for (name, fitted) in [("decode", &read.decode), ("prefill", &read.prefill)] {
            let numbers = || fitted.effects.values().chain(&fitted.spread.scale).chain([&fitted.spread.low, &fitted.spread.high]);
            if fitted.spread.scale.len() != FEATURES.len() || !numbers().all(|v| v.is_finite() && v.abs() < 100.0) {
                let what = format!("{name}: expected {} finite coefficients of the range; make it again with ", FEATURES.len());
                return Err(Error::file(path, Message::from(what).then(Command::Calibrate)));
            }
        }
        Ok(read)
    }

    /// The text of a file.
    pub fn render(&self) -> String {
        let body = toml::to_string(self).expect("numbers, texts and tables");
        format!(
            "# Made by `bitworth calibrate`: constants of the speed model (src/advise/speed/formula.rs). Not to be edited.\n\n\
             {body}"
        )
    }

    /// Fits both phases and validates them. The same rows give the same calibration.
    pub fn fit(rows_sha256: String, decode: &[Observation], prefill: &[Observation]) -> Self {
        Self { rows_sha256, decode: fitted(&DECODE, decode), prefill: fitted(&PREFILL, prefill) }
    }

    /// Decoded tokens per second.
    pub fn decode(&self, case: &Case) -> Forecast {
        self.decode.forecast(&DECODE, case, 1.0)
    }

    /// What a forecast rests on, in words.
    pub fn basis(&self, case: &Case) -> String {
        let known = |word: &str| {
            (DECODE.effects)(case).iter().any(|e| e.name.contains(word) && self.decode.effects.contains_key(&e.name))
        };
        let (machine, model) = (known(" machine="), known(" shape="));
        let basis = match (machine, model) {
            (true, true) => "machine and model measured",
            (true, false) => "machine measured with other models",
            (false, true) => "model measured on other machines",
            (false, false) => "from other machines and models",
        };
        if knows_type(&DECODE, &self.decode.effects, case) {
            return basis.to_owned();
        }
        format!("{basis}; nobody measured {} weights with {}", case.weight_type, case.backend.name())
    }

    /// Tokens of the prompt per second; `None` where the machine's rate is not known or there is no prompt.
    pub fn prefill(&self, case: &Case) -> Option<Forecast> {
        (case.fp32.is_some() && case.prompt > 0.0).then(|| self.prefill.forecast(&PREFILL, case, case.prompt))
    }
}

impl Fitted {
    fn forecast(&self, phase: &SpeedFormula, case: &Case, tokens: f64) -> Forecast {
        let log_seconds = predict(phase, &self.effects, case);
        let (low, high) = self.spread.range(&features(phase, &self.effects, case));
        let tps = |log_ratio: f64| tokens / libm::exp(log_seconds + log_ratio);
        Forecast { tps: tps(0.0), low: tps(high.max(0.0)), high: tps(low.min(0.0)) }
    }
}

fn fitted(phase: &SpeedFormula, data: &[Observation]) -> Fitted {
    let measured: Vec<Measurement<'_>> = data.iter().map(|o| Measurement { case: &o.case, log_seconds: o.log_seconds }).collect();
    let (spread, mut validation) = validate(phase, data);
    for v in &mut validation {
        (v.median_error, v.within_30, v.in_range) = (rounded(v.median_error), rounded(v.within_30), rounded(v.in_range));
    }
    let spread = ErrorModel {
        scale: spread.scale.iter().map(|v| rounded(*v)).collect(),
        low: rounded(spread.low),
        high: rounded(spread.high),
    };
    let effects = fit(phase, &measured).into_iter().map(|(name, value)| (name, rounded(value))).collect();
    Fitted { rows: data.len(), spread, validation, effects }
}

/// To four decimals: a part in ten thousand of a speed, and a file one can read.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}
