//! The results of `bitworth bench` as rows, and the rows as a table, Markdown, CSV and lines of JSON.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use bitworth_engine::model::Variant;
use bitworth_eval::record::{Phase, Speed};
use bitworth_eval::stats::Spread;
use bitworth_measure::timing::Test;

/// One test of one model. Speeds are in tokens per second over the timings that did not drift.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchRow {
    model: String,
    /// Bytes of the weights.
    bytes: u64,
    /// As llama-bench names it.
    test: String,
    phase: &'static str,
    /// Over all sequences.
    tokens: u32,
    depth: usize,
    batch: usize,
    /// The median; none where every timing drifted.
    tps: Option<f64>,
    tps_min: Option<f64>,
    tps_max: Option<f64>,
    tps_mad: Option<f64>,
    tps_mean: Option<f64>,
    tps_stddev: Option<f64>,
    /// Timings that count.
    repetitions: usize,
    /// Timings that do not.
    pub drifted: usize,
    joules: Option<f64>,
    tokens_per_joule: Option<f64>,
    load_seconds: Option<f64>,
    memory_bytes: Option<u64>,
    device_bytes: Option<u64>,
    /// Of every timing, in order.
    seconds: Vec<f64>,
    /// Whether it drifted.
    is_drifted: Vec<bool>,
}

impl BenchRow {
    /// What the timings of a test say; `None` if there are none.
    pub fn new(variant: &Variant, test: Test, speeds: &[Speed]) -> Option<Self> {
        Self::of(variant.checkpoint().name(), variant.bytes(), test, speeds)
    }

    fn of(model: &str, bytes: u64, test: Test, speeds: &[Speed]) -> Option<Self> {
        let all: Vec<&Speed> = speeds.iter().filter(|speed| test.is_of(speed)).collect();
        let first = all.first()?;
        let steady: Vec<&Speed> = all.iter().copied().filter(|speed| !speed.drifted).collect();
        let rates: Vec<f64> = steady.iter().map(|s| f64::from(s.tokens) / s.seconds.max(1e-9)).collect();
        let rate = Spread::of(&rates);
        let joules = steady.iter().map(|speed| speed.joules).collect::<Option<Vec<f64>>>();
        let joules = joules.and_then(|joules| Some(Spread::of(&joules)?.median));
        Some(Self {
            model: model.to_owned(),
            bytes,
            test: test.name(),
            phase: if test.phase == Phase::Prefill { "prefill" } else { "decode" },
            tokens: first.tokens,
            depth: test.depth,
            batch: test.batch,
            tps: rate.map(|r| r.median),
            tps_min: rate.map(|r| r.min),
            tps_max: rate.map(|r| r.max),
            tps_mad: rate.map(|r| r.mad),
            tps_mean: rate.map(|r| r.mean),
            tps_stddev: rate.map(|r| r.std_dev),
            repetitions: steady.len(),
            drifted: all.len() - steady.len(),
            joules,
            tokens_per_joule: joules.map(|joules| f64::from(first.tokens) / joules),
            load_seconds: first.footprint.load_seconds,
            memory_bytes: first.footprint.memory_bytes,
            device_bytes: first.footprint.device_bytes,
            seconds: all.iter().map(|speed| speed.seconds).collect(),
            is_drifted: all.iter().map(|speed| speed.drifted).collect(),
        })
    }

    /// Whether at least half of its timings drifted.
    pub fn is_unsteady(&self) -> bool {
        self.drifted >= self.repetitions
    }

    fn cells(&self) -> [String; 10] {
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.2}"));
        let range = self.tps_min.zip(self.tps_max).map_or("-".to_owned(), |(min, max)| format!("{min:.2} - {max:.2}"));
        let mean = self.tps_mean.zip(self.tps_stddev).map_or("-".to_owned(), |(mean, sd)| format!("{mean:.2} ± {sd:.2}"));
        let warning = if self.is_unsteady() { "!" } else { "" };
        [
            self.model.clone(),
            mib(self.bytes),
            self.test.clone(),
            rate(self.tps) + warning,
            range,
            mean,
            format!("{} of {}", self.repetitions, self.repetitions + self.drifted),
            self.load_seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.2}")),
            self.memory_bytes.map_or("-".to_owned(), mib),
            self.tokens_per_joule.map_or("-".to_owned(), |rate| format!("{rate:.2}")),
        ]
    }
}

const TITLES: [&str; 10] =
    ["model", "MiB of tensors", "test", "tok/s", "min - max", "mean ± sd", "steady", "load s", "memory MiB", "tok/J"];
/// Columns of text; the others are of numbers.
const LEFT: [bool; 10] = [true, false, true, false, false, false, false, false, false, false];
const UNSTEADY: &str =
    "! the machine itself changed its speed during half of the timings or more: not to be relied on, time again";

