//! Tests of the comparison of two runs, on the made-up records of `sample`.

use super::*;
use bitworth_eval::record::{Body, Phase, Speed};
use bitworth_eval::sample;

fn changed(change: impl Fn(&mut Record)) -> Result<Regression> {
    let old = sample::records();
    let mut new = old.clone();
    new.iter_mut().for_each(change);
    of(&old, &new)
}

fn regressions(comparison: &Regression) -> Vec<(String, Measure)> {
    comparison.with(ChangeVerdict::Regression).into_iter().map(|c| (c.lane.clone(), c.measure)).collect()
}

#[test]
fn a_run_is_like_itself() {
    let comparison = changed(|_| {}).unwrap();
    assert!(comparison.changes.len() > 12 * 8, "{}", comparison.changes.len());
    assert!(comparison.changes.iter().all(|c| c.verdict == ChangeVerdict::Same));
    assert!(comparison.only_old.is_empty() && comparison.only_new.is_empty() && comparison.notes.is_empty());
}

#[test]
fn a_comparison_of_few_windows_says_so_on_its_page() {
    let of = |windows: u32| {
        let mut records = sample::records();
        records.retain(|r| r.as_sequence().is_none_or(|s| s.sequence < windows));
        of(&records, &records).unwrap()
    };
    assert!(of(8).warnings.is_empty());
    let few = of(7);
    assert!(matches!(&few.warnings[..], [warning] if warning.starts_with("Only 7 windows were scored: ")), "{:?}", few.warnings);
    assert!(crate::markdown::render(&crate::changes::page(&few, "old", "new")).contains("Only 7 windows were scored: "));
}

/// The sequences of `q4_0`, changed.
fn sequences(change: impl Fn(&mut SequenceRecord)) -> Regression {
    let in_lane = |r: &mut Record| {
        if let (Body::Sequence(s), "q4_0") = (&mut r.body, r.origin.lane.as_str()) {
            change(s);
        }
    };
    changed(in_lane).unwrap()
}

#[test]
fn a_small_loss_in_every_sequence_is_a_regression_and_noise_is_not() {
    let worse = sequences(|s| s.nll_sum += 0.01 + 1e-5 * f64::from(s.sequence));
    assert_eq!(regressions(&worse), [("q4_0".to_owned(), Measure::Perplexity)]);
    let better = sequences(|s| s.nll_sum -= 0.01 + 1e-5 * f64::from(s.sequence));
    assert_eq!(better.with(ChangeVerdict::Improvement).len(), 1);
    let noise = sequences(|s| s.nll_sum += if s.sequence % 2 == 0 { 0.01 } else { -0.01 });
    let rounding = sequences(|s| s.nll_sum *= 1.0 + 1e-7);
    assert!(regressions(&noise).is_empty() && regressions(&rounding).is_empty());
}

#[test]
fn divergence_and_agreement_are_paired_too() {
    let worse = sequences(|s| {
        let against = s.against.as_mut().unwrap();
        against.kld.iter_mut().for_each(|k| *k += 1e-5);
        against.top1_matches -= 1 + s.sequence % 2;
    });
    let found = regressions(&worse);
    assert_eq!(found, [("q4_0".to_owned(), Measure::Divergence), ("q4_0".to_owned(), Measure::Agreement)]);
    assert!(worse.with(ChangeVerdict::Regression).iter().all(|c| c.paired));
}

fn timings(factor: f64, drifted: bool) -> Regression {
    let slower = |r: &mut Record| {
        if let (Body::Speed(s), "q4_0") = (&mut r.body, r.origin.lane.as_str())
            && s.phase == Phase::Decode
            && (!drifted || s.repetition > 1)
        {
            s.seconds *= factor;
            s.drifted = drifted;
        }
    };
    changed(slower).unwrap()
}

