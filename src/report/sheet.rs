//! The summary as a table for people: one list of columns, for the terminal, the Markdown and the page alike.

use crate::number::{bytes, percent, significant};
use crate::page::{self, Cell, Table, TableRow};
use crate::speed_words;
use crate::speeds::{SpeedSummary, Timed};
use crate::summary::{Summary, TextScore, task, task_names, text, text_names};
use bitworth_eval::stats::Estimate;

/// Parts of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnGroup {
    /// The lane's name, in every part.
    Lane,
    /// Size, text scores and speeds.
    Numbers,
    /// Tasks.
    Tasks,
}

/// A column with a cell a lane.
struct Column {
    head: page::Column,
    part: ColumnGroup,
    cells: Vec<Cell>,
}

/// The names that tell the rows apart: the lane's, with the model's and the device's where they differ between rows.
pub fn labels(rows: &[Summary]) -> Vec<String> {
    let label = |(row, run): (&Summary, String)| {
        if run.is_empty() { row.lane.clone() } else { format!("{} ({run})", row.lane) }
    };
    rows.iter().zip(names_of_runs(rows)).map(label).collect()
}

/// The runs that rows are of, in order: a name that is empty where there is one alone, and the places of its rows. Only rows of
/// one run may be compared.
pub(crate) fn runs(rows: &[Summary]) -> Vec<(String, Vec<usize>)> {
    let mut runs: Vec<(String, Vec<usize>)> = Vec::new();
    for (place, name) in names_of_runs(rows).into_iter().enumerate() {
        match runs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, places)) => places.push(place),
            None => runs.push((name, vec![place])),
        }
    }
    runs
}

/// By row: model, device and arithmetic, as far as they differ between rows.
fn names_of_runs(rows: &[Summary]) -> Vec<String> {
    let all: Vec<[&str; 3]> = rows.iter().map(|row| [row.model.as_str(), row.device.as_str(), row.arithmetic.as_str()]).collect();
    let differs = [0, 1, 2].map(|part: usize| all.windows(2).any(|w| w[0][part] != w[1][part]));
    let name = |parts: &[&str; 3]| {
        let shown: Vec<&str> = parts.iter().zip(differs).filter(|(_, differs)| *differs).map(|(part, _)| *part).collect();
        shown.join(", ")
    };
    all.iter().map(name).collect()
}

/// The whole table; columns in which nothing was measured are left out.
pub fn table(rows: &[Summary]) -> Table {
    table_of(rows, |_| true)
}

/// How the weights of a lane are stored, where they are not floats: what is measured against such a lane says nothing of what the
/// lane itself lost.
pub(crate) fn quantized_source(lane: &Summary) -> Option<&str> {
    Some(lane.recipe.as_str()).filter(|stored| !["f32", "f16", "bf16", "reference"].contains(stored))
}

/// One part of the table; `None` where it would have no column but the lanes' names.
pub fn group(rows: &[Summary], part: ColumnGroup) -> Option<Table> {
    let table = table_of(rows, |own| own == ColumnGroup::Lane || own == part);
    (table.columns.len() > 1).then_some(table)
}

fn table_of(rows: &[Summary], wanted: impl Fn(ColumnGroup) -> bool) -> Table {
    let columns: Vec<Column> = columns(rows).into_iter().filter(|c| wanted(c.part)).collect();
    let row = |i: usize| TableRow { cells: columns.iter().map(|c| c.cells[i].clone()).collect(), marked: rows[i].is_reference };
    let reference = rows.iter().find(|r| r.is_reference).map(|r| match quantized_source(r) {
        _ if rows.iter().filter(|r| r.is_reference).count() > 1 => {
            "* a reference: the other lanes of the same model and device are measured against it".to_owned()
        }
        Some(stored) => format!("* the reference, which is stored as {stored}: the other lanes are measured against it"),
        None => "* the reference: the other lanes are measured against it".to_owned(),
    });
    let drifted: usize = rows.iter().flat_map(|r| [r.prefill, r.decode]).flatten().map(|s| s.drifted).sum();
    let numbers = wanted(ColumnGroup::Numbers);
    let drifted = (drifted > 0 && numbers)
        .then(|| format!("timings of a machine that drifted, which count in none of the speeds without `!`: {drifted}"));
    let unsure = Some(rows).filter(|rows| numbers && has_unsure_speeds(rows)).map(|_| UNSURE.to_owned());
    let of = if numbers { speed_words::notes(rows) } else { Vec::new() };
    Table {
        rows: (0..rows.len()).map(row).collect(),
        notes: reference.into_iter().chain(of).chain(drifted).chain(unsure).collect(),
        columns: columns.into_iter().map(|c| c.head).collect(),
    }
}

