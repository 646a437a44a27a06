//! What each unit of a model loses in each type, as a page: a heat map a type, units by blocks, and a table. Types in which
//! divergences were measured have one scale of colours. Measured elsewhere (`bitworth_measure::sensitivity`).

use std::collections::BTreeMap;

use crate::chart::{Chart, HeatMap, Mark, Plot, RowMarks};
use crate::number::{bytes, percent, significant};
use crate::page::{Cell, Column, Page, PageBlock, Section, Table, TableRow};
use bitworth_eval::sensitivity::{Sensitivity, SensitivityTable};
use serde_json::{Value, json};

/// The column of what stands in no block.
const NO_BLOCK: &str = "none";
/// Units that the answer names.
const NAMED: usize = 3;

/// The page; `name` is the table's.
pub fn page(table: &SensitivityTable, name: &str) -> Page {
    // What was measured before what says little across units.
    let (measured, others): (Vec<&str>, Vec<&str>) = types(table).into_iter().partition(|to| is_measured(&of_type(table, to)));
    let mut charts: Vec<Chart> = measured.into_iter().chain(others).map(|to| chart(table, to)).collect();
    share_scale(&mut charts);
    let heading = "By unit and block";
    let mut together = together(table).into_iter().map(PageBlock::Text).collect::<Vec<_>>();
    together.insert(0, PageBlock::Charts(charts));
    let sections = vec![
        Section::new(heading, together),
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

/// The rows for programs.
pub fn document(table: &SensitivityTable) -> Value {
    let row = |row: &Sensitivity| {
        json!({
            "unit": row.unit, "block": row.block, "type": row.to, "bytes": row.bytes, "err": row.err, "kld": row.kld,
            "kld_error": row.kld_error, "shared": row.shared,
        })
    };
    table.rows.iter().map(row).collect()
}

/// Maps of the same measure get one scale, so that colours can be compared between them.
fn share_scale(charts: &mut [Chart]) {
    let map = |chart: &Chart| match &chart.plot {
        Plot::Heat(map) => Some((map.value.clone(), map.range()?)),
        _ => None,
    };
    let known: Vec<(String, (f64, f64))> = charts.iter().filter_map(map).collect();
    for chart in charts {
        let Plot::Heat(map) = &mut chart.plot else { continue };
        let same = known.iter().filter(|(value, _)| *value == map.value).map(|(_, range)| *range);
        map.scale = same.reduce(|(low, high), (a, b)| (low.min(a), high.max(b)));
    }
}

/// What all units lose together in each type, beside the sum of what each loses alone.
pub fn together(table: &SensitivityTable) -> Vec<String> {
    let of_all = table.rows.iter().filter(|row| !row.is_alone()).filter_map(|row| Some((row, row.kld?)));
    let line = |(row, kld): (&Sensitivity, f64)| {
        let alone = table.rows.iter().filter(|other| other.is_alone() && other.to == row.to);
        let sum: f64 = alone.map(|other| other.kld).sum::<Option<f64>>()?;
        let (all, sum) = (significant(kld, 3), significant(sum, 3));
        Some(format!("All units in {} together lose {all}; what each loses alone adds up to {sum}.", row.to))
    };
    of_all.filter_map(line).collect()
}

/// The units that lose the most, `count` of them, for a terminal.
pub fn worst(table: &SensitivityTable, count: usize) -> String {
    let alone = table.rows.iter().filter(|row| row.is_alone());
    let mut rows: Vec<(&Sensitivity, f64)> = alone.filter_map(|row| Some((row, row.kld?))).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text = format!("{:<28} {:>6} {:>12} {:>12} {:>10}\n", "unit", "type", "KLD", "+-", "outputs");
    for (row, kld) in rows.into_iter().take(count) {
        let unit = full_name(row);
        let error = row.kld_error.map_or_else(|| "-".to_owned(), |error| format!("{:.6}", 2.0 * error));
        text += &format!("{unit:<28} {:>6} {kld:>12.6} {error:>12} {:>9.3}%\n", row.to, 100.0 * row.err);
    }
    text + &together(table).iter().map(|line| format!("{line}\n")).collect::<String>()
}

/// The types, from the largest to the smallest.
fn types(table: &SensitivityTable) -> Vec<&str> {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    table.rows.iter().filter(|row| row.is_alone()).for_each(|row| *bytes.entry(&row.to).or_default() += row.bytes);
    let mut types: Vec<(&str, u64)> = bytes.into_iter().collect();
    types.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    types.into_iter().map(|(to, _)| to).collect()
}

fn full_name(row: &Sensitivity) -> String {
    row.block.map_or_else(|| row.unit.clone(), |block| format!("blk.{block}.{}", row.unit))
}

/// The units that lose the most in the smallest type that was measured.
fn lead(table: &SensitivityTable) -> Vec<String> {
    let alone = || table.rows.iter().filter(|row| row.is_alone());
    let measured = |to: &&str| alone().any(|row| row.to == **to && row.kld.is_some());
    let Some(to) = types(table).into_iter().rev().find(measured) else { return Vec::new() };
    let mut rows: Vec<(&Sensitivity, f64)> = alone().filter(|row| row.to == to).filter_map(|row| Some((row, row.kld?))).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most: Vec<String> =
        rows.iter().take(NAMED).map(|(row, kld)| format!("{} ({})", full_name(row), significant(*kld, 3))).collect();
    vec![format!("In {to}, these lose the most (mean KL divergence, each alone): {}.", most.join(", "))]
}

/// What each unit alone loses in a type.
fn of_type<'t>(table: &'t SensitivityTable, to: &str) -> Vec<&'t Sensitivity> {
    table.rows.iter().filter(|row| row.is_alone() && row.to == to).collect()
}

