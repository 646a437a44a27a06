//! What `perplexity` and `compare` say of their lanes: a row of JSON, a line of the table, the block of statistics that `--full`
//! adds. Absent: computing them (see `eval::metrics` and `eval::tokens`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::files::{NewFolders, check_replaceable, is_parquet};
use super::layers::Layers;
use bitworth_engine::sweep::Lane;
use bitworth_eval::metrics::TextMetrics;
use bitworth_eval::record::{Body, Origin, Record, SequenceRecord, TokenSequence};
use bitworth_eval::records;
use bitworth_eval::stats::{Distribution, Estimate};
use bitworth_eval::tokens::{PairMetrics, TOP, TokenAgainstMetrics, TokenMean, TokenMetrics};
use bitworth_measure::execute::describe_lane;
use bitworth_measure::text::TextWindows;
use bitworth_report::tokens::{Common, LaneTokens, layers_path, paths, write, write_layers};

/// One lane with its scores and what they come to.
pub struct Scored<'a> {
    /// The lane.
    pub lane: &'a Lane,
    sequences: &'a [TokenSequence],
    records: Vec<SequenceRecord>,
    /// The figures that reports have, too.
    pub metrics: TextMetrics,
    /// All others.
    pub tokens: TokenMetrics,
}

impl<'a> Scored<'a> {
    /// The lanes with what is known of them; the first is the reference of the others.
    ///
    /// # Errors
    /// Nothing was scored.
    pub fn all(lanes: &'a [Lane], scores: &'a [Vec<TokenSequence>], text: &TextWindows) -> Result<Vec<Self>> {
        let one = |(i, (lane, sequences)): (usize, (&'a Lane, &'a Vec<TokenSequence>))| {
            let records = text.records(sequences, true);
            let metrics = TextMetrics::of(&records.iter().collect::<Vec<_>>()).context("nothing was scored")?;
            let reference = (i > 0).then(|| scores[0].as_slice());
            let tokens = TokenMetrics::of(sequences, reference).context("nothing was scored")?;
            Ok(Self { lane, sequences, records, metrics, tokens })
        };
        lanes.iter().zip(scores).enumerate().map(one).collect()
    }

    /// Mean KL divergence from the reference.
    pub fn kld(&self) -> Option<f64> {
        self.metrics.against.map(|a| a.kld.mean.value)
    }

    /// This lane less another one, paired; `None` for the reference.
    pub fn against(&self, other: &Self) -> Option<PairMetrics> {
        PairMetrics::of(self.sequences, other.sequences)
    }

    /// Everything as JSON: a value with its interval as `*_low` and `*_high`, with the error of independent tokens as `*_se`.
    pub fn row(&self) -> Value {
        let (m, t) = (&self.metrics, &self.tokens);
        let mut row = Row(Map::new());
        row.set("name", json!(self.lane.name));
        row.set("bytes", json!(self.lane.variant.bytes()));
        row.set("tokens", json!(m.tokens));
        row.estimate("ppl", "", m.perplexity);
        row.mean("nll", "", t.nll);
        if let Some(bits) = m.bits_per_byte {
            row.estimate("bits_per_byte", "", bits);
        }
        row.mean("entropy", "_mean", t.entropy);
        row.distribution("entropy", &t.entropies);
        row.distribution("rank", &t.ranks);
        for (k, share) in TOP.iter().zip(t.top) {
            row.estimate(&format!("top{k}_accuracy"), "", share);
        }
        if let (Some(a), Some(b)) = (m.against, &t.against) {
            row.estimate("kld", "_mean", a.kld.mean);
            row.set("kld_se", json!(b.kld.error));
            row.distribution("kld", &b.klds);
            row.mean("reverse_kld", "_mean", b.reverse_kld);
            row.distribution("reverse_kld", &b.reverse_klds);
            row.mean("ln_ppl_ratio", "", b.ln_ppl_ratio);
            row.estimate("ppl_ratio", "", b.ln_ppl_ratio.estimate.map(libm::exp));
            row.mean("ppl_difference", "", b.ppl_difference);
            row.set("ln_ppl_correlation", json!(b.correlation));
            row.estimate("top1_agreement", "", a.top1_agreement);
            row.set("top1_agreement_se", json!(b.same_top.error));
            row.mean("delta_p", "_mean", b.delta_p);
            row.distribution("delta_p", &b.delta_ps);
            row.estimate("delta_p_rms", "", a.delta_p.rms);
            row.set("delta_p_rms_se", json!(rms_error(b)));
        }
        row.set("positions", self.positions());
        Value::Object(row.0)
    }

    fn positions(&self) -> Value {
        let part = |p: &bitworth_eval::tokens::PositionMeans| {
            let mut row = Row(Map::new());
            row.set("first", json!(p.first));
            row.set("last", json!(p.last));
            row.set("tokens", json!(p.tokens));
            row.estimate("nll", "", p.nll);
            if let Some(kld) = p.kld {
                row.estimate("kld", "_mean", kld);
            }
            Value::Object(row.0)
        };
        self.tokens.positions.iter().map(part).collect()
    }

