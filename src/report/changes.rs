//! What the comparison of two runs says, as a page: regressions first, then improvements, then what stayed. Decided in
//! `regression`.

use crate::findings::percent_change;
use crate::number::{bytes, percent, significant};
use crate::page::{Cell, Column, Page, PageBlock, Section, Table, TableRow};
use crate::regression::{Change, ChangeVerdict, Measure, RUN_TO_RUN, Regression};
use crate::sheet::UNSURE;
use bitworth_eval::stats::{Estimate, Interval};

/// Every verdict with its heading, in the order of the page.
const HEADINGS: &[(ChangeVerdict, &str)] = &[
    (ChangeVerdict::Regression, "Regressions"),
    (ChangeVerdict::Improvement, "Improvements"),
    (ChangeVerdict::Tolerated, "Worse, within what is tolerated"),
    (ChangeVerdict::Undecided, "Measured too little to tell"),
    (ChangeVerdict::Drifted, "Not judged, as the machine drifted"),
    (ChangeVerdict::Same, "Unchanged within noise"),
];

/// The page; `old` and `new` name the runs.
pub fn page(comparison: &Regression, old: &str, new: &str) -> Page {
    let mut sections: Vec<Section> = HEADINGS
        .iter()
        .map(|(verdict, heading)| (heading, comparison.with(*verdict)))
        .filter(|(_, changes)| !changes.is_empty())
        .map(|(heading, changes)| Section::new(*heading, vec![PageBlock::Table(table(&changes))]))
        .collect();
    let only = |names: &[String], run: &str| (!names.is_empty()).then(|| format!("Only in {run}: {}.", names.join(", ")));
    let mut notes: Vec<String> = only(&comparison.only_old, old).into_iter().chain(only(&comparison.only_new, new)).collect();
    notes.extend(comparison.notes.iter().cloned());
    if !notes.is_empty() {
        sections.push(Section::new("Not compared", vec![PageBlock::List(notes)]));
    }
    sections.push(Section::new("How to read this", vec![PageBlock::List(reading(comparison))]));
    let about = format!("New: {new}. Old: {old}. {} figures of lanes that both runs have.", comparison.changes.len());
    let about = [about].into_iter().chain(comparison.warnings.iter().cloned()).collect();
    Page { title: "What changed between two runs".into(), lead: vec![answer(comparison)], about, sections }
}

/// The answer in a few sentences.
pub fn answer(comparison: &Regression) -> String {
    let named = |verdict, one: &str, many: &str| {
        let changes = comparison.with(verdict);
        let names: Vec<String> = changes.iter().map(|c| format!("{} {}", c.lane, name(c))).collect();
        match names.len() {
            0 => format!("No {one} beyond noise."),
            1 => format!("1 {one}: {}.", names[0]),
            count => format!("{count} {many}: {}.", names.join(", ")),
        }
    };
    let regressions = named(ChangeVerdict::Regression, "regression", "regressions");
    let improvements = named(ChangeVerdict::Improvement, "improvement", "improvements");
    let drifted = match comparison.with(ChangeVerdict::Drifted)[..] {
        [] => String::new(),
        ref all => {
            let names: Vec<String> = all.iter().map(|c| format!("{} {}", c.lane, name(c))).collect();
            format!(" Not judged, as the machine drifted: {}.", names.join(", "))
        }
    };
    format!("{regressions} {improvements}{drifted}")
}

fn reading(comparison: &Regression) -> Vec<String> {
    let spread = format!(
        "Speeds and energies differ where the slowest repetition of one run is faster than the fastest of the other, and the \
         medians by more than {} %. Repetitions of a machine that drifted do not count; where half of them or more drifted, \
         nothing is judged.",
        100.0 * RUN_TO_RUN
    );
    let memory = format!(
        "Memory differs by more than {} %, too. Every start of the program has one figure of it: where each run has one alone, \
         no spread is known; of several, the ranges do not overlap.",
        100.0 * RUN_TO_RUN
    );
    let named = comparison.tolerated.iter().cloned();
    let tolerated: Vec<String> = named.chain(comparison.by_default.iter().map(|one| format!("{one} (by default)"))).collect();
    vec![
        "Quality differs where the 95 % interval of the paired differences, over the sequences and items that both runs have, \
         holds no difference of 0. Each comparison is made by itself: of twenty that hold no difference, one shows one by \
         chance, unless the runs are equal to the last bit."
            .into(),
        spread,
        memory,
        format!(
            "Tolerated: {}. Sizes may change where they are not named; nothing else that becomes worse is tolerated.",
            tolerated.join(", ")
        ),
    ]
}

