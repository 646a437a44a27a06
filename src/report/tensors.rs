//! What quantizing cost each tensor, as one parquet table: a row per output and tensor, nothing rounded. Absent: the figures
//! themselves (see `bitworth_quant::quantize`).

use std::path::Path;

use bitworth_quant::message::Names;
use bitworth_quant::quantize::{Fitting, TensorReport, Written};
use polars::prelude::*;

use super::Result;
use bitworth_eval::records::write_parquet;

/// Writes the reports of `written`, the outputs of the recipes `names`. Columns: `recipe`, `file`, `tensor`, `shape` (row length
/// first), `weights`, `from`, `to`, `reason`, `bytes`, `rmse`, `max_abs_error`, `cosine`, `weighted_error` (null without an
/// importance matrix), `norm`, `encode_seconds`; where weights were fitted also `rho` (the share of the diagonal that was used),
/// `held_out` (what sampled rows lose on text that they were not fitted to, over what the importance matrix's bytes lose there),
/// `rows_fitted`, `rows_kept` (with the importance matrix's bytes), `fit_loss` (what outputs lose, over what they would lose with
/// those bytes), null for other tensors. In reasons, settings have the names that `settings` gives them.
///
/// # Errors
/// A file that cannot be written.
pub fn parquet(path: &Path, names: &[&str], written: &[Written], settings: Names<'_>) -> Result<()> {
    write_parquet(path, frame(names, written, settings))
}

fn frame(names: &[&str], written: &[Written], settings: Names<'_>) -> PolarsResult<DataFrame> {
    let outputs = || names.iter().zip(written).flat_map(|(name, w)| w.report.iter().map(move |row| (*name, w, row)));
    let text = |get: &dyn Fn(&TensorReport) -> String| outputs().map(|(_, _, row)| get(row)).collect::<Vec<_>>();
    let number = |get: fn(&TensorReport) -> f64| outputs().map(|(_, _, row)| get(row)).collect::<Vec<_>>();
    let weights = |row: &TensorReport| row.shape.iter().map(|&d| d as u64).product::<u64>();
    let bytes = |row: &TensorReport| weights(row) / row.to.block_len() as u64 * row.to.block_bytes() as u64;
    let shape = |row: &TensorReport| row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let mut frame = df!(
        "recipe" => outputs().map(|(name, _, _)| name).collect::<Vec<_>>(),
        "file" => outputs().map(|(_, w, _)| w.path.display().to_string()).collect::<Vec<_>>(),
        "tensor" => text(&|row| row.tensor.clone()),
        "shape" => text(&shape),
        "weights" => outputs().map(|(_, _, row)| weights(row)).collect::<Vec<_>>(),
        "from" => text(&|row| row.from.to_string()),
        "to" => text(&|row| row.to.to_string()),
        "reason" => text(&|row| row.reason.describe(settings)),
        "bytes" => outputs().map(|(_, _, row)| bytes(row)).collect::<Vec<_>>(),
        "rmse" => number(|row| row.rmse),
        "max_abs_error" => number(|row| row.max_abs_error),
        "cosine" => number(|row| row.cosine),
        "weighted_error" => outputs().map(|(_, _, row)| row.weighted_error).collect::<Vec<_>>(),
        "norm" => number(|row| row.norm),
        "encode_seconds" => number(|row| row.seconds),
    )?;
    let fits: Vec<Option<Fitting>> = outputs().map(|(_, _, row)| row.fit).collect();
    if fits.iter().any(Option::is_some) {
        let number = |get: fn(&Fitting) -> f64| fits.iter().map(|fit| fit.as_ref().map(get)).collect::<Vec<_>>();
        let rows =
            |get: fn(&Fitting) -> usize| fits.iter().map(|fit| fit.as_ref().map(|fit| get(fit) as u64)).collect::<Vec<_>>();
        let ratio = |fit: &Fitting| {
            let report = fit.report;
            (report.loss_before > 0.0).then(|| report.loss_after / report.loss_before)
        };
        let more = df!(
            "rho" => number(|fit| f64::from(fit.shrinkage.rho)),
            "held_out" => number(|fit| fit.shrinkage.held_out),
            "rows_fitted" => rows(|fit| fit.report.fitted),
            "rows_kept" => rows(|fit| fit.report.kept),
            "fit_loss" => fits.iter().map(|fit| fit.as_ref().and_then(ratio)).collect::<Vec<_>>(),
        )?;
        frame.hstack_mut(more.columns())?;
    }
    Ok(frame)
}
