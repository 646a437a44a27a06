//! Tables of tasks for people: what each lane lost in each task and what follows, and the tasks within groups.

use bitworth_eval::stats::{LEVEL, Verdict};

use crate::number::significant;
use crate::page::{Cell, Column, Table, TableRow};
use crate::sheet;
use crate::summary::{Summary, task, task_names};
use crate::task_words::{difference_number, range, signed, unit, verdict_words};
use crate::tasks::{Judgement, TaskComparison, TaskScore, metric};

fn value(score: &TaskScore) -> Cell {
    let (factor, digits) = unit(score);
    let show = |value: f64| format!("{:.digits$}", factor * value);
    Cell::number(show(score.accuracy.value), score.accuracy.value).with_detail(range(score.accuracy.interval, show))
}

fn difference(score: &TaskScore, comparison: &TaskComparison) -> Cell {
    let (factor, digits) = unit(score);
    let show = |value: f64| signed(factor * value, digits);
    let difference = comparison.paired.difference;
    Cell::number(difference_number(score, comparison), difference.value).with_detail(range(difference.interval, show))
}

/// A line for every lane in every task and group that was named, with `subjects` also in the tasks within groups, and where there
/// is a reference what it lost and what follows; `None` without a task. Intervals stand beneath their values.
pub fn scores(rows: &[Summary], judgement: Judgement, subjects: bool) -> Option<Table> {
    let labels = sheet::labels(rows);
    let mut lines = Vec::new();
    for name in task_names(rows) {
        let own: Vec<Option<&TaskScore>> = rows.iter().map(|row| task(row, &name)).collect();
        add_lines(&own, 0, subjects, (rows, &labels), &mut lines);
    }
    let all = || rows.iter().flat_map(|row| &row.tasks);
    let is_compared = all().any(|score| score.against_reference.is_some());
    let mut columns = vec![
        Column::words("lane", ""),
        Column::words("task", ""),
        Column::words("metric", "what an item's value is"),
        Column::numbers("items", ""),
        Column::numbers("value", "share of right items in %, or mean of the task's metric"),
        Column::numbers("difference", "the lane's value less the reference's on the same items, in points"),
        Column::words("verdict", ""),
        Column::words("flips", "items that only the reference got right, and that only the lane got right"),
        Column::numbers("p", "that both are equally good, alone"),
        Column::numbers("p (Holm)", "the same, corrected for all lanes and tasks shown"),
        Column::numbers("log P(right)", "change of the right choice's log-probability among the choices, in nats"),
    ];
    let mut notes = vec![
        format!(
            "worse: the loss is more than chance explains, and perhaps more than the margin of {} points. not worse: at its \
             lower end the interval stays within it. undecided: the items do not say.",
            judgement.margin
        ),
        "* log P(right) changed by more than chance explains, alone.".to_owned(),
    ];
    if subjects && all().any(|score| !score.members.is_empty()) {
        notes.push("Tasks within groups stand below them, set in, and are corrected among themselves.".to_owned());
    }
    if !is_compared {
        columns.truncate(ALONE);
        notes.clear();
        lines.iter_mut().for_each(|line| line.cells.truncate(ALONE));
    }
    (!lines.is_empty()).then_some(Table { columns, rows: lines, notes })
}

/// Lines of one task or group, by lane in `own`, and with `subjects` of all below it.
fn add_lines(
    own: &[Option<&TaskScore>],
    depth: usize,
    subjects: bool,
    lanes: (&[Summary], &[String]),
    lines: &mut Vec<TableRow>,
) {
    for (score, (row, label)) in own.iter().zip(lanes.0.iter().zip(lanes.1)) {
        if let Some(score) = score {
            lines.push(TableRow { cells: cells(score, label, depth), marked: row.is_reference });
        }
    }
    if subjects {
        for name in member_names(own) {
            add_lines(&member_scores(own, name), depth + 1, subjects, lanes, lines);
        }
    }
}

/// For every task and group a line with what each lane that has a reference lost, its interval and its verdict; `None` where
/// nothing was compared.
pub fn losses(rows: &[Summary]) -> Option<Table> {
    let is_compared = |row: &Summary| row.tasks.iter().any(|score| score.against_reference.is_some());
    let compared: Vec<(&Summary, String)> = rows.iter().zip(sheet::labels(rows)).filter(|(row, _)| is_compared(row)).collect();
    let line = |name: String| {
        let own: Vec<Option<&TaskScore>> = compared.iter().map(|(row, _)| task(row, &name)).collect();
        let items = own.iter().flatten().filter_map(|score| score.against_reference).map(|c| c.paired.items).max()?;
        let numbers = [Cell::words(name), Cell::number(items.to_string(), items as f64)];
        let cells = numbers.into_iter().chain(own.into_iter().map(|score| score.and_then(loss).unwrap_or_default()));
        Some(TableRow { cells: cells.collect(), marked: false })
    };
    let lines: Vec<TableRow> = task_names(rows).into_iter().filter_map(line).collect();
    let lanes = compared.iter().map(|(_, label)| Column::numbers(label, "difference from the reference, in points"));
    let columns = [Column::words("task", ""), Column::numbers("items", "")].into_iter().chain(lanes).collect();
    (!lines.is_empty()).then_some(Table { columns, rows: lines, notes: Vec::new() })
}