/// A row a text and lane, with the figures that the lanes' rows have over all texts together; `None` where no lane has two.
pub fn by_text(rows: &[Summary]) -> Option<Table> {
    let names = Some(text_names(rows)).filter(|_| rows.iter().any(|row| row.texts.len() > 1))?;
    let labels = labels(rows);
    let lines: Vec<(&String, usize, &TextScore)> =
        names.iter().flat_map(|name| rows.iter().enumerate().filter_map(move |(i, r)| Some((name, i, text(r, name)?)))).collect();
    type Get = fn(&TextScore) -> Option<Cell>;
    let numbers: [(&str, Get); 6] = [
        ("tokens", |t| Some(Cell::number(t.tokens.to_string(), t.tokens as f64))),
        ("KLD", |t| Some(small(t.kld?.mean))),
        ("top-1", |t| Some(share(t.top1?))),
        ("ppl", |t| Some(spread(t.ppl?, |v| significant(v, 5)))),
        ("ppl ratio", |t| Some(spread(t.ppl_ratio?, |v| format!("{v:.4}")))),
        ("bits/byte", |t| Some(spread(t.bits_per_byte?, |v| format!("{v:.4}")))),
    ];
    let filled: Vec<&(&str, Get)> = numbers.iter().filter(|(_, get)| lines.iter().any(|line| get(line.2).is_some())).collect();
    let row = |(name, i, text): &(&String, usize, &TextScore)| {
        let words = [Cell::words(name.as_str()), Cell::words(labels[*i].as_str())];
        let numbers = filled.iter().map(|(_, get)| get(text).unwrap_or_default());
        TableRow { cells: words.into_iter().chain(numbers).collect(), marked: rows[*i].is_reference }
    };
    let heads = [page::Column::words("text", ""), page::Column::words("lane", "")].into_iter();
    Some(Table {
        columns: heads.chain(filled.iter().map(|(head, _)| page::Column::numbers(*head, ""))).collect(),
        rows: lines.iter().map(row).collect(),
        notes: Vec::new(),
    })
}

/// What the columns mean, by their heads.
pub fn meanings(rows: &[Summary]) -> Vec<(String, String)> {
    columns(rows).into_iter().map(|c| (c.head.head, c.head.meaning)).collect()
}

