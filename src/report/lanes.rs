//! Lanes whose every scored token is at hand, from records: all of their figures, and lanes paired with each other. Absent:
//! computing figures (see `bitworth_eval::metrics` and `bitworth_eval::tokens`) and naming them (see `statistics`).

use std::path::{Path, PathBuf};

use bitworth_quant::{Error, Result};
use serde_json::{Value, json};

use crate::findings::few_sequences;
use crate::page::{Cell, Column, Table, TableRow};
use crate::statistics::{self, LaneFigures};
use crate::tokens::{self, Common, LaneTokens};
use bitworth_eval::metrics::TextMetrics;
use bitworth_eval::record::{Layer, Record, SequenceRecord, SessionInfo, TokenSequence};
use bitworth_eval::records;
use bitworth_eval::stats::Estimate;
use bitworth_eval::tokens::{PairMetrics, TokenMetrics};

/// One lane with its scores and what they come to.
#[derive(Debug)]
pub struct ScoredLane {
    /// Its name.
    pub name: String,
    sequences: Vec<TokenSequence>,
    records: Vec<SequenceRecord>,
    /// The figures that reports have, too.
    pub metrics: TextMetrics,
    /// All others.
    pub tokens: TokenMetrics,
}

impl ScoredLane {
    /// The lanes of `records` in their order; the first is the reference of the others.
    ///
    /// # Errors
    /// Nothing was scored, or tokens were not kept.
    pub fn all(records: &[Record]) -> Result<Vec<Self>> {
        let mut lanes: Vec<Self> = Vec::new();
        for name in names(records) {
            let own = records.iter().filter(|record| record.origin.lane == name);
            let own: Vec<SequenceRecord> = own.filter_map(|record| record.as_sequence().cloned()).collect();
            let reference = lanes.first().map(|reference| reference.sequences.as_slice());
            let found = Self::of(name, own, reference);
            lanes.push(found.ok_or_else(|| Error::file("records", format!("lane {name}: nothing was scored")))?);
        }
        Ok(lanes)
    }

    fn of(name: &str, records: Vec<SequenceRecord>, reference: Option<&[TokenSequence]>) -> Option<Self> {
        let tokens = |s: &SequenceRecord| {
            let (sequence, bytes, first) = (s.sequence, s.bytes, s.protocol.first + 1);
            Some(TokenSequence { sequence, bytes, first, tokens: s.kept.clone()? })
        };
        let sequences = records.iter().map(tokens).collect::<Option<Vec<_>>>()?;
        let metrics = TextMetrics::of(&records.iter().collect::<Vec<_>>())?;
        let tokens = TokenMetrics::of(&sequences, reference)?;
        Some(Self { name: name.to_owned(), sequences, records, metrics, tokens })
    }

    /// Mean KL divergence from the reference.
    pub fn kld(&self) -> Option<f64> {
        self.metrics.against.map(|a| a.kld.mean.value)
    }

    /// This lane less another one, paired; `None` for the reference.
    pub fn against(&self, other: &Self) -> Option<PairMetrics> {
        PairMetrics::of(&self.sequences, &other.sequences)
    }

    /// Whether it loses more than `floor` beyond chance; `None` where one sequence says nothing about that.
    pub fn is_above(&self, floor: &Self) -> Option<bool> {
        self.against(floor).and_then(|pair| pair.kld_difference.low()).map(|low| low > 0.0)
    }

    fn figures(&self) -> LaneFigures<'_> {
        LaneFigures { name: &self.name, text: &self.metrics, tokens: &self.tokens }
    }

    /// Everything as JSON: a value with its interval as `*_low` and `*_high`, with the error of independent tokens as `*_se`.
    pub fn row(&self, bytes: u64) -> Value {
        statistics::row(self.figures(), bytes)
    }

    /// The same with how much it loses beyond `floor`, and whether it surely does.
    pub fn row_above(&self, floor: &Self, bytes: u64) -> Value {
        let mut row = self.row(bytes);
        let above = self.against(floor).map(|pair| pair.kld_difference);
        row["kld_above_floor"] = json!(above.map(|e| e.value));
        row["kld_above_floor_low"] = json!(above.and_then(|e| e.low()));
        row["kld_above_floor_high"] = json!(above.and_then(|e| e.high()));
        row["above_noise_floor"] = json!(self.is_above(floor));
        row
    }

    /// The statistics in the manner of llama-perplexity, a lane's block.
    pub fn block(&self, reference: &Self) -> String {
        statistics::block(self.figures(), reference.figures())
    }
}

