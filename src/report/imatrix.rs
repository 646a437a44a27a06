//! Statistics of importance matrices for a terminal, in columns as llama-imatrix shows them. Absent: the statistics (see
//! `bitworth_quant::imatrix`).

use bitworth_quant::imatrix::{InputChange, LayerStats, TensorStats};

/// A number where there is one.
fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn change_cells(change: Option<InputChange>) -> String {
    let of = |pick: fn(InputChange) -> Option<f64>| cell(change.and_then(pick));
    let (gain, l2) = (of(|c| c.gain), of(|c| Some(c.l2)));
    format!("{gain:>9} {l2:>12} {:>8} {:>8} {:>10}", of(|c| c.cosine), of(|c| c.pearson), of(|c| Some(c.covariance)))
}

const CHANGE_HEADER: &str = "     gain      L2 dist   cosine      PCC        cov";

fn block(block: Option<usize>) -> String {
    block.map_or_else(|| "-".to_owned(), |block| block.to_string())
}

/// A line a tensor.
pub fn tensors(stats: &[TensorStats]) -> String {
    let width = stats.iter().map(|row| row.tensor.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!(
        "block {:width$} {:>7} {:>14} {:>11} {:>12} {:>8} {:>8} {:>7} {:>7} {:>10} {:>10} {:>10} {:>10} {CHANGE_HEADER}\n",
        "tensor", "N", "sum E[a^2]", "min", "max", "active %", "entropy", "norm %", "ZD %", "mean", "std dev", "skew", "kurt"
    );
    for row in stats {
        let normalized = row.entropy_normalized.map_or_else(|| "-".to_owned(), |share| format!("{:.2}", 100.0 * share));
        text += &format!(
            "{:>5} {:width$} {:>7} {:>14.4} {:>11.3e} {:>12.4} {:>8.2} {:>8.4} {normalized:>7} {:>7.2} {:>10.4} {:>10.4} \
             {:>10.4} {:>10.4} {}\n",
            block(row.block),
            row.tensor,
            row.elements,
            row.sum,
            row.min,
            row.max,
            100.0 * row.active,
            row.entropy,
            100.0 * row.zd,
            row.mean,
            row.std_dev,
            row.skewness,
            row.kurtosis,
            change_cells(row.previous)
        );
    }
    let squares = stats.iter().any(|row| !row.of_activations);
    text + if squares { "mean to cov are of mean squares where no sums of activations are known\n" } else { "" }
}

/// A line a block.
pub fn blocks(stats: &[LayerStats]) -> String {
    let mut text = format!("block {:>14} {CHANGE_HEADER}\n", "sum E[a^2]");
    for row in stats {
        text += &format!("{:>5} {:>14.4} {}\n", row.block, row.sum, change_cells(row.previous));
    }
    text
}
