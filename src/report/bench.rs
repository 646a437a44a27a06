//! The results of `bitworth bench` as rows, and the rows as a table, CSV and lines of JSON.

use bitworth_quant::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::page::{Cell, Column, Table, TableRow};
use bitworth_eval::record::{Phase, Record, Speed, SpeedTest};
use bitworth_eval::stats::Spread;

/// One test of one model. Speeds are in tokens per second over the timings that did not drift.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchRow {
    model: String,
    /// Bytes of the weights.
    bytes: u64,
    /// The program that was timed.
    engine: String,
    /// Of the products: `f32` or `q8`.
    arithmetic: String,
    /// As llama-bench names it.
    test: String,
    phase: &'static str,
    /// Over all sequences.
    tokens: u32,
    depth: u32,
    batch: u32,
    /// The median; none where every timing drifted.
    tps: Option<f64>,
    /// The slowest and the fastest; of all timings where half of them drifted.
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
    /// What the timings of a test say, which all are of one model and engine and have the same shape; `None` if there are none.
    /// `test` is its name, as llama-bench gives it, `bytes` those of the weights.
    pub fn of(model: &str, bytes: u64, test: &str, all: &[&Speed]) -> Option<Self> {
        let first = all.first()?;
        let steady: Vec<&Speed> = all.iter().copied().filter(|speed| !speed.drifted).collect();
        let rates =
            |speeds: &[&Speed]| -> Vec<f64> { speeds.iter().map(|s| f64::from(s.tokens) / s.seconds.max(1e-9)).collect() };
        let rate = Spread::of(&rates(&steady));
        // Of an unsteady machine, the range is that of all that was seen.
        let is_unsteady = all.len() - steady.len() >= steady.len();
        let seen = if is_unsteady { Spread::of(&rates(all)) } else { rate };
        let joules = steady.iter().map(|speed| speed.joules).collect::<Option<Vec<f64>>>();
        let joules = joules.and_then(|joules| Some(Spread::of(&joules)?.median));
        Some(Self {
            model: model.to_owned(),
            bytes,
            engine: first.engine.clone(),
            arithmetic: first.arithmetic.clone(),
            test: test.to_owned(),
            phase: if first.phase == Phase::Prefill { "prefill" } else { "decode" },
            tokens: first.tokens,
            depth: first.depth,
            batch: first.batch,
            tps: rate.map(|r| r.median),
            tps_min: seen.map(|r| r.min),
            tps_max: seen.map(|r| r.max),
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

    fn cells(&self) -> Vec<Cell> {
        let number = |value: Option<f64>, decimals: usize| match value {
            Some(value) => Cell::number(format!("{value:.decimals$}"), value),
            None => Cell::words("-"),
        };
        let mib = |bytes: Option<u64>| number(bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)), 1);
        let range = self.tps_min.zip(self.tps_max).map_or("-".to_owned(), |(min, max)| format!("{min:.2} - {max:.2}"));
        let mean = self.tps_mean.zip(self.tps_stddev).map_or("-".to_owned(), |(mean, sd)| format!("{mean:.2} ± {sd:.2}"));
        let rate = match self.is_unsteady() {
            // One number would say more than is known.
            true => Cell::number(format!("{range} !"), self.tps.or(self.tps_min).unwrap_or_default()),
            false => number(self.tps, 2),
        };
        vec![
            Cell::words(self.model.clone()),
            mib(Some(self.bytes)),
            Cell::words(self.engine.clone()),
            Cell::words(self.arithmetic.clone()),
            Cell::words(self.test.clone()),
            rate,
            Cell::words(range),
            Cell::words(mean),
            Cell::words(format!("{} of {}", self.repetitions, self.repetitions + self.drifted)),
            number(self.load_seconds, 2),
            mib(self.memory_bytes),
            number(self.tokens_per_joule, 2),
        ]
    }
}