/// What readers of the figures of `lanes` should know: that their intervals rest on few windows.
pub fn warnings(lanes: &[ScoredLane]) -> Vec<String> {
    let scored = |lane: &ScoredLane| lane.records.iter().filter(|sequence| sequence.tokens > 0).count() as u64;
    few_sequences(lanes.iter().map(scored)).into_iter().collect()
}

fn names(records: &[Record]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for record in records.iter().filter(|record| record.as_left_out().is_none()) {
        if !names.contains(&record.origin.lane.as_str()) {
            names.push(&record.origin.lane);
        }
    }
    names
}

/// Every two candidates, the earlier one first: their names and what is between them.
pub fn pairs(candidates: &[ScoredLane]) -> Vec<(&str, &str, PairMetrics)> {
    let both = candidates.iter().enumerate().flat_map(|(i, first)| candidates[i + 1..].iter().map(move |second| (first, second)));
    both.filter_map(|(first, second)| Some((first.name.as_str(), second.name.as_str(), first.against(second)?))).collect()
}

/// The lanes at a glance, with the bytes of their tensors; the last lane is the noise floor where `floor` says so.
pub fn table(lanes: &[ScoredLane], bytes: &[u64], floor: bool) -> Table {
    let heads = ["tensors", "ppl", "ppl +%", "mean KLD", "95 % interval", "median", "99 %", "99.9 %", "top-1 %", "rms dp %"];
    let floor = lanes.last().filter(|_| floor);
    let mut columns = vec![Column::words("lane", "")];
    columns.extend(heads.iter().map(|head| Column::numbers(*head, "")));
    columns.extend(floor.map(|_| Column::words("noise floor", "")));
    let row = |(lane, bytes): (&ScoredLane, &u64)| {
        let number = |value: f64, decimals: usize| Cell::number(format!("{value:.decimals$}"), value);
        let mut cells = vec![Cell::words(lane.name.clone()), Cell::number(crate::number::bytes(*bytes), *bytes as f64)];
        cells.push(number(lane.metrics.perplexity.value, 4));
        if let (Some(a), Some(b)) = (lane.metrics.against, &lane.tokens.against) {
            let change = 100.0 * libm::expm1(b.ln_ppl_ratio.estimate.value);
            let Estimate { value, interval } = a.kld.mean;
            cells.push(Cell::number(format!("{change:+.3}"), change));
            cells.push(number(value, 6));
            cells.push(Cell::words(interval.map_or(String::new(), |i| format!("{:.6} - {:.6}", i.low, i.high))));
            cells.extend([number(a.kld.median, 6), number(a.kld.p99, 5), number(a.kld.p99_9, 5)]);
            cells.extend([number(100.0 * a.top1_agreement.value, 2), number(100.0 * a.delta_p.rms.value, 3)]);
            cells.extend(floor.map(|floor| match lane.is_above(floor) {
                _ if std::ptr::eq(floor, lane) => Cell::words("is it"),
                Some(true) => Cell::words("above"),
                Some(false) => Cell::words("not above"),
                None => Cell::words("unknown"),
            }));
        }
        cells.resize(columns.len(), Cell::default());
        TableRow { cells, marked: false }
    };
    let rows = lanes.iter().zip(bytes).map(row).collect();
    Table { columns, rows, notes: Vec::new() }
}

/// How far the activations of candidates are from the reference's, block by block: by lane but the first.
#[derive(Debug, Default)]
pub struct LaneLayers {
    lanes: Vec<(String, Vec<Layer>)>,
}

impl LaneLayers {
    /// Of these lanes.
    pub fn new(lanes: Vec<(String, Vec<Layer>)>) -> Self {
        Self { lanes }
    }

    /// The lanes' names and errors.
    pub fn lanes(&self) -> impl Iterator<Item = (&str, &[Layer])> {
        self.lanes.iter().map(|(name, layers)| (name.as_str(), layers.as_slice()))
    }

    /// `|x - r| / |r|` over all rows behind each block.
    fn relative(layers: &[Layer]) -> Vec<f64> {
        let block = |all: &[Layer]| {
            let sum = |f: fn(&Layer) -> f64| all.iter().map(f).sum::<f64>();
            (sum(|layer| layer.error) / sum(|layer| layer.reference)).sqrt()
        };
        layers.chunk_by(|a, b| a.block == b.block).map(block).collect()
    }

    /// As JSON: by lane, one number a block.
    pub fn document(&self) -> Value {
        self.lanes().map(|(name, layers)| json!({ "name": name, "relative_error": Self::relative(layers) })).collect()
    }

