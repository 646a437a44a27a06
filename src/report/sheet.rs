//! The summary as cells of text for people: one list of columns, drawn by the terminal table, the Markdown and the page alike.

use crate::eval::stats::Estimate;
use crate::report::export::{task, task_names};
use crate::report::number::{bytes, percent, significant};
use crate::report::summary::{SpeedSummary, Summary};

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub head: String,
    /// What it means, in a few words.
    pub meaning: String,
    /// Where it stands when a table is cut in two.
    pub part: Part,
    /// One cell a lane.
    pub cells: Vec<Cell>,
}

/// Parts of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The lane's name, in every part.
    Lane,
    /// Size, text scores and speeds.
    Numbers,
    /// Tasks.
    Tasks,
}

/// A cell: a value, and beneath it the interval.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    /// The value; empty where nothing was measured.
    pub text: String,
    /// The interval or range, where there is one.
    pub detail: String,
}

/// The names that tell the rows apart: the lane's, with the model's and the device's where they differ between rows.
pub fn labels(rows: &[Summary]) -> Vec<String> {
    let parts = |row: &Summary| [row.model.clone(), row.device.clone(), row.arithmetic.clone()];
    let all: Vec<[String; 3]> = rows.iter().map(parts).collect();
    let differs = |part: usize| all.windows(2).any(|w| w[0][part] != w[1][part]);
    let label = |(row, parts): (&Summary, &[String; 3])| {
        let more: Vec<&str> = (0..3).filter(|part| differs(*part)).map(|part| parts[part].as_str()).collect();
        if more.is_empty() { row.lane.clone() } else { format!("{} ({})", row.lane, more.join(", ")) }
    };
    rows.iter().zip(&all).map(label).collect()
}

/// The columns of the table; columns in which nothing was measured are left out.
pub fn columns(rows: &[Summary]) -> Vec<Column> {
    let labels = labels(rows);
    let name = |i: usize| format!("{}{}", labels[i], if rows[i].is_reference { " *" } else { "" });
    let lanes = (0..rows.len()).map(|i| plain(name(i))).collect();
    let mut columns =
        vec![Column { head: "lane".into(), meaning: "* marks the reference".into(), part: Part::Lane, cells: lanes }];
    let mut put = |part: Part, head: &str, meaning: &str, get: &dyn Fn(&Summary) -> Option<Cell>| {
        let cells: Vec<Cell> = rows.iter().map(|row| get(row).unwrap_or_default()).collect();
        if cells.iter().any(|c| !c.text.is_empty()) {
            columns.push(Column { head: head.to_owned(), meaning: meaning.to_owned(), part, cells });
        }
    };
    let mut add = |head: &str, meaning: &str, get: &dyn Fn(&Summary) -> Option<Cell>| put(Part::Numbers, head, meaning, get);
    add("recipe", "what was made of the weights, where the name does not say it", &|r| {
        rows.iter().any(|r| r.recipe != r.lane).then(|| plain(r.recipe.clone()))
    });
    add("size", "of the file", &|r| Some(plain(bytes(r.bytes))));
    add("bpw", "bits per weight", &|r| Some(plain(format!("{:.2}", r.bpw))));
    add("KLD", "mean KL divergence from the reference, nats per token; less is better", &|r| Some(small(r.kld?.mean)));
    add("KLD 99 %", "the divergence that one token in a hundred exceeds", &|r| Some(plain(significant(r.kld?.p99, 3))));
    add("top-1", "share of tokens whose likeliest successor is the reference's", &|r| Some(share(r.top1?)));
    add("ppl", "perplexity; less is better", &|r| Some(spread(r.ppl?, |v| significant(v, 5))));
    add("decode", "new tokens per second", &|r| Some(rate(r.decode?)));
    add("prefill", "prompt tokens per second", &|r| Some(rate(r.prefill?)));
    add("ppl ratio", "perplexity over the reference's, paired", &|r| Some(spread(r.ppl_ratio?, |v| format!("{v:.4}"))));
    add("bits/byte", "bits per byte of text; less is better", &|r| Some(plain(format!("{:.4}", r.bits_per_byte?.value))));
    for name in task_names(rows) {
        put(Part::Tasks, &name, "share of right answers in this task", &|r| Some(share(task(r, &name)?.accuracy)));
    }
    columns
}

fn plain(text: String) -> Cell {
    Cell { text, detail: String::new() }
}

fn spread(estimate: Estimate, show: impl Fn(f64) -> String) -> Cell {
    let detail = estimate.interval.map(|i| format!("{} – {}", show(i.low), show(i.high)));
    Cell { text: show(estimate.value), detail: detail.unwrap_or_default() }
}

fn small(estimate: Estimate) -> Cell {
    let cell = spread(estimate, |v| significant(v, 3));
    if estimate.value == 0.0 { plain(cell.text) } else { cell }
}

fn share(estimate: Estimate) -> Cell {
    let cell = spread(estimate, percent);
    let exact = estimate.interval.is_some_and(|i| i.low == i.high);
    if exact { plain(cell.text) } else { cell }
}

fn rate(speed: SpeedSummary) -> Cell {
    let show = |v| significant(v, 3);
    let detail = (speed.repetitions > 1).then(|| format!("{} – {}", show(speed.slowest), show(speed.fastest)));
    Cell { text: show(speed.tps), detail: detail.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{sample, summarize};

    #[test]
    fn columns_without_a_value_are_left_out() {
        let mut rows = summarize(&sample::records()).unwrap();
        let heads = |rows: &[Summary]| columns(rows).into_iter().map(|c| c.head).collect::<Vec<_>>();
        assert!(heads(&rows).contains(&"decode".to_owned()));
        rows.iter_mut().for_each(|r| r.decode = None);
        assert!(!heads(&rows).contains(&"decode".to_owned()));
        assert!(columns(&rows).iter().all(|c| c.cells.len() == rows.len()));
    }

    #[test]
    fn labels_name_model_and_device_only_where_they_differ() {
        let mut rows = summarize(&sample::records()).unwrap();
        assert_eq!(labels(&rows)[1], "q8_0");
        rows[1].device = "other".into();
        assert_eq!(labels(&rows)[1], "q8_0 (other)");
    }
}
