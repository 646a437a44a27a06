//! The summary for machines: `summary.parquet`, `summary.csv` and JSON, one row a lane, nothing rounded. The first columns are
//! fixed ([`COLUMNS`]), then come three for every task, then the rest, those of single texts at last; scripts go by names, never
//! by places. What each column means is in `schema`.

use std::path::Path;

use bitworth_eval::request::Loglikelihood;
use bitworth_quant::{Error, Result};
use polars::prelude::{AnyValue, Column};
use serde_json::{Map, Value};

use crate::columns::Columns;
use crate::speeds::SpeedSummary;
use crate::statistics::{self, Figure};
use crate::summary::{Summary, TextScore, task, task_names, text, text_names};
use crate::tasks::{metric, verdict_name};
use bitworth_eval::stats::Estimate;

/// The columns that every summary begins with. Scripts rely on them.
pub const COLUMNS: &[&str] = &[
    "recipe",
    "bytes",
    "bpw",
    "ppl",
    "ppl_low",
    "ppl_high",
    "kld_mean",
    "kld_low",
    "kld_high",
    "kld_p99",
    "top1_agreement",
    "bits_per_byte",
    "prefill_tps",
    "decode_tps",
    "device",
];

/// Writes the summary as parquet.
///
/// # Errors
/// A file that cannot be written.
pub fn parquet(path: &Path, rows: &[Summary]) -> Result<()> {
    columns(rows).write_parquet(path)
}

/// Writes the summary as CSV; what was not measured is an empty cell.
///
/// # Errors
/// A file that cannot be written.
pub fn csv(path: &Path, rows: &[Summary]) -> Result<()> {
    columns(rows).write_csv(path)
}

/// The summary as JSON: a list with one object a lane, the columns of the CSV as keys. What was not measured or is not finite is
/// null.
///
/// # Errors
/// Columns that cannot be laid out, which would be a mistake in this program.
pub fn json(rows: &[Summary]) -> Result<Value> {
    let frame = columns(rows).frame().map_err(|e| Error::file("summary", e.to_string()))?;
    let row = |place: usize| {
        let cell = |c: &Column| (c.name().to_string(), c.get(place).map_or(Value::Null, cell));
        Value::Object(frame.columns().iter().map(cell).collect::<Map<_, _>>())
    };
    Ok((0..frame.height()).map(row).collect())
}

fn cell(value: AnyValue<'_>) -> Value {
    match value {
        AnyValue::String(text) => text.into(),
        // A column of one row.
        AnyValue::StringOwned(text) => text.as_str().into(),
        AnyValue::UInt64(count) => count.into(),
        AnyValue::Float64(number) => number.into(),
        AnyValue::Boolean(flag) => flag.into(),
        _ => Value::Null,
    }
}

/// Writes the scores of single requests as parquet, one row a request, in order: `logprob`, `tokens`, `is_greedy`, `bytes`.
///
/// # Errors
/// A file that cannot be written.
pub fn scores(path: &Path, scores: &[Loglikelihood]) -> Result<()> {
    let mut columns = Columns::of(scores);
    columns.number("logprob", |s| Some(s.logprob));
    columns.count("tokens", |s| Some(s.tokens as u64));
    columns.flag("is_greedy", |s| s.is_greedy);
    columns.count("bytes", |s| Some(s.bytes as u64));
    columns.write_parquet(path)
}

/// The same of several lanes, one behind the other, each with its name in the column `lane`.
///
/// # Errors
/// A file that cannot be written.
pub fn scores_of_lanes(path: &Path, lanes: &[(&str, Vec<Loglikelihood>)]) -> Result<()> {
    let rows: Vec<(&str, &Loglikelihood)> = lanes.iter().flat_map(|(lane, all)| all.iter().map(move |s| (*lane, s))).collect();
    let mut columns = Columns::of(&rows);
    columns.text("lane", |r| Some(r.0));
    columns.number("logprob", |r| Some(r.1.logprob));
    columns.count("tokens", |r| Some(r.1.tokens as u64));
    columns.flag("is_greedy", |r| r.1.is_greedy);
    columns.count("bytes", |r| Some(r.1.bytes as u64));
    columns.write_parquet(path)
}