    /// As a table with a row a block.
    pub fn table(&self) -> Table {
        let errors: Vec<Vec<f64>> = self.lanes().map(|(_, layers)| Self::relative(layers)).collect();
        let blocks = errors.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |error: Option<&f64>| error.map_or_else(Cell::default, |e| Cell::number(format!("{e:.3e}"), *e));
        let row = |block: usize| {
            let own = errors.iter().map(|errors| cell(errors.get(block)));
            TableRow { cells: std::iter::once(Cell::words(block.to_string())).chain(own).collect(), marked: false }
        };
        let heads = self.lanes().map(|(name, _)| Column::numbers(name, ""));
        Table {
            columns: std::iter::once(Column::words("block", "")).chain(heads).collect(),
            rows: (0..blocks).map(row).collect(),
            notes: vec!["relative error of activations behind each block".into()],
        }
    }
}

/// Writes tokens and sequences of all lanes into `dir` ([`tokens::paths`]), and the records that reports read, which `session`
/// measured; those of an earlier comparison there are replaced. Returns the files.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dir: &Path, lanes: &[ScoredLane], records: &[Record], session: &SessionInfo) -> Result<Vec<PathBuf>> {
    let row = |lane| {
        let ScoredLane { name, sequences, records, .. }: &ScoredLane = lane;
        LaneTokens { lane: name, sequences, records }
    };
    let model = lanes.first().map_or("", |lane| &lane.name);
    let device = records.first().map_or("", |record| &record.origin.device);
    tokens::write(dir, &Common { model, device }, &lanes.iter().map(row).collect::<Vec<_>>())?;
    let mut files = tokens::paths(dir).to_vec();
    let old = std::fs::read_dir(dir.join(records::RECORDS)).into_iter().flatten().flatten();
    for file in old.filter(|file| file.file_name().to_string_lossy().starts_with("compare.")) {
        std::fs::remove_file(file.path()).map_err(|e| Error::io(file.path(), e))?;
    }
    for (number, name) in names(records).into_iter().enumerate() {
        // Candidates that were left out stand with the first lane: their names, which may be long paths, name no file.
        let is_own = |record: &&Record| match record.as_left_out() {
            Some(_) => number == 0,
            None => record.origin.lane == name,
        };
        let own: Vec<Record> = records.iter().filter(is_own).cloned().collect();
        let item = format!("compare.{name}");
        records::append(dir, &item, &own, Some(session))?;
        files.push(records::path(dir, &item));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{summarize, table::render};
    use bitworth_eval::sample;

    fn kept() -> Vec<Record> {
        let mut records = sample::two_texts();
        records.retain(|r| r.as_sequence().is_none_or(|s| s.kept.is_some()));
        records
    }

    #[test]
    fn lanes_of_records_have_the_figures_of_their_summary() {
        let records = kept();
        let lanes = ScoredLane::all(&records).unwrap();
        for row in summarize(&records).unwrap() {
            let lane = lanes.iter().find(|lane| lane.name == row.lane).unwrap();
            assert_eq!(Some(lane.metrics.perplexity), row.ppl, "{}", lane.name);
            assert_eq!(lane.metrics.against.map(|a| a.kld), row.kld.filter(|_| !row.is_reference), "{}", lane.name);
            assert_eq!(Some(&lane.tokens), row.token_metrics.as_deref(), "{}", lane.name);
        }
        assert_eq!(pairs(&lanes[1..]).len(), (lanes.len() - 1) * (lanes.len() - 2) / 2);
        let bytes = vec![1_290_000; lanes.len()];
        let text = render(&table(&lanes, &bytes, true));
        assert!(text.lines().next().unwrap().ends_with("noise floor") && text.contains("1.29 MB"), "{text}");
        assert!(text.lines().last().unwrap().ends_with("is it") && text.lines().count() == lanes.len() + 2, "{text}");
        let plain = render(&table(&lanes, &bytes, false));
        assert!(!plain.contains("noise floor") && !plain.contains("is it"), "{plain}");
        let mut without = records;
        without.retain(|r| r.as_sequence().is_none());
        assert!(ScoredLane::all(&without).unwrap_err().to_string().contains("nothing was scored"));
    }

    #[test]
    fn errors_of_activations_are_of_all_rows_behind_a_block() {
        let layer = |block, error| Layer { block, sequence: 0, rows: 1, error, reference: 4.0 };
        let layers = LaneLayers::new(vec![("q4_0".into(), vec![layer(0, 1.0), layer(0, 1.0), layer(1, 4.0)])]);
        assert_eq!(layers.document()[0]["relative_error"], json!([0.5, 1.0]));
        let text = render(&layers.table());
        assert!(text.starts_with("block") && text.contains("5.000e-1") && text.contains("1.000e0"), "{text}");
    }
}
