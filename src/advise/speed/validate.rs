//! How wrong forecasts are, by leaving measurements out of the fit: every row is forecast from a fit that has not seen its
//! machine, its model, either, or just itself. The errors are what [`ErrorModel`] learns from and what a calibration reports.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::case::Case;
use super::error_model::{Deviation, ErrorModel, features};
use super::fit::{Measurement, fit, predict};
use super::formula::SpeedFormula;

/// A measured speed with the groups it is left out by.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// What was measured.
    pub case: Case,
    /// Natural logarithm of the seconds: of one decoded token, or of the whole prompt.
    pub log_seconds: f64,
    /// The machine's product line: its variants are left out together.
    pub line: String,
}

/// What is left out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// A machine with all its variants.
    Machines,
    /// A model with all models of its shape.
    Models,
    /// Machine and model, neither of which the fit has seen anywhere.
    Both,
    /// A type of weights.
    Types,
    /// A tenth of the rows.
    Rows,
}

/// Every scheme.
pub const SCHEMES: [Scheme; 5] = [Scheme::Machines, Scheme::Models, Scheme::Both, Scheme::Types, Scheme::Rows];

/// Folds of [`Scheme::Rows`].
const FOLDS: usize = 10;

/// What one scheme says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// What was left out together.
    pub left_out: Scheme,
    /// Rows forecast.
    pub rows: usize,
    /// Median of |forecast / measured - 1| of the speeds.
    pub median_error: f64,
    /// Share of rows with an error of at most 30 %.
    pub within_30: f64,
    /// Share of rows within the stated range; ranges learned without the rows of the same product line.
    pub in_range: f64,
}

/// The ranges learned from all schemes' errors, and what each scheme says.
pub fn validate(phase: &SpeedFormula, data: &[Observation]) -> (ErrorModel, Vec<Validation>) {
    let errors: Vec<Vec<Deviation>> = SCHEMES.iter().map(|scheme| left_out_errors(phase, data, *scheme)).collect();
    let all: Vec<Deviation> = errors.concat();
    let lines: BTreeSet<&str> = data.iter().map(|o| o.line.as_str()).collect();
    let without: Vec<(&str, ErrorModel)> = lines
        .into_par_iter()
        .map(|line| {
            let others =
                errors.iter().flat_map(|scheme| scheme.iter().zip(data).filter(|(_, o)| o.line != line).map(|(e, _)| e.clone()));
            (line, ErrorModel::learn(&others.collect::<Vec<_>>()))
        })
        .collect();
    let validations = SCHEMES.iter().zip(&errors).map(|(scheme, errors)| summarize(*scheme, data, errors, &without)).collect();
    (ErrorModel::learn(&all), validations)
}

fn summarize(scheme: Scheme, data: &[Observation], errors: &[Deviation], without: &[(&str, ErrorModel)]) -> Validation {
    let mut sizes: Vec<f64> = errors.iter().map(|e| (libm::exp(e.log_ratio) - 1.0).abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let share = |count: usize| count as f64 / data.len().max(1) as f64;
    let in_range = data.iter().zip(errors).filter(|(observation, error)| {
        let spread = &without[without.partition_point(|(line, _)| *line < observation.line.as_str())].1;
        let (low, high) = spread.range(&error.features);
        (low..=high).contains(&error.log_ratio)
    });
    Validation {
        left_out: scheme,
        rows: data.len(),
        median_error: bitworth_eval::stats::quantile(&sizes, 0.5).unwrap_or(0.0),
        within_30: share(sizes.iter().filter(|e| **e <= 0.3).count()),
        in_range: share(in_range.count()),
    }
}

/// The error of every row, in order, forecast without its group.
fn left_out_errors(phase: &SpeedFormula, data: &[Observation], scheme: Scheme) -> Vec<Deviation> {
    let group = |index: usize| match scheme {
        Scheme::Machines => data[index].line.clone(),
        Scheme::Models => data[index].case.shape.clone(),
        Scheme::Both => format!("{} | {}", data[index].line, data[index].case.shape),
        Scheme::Types => data[index].case.weight_type.clone(),
        Scheme::Rows => (index % FOLDS).to_string(),
    };
    let stays = |row: usize, out: usize| match scheme {
        Scheme::Both => data[row].line != data[out].line && data[row].case.shape != data[out].case.shape,
        _ => group(row) != group(out),
    };
    let groups: BTreeSet<String> = (0..data.len()).map(group).collect();
    let mut errors: Vec<(usize, Deviation)> = groups
        .into_par_iter()
        .flat_map_iter(|name| {
            let out: Vec<usize> = (0..data.len()).filter(|i| group(*i) == name).collect();
            let kept: Vec<Measurement<'_>> = (0..data.len())
                .filter(|i| stays(*i, out[0]))
                .map(|i| Measurement { case: &data[i].case, log_seconds: data[i].log_seconds })
                .collect();
            let values = fit(phase, &kept);
            out.into_iter().map(move |i| {
                let Observation { case, log_seconds, .. } = &data[i];
                let log_ratio = log_seconds - predict(phase, &values, case);
                (i, Deviation { features: features(phase, &values, case), log_ratio })
            })
        })
        .collect();
    errors.sort_by_key(|(index, _)| *index);
    errors.into_iter().map(|(_, error)| error).collect()
}
