//! GGUF files made beside another walk through the model: whoever encodes tensors for a purpose of their own hands them over, in
//! any order and in parts; what never came is encoded in the end. What is absent: threads, split files, and the journal of what
//! is done, which only those who hand tensors over can keep.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::checks::{check_plan, refuse_same_paths};
use super::encode::encode_rows_of;
use super::measured::{self, Known, KnownOf, Place};
use super::output::{Clock, Output, QuantizeOptions, Written, WrittenFile};
use super::parts::parts;
use super::{hash, journal, space};
use crate::checkpoint::Source;
use crate::gguf::{GgufWriter, Layout, TensorSpec, Value};
use crate::plan::PlanEntry;
use crate::tensor::Tensor;
use crate::{DType, Error, Result};

/// Weights that are encoded at once of tensors that never came.
const REST_WEIGHTS: usize = 32 << 20;

/// A file that takes tensors as they come. It appears under its name on [`Sink::finish`]; dropped before, nothing is left.
pub struct Sink {
    output: Output,
    /// By the tensor's name in the source: its entry in the plan.
    entries: HashMap<String, usize>,
    state: Mutex<State>,
}

/// What is wanted of a file beside itself.
#[derive(Clone, Copy, Default)]
pub struct Finish<'a> {
    /// Whether to hash it.
    pub sha256: bool,
    /// With a clock, [`Written::report`] is made.
    pub report: Option<Clock<'a>>,
    /// What the report is told of tensors that came.
    pub known: Option<KnownOf<'a>>,
}

struct State {
    writer: GgufWriter,
    /// By entry of the plan: the rows that came.
    rows: Vec<Vec<Range<usize>>>,
}

/// A file that is whole and on the disk, under its temporary name.
pub struct CompleteFile {
    writer: GgufWriter,
    written: Written,
}

impl CompleteFile {
    /// Gives the file its name.
    ///
    /// # Errors
    /// A file that cannot be renamed.
    pub fn commit(self) -> Result<Written> {
        self.writer.commit()?;
        Ok(self.written)
    }
}

impl Sink {
    /// Begins the files of `outputs`, which are not split, for tensors of `source`.
    ///
    /// # Errors
    /// As [`super::quantize`], as far as it refuses before it begins.
    pub fn create_all(source: &dyn Source, outputs: Vec<Output>) -> Result<Vec<Self>> {
        Self::open_all(source, outputs, false)
    }

    /// The same with what an earlier call left unfinished, which also stays when these are dropped. Then either
    /// [`Self::take_up`] for every tensor that is known to be whole, or [`Self::start_anew`].
    ///
    /// # Errors
    /// As [`Self::create_all`].
    pub fn reopen_all(source: &dyn Source, outputs: Vec<Output>) -> Result<Vec<Self>> {
        Self::open_all(source, outputs, true)
    }

    fn open_all(source: &dyn Source, outputs: Vec<Output>, kept: bool) -> Result<Vec<Self>> {
        outputs.iter().try_for_each(|output| check_plan(source, output))?;
        refuse_same_paths(source, &outputs)?;
        let mut writers = Vec::with_capacity(outputs.len());
        for output in &outputs {
            let layout = layout(output)?;
            let writer = if kept { GgufWriter::reopen(&output.path, layout) } else { GgufWriter::create(&output.path, layout) }?;
            if !kept {
                // A journal left behind would speak for a file that is another one now.
                journal::remove(&journal::path(writer.file()))?;
            }
            writers.push(writer);
        }
        space::check(writers.iter())?;
        let sink = |(output, writer): (Output, GgufWriter)| {
            let entries = output.plan.entries.iter().enumerate().map(|(i, entry)| (entry.source().to_owned(), i)).collect();
            let rows = vec![Vec::new(); output.plan.entries.len()];
            Self { output, entries, state: Mutex::new(State { writer, rows }) }
        };
        Ok(outputs.into_iter().zip(writers).map(sink).collect())
    }

    /// Where the file will stand.
    pub fn path(&self) -> &PathBuf {
        &self.output.path
    }

    /// Where a journal of what is done stands while the file is not whole.
    pub fn journal(&self) -> PathBuf {
        journal::path(self.state.lock().unwrap_or_else(PoisonError::into_inner).writer.file())
    }

    /// All that decides the bytes of the file as a hash, but for what comes with the tensors.
    ///
    /// # Errors
    /// Files of the source that cannot be read.
    pub fn fingerprint(&self, source: &dyn Source) -> Result<String> {
        journal::fingerprint(source, &self.output, &parts(&self.output)?, &QuantizeOptions::default())
    }

