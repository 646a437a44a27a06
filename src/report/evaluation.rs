//! Task scores as `eval` gives them: rows for programs, lm-evaluation-harness's own figures as a table, and which differences
//! tasks can show before they are asked. Absent: the scores (see `tasks`), and what people read of them (see `task_tables`).

use bitworth_eval::stats::{self, Estimate, Verdict};
use serde_json::{Map, Value, json};

use crate::page::{Cell, Column, Table, TableRow};
use crate::summary::Summary;
use crate::tasks::TaskScore;

/// Shares of items that flip between a model and its quantization, from mild to heavy, for plans.
const FLIP_SHARES: [f64; 3] = [0.02, 0.05, 0.1];

/// Which differences tasks can show.
pub struct Power {
    /// Tasks and groups, as scores are compared, and their items.
    sizes: Vec<(String, usize)>,
    comparisons: usize,
}

impl Power {
    /// Of tasks and groups of these sizes, asked of this number of models, the reference among them.
    pub fn new(sizes: Vec<(String, usize)>, models: usize) -> Self {
        let comparisons = (models.max(2) - 1) * sizes.len();
        Self { sizes, comparisons }
    }

    /// The smallest difference that the task can detect, by share of flips.
    fn shown(&self, items: usize) -> [Option<f64>; FLIP_SHARES.len()] {
        FLIP_SHARES.map(|share| stats::detectable(items as u64, share, self.comparisons as u64))
    }

    /// For programs.
    pub fn document(&self) -> Value {
        let row = |(task, items): &(String, usize)| {
            let shown = FLIP_SHARES.iter().zip(self.shown(*items));
            let shown = shown.map(|(share, shown)| json!({ "flip_share": share, "difference": shown }));
            json!({ "task": task, "items": items, "detectable": shown.collect::<Vec<_>>() })
        };
        let rows: Vec<Value> = self.sizes.iter().map(row).collect();
        json!({ "plan": rows, "comparisons": self.comparisons, "power": stats::POWER, "level": stats::LEVEL })
    }

    /// For people.
    pub fn table(&self) -> Table {
        let head = |share: &f64| Column::numbers(format!("{} % flip", 100.0 * share), "");
        let row = |(task, items): &(String, usize)| {
            let shown = self.shown(*items).map(|shown| shown.map_or_else(|| "none".to_owned(), |d| format!("{:.1}", 100.0 * d)));
            let cells = [task.clone(), items.to_string()].into_iter().chain(shown).map(Cell::words);
            TableRow { cells: cells.collect(), marked: false }
        };
        let names = [Column::words("task", ""), Column::numbers("items", "")];
        Table {
            columns: names.into_iter().chain(FLIP_SHARES.iter().map(head)).collect(),
            rows: self.sizes.iter().map(row).collect(),
            notes: vec![format!(
                "The smallest true difference in points that is found in 4 of 5 cases, where this share of the items flips, \
                 either way, among {} comparisons.",
                self.comparisons
            )],
        }
    }
}

/// A row for every figure that lm-evaluation-harness's `results` have, with the lane in front where there is one.
pub fn harness_rows(lane: Option<&str>, entries: &Map<String, Value>) -> Vec<TableRow> {
    let mut rows = Vec::new();
    for (name, entry) in entries {
        for (key, value) in entry.as_object().into_iter().flatten() {
            let Some((metric, filter)) = key.split_once(',').filter(|(metric, _)| !metric.ends_with("_stderr")) else { continue };
            let error = entry.get(format!("{metric}_stderr,{filter}")).and_then(Value::as_f64);
            let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
            let words = [name.as_str(), filter, metric].map(str::to_owned);
            let cells = lane.map(str::to_owned).into_iter().chain(words).chain([number(value.as_f64()), number(error)]);
            rows.push(TableRow { cells: cells.map(Cell::words).collect(), marked: false });
        }
    }
    rows
}

/// The table of such rows.
pub fn harness_table(rows: Vec<TableRow>, has_lanes: bool) -> Table {
    let words =
        ["model", "task", "filter", "metric"].into_iter().skip(usize::from(!has_lanes)).map(|head| Column::words(head, ""));
    let numbers = ["value", "standard error"].map(|head| Column::numbers(head, ""));
    Table { columns: words.chain(numbers).collect(), rows, notes: Vec::new() }
}