pub(crate) fn columns(rows: &[Summary]) -> Columns<'_, Summary> {
    let begin = || Columns::of(rows);
    let (mut first, mut scores, mut last) = (begin(), begin(), begin());
    fixed(&mut first);
    details(&mut last);
    token_figures(&mut last, rows, &first.names());
    let mut taken = [first.names(), last.names()].concat();
    let tasks = part_columns(task_names(rows), "task_", &TASK_ENDS, &mut taken);
    for (name, column) in &tasks {
        task_scores(&mut scores, name, column);
    }
    for (name, column) in &tasks {
        task_details(&mut last, name, column);
    }
    // One text's figures are the lane's own.
    let texts = Some(text_names(rows)).filter(|names| names.len() > 1).unwrap_or_default();
    for (name, column) in part_columns(texts, "text_", &TEXT_ENDS, &mut taken) {
        text_details(&mut last, &name, &column);
    }
    first.then(scores).then(last)
}

/// What a task's columns end with.
pub(crate) const TASK_ENDS: [&str; 15] = [
    "",
    "_low",
    "_high",
    "_items",
    "_diff",
    "_diff_low",
    "_diff_high",
    "_p",
    "_p_holm",
    "_verdict",
    "_lost",
    "_won",
    "_log_p_gold",
    "_metric",
    "_brier",
];

/// What a text's columns end with.
pub(crate) const TEXT_ENDS: [&str; 17] = [
    "_tokens",
    "_ppl",
    "_ppl_low",
    "_ppl_high",
    "_ppl_ratio",
    "_ppl_ratio_low",
    "_ppl_ratio_high",
    "_kld_mean",
    "_kld_low",
    "_kld_high",
    "_kld_p99",
    "_top1_agreement",
    "_top1_low",
    "_top1_high",
    "_bits_per_byte",
    "_bits_per_byte_low",
    "_bits_per_byte_high",
];

/// Every task's or text's name and what its columns begin with: the name too, with `before` before it where a column of such a
/// name is taken already.
fn part_columns(all: Vec<String>, before: &str, ends: &[&str], taken: &mut Vec<String>) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for name in all {
        let mut column = name.clone();
        while ends.iter().any(|end| taken.contains(&format!("{column}{end}"))) {
            column.insert_str(0, before);
        }
        taken.extend(ends.iter().map(|end| format!("{column}{end}")));
        names.push((name, column));
    }
    names
}

fn fixed(c: &mut Columns<'_, Summary>) {
    c.text("recipe", |r| Some(&r.recipe));
    c.count("bytes", |r| Some(r.bytes));
    c.number("bpw", |r| Some(r.bpw));
    c.estimate(["ppl", "ppl_low", "ppl_high"], |r| r.ppl);
    c.estimate(["kld_mean", "kld_low", "kld_high"], |r| Some(r.kld?.mean));
    c.number("kld_p99", |r| Some(r.kld?.p99));
    c.number("top1_agreement", |r| Some(r.top1?.value));
    c.number("bits_per_byte", |r| Some(r.bits_per_byte?.value));
    c.number("prefill_tps", |r| Some(steady(r.prefill)?.tps));
    c.number("decode_tps", |r| Some(steady(r.decode)?.tps));
    c.text("device", |r| Some(&r.device));
}

/// A speed that timings of a steady machine stand behind. What drifted alone is a range and no number, as in the results of
/// `bench`.
fn steady(speed: Option<SpeedSummary>) -> Option<SpeedSummary> {
    speed.filter(|speed| speed.repetitions > 0)
}

