//! Choices of the demo model by made-up losses: files on the disk against the size that was asked for, the range of what is
//! predicted, and what a trial takes by what a made-up judge says.

use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicBool;

use bitworth_eval::stats::Estimate;
use bitworth_quant::QuantizeOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::quantize;
use tempfile::TempDir;

use super::*;

const TYPES: [DType; 5] = [DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K, DType::Q6_K];
/// How many times what units lose alone they lose together, and the error of a loss as a share of it.
const TOGETHER_TIMES: f64 = 2.0;
const ERROR: f64 = 0.2;

fn demo() -> (TempDir, Arc<Checkpoint>) {
    let dir = TempDir::new().unwrap();
    bitworth_eval::demo::materialize(dir.path()).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(&dir.path().join("demo-model")).unwrap());
    (dir, checkpoint)
}

/// Each unit loses something else, and a quarter in the next larger type.
fn table(checkpoint: &Arc<Checkpoint>) -> SensitivityTable {
    let units = allocate::units(checkpoint.as_ref(), &PlanOptions::default()).unwrap();
    let loss = |number: usize, to: usize| 0.001 * (1 + number % 5) as f64 * 0.25f64.powi(to as i32);
    let row = |unit: &str, block: Option<usize>, to: usize, kld: f64| Sensitivity {
        unit: unit.to_owned(),
        block: block.map(|block| block as u32),
        to: TYPES[to].name().to_lowercase(),
        bytes: 1,
        err: kld,
        kld: Some(kld),
        kld_error: Some(ERROR * kld),
        shared: false,
    };
    let mut rows = Vec::new();
    for to in 0..TYPES.len() {
        rows.extend(units.iter().enumerate().map(|(i, unit)| row(&unit.name, unit.block, to, loss(i, to))));
        let sum: f64 = (0..units.len()).map(|number| loss(number, to)).sum();
        rows.push(row(TOGETHER, None, to, TOGETHER_TIMES * sum));
    }
    let origin = SensitivityOrigin {
        bitworth: "0".into(),
        model_sha256: model_sha256(checkpoint).unwrap(),
        text_sha256: "t".into(),
        imatrix_sha256: None,
        tokens: 4096,
        ctx: 256,
    };
    SensitivityTable { origin, rows }
}

fn allocator(checkpoint: &Arc<Checkpoint>) -> Allocator<'_> {
    Allocator::new(checkpoint, &table(checkpoint), PlanOptions::default()).unwrap()
}

fn around(value: f64) -> Estimate {
    Estimate { value, interval: Some(Interval { low: 0.98 * value, high: 1.02 * value }) }
}

#[test]
fn a_size_counts_the_whole_file_that_is_written() {
    let (dir, checkpoint) = demo();
    let allocator = allocator(&checkpoint);
    let base = Recipe::find("q3_k_m").unwrap();
    let smallest = allocator.mix(&Recipe::find("q2_k").unwrap(), "mix").unwrap().bytes;
    for (number, more) in [20_000, 60_001, 99_999, 160_031].into_iter().enumerate() {
        let most = smallest + more;
        let choice = allocator.choose(Target::FileBytes(most), &base, "mine").unwrap();
        let recipe = dir.path().join("mine.toml");
        std::fs::write(&recipe, &choice.text).unwrap();
        let recipe = Recipe::find(recipe.to_str().unwrap()).unwrap();
        let path = dir.path().join(format!("{number}.gguf"));
        let output = Output::of(checkpoint.as_ref(), &recipe, &PlanOptions::default(), &path).unwrap();
        quantize(checkpoint.as_ref(), &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent).unwrap();
        let written = std::fs::metadata(&path).unwrap().len();
        assert_eq!(written, choice.bytes);
        // With room for what the file would say of eight texts, and not much more.
        let keys = fit::metadata_bytes(&checkpoint, TEXTS);
        assert!(written + keys <= most && 10 * written >= 8 * most, "{written} bytes of {most}");
    }
}

