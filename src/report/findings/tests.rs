//! Tests of the findings, on the made-up records of `sample`.

use super::differences::lane_sums;
use super::*;
use crate::Report;
use crate::gather::gather;
use bitworth_eval::record::{Body, Record};
use bitworth_eval::sample;

fn findings_of(records: &[Record]) -> Findings {
    Report::new(records).unwrap().findings
}

#[test]
fn a_smaller_nearer_and_faster_lane_dominates() {
    let mut records = sample::records();
    for record in &mut records {
        // Give iq4_xs, which is smaller and nearer than q4_0, more speed as well.
        if let (Body::Speed(speed), "iq4_xs") = (&mut record.body, record.origin.lane.as_str()) {
            speed.seconds /= 2.0;
        }
    }
    let dominated = findings_of(&records).dominated;
    let q4_0 = dominated.iter().find(|s| s.starts_with("q4_0 ")).unwrap();
    assert!(q4_0.contains("dominated by iq4_xs: it is smaller (1.19 MB against 1.25 MB), nearer"), "{q4_0}");
    assert!(q4_0.contains("and faster (2480 against"), "{q4_0}");
    assert!(!findings_of(&sample::records()).dominated.iter().any(|s| s.starts_with("q4_0 ")), "it is faster there");
    assert!(dominated.iter().all(|s| !s.starts_with("bf16")), "the reference is not dominated");
}

#[test]
fn tasks_are_told_in_the_order_in_which_they_lose() {
    let mut records = sample::records();
    for record in &mut records {
        let lane = record.origin.lane.clone();
        if let Body::Item(item) = &mut record.body {
            let spoiled = match item.task.as_str() {
                "grammar" => ["q2_k", "iq2_xxs"].contains(&lane.as_str()) && item.item % 5 == 0,
                // One that recovers farther down loses only from there on where nothing does.
                "arithmetic" => ["q6_k", "iq4_xs", "q3_k_m", "q2_k", "iq2_xxs"].contains(&lane.as_str()) && item.item % 3 == 0,
                _ => lane == "iq2_xxs" && item.task == "facts" && item.item % 2 == 0,
            };
            if spoiled {
                item.value = Some(0.0);
            }
        }
    }
    let skills = findings_of(&records).skills;
    let [told] = &skills[..] else { panic!("{skills:?}") };
    // The sample's facts lose from q2_k down by themselves, which among 44 comparisons may be chance.
    let order = [
        "Of the tasks arithmetic pays first, from iq4_xs down (-",
        "; grammar from q2_k down (-",
        "; facts from iq2_xxs down (-",
    ];
    let places: Vec<usize> = order.iter().map(|part| told.find(part).unwrap_or_else(|| panic!("{told} lacks {part}"))).collect();
    assert!(places.is_sorted(), "{told}");
    // By SciPy and McNemar's test of the same items.
    assert!(
        told.contains("; worse, though not with every smaller lane: arithmetic with q6_k (-15.6 points); undecided: "),
        "{told}"
    );
    assert!(told.ends_with(", sums with every smaller lane (365 to 9053 items would decide)."), "{told}");
}

/// Four items a task.
fn few_items() -> Vec<Record> {
    sample::asked(&[
        ("arc_challenge", "", 4, [(0, 0), (1, 0)]),
        ("hellaswag", "", 4, [(1, 0), (1, 2)]),
        ("mmlu_anatomy", "", 4, [(0, 0), (0, 0)]),
    ])
}

// Items that decide: the formula of `stats::verdict` in NumPy with scipy.stats, at the margin of 0.5 points.
#[test]
fn what_few_items_leave_undecided_does_not_read_as_fine() {
    let report = Report::new(&few_items()).unwrap();
    assert_eq!(
        report.findings.skills,
        ["Of the tasks undecided: arc_challenge with every smaller lane (26 to 34884 items would decide), hellaswag with every \
          smaller lane (26 to 52 items would decide), mmlu_anatomy with every smaller lane (34884 items would decide)."]
    );
    assert_eq!(
        report.findings.tasks,
        [
            "arc_challenge (4 items), against the reference: undecided: every lane (26 to 34884 items would decide).",
            "hellaswag (4 items), against the reference: undecided: every lane (26 to 52 items would decide).",
            "mmlu_anatomy (4 items), against the reference: undecided: every lane (34884 items would decide).",
        ]
    );
    assert!(report.findings.answers.is_empty());
    let text = report.to_text();
    assert_eq!(text.matches("3 of 3 tasks undecided\n").count(), 2, "{text}");
    let page = crate::markdown::render(&crate::contents::page(&report));
    for reassuring in ["no loss", "no lane can be told"] {
        assert!(!text.contains(reassuring) && !page.contains(reassuring), "{reassuring}");
    }
}