#[test]
fn speed_is_judged_by_the_spread_of_the_repetitions_and_drifted_ones_do_not_count() {
    assert_eq!(regressions(&timings(1.2, false)), [("q4_0".to_owned(), Measure::Decode)]);
    assert_eq!(timings(0.8, false).with(ChangeVerdict::Improvement).len(), 1);
    // The repetitions spread by 4 %.
    assert!(regressions(&timings(1.02, false)).is_empty());
    let drifted = timings(3.0, true);
    assert!(regressions(&drifted).is_empty());
    let not_judged = drifted.with(ChangeVerdict::Drifted);
    assert_eq!((not_judged.len(), not_judged[0].measure, not_judged[0].lane.as_str()), (1, Measure::Decode, "q4_0"));
    assert!(not_judged[0].new_drifted.is_some_and(|range| range.low < not_judged[0].new));
}

/// The sample, and the sample with `change`, compared within these tolerances.
fn within(tolerances: &[&str], change: impl Fn(&mut Record)) -> Regression {
    let old = sample::records();
    let mut new = old.clone();
    new.iter_mut().for_each(change);
    let tolerances = Tolerances::new(tolerances.iter().map(|t| t.parse().unwrap()));
    of_within(&old, &new, &tolerances).unwrap()
}

#[test]
fn sizes_may_change_unless_a_bound_is_given() {
    let larger = |r: &mut Record| {
        if let (Body::Lane(lane), "q4_0") = (&mut r.body, r.origin.lane.as_str()) {
            lane.bytes += 1;
        }
    };
    let plain = within(&[], larger);
    assert!(regressions(&plain).is_empty() && plain.with(ChangeVerdict::Tolerated)[0].measure == Measure::Bytes);
    assert_eq!(regressions(&within(&["size=0"], larger)), [("q4_0".to_owned(), Measure::Bytes)]);
    assert!(regressions(&within(&["size=0.001%"], larger)).is_empty());
}

#[test]
fn what_is_tolerated_is_no_regression_and_what_exceeds_it_is() {
    let slower = |r: &mut Record| match &mut r.body {
        Body::Speed(s) if r.origin.lane == "q4_0" && s.phase == Phase::Decode => s.seconds *= 1.25,
        Body::Sequence(s) if r.origin.lane == "q4_0" => s.nll_sum += 0.01 + 1e-5 * f64::from(s.sequence),
        _ => {}
    };
    let found = |tolerances: &[&str]| -> Vec<Measure> {
        regressions(&within(tolerances, slower)).into_iter().map(|(_, measure)| measure).collect()
    };
    assert_eq!(found(&[]), [Measure::Perplexity, Measure::Decode]);
    assert_eq!(found(&["decode=21%"]), [Measure::Perplexity]);
    assert_eq!(found(&["decode=19%", "ppl=0.1%"]), [Measure::Decode]);
    let comparison = within(&["decode=21%", "ppl=0.001"], slower);
    assert_eq!(
        (comparison.with(ChangeVerdict::Tolerated).len(), comparison.tolerated.join(", ")),
        (2, "decode 21 %, ppl 0.001".into())
    );
}

#[test]
fn memory_and_energy_are_compared() {
    let run = |memory: u64, joules: f64| {
        let mut records = sample::records();
        for record in records.iter_mut().filter(|r| r.origin.lane == "q4_0") {
            if let Body::Speed(s) = &mut record.body {
                s.footprint.memory_bytes = Some(memory);
                s.joules = Some(joules * (1.0 + 0.01 * f64::from(s.repetition)));
            }
        }
        records
    };
    let found = |old: &[Record], new: &[Record]| {
        let comparison = of(old, new).unwrap();
        let of = |m: Measure| comparison.changes.iter().find(|c| c.measure == m).map(|c| (c.verdict, c.old, c.new));
        (of(Measure::Memory), of(Measure::Energy))
    };
    let old = run(1_000_000, 10.0);
    let (memory, energy) = found(&old, &run(1_100_000, 20.0));
    assert_eq!(memory, Some((ChangeVerdict::Regression, 1e6, 1.1e6)));
    assert_eq!(energy.unwrap().0, ChangeVerdict::Regression);
    assert!((energy.unwrap().1 / energy.unwrap().2 - 2.0).abs() < 1e-9, "tokens per joule: {energy:?}");
    let (memory, energy) = found(&old, &run(900_000, 5.0));
    assert_eq!([memory.unwrap().0, energy.unwrap().0], [ChangeVerdict::Improvement; 2]);
    let (memory, energy) = found(&old, &run(1_020_000, 10.2));
    assert_eq!([memory.unwrap().0, energy.unwrap().0], [ChangeVerdict::Same; 2]);
    assert_eq!(found(&sample::records(), &old), (None, None));
}

