//! The lanes of `perplexity` and `compare` with their scores, and the folder of `--records`. Absent: computing figures (see
//! `eval::metrics` and `eval::tokens`) and showing them (see `report::statistics`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::files::{NewFolders, check_replaceable, is_parquet};
use super::layers::Layers;
use bitworth_engine::sweep::Lane;
use bitworth_eval::metrics::TextMetrics;
use bitworth_eval::record::{Body, Origin, Record, SequenceRecord, TokenSequence};
use bitworth_eval::records;
use bitworth_eval::tokens::{PairMetrics, TokenMetrics};
use bitworth_measure::execute::describe_lane;
use bitworth_measure::text::TextWindows;
use bitworth_report::statistics::{self, LaneFigures};
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

    fn figures(&self) -> LaneFigures<'_> {
        LaneFigures { name: &self.lane.name, text: &self.metrics, tokens: &self.tokens }
    }

    /// Everything as JSON: a value with its interval as `*_low` and `*_high`, with the error of independent tokens as `*_se`.
    pub fn row(&self) -> Value {
        statistics::row(self.figures(), self.lane.variant.bytes())
    }

    /// The statistics in the manner of llama-perplexity, a lane's block.
    pub fn block(&self, reference: &Self) -> String {
        statistics::block(self.figures(), reference.figures())
    }
}

/// Every two candidates, the earlier one first: their names and what is between them.
pub fn pairs<'a>(candidates: &'a [Scored<'a>]) -> Vec<(&'a str, &'a str, PairMetrics)> {
    let both = candidates.iter().enumerate().flat_map(|(i, first)| candidates[i + 1..].iter().map(move |second| (first, second)));
    both.filter_map(|(first, second)| Some((first.lane.name.as_str(), second.lane.name.as_str(), first.against(second)?)))
        .collect()
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
