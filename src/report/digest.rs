//! A run at a glance for a terminal: a line a lane with its size as a bar, its speed beside the reference's, and what can be told
//! of its loss. Absent: ranges and p-values, which the report has.

use bitworth_eval::stats::Verdict;

use crate::findings::Standing;
use crate::number::{bytes, significant};
use crate::sheet::labels;
use crate::summary::Summary;
use crate::task_words::difference_words;
use crate::tasks::TaskScore;

/// Characters of the longest bar.
const WIDTH: usize = 32;
/// Parts of a character, from none to seven eighths.
const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A line a lane of every run that has a reference and something smaller; empty where there is none. Every line ends with a
/// newline.
pub fn render(rows: &[Summary]) -> String {
    let labels = labels(rows);
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (place, reference) in rows.iter().enumerate().filter(|(_, row)| row.is_reference) {
        let run = |row: &Summary| (row.model.clone(), row.device.clone(), row.arithmetic.clone());
        let lanes: Vec<(&Summary, &String)> = rows.iter().zip(&labels).filter(|(row, _)| run(row) == run(reference)).collect();
        if lanes.len() < 2 {
            continue;
        }
        let largest = lanes.iter().map(|(row, _)| row.bytes).max().unwrap_or(0).max(1);
        out += "\n";
        for (row, label) in lanes {
            let what = told(row, &labels[place]);
            let line = format!(
                "{label:width$}  {:WIDTH$}  {:>8}  {:>6}  {what}",
                bar(row.bytes as f64 / largest as f64),
                bytes(row.bytes),
                speed(row, reference),
            );
            out += &format!("{}\n", line.trim_end());
        }
    }
    out
}

/// A bar that is `share` of the longest.
fn bar(share: f64) -> String {
    let eighths = ((share * (8 * WIDTH) as f64).round() as usize).clamp(1, 8 * WIDTH);
    "█".repeat(eighths / 8) + PARTS[eighths % 8]
}

/// The decode speed in units of the reference's, with the mark of speeds that are unsure.
fn speed(row: &Summary, reference: &Summary) -> String {
    let Some((own, other)) = row.decode.zip(reference.decode) else { return String::new() };
    let mark = if own.is_unsure() || other.is_unsure() { "!" } else { "" };
    format!("{}x{mark}", significant(own.tps / other.tps, 3))
}

/// The findings for a lane: its perplexity, the tasks that lose (largest loss first), and how many tasks are undecided.
fn told(row: &Summary, reference: &str) -> String {
    let mut parts = Vec::new();
    match (Standing::of(row), row.ppl_ratio) {
        (Standing::Reference, _) => parts.push("the original".to_owned()),
        (Standing::Lossless, _) => parts.push(format!("predicts as {reference}")),
        (Standing::AsGood, _) => parts.push(format!("as good as {reference}")),
        (Standing::Unresolved, _) => parts.push("too little text to tell".to_owned()),
        (Standing::Changed, _) => parts.push("changed in KLD or top-1".to_owned()),
        (Standing::Worse | Standing::Lower, Some(ratio)) => {
            parts.push(format!("perplexity {:+.2} %", 100.0 * (ratio.value - 1.0)));
        }
        _ => {}
    }
    let loss = |task: &TaskScore| {
        let comparison = task.against_reference.filter(|comparison| comparison.verdict == Verdict::Worse)?;
        Some((comparison.paired.difference.value, format!("{} {}", task.name, difference_words(task, &comparison))))
    };
    let mut losses: Vec<(f64, String)> = row.tasks.iter().filter_map(loss).collect();
    losses.sort_by(|a, b| a.0.total_cmp(&b.0));
    parts.extend(losses.into_iter().map(|(_, words)| words));
    // Silence on a task would read as if it lost nothing.
    let verdicts: Vec<Verdict> = row.tasks.iter().filter_map(|task| Some(task.against_reference?.verdict)).collect();
    match (verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Undecided { .. })).count(), verdicts.len()) {
        (0, _) => {}
        (1, 1) => parts.push("its task undecided".to_owned()),
        (undecided, all) => parts.push(format!("{undecided} of {all} tasks undecided")),
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summarize;
    use bitworth_eval::record::Body;
    use bitworth_eval::sample;

    #[test]
    fn a_lane_has_a_bar_of_its_size_and_says_what_it_lost() {
        let mut records = sample::records();
        for record in &mut records {
            if let (Body::Item(item), "iq2_xxs") = (&mut record.body, record.origin.lane.as_str())
                && item.task == "grammar"
                && item.item % 5 == 0
            {
                item.value = Some(0.0);
            }
        }
        let text = render(&summarize(&records).unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (13, ""));
        assert!(lines[1].starts_with("bf16     ████████████████████████████████   4.07 MB   1.00x  the original"), "{text}");
        // 2.20 of 4.07 MB are 17 characters and two eighths of 32.
        assert!(lines[2].contains(" █████████████████▎  ") && lines[2].contains("2.20 MB"), "{text}");
        let last = lines.last().unwrap();
        assert!(
            last.contains("perplexity +") && last.ends_with("grammar -20.0 points, facts -4.7 points, 2 of 4 tasks undecided"),
            "{text}"
        );
    }

    #[test]
    fn bars_have_eighths_and_are_never_nothing() {
        assert_eq!(bar(1.0), "█".repeat(WIDTH));
        assert_eq!(bar(1.5 / WIDTH as f64), "█▌");
        assert_eq!(bar(0.0), "▏");
    }

    #[test]
    fn without_a_reference_or_another_lane_there_is_nothing_to_show() {
        let mut rows = summarize(&sample::records()).unwrap();
        assert_eq!(render(&rows[..1]), "");
        rows[0].is_reference = false;
        assert_eq!(render(&rows), "");
    }
}