/// The sample with a figure of memory in every timing of `q4_0`, by repetition.
fn with_memory(of: impl Fn(u32) -> u64) -> Vec<Record> {
    let mut records = sample::records();
    for record in records.iter_mut().filter(|r| r.origin.lane == "q4_0") {
        if let Body::Speed(s) = &mut record.body {
            s.footprint.memory_bytes = Some(of(s.repetition));
        }
    }
    records
}

#[test]
fn memory_is_judged_beyond_its_tolerance_and_by_the_spread_of_several_starts() {
    let found = |old: &[Record], new: &[Record], tolerances: &[&str]| {
        let tolerances = Tolerances::new(tolerances.iter().map(|t| t.parse().unwrap()));
        let comparison = of_within(old, new, &tolerances).unwrap();
        let change = comparison.changes.into_iter().find(|c| c.measure == Measure::Memory).unwrap();
        (change.verdict, change.one_figure_each, change.change.interval.is_some())
    };
    let one = |bytes: u64| with_memory(|_| bytes);
    let old = one(1_000_000);
    assert_eq!(found(&old, &one(1_040_000), &[]), (ChangeVerdict::Tolerated, true, false));
    assert_eq!(found(&old, &one(1_060_000), &[]), (ChangeVerdict::Regression, true, false));
    assert_eq!(found(&old, &one(1_040_000), &["memory=3.5%"]), (ChangeVerdict::Regression, true, false));
    assert_eq!(found(&old, &one(1_060_000), &["memory=7%"]), (ChangeVerdict::Tolerated, true, false));
    let two = |first: u64, second: u64| with_memory(|repetition| if repetition < 2 { first } else { second });
    let old = two(1_000_000, 1_100_000);
    assert_eq!(found(&old, &two(1_090_000, 1_200_000), &[]), (ChangeVerdict::Same, false, true), "the ranges overlap");
    assert_eq!(found(&old, &two(1_180_000, 1_200_000), &[]), (ChangeVerdict::Regression, false, true));
}

#[test]
fn energy_of_a_machine_that_drifted_and_of_one_repetition_is_not_judged() {
    let run = |joules: f64, counted: u32, drifted: bool| {
        let mut records = sample::records();
        for record in records.iter_mut().filter(|r| r.origin.lane == "q4_0") {
            if let Body::Speed(s) = &mut record.body {
                s.joules = (s.repetition < counted).then_some(joules * (1.0 + 0.01 * f64::from(s.repetition)));
                s.drifted = drifted;
            }
        }
        records
    };
    let energy = |old: &[Record], new: &[Record]| {
        let changes = of(old, new).unwrap().changes;
        changes.into_iter().find(|c| c.measure == Measure::Energy).unwrap()
    };
    let drifted = energy(&run(10.0, 5, false), &run(20.0, 5, true));
    assert_eq!((drifted.verdict, drifted.old_drifted, drifted.one_figure_each), (ChangeVerdict::Drifted, None, false));
    // 128 tokens for 20 to 20.8 joules.
    let range = drifted.new_drifted.unwrap();
    assert!((range.low - 128.0 / 20.8).abs() < 1e-9 && (range.high - 6.4).abs() < 1e-9, "{range:?}");
    let single = energy(&run(10.0, 1, false), &run(20.0, 1, false));
    assert_eq!((single.verdict, single.one_figure_each), (ChangeVerdict::Undecided, true));
    let judged = energy(&run(10.0, 5, false), &run(20.0, 5, false));
    assert_eq!((judged.verdict, judged.one_figure_each), (ChangeVerdict::Regression, false));
}

#[test]
fn a_task_is_worse_when_its_items_are() {
    let worse = |r: &mut Record| {
        if let (Body::Item(item), "q8_0") = (&mut r.body, r.origin.lane.as_str())
            && item.task == "grammar"
            && item.item < 10
        {
            item.value = Some(0.0);
        }
    };
    let comparison = changed(worse).unwrap();
    let found = comparison.with(ChangeVerdict::Regression);
    assert_eq!((found.len(), found[0].task.as_deref(), found[0].change.value), (1, Some("grammar"), -0.04));
}

