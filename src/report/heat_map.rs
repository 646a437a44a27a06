//! What each unit of a model loses in each type, as a page: a heat map a type, units by blocks, and a table. Measured elsewhere
//! (`bitworth_measure::sensitivity`).

use std::collections::BTreeMap;

use crate::chart::{Chart, HeatMap, Mark, Plot, RowMarks};
use crate::number::{bytes, percent, significant};
use crate::page::{Cell, Column, Page, PageBlock, Section, Table, TableRow};
use bitworth_eval::sensitivity::{Sensitivity, SensitivityTable};

/// The column of what stands in no block.
const NO_BLOCK: &str = "-";
/// Units that the answer names.
const NAMED: usize = 3;

/// The page; `name` is the table's.
pub fn page(table: &SensitivityTable, name: &str) -> Page {
    let types = types(table);
    let charts = types.iter().map(|to| chart(table, to)).collect();
    let heading = "By unit and block";
    let sections = vec![
        Section::new(heading, vec![PageBlock::Charts(charts)]),
        Section::new("All of them", vec![PageBlock::Table(rows(table))]),
        Section::new("How to read this", vec![PageBlock::List(reading())]),
    ];
    let origin = &table.origin;
    let guided = if origin.imatrix_sha256.is_some() { "with an importance matrix" } else { "without an importance matrix" };
    let about = format!(
        "{name}: {} tokens in windows of {}, types encoded {guided}, bitworth {}.",
        origin.tokens, origin.ctx, origin.bitworth
    );
    Page { title: "What each part of the model loses in fewer bits".into(), lead: lead(table), about: vec![about], sections }
}

/// The units that lose the most, `count` of them, for a terminal.
pub fn worst(table: &SensitivityTable, count: usize) -> String {
    let mut rows: Vec<(&Sensitivity, f64)> = table.rows.iter().filter_map(|row| Some((row, row.kld?))).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text = format!("{:<28} {:>6} {:>12} {:>12} {:>10}\n", "unit", "type", "KLD", "+-", "outputs");
    for (row, kld) in rows.into_iter().take(count) {
        let unit = row.block.map_or_else(|| row.unit.clone(), |block| format!("blk.{block}.{}", row.unit));
        let error = row.kld_error.map_or_else(|| "-".to_owned(), |error| format!("{:.6}", 2.0 * error));
        text += &format!("{unit:<28} {:>6} {kld:>12.6} {error:>12} {:>9.3}%\n", row.to, 100.0 * row.err);
    }
    text
}

/// The types, from the largest to the smallest.
fn types(table: &SensitivityTable) -> Vec<&str> {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    table.rows.iter().for_each(|row| *bytes.entry(&row.to).or_default() += row.bytes);
    let mut types: Vec<(&str, u64)> = bytes.into_iter().collect();
    types.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    types.into_iter().map(|(to, _)| to).collect()
}

fn full_name(row: &Sensitivity) -> String {
    row.block.map_or_else(|| row.unit.clone(), |block| format!("blk.{block}.{}", row.unit))
}

/// The units that lose the most in the smallest type that was measured.
fn lead(table: &SensitivityTable) -> Vec<String> {
    let measured = |to: &&str| table.rows.iter().any(|row| row.to == **to && row.kld.is_some());
    let Some(to) = types(table).into_iter().rev().find(measured) else { return Vec::new() };
    let mut rows: Vec<(&Sensitivity, f64)> =
        table.rows.iter().filter(|row| row.to == to).filter_map(|row| Some((row, row.kld?))).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most: Vec<String> =
        rows.iter().take(NAMED).map(|(row, kld)| format!("{} ({})", full_name(row), significant(*kld, 3))).collect();
    vec![format!("In {to}, these lose the most (mean KL divergence, each alone): {}.", most.join(", "))]
}

fn chart(table: &SensitivityTable, to: &str) -> Chart {
    let rows: Vec<&Sensitivity> = table.rows.iter().filter(|row| row.to == to).collect();
    // One measure for all cells of a picture.
    let measured = rows.iter().all(|row| row.kld.is_some());
    let mut blocks: Vec<Option<u32>> = Vec::new();
    let mut units: Vec<&str> = Vec::new();
    for row in &rows {
        if !blocks.contains(&row.block) {
            blocks.push(row.block);
        }
        if !units.contains(&row.unit.as_str()) {
            units.push(&row.unit);
        }
    }
    blocks.sort_by_key(|block| (block.is_none(), *block));
    let mark = |row: &&Sensitivity| Mark {
        value: if measured { row.kld.unwrap_or(0.0) } else { row.err },
        range: None,
        lines: vec![kld_text(row), format!("outputs off by {}", percent(row.err)), bytes(row.bytes)],
    };
    let marks = |unit: &str| {
        let of = |block: &Option<u32>| rows.iter().find(|row| row.unit == unit && row.block == *block).map(mark);
        RowMarks { label: unit.to_owned(), marks: blocks.iter().map(of).collect() }
    };
    let what = if measured { "mean KL divergence with this unit alone in the type" } else { "error of its outputs" };
    Chart {
        title: to.to_owned(),
        hint: format!("{what}; equal ratios are equal steps of colour"),
        plot: Plot::Heat(HeatMap {
            across: "block".into(),
            columns: blocks.iter().map(|block| block.map_or_else(|| NO_BLOCK.to_owned(), |block| block.to_string())).collect(),
            rows: units.into_iter().map(marks).collect(),
        }),
    }
}

