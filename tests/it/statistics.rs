//! What `perplexity` and `compare` say of a text, and what they write of its tokens.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{self, json, run};

const TEXT: [&str; 8] = ["--text", "data/eval.txt", "--ctx", "64", "--chunks", "12", "--device", "cpu"];
/// Scored tokens of a window.
const SCORED: usize = 31;

fn world() -> TempDir {
    let dir = TempDir::new().unwrap();
    ::bitworth::eval::demo::materialize(dir.path()).unwrap();
    dir
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} is missing or no number in {row}"))
}

#[track_caller]
fn check_close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-9), "{found} is not {expected}");
}

/// A column of a parquet file, nulls left out, of the rows of one lane.
fn column(path: &Path, lane: &str, name: &str) -> Vec<f64> {
    let table = common::parquet(path);
    let names = table.names();
    let place = |name: &str| names.iter().position(|n| n == name).unwrap_or_else(|| panic!("{name} is not in {names:?}"));
    let (lane_at, at) = (place("lane"), place(name));
    let rows = (0..table.len()).map(|i| table.row(i)).filter(|row| row[lane_at].contains(&format!("\"{lane}\"")));
    let inner = |cell: &str| cell.split_once('(')?.1.strip_suffix(')')?.parse().ok();
    rows.filter_map(|row| inner(&row[at])).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_summary_of_a_comparison_is_that_of_its_tokens() {
    let world = world();
    let dir = world.path();
    let compared = json(dir, &[&["compare", "demo-model", "@q4_0", "@q2_k", "--records", "out/r"], &TEXT[..]].concat());
    let (tokens, sequences) = (dir.join("out/r/tokens.parquet"), dir.join("out/r/sequences.parquet"));
    let lanes = ["demo-model", "%40q4_0", "%40q2_k"].map(|lane| format!("out/r/records/compare.{lane}.parquet"));
    let files = ["out/r/tokens.parquet".to_owned(), "out/r/sequences.parquet".to_owned()].into_iter().chain(lanes);
    assert!(compared["records"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).eq(files));
    let reference = &compared["reference"];
    let base = column(&tokens, "demo-model", "nll");
    assert_eq!(base.len(), 12 * SCORED);
    check_close(number(reference, "nll"), mean(&base));
    check_close(number(reference, "ppl"), mean(&base).exp());
    assert!(column(&tokens, "demo-model", "kld").is_empty(), "the reference is not compared with itself");
    for row in compared["candidates"].as_array().unwrap() {
        let lane = row["name"].as_str().unwrap();
        let of = |name: &str| column(&tokens, lane, name);
        let nll = of("nll");
        assert_eq!((nll.len(), of("position")[0], of("position")[SCORED - 1]), (12 * SCORED, 33.0, 63.0));
        check_close(number(row, "kld_mean"), mean(&of("kld")));
        check_close(number(row, "reverse_kld_mean"), mean(&of("reverse_kld")));
        check_close(number(row, "entropy_mean"), mean(&of("entropy")));
        check_close(number(row, "delta_p_mean"), mean(&of("delta_p")));
        let probability_moved = nll.iter().zip(&base).map(|(own, base)| (-own).exp() - (-base).exp()).collect::<Vec<_>>();
        check_close(number(row, "delta_p_mean"), mean(&probability_moved));
        check_close(number(row, "kld_max"), of("kld").into_iter().fold(0.0, f64::max));
        check_close(number(row, "ln_ppl_ratio"), mean(&nll) - mean(&base));
        check_close(number(row, "ppl_ratio"), (mean(&nll) - mean(&base)).exp());
        check_close(number(row, "ppl_difference"), mean(&nll).exp() - mean(&base).exp());
        let best = of("rank").iter().filter(|&&rank| rank == 0.0).count();
        check_close(number(row, "top1_accuracy"), best as f64 / nll.len() as f64);
        let found = of("token").iter().zip(of("argmax")).filter(|(token, argmax)| **token == *argmax).count();
        assert_eq!(best, found, "{lane}: rank 0 is the arg-max");
        let same = of("argmax").iter().zip(column(&tokens, "demo-model", "argmax")).filter(|(own, base)| **own == *base).count();
        check_close(number(row, "top1_agreement"), same as f64 / nll.len() as f64);
        let bits = nll.iter().sum::<f64>() / column(&sequences, lane, "bytes").iter().sum::<f64>() / std::f64::consts::LN_2;
        check_close(number(row, "bits_per_byte"), bits);
        assert_eq!(column(&sequences, lane, "nll_sum").len(), 12);
        check_close(column(&sequences, lane, "kld_sum").iter().sum(), of("kld").iter().sum());
        assert!(number(row, "kld_min") < number(row, "kld_p10") && number(row, "kld_p95") < number(row, "kld_p999"));
        assert!(number(row, "ln_ppl_ratio_low") < number(row, "ln_ppl_ratio") && number(row, "ln_ppl_ratio_se") > 0.0);
        let parts = row["positions"].as_array().unwrap();
        assert_eq!((parts.len(), parts[0]["first"].as_u64(), parts[7]["last"].as_u64()), (8, Some(33), Some(63)));
    }
    let (one, other) = (&compared["candidates"][0], &compared["candidates"][1]);
    let pair = &compared["pairs"][0];
    assert_eq!((&pair["first"], &pair["second"]), (&one["name"], &other["name"]));
    check_close(number(pair, "kld_difference"), number(one, "kld_mean") - number(other, "kld_mean"));
    assert!(number(pair, "kld_difference_high") < 0.0, "q4_0 is nearer than q2_k");
}

#[test]
fn a_model_alone_has_the_numbers_it_has_beside_others() {
    let world = world();
    let dir = world.path();
    let alone = json(dir, &[&["perplexity", "demo-model", "--records", "alone"], &TEXT[..]].concat());
    let beside = json(dir, &[&["compare", "demo-model", "@q8_0"], &TEXT[..]].concat());
    for (key, value) in beside["reference"].as_object().unwrap() {
        assert_eq!(&alone[key], value, "{key}");
    }
    assert_eq!(column(&dir.join("alone/tokens.parquet"), "demo-model", "nll").len(), 12 * SCORED);
    // The same again replaces the files.
    json(dir, &[&["perplexity", "demo-model", "--records", "alone"], &TEXT[..]].concat());
}

#[test]
fn full_statistics_are_shown_for_every_lane() {
    let world = world();
    let show = |args: &[&str]| {
        let output = run(world.path(), &[args, &TEXT[..], &["--quiet", "--full"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = show(&["compare", "demo-model", "@q8_0", "@q4_0"]);
    for part in ["ln of their ratio", "mean reverse KLD", "99.9 %", "tokens before", "\n@q8_0 - @q4_0\n", "\ndemo-model\n"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(show(&["perplexity", "demo-model"]).contains("target in top 5 %"));
}

/// What a command says of few windows: once, and in the words that programs get.
#[track_caller]
fn check_warning(dir: &Path, command: &[&str], windows: &str, expected: Option<&str>) {
    let args = [command, &["--text", "data/eval.txt", "--ctx", "64", "--device", "cpu", "--chunks", windows]].concat();
    let warnings = json(dir, &args)["warnings"].clone();
    let warnings: Vec<&str> = warnings.as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect();
    let shown = String::from_utf8(run(dir, &[&args[..], &["--quiet"]].concat()).stdout).unwrap();
    assert_eq!(warnings.len(), usize::from(expected.is_some()), "{warnings:?}");
    assert_eq!(shown.matches(" scored: ").count(), warnings.len(), "{shown}");
    assert!(warnings.iter().all(|warning| warning.starts_with(expected.unwrap()) && shown.contains(warning)), "{shown}");
}

#[test]
fn compare_warns_of_intervals_of_few_windows() {
    let world = world();
    let compare = ["compare", "demo-model", "@q4_0"];
    check_warning(world.path(), &compare, "7", Some("Only 7 windows were scored: "));
    check_warning(world.path(), &compare, "8", None);
    let folder = [&compare[..], &["--out", "out"]].concat();
    check_warning(world.path(), &folder, "2", Some("Only 2 windows were scored: "));
    let again = json(world.path(), &["report", "out"])["warnings"].clone();
    assert!(again[0].as_str().is_some_and(|warning| warning.starts_with("Only 2 windows were scored: ")), "{again}");
}

#[test]
fn perplexity_warns_of_intervals_of_few_windows() {
    let world = world();
    let perplexity = ["perplexity", "demo-model"];
    check_warning(world.path(), &perplexity, "1", Some("Only 1 window was scored: "));
    check_warning(world.path(), &perplexity, "7", Some("Only 7 windows were scored: "));
    check_warning(world.path(), &perplexity, "8", None);
}

#[test]
fn the_noise_floor_is_the_reference_through_the_other_arithmetic() {
    let world = world();
    let dir = world.path();
    json(dir, &["quantize", "demo-model", "--to", "q8_0,q2_k", "--out", "."]);
    let (reference, candidate) = ("demo-model-Q8_0.gguf", "demo-model-Q2_K.gguf");
    let compare = |args: &[&str]| json(dir, &[&["compare", reference, reference, candidate], args, &TEXT[..]].concat());
    let table = compare(&["--noise-floor"]);
    let floor = &table["noise_floor"];
    assert!(floor["name"].as_str().unwrap().ends_with(" (q8)"), "{floor}");
    let kld = number(floor, "kld_mean");
    assert!(kld > 1e-7 && kld < 1e-3, "{kld}");
    let [same, coarse] = [0, 1].map(|i| &table["candidates"][i]);
    assert_eq!((&same["above_noise_floor"], &coarse["above_noise_floor"]), (&false.into(), &true.into()));
    check_close(number(same, "kld_mean"), 0.0);
    check_close(number(coarse, "kld_above_floor"), number(coarse, "kld_mean") - kld);
    // Nothing else changes, and from the other side the floor is the same lane.
    let plain = compare(&[]);
    assert_eq!((&plain["reference"], &plain["candidates"][1]["kld_mean"]), (&table["reference"], &coarse["kld_mean"]));
    assert!(plain["noise_floor"].is_null() && plain["candidates"][1]["above_noise_floor"].is_null());
    let turned = compare(&["--noise-floor", "--arithmetic", "q8"]);
    assert_eq!(turned["noise_floor"]["ppl"], plain["reference"]["ppl"]);
}