    /// Whether there is nothing in the unfinished file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).writer.file().is_empty()
    }

    /// Takes a tensor of the source for written, as an earlier call left it, where the file has it as `to`. Whether it can be.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn take_up(&mut self, tensor: &Tensor, to: DType) -> Result<bool> {
        let Some(entry) = self.entry(tensor).filter(|&entry| self.output.plan.entries[entry].to == to) else { return Ok(true) };
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !state.writer.resume(entry)? {
            return Ok(false);
        }
        state.rows[entry].clear();
        state.rows[entry].push(0..tensor.rows());
        Ok(true)
    }

    /// Discards what an earlier call left.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn start_anew(&mut self) -> Result<()> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.rows.iter_mut().for_each(Vec::clear);
        state.writer.start_anew()
    }

    /// Puts what came so far on the disk.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn sync(&self) -> Result<()> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).writer.file().sync()
    }

    /// Replaces a value of the metadata that could not be known before by one that takes as many bytes.
    ///
    /// # Errors
    /// A value that takes other room; a file that cannot be written.
    pub fn set(&mut self, key: &str, value: Value) -> Result<()> {
        self.output.metadata.set(key, value);
        let layout = layout(&self.output)?;
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).writer.replace_header(layout)
    }

    /// Takes the encoded bytes of some rows of a tensor of the source, from `first_row` on. What came before, or is not of this
    /// file, is left aside.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn put(&self, tensor: &Tensor, first_row: usize, bytes: &[u8]) -> Result<()> {
        let Some(entry) = self.entry(tensor) else { return Ok(()) };
        let row_bytes = self.row_bytes(tensor, entry)?;
        let rows = first_row..first_row + bytes.len() / row_bytes.max(1);
        if bytes.len() != rows.len() * row_bytes {
            let what = format!("{} bytes are no whole rows of {row_bytes}; they are of another encoding", bytes.len());
            return Err(Error::tensor(&self.output.path, &tensor.name, what));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.rows[entry].iter().any(|known| known.start < rows.end && rows.start < known.end) {
            return Ok(());
        }
        state.writer.write(entry, (first_row * row_bytes) as u64, bytes)?;
        state.rows[entry].push(rows);
        Ok(())
    }

    /// Encodes what never came, and gives the file its name.
    ///
    /// # Errors
    /// As [`super::quantize`].
    pub fn finish(self, source: &dyn Source) -> Result<Written> {
        self.finish_with(source, Finish::default())
    }

    /// [`Self::finish`], with more than the file.
    ///
    /// # Errors
    /// As there.
    pub fn finish_with(self, source: &dyn Source, wanted: Finish<'_>) -> Result<Written> {
        self.complete(source, wanted)?.commit()
    }

    /// [`Self::finish_with`] but for the name, so that several files get theirs when all of them are whole.
    ///
    /// # Errors
    /// As there.
    pub fn complete(self, source: &dyn Source, wanted: Finish<'_>) -> Result<CompleteFile> {
        let mut seconds = vec![0.0; self.output.plan.entries.len()];
        let tensors = || source.tensors().iter().chain(source.kept_tensors());
        for tensor in tensors() {
            let Some(entry) = self.entry(tensor) else { continue };
            let began = wanted.report.map(|clock| clock());
            for rows in self.missing(tensor, entry) {
                let at_once = (REST_WEIGHTS / tensor.cols().max(1)).max(1);
                for first in rows.clone().step_by(at_once) {
                    let part = first..rows.end.min(first + at_once);
                    let to = self.output.plan.entries[entry].to;
                    let bytes = encode_rows_of(source, tensor, part, to, self.output.imatrix.as_deref())?;
                    self.put(tensor, first, &bytes)?;
                }
            }
            if let Some((clock, began)) = wanted.report.zip(began) {
                seconds[entry] = clock() - began;
            }
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.writer.sync()?;
        let sha256 = if wanted.sha256 { Some(hash::of(&state.writer)?) } else { None };
        let mut report = vec![None; seconds.len()];
        if wanted.report.is_some() {
            let partial = state.writer.file().partial_path();
            let (path, file) = (&self.output.path, File::open(partial).map_err(|e| Error::io(partial, e))?);
            for tensor in tensors() {
                let Some(i) = self.entry(tensor) else { continue };
                let (entry, at) = (&self.output.plan.entries[i], state.writer.layout().offset(i));
                let known = wanted.known.map_or_else(Known::default, |known| known(entry));
                // What was not fitted was weighed by the importance matrix, where there is one.
                let importance = known.importance.map_or_else(|| self.output.importance(entry), |own| Ok(Some(own)))?;
                let known = Known { importance, seconds: known.seconds + seconds[i], ..known };
                report[i] = Some(measured::report(source, tensor, entry, &Place { path, file: &file, at }, known)?);
            }
        }
        drop(state);
        let State { writer, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let bytes = writer.layout().file_bytes();
        let file = WrittenFile { path: self.output.path.clone(), bytes, sha256 };
        let report = report.into_iter().flatten().collect();
        Ok(CompleteFile { writer, written: Written { path: self.output.path, bytes, files: vec![file], report } })
    }

    /// The entry of the plan for a tensor, in the form that it is planned from.
    fn entry(&self, tensor: &Tensor) -> Option<usize> {
        let entry = *self.entries.get(&tensor.name)?;
        (self.output.plan.entries[entry].from == tensor.dtype).then_some(entry)
    }

    /// The rows of a tensor that did not come.
    fn missing(&self, tensor: &Tensor, entry: usize) -> Vec<Range<usize>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = state.rows[entry].clone();
        known.sort_by_key(|rows| rows.start);
        let (mut missing, mut next) = (Vec::new(), 0);
        for rows in known.into_iter().chain(std::iter::once(tensor.rows()..tensor.rows())) {
            if next < rows.start {
                missing.push(next..rows.start);
            }
            next = rows.end;
        }
        missing
    }

    fn row_bytes(&self, tensor: &Tensor, entry: usize) -> Result<usize> {
        let to = self.output.plan.entries[entry].to;
        let what = || format!("rows of {} weights do not divide into {to} blocks", tensor.cols());
        to.row_bytes(tensor.cols()).ok_or_else(|| Error::tensor(&self.output.path, &tensor.name, what()))
    }
}

/// Where everything of an output goes.
fn layout(output: &Output) -> Result<Layout> {
    let Output { plan, path, metadata, .. } = output;
    let spec = |entry: &PlanEntry| TensorSpec { name: entry.tensor.clone(), dtype: entry.to, shape: entry.shape.clone() };
    let specs: Vec<TensorSpec> = plan.entries.iter().map(spec).collect();
    Layout::new(path, metadata, &specs)
}