#[test]
fn tasks_that_are_not_worse_are_told_with_the_margin_and_apart_from_undecided_ones() {
    let records = sample::asked(&[
        ("facts", "", 2000, [(0, 0), (60, 0)]),
        ("grammar", "", 2000, [(0, 0), (6, 0)]),
        ("recall", "", 2000, [(60, 0), (0, 0)]),
        ("sums", "", 2000, [(0, 0), (0, 0)]),
    ]);
    let findings = findings_of(&records);
    assert_eq!(
        findings.skills,
        ["Of the tasks facts pays first, from q2_k down (-3.0 points); worse, though not with every smaller lane: recall with \
          q8_0 (-3.0 points); not worse by more than the margin of 0.5 points: sums with every smaller lane; undecided: grammar \
          with q2_k (4688 items would decide)."]
    );
    // Eight times 2 * 0.5^60.
    assert_eq!(
        findings.tasks,
        [
            "facts (2000 items), against the reference: q2_k -3.0 points (p = 1.4e-17); not worse by more than the margin of 0.5 \
             points: q8_0.",
            "grammar (2000 items), against the reference: not worse by more than the margin of 0.5 points: q8_0; undecided: q2_k \
             (4688 items would decide).",
            "recall (2000 items), against the reference: q8_0 -3.0 points (p = 1.4e-17); not worse by more than the margin of \
             0.5 points: q2_k.",
            "sums (2000 items), against the reference: not worse by more than the margin of 0.5 points: every lane.",
        ]
    );
    // The interval of 2000 items without a flip is 0.1 points wide to either side: a smaller margin decides nothing.
    let strict = Report::judged(&records, Judgement { margin: 0.05 }).unwrap().findings.skills;
    assert!(
        strict.len() == 1 && strict[0].contains("sums with every smaller lane (") && !strict[0].contains("not worse"),
        "{strict:?}"
    );
}

#[test]
fn a_lossless_copy_that_is_larger_than_the_reference_has_a_better_choice() {
    let mut records = sample::records();
    records.retain(|r| ["bf16", "q8_0"].contains(&r.origin.lane.as_str()) && !matches!(r.body, Body::Speed(_)));
    for record in records.iter_mut().filter(|r| r.origin.lane == "q8_0") {
        match &mut record.body {
            Body::Lane(lane) => lane.bytes = 4_100_320,
            Body::Sequence(sequence) => sequence.against.as_mut().unwrap().kld.fill(-5e-10),
            _ => {}
        }
    }
    let dominated = findings_of(&records).dominated;
    assert_eq!(
        dominated,
        ["q8_0 is dominated by bf16: it is smaller (4.07 MB against 4.10 MB) and as near to the reference (KLD 0 against \
             -5.00e-10)."]
    );
}

#[test]
fn without_timings_size_and_divergence_decide() {
    let mut records = sample::records();
    records.retain(|r| !matches!(r.body, Body::Speed(_)));
    let q4_0 = findings_of(&records).dominated.into_iter().find(|s| s.starts_with("q4_0 ")).unwrap();
    assert!(q4_0.contains("iq4_xs") && !q4_0.contains("tokens/s"), "{q4_0}");
}

/// The sample with lane `copy` made of lane `of`, its divergences changed by `change(token)`.
fn with_copy(of: &str, change: impl Fn(usize) -> f64) -> Vec<Record> {
    let mut records = sample::records();
    let mut copy: Vec<Record> = records.iter().filter(|r| r.origin.lane == of).cloned().collect();
    for record in &mut copy {
        record.origin.lane = "copy".into();
        if let Body::Sequence(sequence) = &mut record.body {
            let kld = &mut sequence.against.as_mut().unwrap().kld;
            let shift = change(sequence.sequence as usize);
            kld.iter_mut().for_each(|k| *k += shift);
        }
    }
    records.extend(copy);
    records
}

#[track_caller]
fn check_tie(change: impl Fn(usize) -> f64, expected: bool) {
    let ties = findings_of(&with_copy("q4_0", change)).ties;
    let found = ties.iter().any(|t| t == "copy and q4_0" || t == "q4_0 and copy");
    assert_eq!(found, expected, "{ties:?}");
}