/// For a person.
pub fn table(rows: &[BenchRow]) -> String {
    let lines: Vec<[String; 10]> = std::iter::once(TITLES.map(str::to_owned)).chain(rows.iter().map(BenchRow::cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut out = String::new();
        for ((cell, wide), left) in line.iter().zip(&widths).zip(LEFT) {
            let _ = if left { write!(out, "{cell:wide$}  ") } else { write!(out, "{cell:>wide$}  ") };
        }
        text += out.trim_end();
        text.push('\n');
    }
    if rows.iter().any(BenchRow::is_unsteady) {
        text += UNSTEADY;
        text.push('\n');
    }
    text
}

/// A table in Markdown.
pub fn markdown(rows: &[BenchRow]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let escape = |cell: String| cell.replace('\\', "\\\\").replace('|', "\\|");
    let rule = LEFT.map(|left| if left { "---" } else { "---:" }.to_owned());
    let mut text = line(&TITLES.map(str::to_owned)) + &line(&rule);
    text.extend(rows.iter().map(|row| line(&row.cells().map(escape))));
    if rows.iter().any(BenchRow::is_unsteady) {
        let _ = writeln!(text, "\n{UNSTEADY}");
    }
    text
}

/// The columns of CSV: everything but lists.
pub fn csv(rows: &[BenchRow]) -> Result<String> {
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let Value::Object(cells) = serde_json::to_value(row)? else { continue };
        let cells: Vec<_> = cells.into_iter().filter(|(_, value)| !value.is_array()).collect();
        if i == 0 {
            text += &cells.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
            text.push('\n');
        }
        let values: Vec<String> = cells.into_iter().map(|(_, value)| csv_cell(&value)).collect();
        text += &values.join(",");
        text.push('\n');
    }
    Ok(text)
}

/// RFC 4180: what holds a comma, a quotation mark or a line break stands between quotation marks.
fn csv_cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains([',', '"', '\n', '\r']) => format!("\"{}\"", text.replace('"', "\"\"")),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One JSON object a line.
pub fn lines(rows: &[BenchRow]) -> Result<String> {
    let lines: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_eval::record::Footprint;

    const TEST: Test = Test { phase: Phase::Decode, tokens: 10, depth: 64, batch: 2 };

    fn timing(seconds: f64, drifted: bool) -> Speed {
        let (depth, batch, joules, footprint) = (64, 2, Some(4.0 * seconds), Footprint::default());
        Speed { phase: Phase::Decode, tokens: 20, depth, batch, repetition: 0, seconds, drifted, joules, footprint }
    }

    fn row(model: &str, timings: &[(f64, bool)]) -> BenchRow {
        let speeds: Vec<Speed> = timings.iter().map(|&(seconds, drifted)| timing(seconds, drifted)).collect();
        BenchRow::of(model, 3 << 20, TEST, &speeds).unwrap()
    }

    #[test]
    fn timings_that_drifted_are_shown_and_do_not_count() {
        let row = row("m", &[(1.0, false), (2.0, false), (100.0, true), (4.0, false)]);
        assert_eq!((row.tps, row.tps_min, row.tps_max), (Some(10.0), Some(5.0), Some(20.0)));
        assert_eq!((row.repetitions, row.drifted, row.is_unsteady()), (3, 1, false));
        assert_eq!(row.seconds, [1.0, 2.0, 100.0, 4.0]);
        assert_eq!(row.is_drifted, [false, false, true, false]);
        assert_eq!((row.joules, row.tokens_per_joule), (Some(8.0), Some(2.5)));
    }

    #[test]
    fn a_test_without_a_steady_timing_has_no_speed() {
        let row = row("m", &[(1.0, true), (2.0, true)]);
        assert_eq!((row.tps, row.tps_mean, row.joules, row.is_unsteady()), (None, None, None, true));
        let text = table(&[row]);
        assert!(text.contains("-!") && text.contains("0 of 2") && text.ends_with(&format!("{UNSTEADY}\n")), "{text}");
    }

    #[test]
    fn timings_of_other_tests_do_not_mix() {
        let other = Test { depth: 0, ..TEST };
        assert!(BenchRow::of("m", 1, other, &[timing(1.0, false)]).is_none());
        let prefill = Test { phase: Phase::Prefill, ..TEST };
        assert!(BenchRow::of("m", 1, prefill, &[timing(1.0, false)]).is_none());
    }

    #[test]
    fn every_form_survives_strange_names() {
        let rows = [row("a,\"b\"|c", &[(1.0, false)]), row("plain", &[(2.0, false), (2.0, false)])];
        let text = csv(&rows).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("model,bytes,test,phase,tokens,depth,batch,tps,"), "{}", lines[0]);
        assert!(lines[1].starts_with("\"a,\"\"b\"\"|c\",3145728,tg10 x2 @ d64,decode,20,64,2,20.0,"), "{}", lines[1]);
        assert!(lines[2].starts_with("plain,") && lines.len() == 3);
        assert!(markdown(&rows).contains("| a,\"b\"\\|c | 3.0 | tg10 x2 @ d64 | 20.00 |"), "{}", markdown(&rows));
        let lines = super::lines(&rows).unwrap();
        let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&parsed[0]["tps"], &parsed[1]["seconds"][1]), (&20.0.into(), &2.0.into()));
        assert_eq!(table(&rows).lines().count(), 3);
    }
}