    /// The statistics in the manner of llama-perplexity, a lane's block.
    pub fn block(&self, reference: &Self) -> String {
        let (m, t) = (&self.metrics, &self.tokens);
        let mut out = format!("\n{}\n", self.lane.name);
        out += "  value, standard error of independent tokens, 95 % interval clustered by sequence\n";
        let ppl = |m: &TextMetrics, t: &TokenMetrics| TokenMean {
            estimate: m.perplexity,
            error: t.nll.error.map(|error| error * m.perplexity.value),
        };
        out += &line("perplexity", ppl(m, t), 1.0);
        if let Some(b) = &t.against {
            out += &line("reference's perplexity", ppl(&reference.metrics, &reference.tokens), 1.0);
            out += &line("ln of their ratio", b.ln_ppl_ratio, 1.0);
            let (ratio, error) = (b.ln_ppl_ratio.estimate.map(libm::exp), b.ln_ppl_ratio.error);
            out += &line("ratio", TokenMean { estimate: ratio, error: error.map(|e| e * ratio.value) }, 1.0);
            out += &line("difference", b.ppl_difference, 1.0);
            out += &b.correlation.map_or(String::new(), |r| format!("  {:24}{:>12.4}\n", "correlation %", 100.0 * r));
        }
        if let Some(bits) = m.bits_per_byte {
            out += &line("bits per byte", TokenMean { estimate: bits, error: None }, 1.0);
        }
        for (k, share) in TOP.iter().zip(t.top) {
            out += &line(&format!("target in top {k} %"), TokenMean { estimate: share, error: None }, 100.0);
        }
        out += &line("entropy", t.entropy, 1.0);
        if let (Some(a), Some(b)) = (m.against, &t.against) {
            out += &line("mean KLD", TokenMean { estimate: a.kld.mean, error: b.kld.error }, 1.0);
            out += &line("mean reverse KLD", b.reverse_kld, 1.0);
            out += &line("mean delta p %", b.delta_p, 100.0);
            out += &line("RMS delta p %", TokenMean { estimate: a.delta_p.rms, error: rms_error(b) }, 100.0);
            out += &line("same top token %", TokenMean { estimate: a.top1_agreement, error: b.same_top.error }, 100.0);
        }
        out += &self.percentiles();
        out += &format!("  {:>13} {:>8} {:>12}", "tokens before", "tokens", "nll");
        out += if t.against.is_some() { "          KLD\n" } else { "\n" };
        for p in &t.positions {
            let kld = p.kld.map_or(String::new(), |kld| format!(" {:12.6}", kld.value));
            out += &format!("  {:>13} {:8} {:12.6}{kld}\n", format!("{}-{}", p.first, p.last), p.tokens, p.nll.value);
        }
        out
    }

    fn percentiles(&self) -> String {
        let t = &self.tokens;
        let mut out = format!("  {:>8} {:>12} {:>12}", "", "rank", "entropy");
        out += if t.against.is_some() { "          KLD  reverse KLD    delta p %\n" } else { "\n" };
        let columns = t.ranks.named().into_iter().zip(t.entropies.named()).enumerate();
        for (i, ((name, share, rank), (_, _, entropy))) in columns {
            let name = match name {
                "max" | "min" | "median" => name.to_owned(),
                _ => format!("{} %", (share * 1000.0).round() / 10.0),
            };
            out += &format!("  {name:>8} {rank:12.1} {entropy:12.6}");
            if let Some(b) = &t.against {
                let [kld, reverse, delta_p] = [&b.klds, &b.reverse_klds, &b.delta_ps].map(|d| d.named()[i].2);
                out += &format!(" {kld:12.6} {reverse:12.6} {:12.4}", 100.0 * delta_p);
            }
            out.push('\n');
        }
        out
    }
}

/// The error of a root from that of the square.
fn rms_error(against: &TokenAgainstMetrics) -> Option<f64> {
    let square = against.delta_p_square;
    square.error.map(|error| 0.5 * error / square.estimate.value.sqrt()).filter(|error| error.is_finite())
}

/// One line of a block.
fn line(name: &str, mean: TokenMean, factor: f64) -> String {
    let error = mean.error.map_or(String::new(), |error| format!("± {:.6}", factor * error));
    let interval = mean.estimate.interval.map_or(String::new(), |i| format!("{:.6} to {:.6}", factor * i.low, factor * i.high));
    let line = format!("  {name:24}{:>12.6} {error:12} {interval}", factor * mean.estimate.value);
    line.trim_end().to_owned() + "\n"
}

/// An object of JSON as it grows.
struct Row(Map<String, Value>);

impl Row {
    fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    fn estimate(&mut self, name: &str, suffix: &str, estimate: Estimate) {
        self.set(&format!("{name}{suffix}"), json!(estimate.value));
        self.set(&format!("{name}_low"), json!(estimate.low()));
        self.set(&format!("{name}_high"), json!(estimate.high()));
    }