/// A table of changes.
pub fn table(changes: &[&Change]) -> Table {
    let row = |c: &&Change| {
        let [old, new] = [(c.old, c.old_drifted), (c.new, c.new_drifted)].map(|side| value_cell(c.measure, side));
        TableRow {
            cells: vec![Cell::words(c.lane.clone()), Cell::words(name(c)), old, new, change_cell(c)],
            marked: c.verdict == ChangeVerdict::Regression,
        }
    };
    Table {
        columns: vec![
            Column::words("lane", ""),
            Column::words("measure", ""),
            Column::numbers("old", ""),
            Column::numbers("new", ""),
            Column::numbers("change", "with its interval, or the extremes of the repetitions"),
        ],
        rows: changes.iter().map(row).collect(),
        notes: changes.iter().any(|c| c.verdict == ChangeVerdict::Drifted).then(|| UNSURE.to_owned()).into_iter().collect(),
    }
}

/// A value as the summary's table has it (`sheet`): of a machine that drifted, the range of what was seen and the mark.
fn value_cell(measure: Measure, (value, drifted): (f64, Option<Interval>)) -> Cell {
    let show = |value| value_text(measure, value);
    match drifted {
        Some(_) if measure == Measure::Energy => Cell::number(format!("{} !", show(value)), value),
        Some(range) => Cell::number(format!("{} – {} !", show(range.low), show(range.high)), value),
        None => Cell::number(show(value), value),
    }
}

fn name(change: &Change) -> String {
    match change.measure {
        Measure::Bytes => "size".into(),
        Measure::Perplexity => "perplexity".into(),
        Measure::BitsPerByte => "bits per byte".into(),
        Measure::Divergence => "KLD".into(),
        Measure::Agreement => "top-1 agreement".into(),
        Measure::Accuracy => change.task.clone().unwrap_or_default(),
        Measure::Prefill => "prefill tokens/s".into(),
        Measure::Decode => "decode tokens/s".into(),
        Measure::Memory => "memory".into(),
        Measure::Energy => "decode tokens/J".into(),
    }
}

fn value_text(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Bytes | Measure::Memory => bytes(value as u64),
        Measure::Perplexity => significant(value, 5),
        Measure::BitsPerByte => format!("{value:.4}"),
        Measure::Divergence | Measure::Prefill | Measure::Decode | Measure::Energy => significant(value, 3),
        Measure::Agreement | Measure::Accuracy => percent(value),
    }
}