/// Whether a picture of these is of divergences: one measure for all of its cells.
fn is_measured(rows: &[&Sensitivity]) -> bool {
    rows.iter().all(|row| row.kld.is_some())
}

fn chart(table: &SensitivityTable, to: &str) -> Chart {
    let rows = of_type(table, to);
    let measured = is_measured(&rows);
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
    let (what, value) = match measured {
        true => ("mean KL divergence with this unit alone in the type", "KLD"),
        false => ("error of its outputs", "error of outputs"),
    };
    Chart {
        title: to.to_owned(),
        hint: format!("{what}; darker is more, equal steps of colour are equal ratios, alike in all pictures of {value}"),
        plot: Plot::Heat(HeatMap {
            across: "block".into(),
            columns: blocks.iter().map(|block| block.map_or_else(|| NO_BLOCK.to_owned(), |block| block.to_string())).collect(),
            rows: units.into_iter().map(marks).collect(),
            value: value.to_owned(),
            scale: None,
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
         and the head stand in no block, in the column \"none\".",
        "Each cell is the whole model with one unit in another type and everything else as it was. What units lose together is \
         about the sum where that is small, and may be several times as much where it is large.",
        "An empty frame lost nothing; where there is no cell, the block has no such unit.",
        "A type in which no divergence was measured shows the error of outputs instead, which says little across units.",
    ]
    .map(String::from)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_eval::sensitivity::{SensitivityOrigin, TOGETHER};

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
            row("attn_v", Some(0), "q4_k", 35, Some(0.0005)),
            row("attn_v", Some(0), "q6_k", 50, None),
            row(TOGETHER, None, "q2_k", 30, Some(0.048)),
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
        let titles: Vec<&str> = charts.iter().map(|chart| chart.title.as_str()).collect();
        assert_eq!(titles, ["q4_k", "q2_k", "q6_k"], "what was measured first, of that the largest first");
        let Plot::Heat(map) = &charts[1].plot else { panic!("no heat map") };
        assert_eq!((map.columns.join(" "), map.range()), ("0 1 none".into(), Some((0.002, 0.03))));
        let marks = |row: usize| map.rows[row].marks.iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!((marks(0), marks(1)), (vec![false, false, true], vec![true, true, false]));
        assert_eq!(map.rows.len(), 2, "what all units lose together is no cell");
        let html = crate::html::render(&page).unwrap();
        assert_eq!(html.matches("<g class=\"pt front\"").count(), 4);
        // What lost nothing has no place on a scale of ratios, and is told from what is not there.
        assert_eq!(html.matches("<g class=\"pt front nothing\"").count(), 1);
        assert!(html.contains("All units in q2_k together lose 0.0480; what each loses alone adds up to 0.0320."));
        assert_eq!(document(&table()).as_array().map(Vec::len), Some(6));
    }

    #[test]
    fn pictures_of_one_measure_have_one_scale_and_say_it() {
        let page = page(&table(), "s.parquet");
        let PageBlock::Charts(charts) = &page.sections[0].blocks[0] else { panic!("no charts") };
        let scale = |i: usize| match &charts[i].plot {
            Plot::Heat(map) => (map.value.as_str(), map.scale),
            _ => panic!("no heat map"),
        };
        let of_kld = ("KLD", Some((0.0005, 0.03)));
        assert_eq!([scale(0), scale(1), scale(2)], [of_kld, of_kld, ("error of outputs", Some((0.01, 0.01)))]);
        let svg = |i: usize| crate::svg::draw(&charts[i], false).unwrap();
        // The only cell of q4_k is the faintest of both, not the strongest of its own.
        let cell = |i: usize| svg(i).split_once("<rect").unwrap().1.split_once("/>").unwrap().0.to_owned();
        assert!(cell(0).contains("fill-opacity=\"0.06\""), "{}", cell(0));
        for i in [0, 1] {
            assert!(svg(i).contains(">0.00050</text>") && svg(i).contains(">0.030</text>") && svg(i).contains("class=\"scale\""));
        }
    }

    /// What stands in no block has the last column, whose name a reader would miss.
    #[test]
    fn the_last_column_has_a_name_however_many_blocks_there_are() {
        for blocks in [1, 29, 30, 31, 64, 127] {
            let mut table = table();
            let of_block = |block| Sensitivity { block: Some(block), ..table.rows[1].clone() };
            let more: Vec<Sensitivity> = (2..blocks).map(of_block).collect();
            table.rows.extend(more);
            let svg = crate::svg::draw(&chart(&table, "q2_k"), false).unwrap();
            assert!(svg.contains(">none</text>"), "{blocks}");
        }
    }

    #[test]
    fn a_value_that_is_nearly_none_does_not_make_the_rest_alike() {
        let mut table = table();
        table.rows[0].kld = Some(1e-12);
        let page = page(&table, "s.parquet");
        let PageBlock::Charts(charts) = &page.sections[0].blocks[0] else { panic!("no charts") };
        let svg = crate::svg::draw(&charts[0], false).unwrap();
        assert!(svg.contains(">≤ 0.0000030</text>") || svg.contains(">≤ 3.0e-6</text>"), "{svg}");
        // ln(0.0005 / 3e-6) / ln(1e4) is 0.5555 of the way from 0.06 to 1.
        assert!(svg.contains("fill-opacity=\"0.58\""), "{svg}");
    }
}