fn columns(rows: &[Summary]) -> Vec<Column> {
    let labels = labels(rows);
    let name = |i: usize| format!("{}{}", labels[i], if rows[i].is_reference { " *" } else { "" });
    let lanes = (0..rows.len()).map(|i| Cell::words(name(i))).collect();
    let mut columns =
        vec![Column { head: page::Column::words("lane", "* marks the reference"), part: ColumnGroup::Lane, cells: lanes }];
    let mut put = |part: ColumnGroup, head: page::Column, get: &dyn Fn(&Summary) -> Option<Cell>| {
        let cells: Vec<Cell> = rows.iter().map(|row| get(row).unwrap_or_default()).collect();
        if cells.iter().any(|c| !c.text.is_empty()) {
            columns.push(Column { head, part, cells });
        }
    };
    put(
        ColumnGroup::Numbers,
        page::Column::words("recipe", "what was made of the weights, where the name does not say it"),
        &|r| rows.iter().any(|r| r.recipe != r.lane).then(|| Cell::words(r.recipe.clone())),
    );
    let mut add = |head: &str, meaning: &str, get: &dyn Fn(&Summary) -> Option<Cell>| {
        put(ColumnGroup::Numbers, page::Column::numbers(head, meaning), get);
    };
    add("size", "of the file", &|r| Some(size(r.bytes)));
    add("bpw", "bits per weight", &|r| Some(Cell::number(format!("{:.2}", r.bpw), r.bpw)));
    add("KLD", "mean KL divergence from the reference, nats per token; less is better", &|r| Some(small(r.kld?.mean)));
    add("KLD 99 %", "the divergence that one token in a hundred exceeds", &|r| {
        Some(Cell::number(significant(r.kld?.p99, 3), r.kld?.p99))
    });
    add("top-1", "share of tokens whose likeliest successor is the reference's", &|r| Some(share(r.top1?)));
    add("ppl", "perplexity; less is better", &|r| Some(spread(r.ppl?, |v| significant(v, 5))));
    add("decode", "new tokens per second", &|r| Some(rate(r.decode?)));
    add("prefill", "prompt tokens per second", &|r| Some(rate(r.prefill?)));
    for other in other_speeds(rows) {
        let own = |r: &Summary| r.other_speeds.iter().find(|speeds| speeds.timed.is_of_one_column(&other)).cloned();
        let of = [Some(other.program()), other.shape.as_deref(), other.device.as_deref()];
        let of = of.into_iter().flatten().collect::<Vec<_>>().join(", ");
        add(&format!("decode ({of})"), "new tokens per second, of that program", &|r| Some(rate(own(r)?.decode?)));
        add(&format!("prefill ({of})"), "prompt tokens per second, of that program", &|r| Some(rate(own(r)?.prefill?)));
    }
    put(
        ColumnGroup::Numbers,
        page::Column::words("products", "arithmetic of the products that were timed: f32, or q8 (activations in 8 bits)"),
        &|r| Some(Cell::words(r.timed.as_ref()?.arithmetic.clone())),
    );
    let is_elsewhere = rows.iter().any(|r| r.timed.as_ref().is_some_and(|timed| timed.device.is_some()));
    put(
        ColumnGroup::Numbers,
        page::Column::words("timed on", "the device that decode, prefill and memory are of, where it is not that of the scores"),
        &|r| Some(Cell::words(r.timed_on().filter(|_| is_elsewhere)?)),
    );
    let mut add = |head: &str, meaning: &str, get: &dyn Fn(&Summary) -> Option<Cell>| {
        put(ColumnGroup::Numbers, page::Column::numbers(head, meaning), get);
    };
    add("memory", "the most memory that the program took for the model while it was timed", &|r| Some(size(r.memory_bytes?)));
    add("tok/J", "new tokens per joule of energy that the system counted", &|r| {
        let speed = r.decode?;
        let (rate, mark) = (speed.tokens_per_joule?, if speed.is_unsure() { " !" } else { "" });
        Some(Cell::number(significant(rate, 3) + mark, rate))
    });
    add("ppl ratio", "perplexity over the reference's, paired", &|r| Some(spread(r.ppl_ratio?, |v| format!("{v:.4}"))));
    add("bits/byte", "bits per byte of text; less is better", &|r| {
        Some(Cell::number(format!("{:.4}", r.bits_per_byte?.value), r.bits_per_byte?.value))
    });
    for name in task_names(rows) {
        put(ColumnGroup::Tasks, page::Column::numbers(&name, "share of right answers in this task"), &|r| {
            Some(share(task(r, &name)?.accuracy))
        });
    }
    columns
}

/// What other programs, or this one on other models, were timed as well.
fn other_speeds(rows: &[Summary]) -> Vec<Timed> {
    let mut others: Vec<Timed> = Vec::new();
    for timed in rows.iter().flat_map(|row| &row.other_speeds).map(|speeds| &speeds.timed) {
        if !others.iter().any(|other| other.is_of_one_column(timed)) {
            others.push(timed.clone());
        }
    }
    others
}

/// What the mark behind a speed means.
pub(crate) const UNSURE: &str = concat!(
    "! the machine drifted in half of the repetitions or more: ",
    "the speed is somewhere in this range, and nothing is concluded from it"
);

/// Whether a speed of these rows has the mark.
pub(crate) fn has_unsure_speeds(rows: &[Summary]) -> bool {
    rows.iter().flat_map(|r| [r.prefill, r.decode]).flatten().any(|speed| speed.is_unsure())
}

fn size(of: u64) -> Cell {
    Cell::number(bytes(of), of as f64)
}

/// A value, and beneath it its interval.
pub(super) fn spread(estimate: Estimate, show: impl Fn(f64) -> String) -> Cell {
    let detail = estimate.interval.map(|i| format!("{} – {}", show(i.low), show(i.high)));
    Cell::number(show(estimate.value), estimate.value).with_detail(detail.unwrap_or_default())
}