fn kld_text(row: &Sensitivity) -> String {
    let error = row.kld_error.map_or_else(String::new, |error| format!(" +- {}", significant(2.0 * error, 2)));
    row.kld.map_or_else(|| "KLD not measured".to_owned(), |kld| format!("KLD {}{error}", significant(kld, 3)))
}

fn rows(table: &SensitivityTable) -> Table {
    let row = |row: &Sensitivity| {
        let kld = match row.kld {
            None => Cell::words("-"),
            Some(kld) => {
                let error = row.kld_error.map_or_else(String::new, |error| format!("+- {}", significant(2.0 * error, 2)));
                Cell::number(significant(kld, 3), kld).with_detail(error)
            }
        };
        let cells = vec![
            Cell::words(full_name(row)),
            Cell::words(row.to.clone()),
            Cell::number(bytes(row.bytes), row.bytes as f64),
            kld,
            Cell::number(percent(row.err), row.err),
        ];
        TableRow { cells, marked: false }
    };
    Table {
        columns: vec![
            Column::words("unit", "tensors that get one type"),
            Column::words("type", ""),
            Column::numbers("bytes", "of its tensors in that type"),
            Column::numbers("KLD", "mean, of the model with this unit alone in the type; two standard errors"),
            Column::numbers("outputs", "squared error of what its matrices put out, as a share of the square of that"),
        ],
        rows: table.rows.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

fn reading() -> Vec<String> {
    [
        "A unit is what gets one type: q and k of a block, v, the output of attention, gate and up, down, experts; the embedding \
         and the head stand in no block.",
        "Each cell is the whole model with one unit in another type and everything else as it was. What units lose together is \
         about the sum, somewhat more where the sum was chosen to be small.",
        "A type in which no divergence was measured shows the error of outputs instead, which says little across units.",
    ]
    .map(String::from)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_eval::sensitivity::SensitivityOrigin;

    fn table() -> SensitivityTable {
        let origin = SensitivityOrigin {
            bitworth: "0.1.0".into(),
            model_sha256: String::new(),
            text_sha256: String::new(),
            imatrix_sha256: None,
            tokens: 512,
            ctx: 256,
        };
        let row = |unit: &str, block, to: &str, bytes, kld| Sensitivity {
            unit: unit.into(),
            block,
            to: to.into(),
            bytes,
            err: 0.01,
            kld,
            kld_error: Some(1e-4),
            shared: false,
        };
        let rows = vec![
            row("token_embd", None, "q2_k", 10, Some(0.002)),
            row("attn_v", Some(0), "q2_k", 10, Some(0.03)),
            row("attn_v", Some(1), "q2_k", 10, Some(0.0)),
            row("attn_v", Some(0), "q6_k", 50, None),
        ];
        SensitivityTable { origin, rows }
    }

    #[test]
    fn every_type_is_a_picture_of_units_by_blocks() {
        let page = page(&table(), "s.parquet");
        assert_eq!(
            page.lead,
            ["In q2_k, these lose the most (mean KL divergence, each alone): blk.0.attn_v (0.0300), token_embd \
                                (0.00200), blk.1.attn_v (0)."]
        );
        let PageBlock::Charts(charts) = &page.sections[0].blocks[0] else { panic!("no charts") };
        assert_eq!([&charts[0].title, &charts[1].title], ["q6_k", "q2_k"], "the largest first");
        let Plot::Heat(map) = &charts[1].plot else { panic!("no heat map") };
        assert_eq!((map.columns.join(" "), map.range()), ("0 1 -".into(), Some((0.002, 0.03))));
        let marks = |row: usize| map.rows[row].marks.iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!((marks(0), marks(1)), (vec![false, false, true], vec![true, true, false]));
        let html = crate::html::render(&page).unwrap();
        // What lost nothing has no place on a scale of ratios.
        assert_eq!(html.matches("<rect").count(), 3);
        assert!(html.contains("fill-opacity=\"1.00\"") && html.contains("fill-opacity=\"0.06\""));
    }
}
