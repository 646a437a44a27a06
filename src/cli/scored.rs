//! One text scored in memory, as `perplexity` and `compare` do it: what is done beside the job, and the folder of `--records`.
//! Absent: figures and how they look (see `report::lanes`).

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use bitworth_quant::quantize::Written;
use serde_json::Value;

use super::files::{NewFolders, check_replaceable, check_writable, is_parquet};
use super::output;
use super::reference::{KeepArgs, SourceArgs};
use super::session::Session;
use super::sweep::{Files, inputs};
use super::text_args::TextArgs;
use bitworth_engine::sweep::Lane;
use bitworth_eval::record::{Record, SessionInfo};
use bitworth_measure::device::Device;
use bitworth_measure::execute::{Beside, Ready};
use bitworth_measure::reference::lane::ReferenceSource;
use bitworth_report::gather::{self, LeftOut};
use bitworth_report::lanes::{self, LaneLayers, ScoredLane};
use bitworth_report::tokens;

/// What is done beside scoring.
pub struct Asked<'a> {
    /// The text and how it is swept.
    pub text: &'a TextArgs,
    /// Where the reference is kept.
    pub keep: &'a KeepArgs,
    /// Where it comes from, if not from a walk.
    pub source: Option<&'a SourceArgs>,
    /// The folder of the files of recipes.
    pub write: Option<&'a Path>,
    /// Whether errors of activations are wanted.
    pub layers: bool,
}

/// What came of it.
pub struct Scoring {
    /// The lanes; the first is the reference.
    pub lanes: Vec<Lane>,
    /// The same with their scores.
    pub scored: Vec<ScoredLane>,
    /// How far activations are from the reference's, where that was asked.
    pub layers: Option<LaneLayers>,
    /// Windows of the text.
    pub windows: usize,
    /// SHA-256 of the text.
    pub text_sha256: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether there was something to go on with.
    pub resumed: bool,
    /// Where the reference is from, if not from a walk.
    pub from: Option<Value>,
    /// The files of `--records`.
    pub records: Option<Vec<PathBuf>>,
    /// The files of recipes.
    pub written: Option<Vec<Written>>,
    /// Candidates that are no versions of the model.
    pub left_out: Vec<LeftOut>,
}

impl Scoring {
    /// Does what is ready, and what was asked beside it.
    ///
    /// # Errors
    /// As [`Ready::execute`]; files that cannot be read or written.
    pub fn of(ready: Ready<'_>, device: &Device, asked: &Asked<'_>, session: &Session) -> Result<Self> {
        let lanes = ready.lanes()?;
        let text = ready.text().context("there is no text")?;
        let (windows, text_sha256) = (text.sequences.len(), text.sha256.clone());
        let made = asked.write.map(|dir| Files::create(dir, &lanes)).transpose()?;
        let folder = asked.text.records.as_deref().map(|dir| RecordsFolder::open(dir, asked.layers)).transpose()?;
        let source = match asked.source {
            Some(source) => source.open(&lanes[0], text, &device.info().name)?,
            None => ReferenceSource::Walked,
        };
        let read = asked.source.into_iter().flat_map(SourceArgs::files);
        let kept = asked.keep.kept(inputs(&lanes).chain(read))?;
        let resumed = asked.text.sweep.is_resumed();
        let (begin, measured_by) = (Instant::now(), bitworth_measure::session());
        let sinks = made.as_ref().map_or(&[][..], Files::sinks);
        let beside = Beside { source: &source, kept: &kept, sinks, layers: asked.layers, resume: asked.text.sweep.resume() };
        let finished = ready.execute(Some(&beside))?;
        finished.notes.iter().for_each(|note| session.note(&note.describe(&output::flag)));
        let written = made.map(|files| files.finish(lanes[0].variant.checkpoint())).transpose()?;
        let seconds = begin.elapsed().as_secs_f64();
        let (scored, left_out) = (ScoredLane::all(&finished.records)?, gather::left_out(&finished.records));
        let layers = asked.layers.then(|| LaneLayers::new(finished.layers));
        let records =
            folder.map(|folder| folder.write((&scored[..], layers.as_ref()), &finished.records, &measured_by)).transpose()?;
        let from = source.describe();
        Ok(Self { lanes, scored, layers, windows, text_sha256, seconds, resumed, from, records, written, left_out })
    }

    /// What readers of its figures should know.
    pub fn warnings(&self) -> Vec<String> {
        lanes::warnings(&self.scored)
    }

    /// Everything of a lane as JSON.
    pub fn row(&self, lane: usize) -> Value {
        self.scored[lane].row(self.lanes[lane].variant.bytes())
    }
}

/// Where `--records` writes: a folder that was looked at before the work.
struct RecordsFolder {
    dir: PathBuf,
    folders: NewFolders,
}

impl RecordsFolder {
    /// Makes the folder; files of an earlier run may be replaced, nothing else.
    fn open(dir: &Path, layers: bool) -> Result<Self> {
        let paths = || tokens::paths(dir).into_iter().chain(layers.then(|| tokens::layers_path(dir)));
        paths().try_for_each(|path| check_replaceable(&path, std::iter::empty(), "parquet file", is_parquet))?;
        let mut folders = NewFolders::default();
        folders.create("--records", dir)?;
        paths().try_for_each(|path| check_writable(&path))?;
        Ok(Self { dir: dir.to_owned(), folders })
    }

    fn write(
        mut self,
        (scored, layers): (&[ScoredLane], Option<&LaneLayers>),
        records: &[Record],
        measured_by: &SessionInfo,
    ) -> Result<Vec<PathBuf>> {
        let mut files = lanes::write(&self.dir, scored, records, measured_by)?;
        if let Some(layers) = layers {
            let path = tokens::layers_path(&self.dir);
            tokens::write_layers(&path, layers.lanes())?;
            files.push(path);
        }
        self.folders.keep();
        Ok(files)
    }
}