/// The rows of a job's timings: by lane, program and test, in the order of the records. `bytes` are those of a lane's weights.
pub fn rows(records: &[Record], bytes: impl Fn(&str) -> Option<u64>) -> Vec<BenchRow> {
    type Key<'a> = (&'a str, &'a str, SpeedTest);
    let mut tests: Vec<(Key<'_>, Vec<&Speed>)> = Vec::new();
    for record in records {
        let Some(speed) = record.as_speed() else { continue };
        let key = (record.origin.lane.as_str(), speed.engine.as_str(), SpeedTest::of(speed));
        match tests.iter_mut().find(|(known, _)| *known == key) {
            Some((_, all)) => all.push(speed),
            None => tests.push((key, vec![speed])),
        }
    }
    // Programs took turns; their rows do not.
    let place = |lane: &str, engine: &str| tests.iter().position(|((l, e, _), _)| (*l, *e) == (lane, engine));
    let mut order: Vec<usize> = (0..tests.len()).collect();
    order.sort_by_key(|&i| (place(tests[i].0.0, tests[i].0.1), i));
    let row = |i: usize| {
        let ((lane, _, test), speeds) = &tests[i];
        BenchRow::of(lane, bytes(lane).unwrap_or_default(), &test.name(), speeds)
    };
    order.into_iter().filter_map(row).collect()
}

/// Heads of the columns, and whether they hold words.
const HEADS: [(&str, bool); 12] = [
    ("model", true),
    ("MiB of tensors", false),
    ("engine", true),
    ("products", true),
    ("test", true),
    ("tok/s", false),
    ("min - max", false),
    ("mean ± sd", false),
    ("steady", false),
    ("load s", false),
    ("memory MiB", false),
    ("tok/J", false),
];
const UNSTEADY: &str =
    "! the machine itself changed its speed during half of the timings or more: the speed is somewhere in this range, time again";

/// For a person.
pub fn table(rows: &[BenchRow]) -> Table {
    let column = |(head, words): (&str, bool)| if words { Column::words(head, "") } else { Column::numbers(head, "") };
    Table {
        columns: HEADS.map(column).into(),
        rows: rows.iter().map(|row| TableRow { cells: row.cells(), marked: false }).collect(),
        notes: rows.iter().any(BenchRow::is_unsteady).then(|| UNSTEADY.to_owned()).into_iter().collect(),
    }
}

fn broken(e: serde_json::Error) -> Error {
    Error::file("results", e.to_string())
}

/// The columns of CSV: everything but lists.
///
/// # Errors
/// Rows that cannot be laid out, which would be a mistake in this program.
pub fn csv(rows: &[BenchRow]) -> Result<String> {
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let Value::Object(cells) = serde_json::to_value(row).map_err(broken)? else { continue };
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
///
/// # Errors
/// As [`csv`].
pub fn lines(rows: &[BenchRow]) -> Result<String> {
    let lines: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>().map_err(broken)?;
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::markdown;
    use crate::table::render;
    use bitworth_eval::record::{Body, Footprint, OWN_ENGINE, Origin};

    fn timing(seconds: f64, drifted: bool) -> Speed {
        let (depth, batch, joules, footprint) = (64, 2, Some(4.0 * seconds), Footprint::default());
        let (arithmetic, engine) = ("q8".to_owned(), OWN_ENGINE.to_owned());
        let (phase, repetition, shape) = (Phase::Decode, 0, None);
        Speed { phase, tokens: 20, depth, batch, repetition, seconds, drifted, joules, arithmetic, engine, shape, footprint }
    }

    fn row(model: &str, timings: &[(f64, bool)]) -> BenchRow {
        let speeds: Vec<Speed> = timings.iter().map(|&(seconds, drifted)| timing(seconds, drifted)).collect();
        BenchRow::of(model, 3 << 20, "tg10 x2 @ d64", &speeds.iter().collect::<Vec<_>>()).unwrap()
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
        let text = render(&table(&[row]));
        assert!(
            text.contains(" 10.00 - 20.00 ! ") && text.contains("0 of 2") && text.ends_with(&format!("{UNSTEADY}\n")),
            "{text}"
        );
    }

    #[test]
    fn programs_and_tests_of_a_lane_have_rows_of_their_own() {
        let record = |lane: &str, engine: &str, phase: Phase, seconds: f64| {
            let speed = Speed { phase, engine: engine.into(), ..timing(seconds, false) };
            Record { origin: Origin::new(lane, lane, "cpu", "f32"), body: Body::Speed(speed) }
        };
        // As they are timed: in turn.
        let mut records = Vec::new();
        for seconds in [1.0, 3.0] {
            for lane in ["a", "b"] {
                for engine in [OWN_ENGINE, "llama-bench b1 (c), CPU"] {
                    records.extend([Phase::Prefill, Phase::Decode].map(|phase| record(lane, engine, phase, seconds)));
                }
            }
        }
        let rows = rows(&records, |lane| (lane == "a").then_some(7));
        let told: Vec<_> =
            rows.iter().map(|r| (r.model.as_str(), &r.engine[..5], r.test.as_str(), r.bytes, r.repetitions)).collect();
        let of = |lane, bytes| {
            [("bitwo", "pp10 x2 @ d64"), ("bitwo", "tg10 x2 @ d64"), ("llama", "pp10 x2 @ d64"), ("llama", "tg10 x2 @ d64")]
                .map(|(engine, test)| (lane, engine, test, bytes, 2))
        };
        assert_eq!(told, [of("a", 7), of("b", 0)].concat());
    }

    #[test]
    fn no_timing_is_no_row() {
        assert!(BenchRow::of("m", 1, "pp1", &[]).is_none());
    }

    #[test]
    fn every_form_survives_strange_names() {
        let rows = [row("a,\"b\"|c", &[(1.0, false)]), row("plain", &[(2.0, false), (2.0, false)])];
        let text = csv(&rows).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("model,bytes,engine,arithmetic,test,phase,tokens,depth,batch,tps,"), "{}", lines[0]);
        assert!(lines[1].starts_with("\"a,\"\"b\"\"|c\",3145728,bitworth,q8,tg10 x2 @ d64,decode,20,64,2,20.0,"), "{}", lines[1]);
        assert!(lines[2].starts_with("plain,") && lines.len() == 3);
        let text = markdown::render_table(&table(&rows));
        assert!(text.contains("| a,\"b\"\\|c | 3.0 | bitworth | q8 | tg10 x2 @ d64 | 20.00 |"), "{text}");
        let lines = super::lines(&rows).unwrap();
        let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&parsed[0]["tps"], &parsed[1]["seconds"][1]), (&20.0.into(), &2.0.into()));
        assert_eq!(render(&table(&rows)).lines().count(), 4);
    }
}