/// A row for every lane in every task and group, members of groups behind them; `chance` says what guessing gives in a task.
pub fn rows(lanes: &[Summary], chance: &dyn Fn(&str) -> Option<f64>) -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for score in lanes.iter().flat_map(|row| &row.tasks) {
        if !names.contains(&score.name.as_str()) {
            names.push(&score.name);
        }
    }
    let mut rows = Vec::new();
    for name in names {
        for summary in lanes {
            if let Some(score) = summary.tasks.iter().find(|score| score.name == name) {
                add_rows(summary, score, None, chance, &mut rows);
            }
        }
    }
    rows
}

fn add_rows(
    summary: &Summary,
    score: &TaskScore,
    group: Option<&str>,
    chance: &dyn Fn(&str) -> Option<f64>,
    rows: &mut Vec<Value>,
) {
    let comparison = score.against_reference.as_ref();
    let paired = comparison.map(|comparison| &comparison.paired);
    let difference = paired.map(|paired| paired.difference);
    let [low, high] = [Estimate::low, Estimate::high].map(|end| difference.as_ref().and_then(end));
    let mut row = json!({
        "model": summary.lane, "task": score.name, "group": group, "version": score.version, "metric": score.metric,
        "items": score.items, "chance": chance(&score.name),
        "accuracy": score.accuracy.value, "low": score.accuracy.low(), "high": score.accuracy.high(),
        "standard_error": score.error.clustered_error, "lm_eval_standard_error": score.error.standard_error,
        "difference": difference.map(|d| d.value), "difference_low": low, "difference_high": high,
        "only_reference": paired.and_then(|p| p.only_reference), "only_model": paired.and_then(|p| p.only_lane),
        "p_value": paired.map(|p| p.p_value), "p_adjusted": comparison.map(|c| c.p_adjusted),
        "choices": score.choices,
    });
    if let Some(comparison) = comparison {
        let (verdict, items) = match comparison.verdict {
            Verdict::Worse => ("worse", None),
            Verdict::NotWorse => ("not_worse", None),
            Verdict::Undecided { items } => ("undecided", items),
        };
        row["verdict"] = verdict.into();
        row["items_that_decide"] = json!(items);
    }
    rows.push(row);
    for member in &score.members {
        add_rows(summary, member, Some(&score.name), chance, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_candidate_is_compared_in_every_task() {
        let sizes = vec![("few".to_owned(), 3), ("many".to_owned(), 10_000)];
        let power = Power::new(sizes, 3);
        let document = power.document();
        assert_eq!(document["comparisons"], 4);
        assert_eq!(document["plan"][1]["detectable"][1]["flip_share"], 0.05);
        let table = power.table();
        assert_eq!(table.columns.len(), 2 + FLIP_SHARES.len());
        // Three items cannot detect any difference.
        assert!(table.rows[0].cells[2..].iter().all(|cell| cell.text == "none"));
        assert!(table.rows[1].cells[2..].iter().all(|cell| cell.text != "none"));
        assert_eq!(Power::new(vec![("one".to_owned(), 3)], 0).document()["comparisons"], 1, "a plan needs no model");
    }

    #[test]
    fn errors_stand_beside_their_figures() {
        let entries = json!({ "t": { "alias": "t", "acc,none": 0.5, "acc_stderr,none": 0.25, "f1,strict": 1.0 } });
        let rows = harness_rows(Some("lane"), entries.as_object().unwrap());
        let cells: Vec<Vec<&str>> = rows.iter().map(|row| row.cells.iter().map(|cell| cell.text.as_str()).collect()).collect();
        assert_eq!(cells, [["lane", "t", "none", "acc", "0.5000", "0.2500"], ["lane", "t", "strict", "f1", "1.0000", ""]]);
        assert_eq!(harness_table(rows, true).columns.len(), 6);
        assert_eq!(harness_table(Vec::new(), false).columns.len(), 5);
    }
}