#[test]
fn lanes_are_tied_when_the_paired_interval_holds_zero() {
    check_tie(|_| 0.0, true);
    check_tie(|sequence| if sequence % 2 == 0 { 1e-4 } else { -1e-4 }, true);
    // Far less than the interval of either lane alone, but the same in every sequence.
    check_tie(|sequence| 2e-6 + 1e-9 * sequence as f64, false);
}

#[test]
fn the_difference_is_signed_and_needs_the_same_sequences() {
    let records = with_copy("q4_0", |_| 0.5);
    let gathered = gather(&records).unwrap();
    let sums = |name: &str| lane_sums(gathered.lanes.iter().find(|l| l.key.lane == name).unwrap());
    let (mut copy, own) = (sums("copy").unwrap(), sums("q4_0").unwrap());
    let difference = Differences::of(&copy, &own).divergence().unwrap();
    assert!((difference.value - 0.5).abs() < 1e-12, "{difference:?}");
    copy[0].1.iter_mut().for_each(|(_, s)| s.tokens += 1);
    assert_eq!(Differences::of(&copy, &own).divergence(), None);
    assert!(sums("bf16").is_none(), "the reference was compared with nothing");
}

#[test]
fn divergences_are_paired_by_text_and_sequence() {
    let mut records = sample::two_texts();
    for record in records.iter_mut().filter(|r| r.origin.lane == "q4_0") {
        if let Body::Sequence(s) = &mut record.body {
            let shift = if s.text_sha256 == "00ff" { 0.25 } else { 0.75 };
            s.against.as_mut().unwrap().kld.iter_mut().for_each(|k| *k += shift);
        }
    }
    let (changed, plain) = (gather(&records).unwrap(), sample::two_texts());
    let plain = gather(&plain).unwrap();
    let sums = |gathered: &crate::gather::Gathered<'_>| -> Vec<(String, u32, f64)> {
        let lane = gathered.lanes.iter().find(|l| l.key.lane == "q4_0").unwrap();
        let texts = lane_sums(lane).unwrap();
        texts.iter().flat_map(|(key, s)| s.iter().map(|(n, c)| (key.sha256.to_owned(), *n, c.kld))).collect()
    };
    assert_eq!(sums(&changed).len(), 120);
    for ((text, _, own), (_, _, before)) in sums(&changed).into_iter().zip(sums(&plain)) {
        let shift = if text == "00ff" { 0.25 } else { 0.75 };
        assert!((own - before - 127.0 * shift).abs() < 1e-9);
    }
    let lane = |g: &crate::gather::Gathered<'_>| g.lanes.iter().position(|l| l.key.lane == "q4_0").unwrap();
    let of = |g| lane_sums(g).unwrap();
    let (first, second) = (of(&changed.lanes[lane(&changed)]), of(&plain.lanes[lane(&plain)]));
    let difference = Differences::of(&first, &second).divergence().unwrap();
    assert!((difference.value - 0.5).abs() < 1e-12, "{difference:?}");
}

/// The sample's q4_0 and a smaller `copy` of it in `windows` windows, changed by `change`.
fn smaller_copy(windows: u32, change: impl Fn(&mut bitworth_eval::record::SequenceRecord)) -> (Findings, usize) {
    let mut records = with_copy("q4_0", |_| 0.0);
    records.retain(|r| ["bf16", "q4_0", "copy"].contains(&r.origin.lane.as_str()) && !matches!(r.body, Body::Speed(_)));
    records.retain(|r| r.as_sequence().is_none_or(|s| s.sequence < windows));
    for record in records.iter_mut().filter(|r| r.origin.lane == "copy") {
        match &mut record.body {
            Body::Lane(lane) => lane.bytes -= 1000,
            Body::Sequence(sequence) => change(sequence),
            _ => {}
        }
    }
    let report = Report::new(&records).unwrap();
    let place = report.rows.iter().position(|r| r.lane == "copy").unwrap();
    (report.findings, place)
}