fn details(c: &mut Columns<'_, Summary>) {
    c.text("model", |r| Some(&r.model));
    c.text("lane", |r| Some(&r.lane));
    c.flag("is_reference", |r| r.is_reference);
    c.text("activation_arithmetic", |r| Some(&r.arithmetic));
    c.text("types", |r| r.types.as_deref());
    c.text("imatrix", |r| r.imatrix.as_deref());
    c.count("fell_back", |r| r.fell_back);
    c.count("parts", |r| r.parts.map(u64::from));
    c.count("tokens", |r| Some(r.tokens));
    c.count("sequences", |r| Some(r.sequences));
    c.number("kld_median", |r| Some(r.kld?.median));
    c.number("kld_p90", |r| Some(r.kld?.p90));
    c.number("kld_p999", |r| Some(r.kld?.p99_9));
    c.number("kld_max", |r| Some(r.kld?.max));
    c.number("top1_low", |r| r.top1?.low());
    c.number("top1_high", |r| r.top1?.high());
    c.estimate(["ppl_ratio", "ppl_ratio_low", "ppl_ratio_high"], |r| r.ppl_ratio);
    c.number("delta_ppl", |r| Some(r.ppl?.value * (1.0 - 1.0 / r.ppl_ratio?.value)));
    c.estimate(["delta_p_mean", "delta_p_mean_low", "delta_p_mean_high"], |r| Some(r.delta_p?.mean));
    c.estimate(["delta_p_rms", "delta_p_rms_low", "delta_p_rms_high"], |r| Some(r.delta_p?.rms));
    c.number("bits_per_byte_low", |r| r.bits_per_byte?.low());
    c.number("bits_per_byte_high", |r| r.bits_per_byte?.high());
    c.number("prefill_tps_slowest", |r| Some(r.prefill?.slowest));
    c.number("prefill_tps_fastest", |r| Some(r.prefill?.fastest));
    c.number("decode_tps_slowest", |r| Some(r.decode?.slowest));
    c.number("decode_tps_fastest", |r| Some(r.decode?.fastest));
    c.number("decode_tokens_per_joule", |r| steady(r.decode)?.tokens_per_joule);
    c.count("prefill_repetitions", |r| Some(r.prefill?.repetitions as u64));
    c.count("decode_repetitions", |r| Some(r.decode?.repetitions as u64));
    c.count("drifted_repetitions", |r| Some((r.prefill.map_or(0, |s| s.drifted) + r.decode.map_or(0, |s| s.drifted)) as u64));
    c.count("memory_bytes", |r| r.memory_bytes);
    c.text("speed_arithmetic", |r| Some(&r.timed.as_ref()?.arithmetic));
    c.text("speed_engine", |r| Some(&r.timed.as_ref()?.engine));
    c.text("speed_shape", |r| r.timed.as_ref()?.shape.as_deref());
    c.text("speed_device", |r| r.timed_on());
}

fn task_scores(c: &mut Columns<'_, Summary>, name: &str, column: &str) {
    let [value, low, high] = ["", "_low", "_high"].map(|end| format!("{column}{end}"));
    c.estimate([&value, &low, &high], |r| Some(task(r, name)?.accuracy));
}

fn task_details(c: &mut Columns<'_, Summary>, name: &str, column: &str) {
    let pair = |r: &Summary| task(r, name)?.against_reference;
    let at = |end: &str| format!("{column}{end}");
    c.count(&at("_items"), |r| Some(task(r, name)?.items));
    let [diff, low, high] = ["_diff", "_diff_low", "_diff_high"].map(at);
    c.estimate([&diff, &low, &high], |r| Some(pair(r)?.paired.difference));
    c.number(&at("_p"), |r| Some(pair(r)?.paired.p_value));
    c.number(&at("_p_holm"), |r| Some(pair(r)?.p_adjusted));
    c.text(&at("_verdict"), |r| Some(verdict_name(&pair(r)?.verdict)));
    c.count(&at("_lost"), |r| pair(r)?.paired.only_reference);
    c.count(&at("_won"), |r| pair(r)?.paired.only_lane);
    c.number(&at("_log_p_gold"), |r| Some(task(r, name)?.choices.as_ref()?.log_p_gold));
    c.text(&at("_metric"), |r| Some(metric(task(r, name)?)));
    c.number(&at("_brier"), |r| Some(task(r, name)?.choices.as_ref()?.brier));
}

/// The figures of kept tokens, where a lane has some; without those that are there already.
fn token_figures(c: &mut Columns<'_, Summary>, rows: &[Summary], before: &[String]) {
    if rows.iter().all(|r| r.token_metrics.is_none()) {
        return;
    }
    let figures = |row: &Summary| {
        let text = row.text_metrics();
        let both = text.as_ref().zip(row.token_metrics.as_deref());
        statistics::of_lane(both).into_iter().chain(statistics::of_comparison(both)).collect()
    };
    let all: Vec<Vec<Figure>> = rows.iter().map(figures).collect();
    let taken = [before, &c.names()].concat();
    for (place, figure) in all.first().into_iter().flatten().enumerate().filter(|(_, f)| !taken.contains(&f.name)) {
        c.numbers(&figure.name, all.iter().map(|figures| figures[place].value).collect());
    }
}