#[test]
fn a_mix_that_will_be_fitted_fits_with_what_its_file_says_of_that() {
    let (_dir, checkpoint) = demo();
    let base = Recipe::find("q4_k_m").unwrap();
    let plain = allocator(&checkpoint).for_texts(0);
    let fitted = allocator(&checkpoint).for_texts(2);
    let mix = plain.mix(&base, "mine").unwrap();
    assert_eq!(plain.file_bytes(&mix), mix.bytes);
    assert!(fitted.file_bytes(&mix) >= mix.bytes + fit::metadata_bytes(&checkpoint, 2));
    // No choice is surely better.
    let judge = |candidates: &[&Candidate]| -> Result<Losses> {
        let loss = |i| Loss { kld: around(0.1), unseen: None, against_mix: (i > 0).then_some(around(0.0)) };
        Ok((0..candidates.len()).map(loss).collect())
    };
    let ruling = |allocator: &Allocator<'_>, most: u64| {
        let trial = Trial { allocator, base: &base, name: "mine" };
        trial.at(Target::FileBytes(most), Some(&judge as Judge<'_, Error>)).unwrap().ruling
    };
    assert_eq!(ruling(&plain, mix.bytes), Ruling::MixTaken);
    assert_eq!(ruling(&fitted, mix.bytes), Ruling::MixTooLarge);
    assert_eq!(ruling(&fitted, fitted.file_bytes(&mix)), Ruling::MixTaken);
}

#[test]
fn predictions_have_the_range_of_windows_and_of_what_is_lost_together() {
    let (_dir, checkpoint) = demo();
    let base = Recipe::find("q3_k_m").unwrap();
    let predicted = |table: &SensitivityTable| {
        let allocator = Allocator::new(&checkpoint, table, PlanOptions::default()).unwrap();
        let choice = allocator.choose(Target::BitsPerWeight(4.5), &base, "mine").unwrap();
        (choice.predicted_kld.unwrap(), choice.predicted_range, choice.text)
    };
    let whole = table(&checkpoint);
    let (kld, range, text) = predicted(&whole);
    let range = range.unwrap();
    // Sixteen windows: scipy.stats.t.ppf(0.975, 15) is 2.131449545559776.
    let half = ERROR * 2.131_449_545_559_776;
    assert!((range.low / (kld * (1.0 - half)) - 1.0).abs() < 1e-6, "{range:?} of {kld}");
    assert!((range.high / (kld * (1.0 + half) * TOGETHER_TIMES) - 1.0).abs() < 1e-6, "{range:?} of {kld}");
    assert!(text.contains(&format!("predicted KLD {kld:.6} ({:.6} to {:.6})", range.low, range.high)), "{text}");
    // In a type that was not measured the range grows with the estimate.
    let mut estimated = whole.clone();
    for row in estimated.rows.iter_mut().filter(|row| row.to != "q2_k") {
        (row.kld, row.kld_error) = (None, None);
    }
    let (same, ends, _) = predicted(&estimated);
    let ends = ends.unwrap();
    assert!((same / kld - 1.0).abs() < 1e-9 && (ends.high / range.high - 1.0).abs() < 1e-9, "{ends:?} of {same}");
    // One that says nothing of the spread, or of what is lost together, makes no range up.
    let mut one_window = whole.clone();
    one_window.rows.iter_mut().for_each(|row| row.kld_error = None);
    let mut older = whole;
    older.rows.retain(Sensitivity::is_alone);
    assert_eq!([predicted(&one_window).1, predicted(&older).1], [None, None]);
}

#[test]
fn a_bound_must_hold_on_windows_that_the_choice_did_not_see() {
    let (_dir, checkpoint) = demo();
    let allocator = allocator(&checkpoint);
    let base = Recipe::find("q6_k").unwrap();
    let trial = Trial { allocator: &allocator, base: &base, name: "mine" };
    let most = allocator.choose(Target::BitsPerWeight(4.2), &base, "mine").unwrap().predicted_kld.unwrap();
    // On the others everything loses much more.
    let judge = |candidates: &[&Candidate]| -> Result<Losses> {
        let loss = |candidate: &&Candidate| {
            let kld = candidate.predicted_kld.unwrap();
            Loss { kld: around(kld), unseen: Some(around(1.4 * kld)), against_mix: None }
        };
        Ok(candidates.iter().map(loss).collect())
    };
    let Chosen { tried, taken, ruling } = trial.below(most, &judge as Judge<'_, Error>).unwrap();
    let of = |tried: &Tried| tried.loss.map(|loss| (loss.kld.high().unwrap(), loss.unseen.unwrap().high().unwrap())).unwrap();
    let (seen, unseen) = of(&tried[taken]);
    assert!(taken == 1 && unseen <= most && seen <= most, "{unseen} of {most}");
    assert!(matches!(ruling, Ruling::Holds { high, .. } if high.to_bits() == unseen.to_bits()), "{ruling:?}");
    // Some seemed to hold, were smaller, and were passed over.
    let smaller = tried[2..].iter().filter(|other| other.candidate.bytes < tried[1].candidate.bytes);
    let passed_over = smaller.clone().filter(|other| of(other).0 <= most && of(other).1 > most).count();
    assert!(passed_over > 0, "{tried:?}");
    assert!(smaller.map(of).all(|(seen, unseen)| seen > most || unseen > most));
    let row = tried[1].document();
    assert_eq!(row["unseen_kld_high"].as_f64(), Some(unseen));
    assert!(row["predicted_kld_low"].as_f64() < row["predicted_kld"].as_f64());
    assert!(row["predicted_kld"].as_f64() < row["predicted_kld_high"].as_f64());
    let line = tried[1].line();
    assert!(line.starts_with("choice ") && line.matches(" to ").count() == 3, "{line}");
}

#[test]
fn nothing_is_taken_where_nothing_holds_and_the_mix_where_it_holds_and_is_smaller() {
    let (_dir, checkpoint) = demo();
    let allocator = allocator(&checkpoint);
    let most = allocator.choose(Target::BitsPerWeight(5.0), &Recipe::find("q4_k_m").unwrap(), "mine").unwrap();
    let most = most.predicted_kld.unwrap();
    let calls = Cell::new(0);
    let known = RefCell::new(Vec::new());
    // By candidate after the mix, and of the mix: what is lost where nothing is chosen.
    let below = |mix: &str, of_choice: f64, of_mix: f64| {
        let judge = |candidates: &[&Candidate]| -> Result<Losses> {
            calls.set(calls.get() + 1);
            known.borrow_mut().extend(candidates[1..].iter().map(|candidate| candidate.text.clone()));
            let loss = |(i, candidate): (usize, &&Candidate)| {
                let (seen, unseen) = if i == 0 { (of_mix, of_mix) } else { (candidate.predicted_kld.unwrap(), of_choice) };
                Loss { kld: around(seen), unseen: Some(around(unseen)), against_mix: None }
            };
            Ok(candidates.iter().enumerate().map(loss).collect())
        };
        let base = Recipe::find(mix).unwrap();
        Trial { allocator: &allocator, base: &base, name: "mine" }.below(most, &judge as Judge<'_, Error>).unwrap()
    };
    let refused = below("q6_k", 10.0, 10.0);
    assert!(refused.ruling.is_refusal(), "{:?}", refused.ruling);
    assert!(matches!(refused.ruling, Ruling::TooMuch { high } if high > 10.0), "{:?}", refused.ruling);
    assert!(calls.get() <= 6, "{} walks", calls.get());
    let mut texts = known.take();
    let all = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), all, "a candidate was measured twice");
    // The largest is what is told of.
    assert!(refused.tried[2..].iter().all(|other| other.candidate.bytes <= refused.tried[1].candidate.bytes));
    // q2_k, which is smaller than any choice, loses nearly nothing; and everything.
    let (lucky, unlucky) = (below("q2_k", 0.0, 1e-9), below("q2_k", 0.0, 10.0));
    assert_eq!((lucky.taken, unlucky.taken), (0, 1));
    assert!(matches!(lucky.ruling, Ruling::Holds { kld, .. } if kld < 1e-8), "{:?}", lucky.ruling);
    // A mix that holds where no choice does.
    assert_eq!(below("q6_k", 10.0, 1e-9).taken, 0);
}

#[test]
fn one_window_of_a_kind_says_nothing() {
    let (_dir, checkpoint) = demo();
    let allocator = allocator(&checkpoint);
    let base = Recipe::find("q6_k").unwrap();
    let trial = Trial { allocator: &allocator, base: &base, name: "mine" };
    let judge = |candidates: &[&Candidate]| -> Result<Losses> {
        let unseen = Some(Estimate { value: 0.0, interval: None });
        Ok(candidates.iter().map(|_| Loss { kld: around(0.0), unseen, against_mix: None }).collect())
    };
    let refused = trial.below(0.01, &judge as Judge<'_, Error>).unwrap_err().to_string();
    assert!(refused.contains("one window"), "{refused}");
}