#[test]
fn a_lane_stands_in_for_a_larger_one_where_all_three_measures_say_so() {
    fn shift(s: &mut bitworth_eval::record::SequenceRecord, by: f64) {
        let sign = if s.sequence.is_multiple_of(2) { 1.0 } else { -1.0 };
        s.against.as_mut().unwrap().kld.iter_mut().for_each(|k| *k += sign * by);
    }
    let near = "As near to the original as q4_0, and smaller.";
    let told = |windows, change: &dyn Fn(&mut bitworth_eval::record::SequenceRecord)| {
        let (findings, place) = smaller_copy(windows, change);
        (findings.uses[place] == near, !findings.ties.is_empty(), findings.verdicts[place].clone())
    };
    let (use_, tie, verdict) = told(60, &|s| shift(s, 1e-4));
    assert!(use_ && tie && verdict.contains("as near to it as q4_0, the next larger"), "{verdict}");
    // Four windows, and intervals that are too wide, show nothing.
    let (use_, tie, verdict) = told(4, &|s| shift(s, 1e-4));
    assert!(!use_ && !tie && verdict.contains("tells no difference from q4_0, the next larger (differences under"), "{verdict}");
    let (use_, tie, verdict) = told(60, &|s| shift(s, 0.2));
    assert!(!use_ && !tie && verdict.contains("tells no difference from q4_0"), "{verdict}");
    // The same divergence, but other likeliest tokens or another perplexity.
    let (use_, tie, verdict) = told(60, &|s| {
        shift(s, 1e-4);
        let against = s.against.as_mut().unwrap();
        against.top1_matches -= 6 + s.sequence % 2;
    });
    assert!(!use_ && !tie && verdict.contains("its top-1 agreement does (-5.1 points)"), "{verdict}");
    let (use_, tie, verdict) = told(60, &|s| {
        shift(s, 1e-4);
        s.nll_sum += 0.5 + 0.001 * f64::from(s.sequence);
    });
    assert!(!use_ && !tie && verdict.contains("its perplexity does (+0.4"), "{verdict}");
}

#[test]
fn a_better_choice_is_shown_to_be_one() {
    fn nearer(s: &mut bitworth_eval::record::SequenceRecord, by: f64) {
        s.against.as_mut().unwrap().kld.iter_mut().for_each(|k| *k -= by);
    }
    let told = |windows, change: &dyn Fn(&mut bitworth_eval::record::SequenceRecord)| {
        let (findings, _) = smaller_copy(windows, change);
        let is_told = findings.uses.iter().any(|told| told == "Better take copy.");
        assert_eq!(is_told, findings.dominated.iter().any(|told| told.starts_with("q4_0 is dominated by copy: ")));
        is_told
    };
    assert!(told(60, &|s| nearer(s, 1e-3)));
    assert!(!told(7, &|s| nearer(s, 1e-3)), "seven windows show nothing");
    // Nearer in the mean alone, by far less than the interval.
    assert!(!told(60, &|s| nearer(s, if s.sequence.is_multiple_of(2) { 0.5 } else { -0.499_999 })));
    // Nearer, with fewer of the reference's likeliest tokens, or a higher perplexity.
    assert!(!told(60, &|s| {
        nearer(s, 1e-3);
        s.against.as_mut().unwrap().top1_matches -= 6;
    }));
    assert!(!told(60, &|s| {
        nearer(s, 1e-3);
        s.nll_sum += 0.5;
    }));
}

/// The findings of a run in which the lane's perplexity differs in each sequence from the reference's as `change(sequence)` says.
fn with_nll(lane: &str, change: impl Fn(u32) -> f64) -> (Findings, usize) {
    let mut records = sample::records();
    let reference: std::collections::BTreeMap<u32, f64> = records
        .iter()
        .filter(|r| r.origin.lane == "bf16")
        .filter_map(|r| r.as_sequence().map(|s| (s.sequence, s.nll_sum)))
        .collect();
    for record in records.iter_mut().filter(|r| r.origin.lane == lane) {
        if let Body::Sequence(s) = &mut record.body {
            s.nll_sum = reference[&s.sequence] + change(s.sequence);
        }
    }
    let report = Report::new(&records).unwrap();
    let place = report.rows.iter().position(|r| r.lane == lane).unwrap();
    (report.findings, place)
}