fn change_cell(change: &Change) -> Cell {
    let Estimate { value, interval } = change.change;
    if change.verdict == ChangeVerdict::Drifted {
        return Cell::number("not judged", value);
    }
    let show = |v: f64| match change.measure {
        Measure::Divergence => format!("{}{}", if v > 0.0 { "+" } else { "" }, significant(v, 3)),
        _ => format!("{:+.2} points", 100.0 * v),
    };
    let (text, detail) = match change.measure {
        Measure::Bytes => (format!("{:+} bytes", change.new - change.old), String::new()),
        m if m.is_ratio() => {
            let whole = percent_change(change.change);
            let (value, range) = whole.split_once(" (").unwrap_or((&whole, ""));
            match change.one_figure_each {
                // In the terminal as well, where details are not shown.
                true => (format!("{value}, one figure each"), String::new()),
                false => (value.to_owned(), range.trim_end_matches(')').to_owned()),
            }
        }
        _ => (show(value), interval.map_or(String::new(), |i| format!("{} to {}", show(i.low), show(i.high)))),
    };
    Cell::number(text, value).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{html, markdown, regression};
    use bitworth_eval::record::{Body, Phase, Record};
    use bitworth_eval::sample;

    #[test]
    fn speeds_of_a_machine_that_drifted_are_marked_ranges_and_not_judged() {
        let old = sample::records();
        let mut new = old.clone();
        for record in new.iter_mut().filter(|r| r.origin.lane == "q4_0") {
            if let Body::Speed(speed) = &mut record.body
                && speed.phase == Phase::Decode
            {
                // 4 of 5 timings, of 128 tokens in 1 to 3 seconds.
                (speed.drifted, speed.seconds) = (speed.repetition > 0, [3.0, 1.0, 2.0, 2.0, 2.0][speed.repetition as usize]);
            }
        }
        let comparison = regression::of(&old, &new).unwrap();
        let found: Vec<&Change> = comparison.changes.iter().filter(|c| c.old_drifted.or(c.new_drifted).is_some()).collect();
        let [change] = &found[..] else { panic!("{found:?}") };
        assert_eq!((change.verdict, change.old_drifted), (ChangeVerdict::Drifted, None));
        assert!(comparison.with(ChangeVerdict::Regression).is_empty(), "a third of the speed, and nothing is known");
        let answer = answer(&comparison);
        assert!(answer.ends_with(" Not judged, as the machine drifted: q4_0 decode tokens/s."), "{answer}");
        let text = markdown::render(&page(&comparison, "old", "new"));
        assert!(text.contains("## Not judged, as the machine drifted"), "{text}");
        assert!(text.contains("| 42.7 – 128 \\! | not judged |"), "{text}");
        // Markdown has the mark itself escaped.
        let meaning = UNSURE.trim_start_matches("! ");
        assert!(text.contains(meaning), "{text}");
        let plain = crate::table::render(&table(&found));
        assert!(plain.contains("42.7 – 128 !") && plain.contains(UNSURE), "{plain}");
        assert!(!markdown::render(&page(&regression::of(&old, &old).unwrap(), "old", "old")).contains(meaning));
    }

    #[test]
    fn one_figure_each_is_said_to_be_and_what_is_tolerated_by_default() {
        let run = |memory: u64| {
            let mut records = sample::records();
            for record in records.iter_mut().filter(|r| r.origin.lane == "q4_0") {
                if let Body::Speed(speed) = &mut record.body {
                    speed.footprint.memory_bytes = Some(memory);
                }
            }
            records
        };
        let comparison = regression::of(&run(1_000_000), &run(1_100_000)).unwrap();
        let text = markdown::render(&page(&comparison, "old", "new"));
        assert!(text.contains("| q4\\_0 | memory | 1.00 MB | 1.10 MB | +10.00 %, one figure each |"), "{text}");
        assert!(text.contains("Tolerated: memory 5 % (by default). Sizes may change where they are not named"), "{text}");
    }

    #[test]
    fn regressions_come_first_with_their_figures() {
        let old = sample::records();
        let mut new = old.clone();
        for record in new.iter_mut().filter(|r| r.origin.lane == "q4_0") {
            match &mut record.body {
                Body::Lane(lane) => lane.bytes -= 96,
                Body::Sequence(s) => s.nll_sum += 0.5 + 1e-4 * f64::from(s.sequence),
                _ => {}
            }
        }
        let page = |new: &[Record]| page(&regression::of(&old, new).unwrap(), "old", "new");
        let text = markdown::render(&page(&new));
        assert!(text.contains("**1 regression: q4\\_0 perplexity. 1 improvement: q4\\_0 size.**"), "{text}");
        let headings: Vec<&str> = text.lines().filter(|l| l.starts_with("## ")).collect();
        assert_eq!(headings[..3], ["## Regressions", "## Improvements", "## Unchanged within noise"]);
        assert!(text.contains("| q4\\_0 | perplexity | 2.6485 | 2.6590 | +0.40 %<br>+0.40 % to +0.40 % |"), "{text}");
        assert!(text.contains("| q4\\_0 | size | 1.25 MB | 1.25 MB | -96 bytes |"), "{text}");
        assert!(html::render(&page(&new)).unwrap().contains("class=\"marked\""));
        assert!(markdown::render(&page(&old)).contains("**No regression beyond noise. No improvement beyond noise.**"));
    }
}