/// A difference, and beneath it the interval and the verdict.
fn loss(score: &TaskScore) -> Option<Cell> {
    let comparison = score.against_reference.as_ref()?;
    let cell = difference(score, comparison);
    let verdict = verdict_words(&comparison.verdict);
    let detail = if cell.detail.is_empty() { verdict } else { format!("{}: {verdict}", cell.detail) };
    Some(cell.with_detail(detail))
}

/// How many columns a lane has by itself.
const ALONE: usize = 5;
/// And beside a reference.
const COMPARED: usize = 11;

/// The cells of one line of [`scores`].
fn cells(score: &TaskScore, label: &str, depth: usize) -> Vec<Cell> {
    let items = Cell::number(score.items.to_string(), score.items as f64);
    let name = Cell::words(set_in(&score.name, depth));
    let mut cells = vec![Cell::words(label), name, Cell::words(metric(score)), items, value(score)];
    let Some(comparison) = &score.against_reference else {
        cells.resize_with(COMPARED, Cell::default);
        return cells;
    };
    let paired = &comparison.paired;
    let flips = match (paired.only_reference, paired.only_lane) {
        (Some(lost), Some(won)) => format!("−{lost} +{won}"),
        _ => String::new(),
    };
    let p = |p: f64| Cell::number(significant(p, 2), p);
    let fine = score.choices.as_ref().and_then(|choices| choices.log_p_gold_difference);
    let fine = fine.map(|fine| {
        let mark = if fine.p_value < LEVEL { " *" } else { "" };
        Cell::number(signed(fine.difference.value, 4) + mark, fine.difference.value)
    });
    cells.extend([
        difference(score, comparison),
        Cell::words(verdict_words(&comparison.verdict)),
        Cell::words(flips),
        p(paired.p_value),
        p(comparison.p_adjusted),
        fine.unwrap_or_default(),
    ]);
    cells
}

/// For every group, the tasks and groups that it is made of, a line each, with every lane's value and its difference from the
/// reference.
pub fn members(rows: &[Summary]) -> Vec<(String, Table)> {
    let labels = sheet::labels(rows);
    let mut tables = Vec::new();
    for name in task_names(rows) {
        let scores: Vec<Option<&TaskScore>> = rows.iter().map(|row| task(row, &name)).collect();
        if scores.iter().flatten().all(|score| score.members.is_empty()) {
            continue;
        }
        let mut lines = Vec::new();
        below(&scores, 0, &mut lines);
        let lanes = labels.iter().map(|label| Column::numbers(label, ""));
        let columns = [Column::words("task", ""), Column::numbers("items", "")].into_iter().chain(lanes).collect();
        let notes = vec!["Beneath each value: the difference from the reference in points; * where it is worse.".to_owned()];
        tables.push((format!("{name}: its tasks"), Table { columns, rows: lines, notes }));
    }
    tables
}

/// The names of the members of one group, by lane in `groups`.
fn member_names<'a>(groups: &[Option<&'a TaskScore>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for member in groups.iter().flatten().flat_map(|group| &group.members) {
        if !names.contains(&member.name.as_str()) {
            names.push(&member.name);
        }
    }
    names
}

/// One member's scores, by lane.
fn member_scores<'a>(groups: &[Option<&'a TaskScore>], name: &str) -> Vec<Option<&'a TaskScore>> {
    groups.iter().map(|group| group.and_then(|group| group.members.iter().find(|member| member.name == name))).collect()
}

/// A name as far to the right as it is deep in groups.
fn set_in(name: &str, depth: usize) -> String {
    format!("{}{name}", "\u{2003}".repeat(depth))
}

/// Lines of the members of one group, by lane in `groups`, inner groups with their own members beneath.
fn below(groups: &[Option<&TaskScore>], depth: usize, lines: &mut Vec<TableRow>) {
    for name in member_names(groups) {
        let own = member_scores(groups, name);
        let cell = |score: &Option<&TaskScore>| {
            let Some(score) = score else { return Cell::default() };
            let detail = score.against_reference.as_ref().map_or_else(String::new, |comparison| {
                let mark = if comparison.verdict == Verdict::Worse { " *" } else { "" };
                difference_number(score, comparison) + mark
            });
            value(score).with_detail(detail)
        };
        let items = own.iter().flatten().map(|score| score.items).max().unwrap_or_default();
        let name = Cell::words(set_in(name, depth));
        let cells = [name, Cell::number(items.to_string(), items as f64)].into_iter().chain(own.iter().map(cell));
        lines.push(TableRow { cells: cells.collect(), marked: false });
        below(&own, depth + 1, lines);
    }
}