#[test]
fn lanes_of_one_side_are_named() {
    let old = sample::records();
    let new: Vec<Record> = old.iter().filter(|r| r.origin.lane != "q5_0").cloned().collect();
    assert_eq!(of(&old, &new).unwrap().only_old, ["q5_0"]);
    assert_eq!(of(&new, &old).unwrap().only_new, ["q5_0"]);
}

#[test]
fn on_another_device_quality_is_compared_and_speed_is_not() {
    let comparison = changed(|r| r.origin.device = "another".into()).unwrap();
    assert!(comparison.changes.iter().any(|c| c.measure == Measure::Perplexity));
    assert!(!comparison.changes.iter().any(|c| matches!(c.measure, Measure::Decode | Measure::Prefill)));
    assert!(comparison.notes[0].contains("speeds are not compared"), "{:?}", comparison.notes);
}

#[test]
fn timings_of_different_record_versions_are_not_compared() {
    let is_speed = |c: &Change| matches!(c.measure, Measure::Decode | Measure::Prefill);
    let comparison = changed(|r| r.origin.schema = 3).unwrap();
    assert!(!comparison.changes.iter().any(is_speed));
    assert!(comparison.notes[0].contains("record versions"), "{:?}", comparison.notes);
    // Since version 4 a timing holds the same.
    let comparison = changed(|r| r.origin.schema = 4).unwrap();
    assert!(comparison.changes.iter().any(is_speed), "{:?}", comparison.notes);
}

#[test]
fn speeds_of_other_programs_or_shapes_are_not_compared() {
    let is_speed = |c: &Change| matches!(c.measure, Measure::Decode | Measure::Prefill);
    let with = |change: fn(&mut Speed)| {
        changed(|r| {
            if let Body::Speed(speed) = &mut r.body {
                change(speed);
            }
        })
        .unwrap()
    };
    let other = with(|speed| speed.engine = "llama-bench b1 (c), CPU".into());
    assert!(!other.changes.iter().any(is_speed), "{:?}", other.notes);
    assert!(other.notes.iter().any(|note| note.contains("llama-bench on the lane itself")), "{:?}", other.notes);
    let shaped = with(|speed| speed.shape = Some("llama-1b".into()));
    assert!(!shaped.changes.iter().any(is_speed));
    assert!(shaped.notes.iter().any(|note| note.contains("bitworth on the shape llama-1b")), "{:?}", shaped.notes);
}

#[test]
fn bits_per_byte_are_compared_on_the_rolling_pass() {
    let windows = sample::records();
    let run = |factor| [windows.clone(), sample::rolling(&windows, factor)].concat();
    let comparison = of(&run(2.0), &run(2.002)).unwrap();
    let bits: Vec<&Change> = comparison.changes.iter().filter(|c| c.measure == Measure::BitsPerByte).collect();
    assert!(bits.len() == 12 && bits.iter().all(|c| c.verdict == ChangeVerdict::Regression && c.paired));
    assert!(bits.iter().all(|c| (c.change.value - 1.001).abs() < 1e-9 && (c.new / c.old - 1.001).abs() < 1e-9), "{bits:?}");
    let notes = of(&windows, &run(2.0)).unwrap().notes;
    assert!(notes[0].contains("only one of the runs made the pass over rolling"), "{notes:?}");
}

#[test]
fn several_texts_are_compared_together_and_must_be_the_same() {
    let old = sample::two_texts();
    let mut new = old.clone();
    for record in new.iter_mut().filter(|r| r.origin.lane == "q4_0") {
        if let Body::Sequence(s) = &mut record.body
            && s.text_sha256 == "00ff"
        {
            s.nll_sum += 0.02 + 1e-5 * f64::from(s.sequence);
        }
    }
    let comparison = of(&old, &new).unwrap();
    assert_eq!(regressions(&comparison), [("q4_0".to_owned(), Measure::Perplexity)]);
    let change = comparison.with(ChangeVerdict::Regression)[0].change;
    assert!((change.value.ln() * 127.0 / 0.0101 - 1.0).abs() < 0.02, "half of the tokens changed: {change:?}");
    let error = of(&old, &sample::records()).unwrap_err().to_string();
    assert!(error.contains("the old run scored text 00ff") && error.contains("the new one nothing else"), "{error}");
}

