//! Tables of tasks for people: what each lane lost in each task and what follows, and the tasks within groups.

use bitworth_eval::stats::{Interval, LEVEL, Verdict};

use crate::number::significant;
use crate::page::{Cell, Column, Table, TableRow};
use crate::sheet;
use crate::summary::{Summary, task, task_names};
use crate::tasks::{Judgement, TaskComparison, TaskScore, metric, verdict_name};

fn verdict_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Undecided { items: Some(items) } => format!("undecided; {items} items would decide"),
        other => verdict_name(other).to_owned(),
    }
}

/// Whether values are shares of right items, which people read in points of a hundred.
fn is_share(score: &TaskScore) -> bool {
    (0.0..=1.0).contains(&score.accuracy.value)
}

/// A number with so many digits, and without a sign where it rounds to 0.
fn signed(value: f64, digits: usize) -> String {
    let text = format!("{value:+.digits$}");
    let is_zero = text.bytes().all(|byte| !(b'1'..=b'9').contains(&byte));
    if is_zero { format!("{:.digits$}", 0.0) } else { text }
}

/// What values are multiplied by, and their digits.
fn unit(score: &TaskScore) -> (f64, usize) {
    if is_share(score) { (100.0, 1) } else { (1.0, 4) }
}

/// The two ends of an interval.
fn range(interval: Option<Interval>, show: impl Fn(f64) -> String) -> String {
    interval.map_or(String::new(), |i| format!("{} to {}", show(i.low), show(i.high)))
}

fn value(score: &TaskScore) -> Cell {
    let (factor, digits) = unit(score);
    let show = |value: f64| format!("{:.digits$}", factor * value);
    Cell::number(show(score.accuracy.value), score.accuracy.value).with_detail(range(score.accuracy.interval, show))
}

fn difference(score: &TaskScore, comparison: &TaskComparison) -> Cell {
    let (factor, digits) = unit(score);
    let show = |value: f64| signed(factor * value, digits);
    let difference = comparison.paired.difference;
    Cell::number(show(difference.value), difference.value).with_detail(range(difference.interval, show))
}

/// A line for every lane in every task and group that was named, and where there is a reference what it lost and what follows;
/// `None` without a task. Intervals stand beneath their values.
pub fn scores(rows: &[Summary], judgement: Judgement) -> Option<Table> {
    let labels = sheet::labels(rows);
    let mut lines = Vec::new();
    for name in task_names(rows) {
        for (row, label) in rows.iter().zip(&labels) {
            if let Some(score) = task(row, &name) {
                lines.push(TableRow { cells: cells(score, label), marked: row.is_reference });
            }
        }
    }
    let is_compared = rows.iter().flat_map(|row| &row.tasks).any(|score| score.against_reference.is_some());
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
    if !is_compared {
        columns.truncate(ALONE);
        notes.clear();
        lines.iter_mut().for_each(|line| line.cells.truncate(ALONE));
    }
    (!lines.is_empty()).then_some(Table { columns, rows: lines, notes })
}

/// How many columns a lane has by itself.
const ALONE: usize = 5;
/// And beside a reference.
const COMPARED: usize = 11;

/// The cells of one line of [`scores`].
fn cells(score: &TaskScore, label: &str) -> Vec<Cell> {
    let items = Cell::number(score.items.to_string(), score.items as f64);
    let mut cells = vec![Cell::words(label), Cell::words(&score.name), Cell::words(metric(score)), items, value(score)];
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

/// Lines of the members of one group, by lane in `groups`, inner groups with their own members beneath.
fn below(groups: &[Option<&TaskScore>], depth: usize, lines: &mut Vec<TableRow>) {
    let mut names: Vec<&str> = Vec::new();
    for member in groups.iter().flatten().flat_map(|group| &group.members) {
        if !names.contains(&member.name.as_str()) {
            names.push(&member.name);
        }
    }
    for name in names {
        let own: Vec<Option<&TaskScore>> =
            groups.iter().map(|group| group.and_then(|group| group.members.iter().find(|member| member.name == name))).collect();
        let cell = |score: &Option<&TaskScore>| {
            let Some(score) = score else { return Cell::default() };
            let detail = score.against_reference.as_ref().map_or_else(String::new, |comparison| {
                let mark = if comparison.verdict == Verdict::Worse { " *" } else { "" };
                difference(score, comparison).text + mark
            });
            value(score).with_detail(detail)
        };
        let items = own.iter().flatten().map(|score| score.items).max().unwrap_or_default();
        let name = Cell::words(format!("{}{name}", "\u{2003}".repeat(depth)));
        let cells = [name, Cell::number(items.to_string(), items as f64)].into_iter().chain(own.iter().map(cell));
        lines.push(TableRow { cells: cells.collect(), marked: false });
        below(&own, depth + 1, lines);
    }
}