#[test]
fn verdicts_follow_the_paired_interval_of_the_perplexities() {
    let (findings, q6_k) = with_nll("q6_k", |s| if s % 2 == 0 { 0.1 } else { -0.1 });
    assert!(
        findings.verdicts[q6_k].starts_with("as good as the reference: perplexity +0.000 % (-0.02")
            && findings.verdicts[q6_k].contains("losses under 0.021 % cannot be seen in 60 windows; KLD 0.000"),
        "{:?}",
        findings.verdicts[q6_k]
    );
    assert_eq!(
        findings.uses[q6_k],
        "The smallest that is as good as the original by perplexity, KLD and top-1 agreement: the one to begin with."
    );
    assert!(
        findings.answers[0].starts_with(
            "q6_k is the smallest that is as good as bf16 by perplexity, KLD and top-1 agreement: 1.70 MB, \
         41.9 % of the size; perplexity +0.000 %"
        ),
        "{:?}",
        findings.answers
    );
    // Each sequence a little worse is worse, however small the change.
    let (findings, q6_k) = with_nll("q6_k", |s| 0.1 + 0.001 * f64::from(s));
    assert!(
        findings.verdicts[q6_k].starts_with(
            "worse than the reference: perplexity +0.102 % (+0.098 % to +0.106 %); worse \
         than q8_0, the next larger, by a KLD of 0.000347"
        ),
        "{:?}",
        findings.verdicts[q6_k]
    );
    assert!(
        findings.answers[0].starts_with("Every smaller lane can be told apart from bf16; q8_0 is the nearest: 2.20 MB"),
        "{:?}",
        findings.answers
    );
    let (findings, q6_k) = with_nll("q6_k", |s| -0.1 - 0.001 * f64::from(s));
    assert!(
        findings.verdicts[q6_k].starts_with("changed, though not for the worse: perplexity -0.102 % ("),
        "{:?}",
        findings.verdicts[q6_k]
    );
}

/// The sample's bf16 and q6_k in `windows` windows, the latter's perplexity off by `noise` to and fro, its divergence and
/// agreement as given.
fn short(windows: u32, noise: f64, kld: f64, top1: f64) -> (Report, usize) {
    let mut records = sample::records();
    records.retain(|r| ["bf16", "q6_k"].contains(&r.origin.lane.as_str()));
    records.retain(|r| r.as_sequence().is_none_or(|s| s.sequence < windows));
    for record in &mut records {
        if let Body::Sequence(s) = &mut record.body {
            s.nll_sum = f64::from(s.tokens);
            if let Some(against) = &mut s.against {
                s.nll_sum += f64::from(s.tokens) * if s.sequence % 2 == 0 { noise } else { -noise };
                against.kld.fill(kld);
                against.top1_matches = (top1 * f64::from(s.tokens)).round() as u32;
            }
        }
    }
    (Report::new(&records).unwrap(), 1)
}

#[track_caller]
fn check_standing((report, place): (Report, usize), expected: Standing, verdict: &str) {
    assert_eq!(Standing::of(&report.rows[place]), expected);
    let found = &report.findings.verdicts[place];
    assert!(found.contains(verdict), "{found}");
    let (uses, answer) = (&report.findings.uses[place], &report.findings.answers[0]);
    assert_eq!(uses.contains("the one to begin with"), expected == Standing::AsGood, "{uses}");
    assert_eq!(answer.contains("is as good as bf16"), expected == Standing::AsGood, "{answer}");
}

#[test]
fn what_a_short_text_cannot_show_is_not_found() {
    // Four windows: half the width is t(3) times the error of four draws of +-n, 3.18 n / sqrt(3).
    let limits = "losses under 2.4 % cannot be seen in 4 windows";
    check_standing(short(4, 0.0131, 0.03, 0.88), Standing::Changed, limits);
    check_standing(short(4, 0.0131, 0.03, 0.88), Standing::Changed, "KLD 0.0300, the same likeliest token in 88.2 % of places");
    check_standing(short(4, 0.0131, 0.002, 0.98), Standing::Unresolved, limits);
    check_standing(short(8, 0.002, 0.002, 0.98), Standing::AsGood, "cannot be seen in 8 windows");
    // A narrow interval of few windows is luck as likely as not.
    check_standing(short(4, 0.002, 0.002, 0.98), Standing::Unresolved, "losses under 0.37 % cannot be seen in 4 windows");
    check_standing(short(7, 0.002, 0.002, 0.98), Standing::Unresolved, "cannot be seen in 7 windows");
    // A narrow interval does not outweigh what every token shows.
    check_standing(short(4, 0.002, 0.03, 0.98), Standing::Changed, "KLD 0.0300");
    check_standing(short(4, 0.002, 0.002, 0.90), Standing::Changed, "89.8 % of places");
    let (report, _) = short(4, 0.0131, 0.002, 0.98);
    let answer = &report.findings.answers[0];
    assert!(answer.starts_with("No smaller lane is shown to be as good as bf16 (with q6_k, losses under 2.4 %"), "{answer}");
}