    fn mean(&mut self, name: &str, suffix: &str, mean: TokenMean) {
        self.estimate(name, suffix, mean.estimate);
        self.set(&format!("{name}_se"), json!(mean.error));
    }

    fn distribution(&mut self, name: &str, values: &Distribution) {
        for (place, _, value) in values.named() {
            self.set(&format!("{name}_{place}"), json!(value));
        }
    }
}

/// Every two candidates, the earlier one first: their names and what is between them.
pub fn pairs<'a>(candidates: &'a [Scored<'a>]) -> Vec<(&'a str, &'a str, PairMetrics)> {
    let both = candidates.iter().enumerate().flat_map(|(i, first)| candidates[i + 1..].iter().map(move |second| (first, second)));
    both.filter_map(|(first, second)| Some((first.lane.name.as_str(), second.lane.name.as_str(), first.against(second)?)))
        .collect()
}

/// The same as JSON.
pub fn pairs_document(candidates: &[Scored<'_>]) -> Value {
    let row = |(first, second, pair): (&str, &str, PairMetrics)| {
        let mut row = Row(Map::new());
        row.set("first", json!(first));
        row.set("second", json!(second));
        row.estimate("ln_ppl_ratio", "", pair.ln_ppl_ratio);
        row.estimate("kld_difference", "", pair.kld_difference);
        Value::Object(row.0)
    };
    pairs(candidates).into_iter().map(row).collect()
}

/// The same as a block.
pub fn pairs_block(candidates: &[Scored<'_>]) -> String {
    let pairs = pairs(candidates);
    if pairs.is_empty() {
        return String::new();
    }
    let mut out = "\npaired differences, first less second, 95 % interval clustered by sequence\n".to_owned();
    for (first, second, pair) in pairs {
        out += &format!("{first} - {second}\n");
        out += &line("ln ppl", TokenMean { estimate: pair.ln_ppl_ratio, error: None }, 1.0);
        out += &line("mean KLD", TokenMean { estimate: pair.kld_difference, error: None }, 1.0);
    }
    out
}

/// Where `--records` writes: a folder that was looked at before the work.
pub struct RecordsFolder {
    dir: PathBuf,
    folders: NewFolders,
}

impl RecordsFolder {
    /// Makes the folder; files of an earlier run may be replaced, nothing else.
    ///
    /// # Errors
    /// A place that cannot be written, or holds other files under the names to be written.
    pub fn open(dir: &Path) -> Result<Self> {
        for path in paths(dir) {
            check_replaceable(&path, std::iter::empty(), "parquet file", is_parquet)?;
        }
        let mut folders = NewFolders::default();
        folders.create("--records", dir)?;
        for path in paths(dir) {
            drop(bitworth_quant::atomic_file::AtomicFile::create(&path)?);
        }
        Ok(Self { dir: dir.to_owned(), folders })
    }

    /// Writes the records that `report` and `advise` read; those of an earlier comparison in the folder are replaced.
    fn for_reports(&self, device: &str, lanes: &[Scored<'_>]) -> Result<Vec<PathBuf>> {
        let model = lanes.first().map_or("", |lane| lane.lane.variant.checkpoint().name());
        let old = std::fs::read_dir(self.dir.join(records::RECORDS)).into_iter().flatten().flatten();
        for file in old.filter(|file| file.file_name().to_string_lossy().starts_with("compare.")) {
            std::fs::remove_file(file.path()).with_context(|| file.path().display().to_string())?;
        }
        let mut written = Vec::new();
        for (i, scored) in lanes.iter().enumerate() {
            let lane = scored.lane;
            let record = |body| Record { origin: Origin::new(model, &lane.name, device, lane.arithmetic.name()), body };
            let mut rows = vec![record(describe_lane(lane, i == 0)?)];
            rows.extend(scored.records.iter().map(|sequence| record(Body::Sequence(sequence.clone()))));
            let item = format!("compare.{}", lane.name);
            records::append(&self.dir, &item, &rows)?;
            written.push(records::path(&self.dir, &item));
        }
        Ok(written)
    }

    /// Writes the tokens and sequences of all lanes, and where there are some the errors of activations; returns the files.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(mut self, device: &str, lanes: &[Scored<'_>], layers: Option<&Layers<'_>>) -> Result<Vec<PathBuf>> {
        let model = lanes.first().map_or("", |lane| lane.lane.name.as_str());
        let row = |s| {
            let Scored { lane, sequences, records, .. }: &Scored<'_> = s;
            LaneTokens { lane: &lane.name, sequences, records }
        };
        write(&self.dir, &Common { model, device }, &lanes.iter().map(row).collect::<Vec<_>>())?;
        let mut files = paths(&self.dir).to_vec();
        files.extend(self.for_reports(device, lanes)?);
        if let Some(layers) = layers {
            let path = layers_path(&self.dir);
            check_replaceable(&path, std::iter::empty(), "parquet file", is_parquet)?;
            write_layers(&path, layers.lanes())?;
            files.push(path);
        }
        self.folders.keep();
        Ok(files)
    }
}