fn text_details(c: &mut Columns<'_, Summary>, name: &str, column: &str) {
    let at = |end: &str| format!("{column}{end}");
    let mut estimate = |stem: &str, ends: [&str; 3], get: fn(&TextScore) -> Option<Estimate>| {
        let [value, low, high] = ends.map(|end| at(&format!("{stem}{end}")));
        c.estimate([&value, &low, &high], |r| get(text(r, name)?));
    };
    estimate("_ppl", ["", "_low", "_high"], |t| t.ppl);
    estimate("_ppl_ratio", ["", "_low", "_high"], |t| t.ppl_ratio);
    estimate("_kld", ["_mean", "_low", "_high"], |t| Some(t.kld?.mean));
    estimate("_top1", ["_agreement", "_low", "_high"], |t| t.top1);
    estimate("_bits_per_byte", ["", "_low", "_high"], |t| t.bits_per_byte);
    c.number(&at("_kld_p99"), |r| Some(text(r, name)?.kld?.p99));
    c.count(&at("_tokens"), |r| Some(text(r, name)?.tokens));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::BenchRow;
    use crate::summarize;
    use bitworth_eval::record::{Body, Phase, Record, Speed};
    use bitworth_eval::sample;
    use polars_io::SerReader;
    use polars_io::prelude::ParquetReader;

    fn rows() -> Vec<Summary> {
        summarize(&sample::records()).unwrap()
    }

    fn names(rows: &[Summary]) -> Vec<String> {
        columns(rows).names()
    }

    #[test]
    fn the_promised_columns_come_first_and_then_the_tasks() {
        let names = names(&rows());
        assert_eq!(&names[..COLUMNS.len()], COLUMNS);
        assert_eq!(&names[COLUMNS.len()..][..4], ["arithmetic", "arithmetic_low", "arithmetic_high", "facts"]);
    }

    #[test]
    fn a_task_named_like_a_column_gets_another_name() {
        let mut rows = rows();
        for (task, name) in rows[0].tasks.iter_mut().zip(["ppl", "tokens", "sums", "sums_low"]) {
            task.name = name.into();
        }
        let names = names(&rows);
        for name in ["ppl", "ppl_low", "task_ppl", "task_ppl_low", "tokens", "task_tokens", "sums", "sums_low", "task_sums_low"] {
            assert_eq!(names.iter().filter(|n| *n == name).count(), 1, "{name} in {names:?}");
        }
    }

    #[test]
    fn a_tasks_columns_are_those_that_are_kept_free_for_it() {
        let names = names(&rows());
        let of_task: Vec<&str> = names.iter().filter_map(|n| n.strip_prefix("facts")).collect();
        assert_eq!(of_task, TASK_ENDS);
    }

    #[test]
    fn texts_have_columns_where_there_are_several() {
        let own = |name: &String| name.starts_with("prose_") || name.starts_with("637a866d_");
        assert!(!names(&rows()).iter().any(own), "the figures of one text are those of the lane");
        let mut rows = summarize(&sample::two_texts()).unwrap();
        let all = names(&rows);
        let mut ends: Vec<&str> = all.iter().filter_map(|n| n.strip_prefix("prose")).collect();
        ends.sort_unstable();
        let mut expected = TEXT_ENDS;
        expected.sort_unstable();
        assert_eq!(ends, expected);
        assert_eq!(all.iter().filter(|n| own(n)).count(), 2 * TEXT_ENDS.len());
        rows.iter_mut().for_each(|r| r.texts[0].name = "delta".into());
        assert!(names(&rows).contains(&"text_delta_ppl".to_owned()), "delta_ppl is taken");
    }

    #[test]
    fn csv_holds_every_lane_unrounded_and_empty_cells_for_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/summary.csv");
        let mut rows = rows();
        rows[0].decode = None;
        csv(&path, &rows).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
        assert_eq!(lines.len(), rows.len() + 1);
        let place = |name: &str| lines[0].iter().position(|n| *n == name).unwrap();
        assert_eq!(lines[1][place("decode_tps")], "");
        for (line, row) in lines[1..].iter().zip(&rows) {
            assert_eq!(line[place("ppl")].parse::<f64>().unwrap(), row.ppl.unwrap().value);
            assert_eq!(line[place("bytes")].parse::<u64>().unwrap(), row.bytes);
        }
    }

    #[test]
    fn json_has_the_columns_of_the_csv_and_null_for_what_is_missing_or_not_finite() {
        let mut rows = rows();
        rows[0].decode = None;
        rows[0].bpw = f64::NAN;
        let json = json(&rows).unwrap();
        assert_eq!(json.as_array().unwrap().len(), rows.len());
        assert!(json[0].as_object().unwrap().keys().eq(names(&rows).iter()));
        assert_eq!((&json[0]["decode_tps"], &json[0]["bpw"]), (&Value::Null, &Value::Null));
        assert_eq!(json[1]["recipe"], "q8_0");
        assert_eq!(json[1]["ppl"].as_f64(), Some(rows[1].ppl.unwrap().value));
        assert_eq!((&json[0]["is_reference"], json[0]["bytes"].as_u64()), (&Value::Bool(true), Some(rows[0].bytes)));
    }

    #[test]
    fn what_drifted_alone_is_a_range_and_no_speed_as_in_bench() {
        let mut records = sample::records();
        for record in records.iter_mut().filter(|r| r.origin.lane == "q4_0") {
            if let Body::Speed(speed) = &mut record.body {
                (speed.drifted, speed.joules) = (true, Some(2.0));
            }
        }
        let json = json(&summarize(&records).unwrap()).unwrap();
        let row = |lane: &str| json.as_array().unwrap().iter().find(|row| row["lane"] == lane).unwrap();
        for name in ["prefill_tps", "decode_tps", "decode_tokens_per_joule"] {
            assert_eq!(row("q4_0")[name], Value::Null, "{name}");
        }
        assert_eq!(row("q4_0")["decode_repetitions"], 0);
        assert!(row("q8_0")["decode_tps"].is_f64() && row("q8_0")["decode_repetitions"] == 5);
        let is_decode = |speed: &&Speed| speed.phase == Phase::Decode;
        let of_lane = records.iter().filter(|r| r.origin.lane == "q4_0");
        let timed: Vec<&Speed> = of_lane.filter_map(Record::as_speed).filter(is_decode).collect();
        let bench = serde_json::to_value(BenchRow::of("q4_0", 1, "tg128", &timed).unwrap()).unwrap();
        for (name, of_bench) in [
            ("decode_tps", "tps"),
            ("decode_tps_slowest", "tps_min"),
            ("decode_tps_fastest", "tps_max"),
            ("decode_tokens_per_joule", "tokens_per_joule"),
        ] {
            assert_eq!(row("q4_0")[name], bench[of_bench], "{name}");
        }
    }

    #[test]
    fn json_of_one_row_has_its_words() {
        let rows = rows();
        let json = json(&rows[..1]).unwrap();
        assert_eq!((&json[0]["recipe"], &json[0]["lane"]), (&rows[0].recipe.clone().into(), &rows[0].lane.clone().into()));
    }

    #[test]
    fn scores_keep_the_order_of_the_requests_and_every_digit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scores.parquet");
        let score = |logprob, tokens, is_greedy| Loglikelihood { logprob, tokens, is_greedy, bytes: 3 * tokens };
        let written = [score(-1.0 / 3.0, 2, true), score(f64::NEG_INFINITY, 1, false), score(0.0, 0, true)];
        scores(&path, &written).unwrap();
        let frame = ParquetReader::new(std::fs::File::open(&path).unwrap()).finish().unwrap();
        assert!(frame.columns().iter().map(|c| c.name().as_str()).eq(["logprob", "tokens", "is_greedy", "bytes"]));
        for (row, score) in written.iter().enumerate() {
            let cells: Vec<AnyValue> = frame.columns().iter().map(|c| c.get(row).unwrap()).collect();
            let (tokens, bytes) = (score.tokens as u64, score.bytes as u64);
            let expected = [
                AnyValue::Float64(score.logprob),
                AnyValue::UInt64(tokens),
                AnyValue::Boolean(score.is_greedy),
                AnyValue::UInt64(bytes),
            ];
            assert_eq!(cells, expected);
        }
    }
}