pub(super) fn small(estimate: Estimate) -> Cell {
    let cell = spread(estimate, |v| significant(v, 3));
    if estimate.value == 0.0 { cell.with_detail("") } else { cell }
}

pub(super) fn share(estimate: Estimate) -> Cell {
    let cell = spread(estimate, percent);
    let exact = estimate.interval.is_some_and(|i| i.low == i.high);
    if exact { cell.with_detail("") } else { cell }
}

pub(super) fn rate(speed: SpeedSummary) -> Cell {
    let show = |v| significant(v, 3);
    let range = || format!("{} – {}", show(speed.slowest), show(speed.fastest));
    // One number would say more than is known.
    if speed.is_unsure() {
        return Cell::number(range() + " !", speed.tps);
    }
    let several = speed.slowest < speed.fastest || speed.repetitions > 1;
    Cell::number(show(speed.tps), speed.tps).with_detail(if several { range() } else { String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summarize;
    use bitworth_eval::sample;

    #[test]
    fn columns_without_a_value_are_left_out() {
        let mut rows = summarize(&sample::records()).unwrap();
        let heads = |rows: &[Summary]| table(rows).columns.into_iter().map(|c| c.head).collect::<Vec<_>>();
        assert!(heads(&rows).contains(&"decode".to_owned()));
        rows.iter_mut().for_each(|r| r.decode = None);
        assert!(!heads(&rows).contains(&"decode".to_owned()));
        let table = table(&rows);
        assert!(table.rows.len() == rows.len() && table.rows.iter().all(|r| r.cells.len() == table.columns.len()));
    }

    #[test]
    fn a_reference_that_is_quantized_itself_is_said_to_be() {
        let mut rows = summarize(&sample::records()).unwrap();
        let said = |rows: &[Summary]| table(rows).notes.iter().any(|n| n.contains("stored as fp8"));
        assert!(!said(&rows));
        rows.iter_mut().find(|r| r.is_reference).unwrap().recipe = "fp8".to_owned();
        assert!(said(&rows));
    }

    #[test]
    fn timings_that_drifted_are_told_where_speeds_are() {
        let mut rows = summarize(&sample::records()).unwrap();
        rows[1].decode.as_mut().unwrap().drifted = 3;
        let told = |t: Table| t.notes.iter().any(|n| n.starts_with("timings of a machine that drifted") && n.ends_with(": 3"));
        let marks = |rows: &[Summary]| {
            let table = table(rows);
            let place = table.columns.iter().position(|c| c.head == "decode").unwrap();
            let marked = table.rows.iter().filter(|r| r.cells[place].text.ends_with(" !")).count();
            (marked, table.notes.iter().filter(|n| n.starts_with("! the machine drifted")).count())
        };
        assert_eq!(marks(&rows), (0, 0), "3 of 8");
        let mut more = rows.clone();
        more[1].decode.as_mut().unwrap().drifted = 5;
        assert_eq!(marks(&more), (1, 1), "5 of 10");
        assert!(
            told(table(&rows))
                && told(group(&rows, ColumnGroup::Numbers).unwrap())
                && !told(group(&rows, ColumnGroup::Tasks).unwrap())
        );
    }

    #[test]
    fn every_lane_has_a_row_for_each_of_several_texts() {
        assert_eq!(by_text(&summarize(&sample::records()).unwrap()), None);
        let table = by_text(&summarize(&sample::two_texts()).unwrap()).unwrap();
        let name = |i: usize| [&table.rows[i].cells[0].text, &table.rows[i].cells[1].text].map(String::as_str);
        assert_eq!((table.rows.len(), name(0), name(23)), (24, ["637a866d", "bf16"], ["prose", "iq2_xxs"]));
        let heads: Vec<&str> = table.columns.iter().map(|c| c.head.as_str()).collect();
        assert_eq!(heads, ["text", "lane", "tokens", "KLD", "top-1", "ppl", "ppl ratio"]);
    }

    #[test]
    fn labels_name_model_and_device_only_where_they_differ() {
        let mut rows = summarize(&sample::records()).unwrap();
        assert_eq!(labels(&rows)[1], "q8_0");
        rows[1].device = "other".into();
        assert_eq!(labels(&rows)[1], "q8_0 (other)");
    }
}