#[test]
fn one_sequence_or_one_repetition_decides_nothing() {
    let mut old = sample::records();
    old.retain(|r| match &r.body {
        Body::Sequence(s) => s.sequence == 0,
        Body::Speed(s) => s.repetition == 0,
        _ => true,
    });
    let mut new = old.clone();
    for record in &mut new {
        match &mut record.body {
            Body::Sequence(s) => s.nll_sum += 5.0,
            Body::Speed(s) => s.seconds *= 3.0,
            _ => {}
        }
    }
    let comparison = of(&old, &new).unwrap();
    assert!(comparison.with(ChangeVerdict::Regression).is_empty());
    let undecided = |m: Measure| comparison.with(ChangeVerdict::Undecided).iter().filter(|c| c.measure == m).count();
    assert_eq!((undecided(Measure::Perplexity), undecided(Measure::Decode)), (12, 12));
}

#[test]
fn runs_that_share_no_sequence_are_compared_by_their_intervals() {
    let part = |odd: u32, more: f64| {
        let mut records = sample::records();
        records.retain(|r| r.as_sequence().is_none_or(|s| s.sequence % 2 == odd));
        for record in &mut records {
            if let Body::Sequence(s) = &mut record.body {
                s.nll_sum += more * f64::from(s.tokens);
            }
        }
        records
    };
    let verdicts = |comparison: &Regression| -> Vec<ChangeVerdict> {
        let perplexities = comparison.changes.iter().filter(|c| c.measure == Measure::Perplexity && !c.paired);
        perplexities.map(|c| c.verdict).collect()
    };
    assert_eq!(verdicts(&of(&part(0, 0.0), &part(1, 0.0)).unwrap()), [ChangeVerdict::Same; 12]);
    assert_eq!(verdicts(&of(&part(0, 0.0), &part(1, 0.5)).unwrap()), [ChangeVerdict::Regression; 12]);
}

#[test]
fn runs_of_other_things_are_refused() {
    let error = |change: &dyn Fn(&mut Record)| changed(change).unwrap_err().to_string();
    let sequence = |r: &mut Record, change: &dyn Fn(&mut SequenceRecord)| {
        if let Body::Sequence(s) = &mut r.body {
            change(s);
        }
    };
    assert!(error(&|r| sequence(r, &|s| s.text_sha256 = "ff".into())).contains("the new one text ff"));
    assert!(error(&|r| sequence(r, &|s| s.protocol.ctx = 512)).contains("windows of 512"));
    assert!(error(&|r| sequence(r, &|s| s.bytes += 1)).contains("tokenized in another way"));
    assert!(
        error(&|r| r.origin.model = "other".into()).contains("no lane is in both: those of the same name differ in model (old")
    );
    let q8 = error(&|r| r.origin.arithmetic = "q8".into());
    assert!(q8.contains("differ in arithmetic (old f32, new q8)"), "{q8}");
    assert!(error(&|r| r.origin.lane.insert(0, 'x')).contains("no lane is in both: the old run has bf16"));
    let version = |r: &mut Record| {
        if let Body::Item(item) = &mut r.body {
            item.task_version = "2".into();
        }
    };
    assert!(error(&version).contains("has version 1 in the old run and 2 in the new one"));
}

#[test]
fn other_windows_and_items_are_said_once() {
    let old = sample::records();
    let mut new = old.clone();
    new.retain(|r| {
        r.as_sequence().is_none_or(|s| s.sequence < 40) && r.as_item().is_none_or(|i| i.task != "facts" || i.item < 30)
    });
    let notes = of(&old, &new).unwrap().notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("the old run has 60 windows, the new one 40") && notes[0].contains("over the 40 that"),
        "{notes:?}"
    );
    assert!(notes[1].starts_with("task facts: the old run has") && notes[1].contains("the new one 30"), "{notes:?}");
}