#[test]
fn intervals_of_few_windows_are_told_everywhere() {
    let told = |windows| {
        let (report, _) = short(windows, 0.01, 0.002, 0.98);
        let card = crate::card::render(&report, &crate::card::Facts::default()).unwrap();
        let page = crate::markdown::render(&crate::contents::page(&report));
        [report.to_text(), card, page].map(|text| text.contains(&format!("Only {windows} window")))
    };
    assert_eq!([told(1), told(7), told(8)], [[true; 3], [true; 3], [false; 3]]);
    // Enough of both texts together, and too few of one.
    let mut records = sample::two_texts();
    records.retain(|r| r.as_sequence().is_none_or(|s| s.text_sha256 != "00ff" || s.sequence < 7));
    let text = Report::new(&records).unwrap().to_text();
    assert!(text.contains("Fewer than 8 windows were scored of prose: intervals of such a text"), "{text}");
    assert!(!Report::new(&sample::two_texts()).unwrap().to_text().contains("Fewer than"));
}

#[test]
fn nothing_rests_on_a_speed_of_a_machine_that_drifted() {
    let mut records = sample::records();
    for record in &mut records {
        if let (Body::Speed(speed), "iq4_xs") = (&mut record.body, record.origin.lane.as_str()) {
            speed.seconds /= 2.0;
            speed.drifted = speed.repetition > 1;
        }
    }
    let report = Report::new(&records).unwrap();
    let q4_0 = report.findings.dominated.iter().find(|s| s.starts_with("q4_0 ")).unwrap();
    assert!(!q4_0.contains("tokens/s"), "{q4_0}");
    let text = report.to_text();
    let line = |begin: &str, what: &str| text.lines().any(|l| l.starts_with(begin) && l.contains(what));
    assert!(line("iq4_xs ", " ! ") && line("iq4_xs ", "x!") && line("! the machine drifted", "nothing is concluded"), "{text}");
}

#[test]
fn a_lane_with_no_reference_has_no_verdict() {
    let mut records = sample::records();
    records.retain(|r| r.origin.lane != "bf16");
    records.iter_mut().for_each(|r| {
        if let Body::Sequence(s) = &mut r.body {
            s.against = None
        }
    });
    let findings = findings_of(&records);
    assert!(findings.verdicts.iter().all(String::is_empty) && findings.answers.is_empty(), "{findings:?}");
}

#[test]
fn tasks_name_the_lanes_that_differ_and_those_that_are_undecided() {
    let mut records = sample::records();
    for record in &mut records {
        if let (Body::Item(item), "iq2_xxs") = (&mut record.body, record.origin.lane.as_str())
            && item.task == "grammar"
            && item.item < 20
        {
            item.value = Some(0.0);
        }
    }
    let tasks = findings_of(&records).tasks;
    let grammar = tasks.iter().find(|s| s.starts_with("grammar")).unwrap();
    let p = grammar.strip_prefix("grammar (250 items), against the reference: iq2_xxs -8.0 points (p = ");
    let (p, rest) = p.and_then(|p| p.split_once(')')).unwrap_or_else(|| panic!("{grammar}"));
    let p: f64 = p.parse().unwrap();
    // Twenty flips one way, by Holm among the 44 comparisons of 11 lanes in 4 tasks, of which facts' may be surer.
    let alone = 2.0 * 0.5f64.powi(20);
    assert!((39.0 * alone..45.0 * alone).contains(&p), "{grammar}");
    // The other lanes have no flips, but 250 items are too few for a margin of half a point (computed with NumPy).
    assert!(rest.starts_with("; undecided: q8_0, q6_k,") && rest.ends_with(" q2_k (1236 items would decide)."), "{grammar}");
    let tasks = findings_of(&sample::records()).tasks;
    let nothing = "grammar (250 items), against the reference: undecided: every lane (1236 items would decide).";
    assert!(tasks.contains(&nothing.to_owned()), "{tasks:?}");
}

#[test]
fn of_two_models_each_sentence_says_whose_it_is() {
    let one = sample::records();
    let mut both = one.clone();
    both.extend(one.iter().cloned().map(|mut record| {
        record.origin.model = "other".into();
        record
    }));
    let skills = findings_of(&both).skills;
    assert_eq!(skills.len(), 2, "{skills:?}");
    assert!(skills.iter().any(|s| s.starts_with("Against bf16 (other), of the tasks ")), "{skills:?}");
    assert_ne!(skills[0], skills[1]);
    assert!(findings_of(&one).skills[0].starts_with("Of the tasks "));
}
