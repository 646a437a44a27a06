//! What a sweep leaves on the disk so that it can go on after it was ended: the scores of finished passes, and the activations
//! behind a finished layer. Every file has its checksum and is renamed into place; a sweep goes on with the same numbers to the
//! last bit.
//!
//! Activations are written behind every layer where that takes little of the time: the last time it took, and nine times as long
//! nothing is written. Absent: weights and files that a sweep makes on the way, which are made anew.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitworth_quant::atomic_file::{AtomicFile, write_whole};
use bitworth_quant::hex::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layers::{LayerError, RowError};
use super::plan::SweepPlan;
use super::{Lane, Reference, Resume, Scores, Sequence, SweepOptions};
use crate::backend::HeadRow;
use crate::error::{EngineError, Result};

/// Grows whenever the files' layout changes.
const VERSION: u32 = 3;
/// The file that says which sweep the folder is of.
const IDENTITY: &str = "sweep.json";
/// The same while it is not whole.
const UNFINISHED: &str = ".sweep.json.partial";
/// How many times as long as writing took nothing is written.
const REST: u32 = 9;
/// Bytes handed to the system at once.
const BLOCK: usize = 4 << 20;

/// The folder.
pub struct State {
    folder: PathBuf,
    /// How many times as long as writing took nothing is written.
    rest: u32,
    /// See [`Resume::renews`].
    renews: bool,
    last: Cell<Option<(Instant, Duration)>>,
}

impl State {
    /// Opens a folder that holds nothing, or what an earlier sweep of the same lanes over the same sequences left; makes it where
    /// it is not there.
    ///
    /// # Errors
    /// [`EngineError::Unfit`] where it holds anything else, but for state that may be thrown away; a folder that cannot be
    /// written.
    pub fn open(
        resume: Resume<'_>,
        lanes: &[Lane],
        sequences: &[Sequence],
        plan: &SweepPlan,
        options: &SweepOptions<'_>,
    ) -> Result<Self> {
        let folder = resume.folder;
        let identity = identity(lanes, sequences, plan, options)?;
        let path = folder.join(IDENTITY);
        match std::fs::read(&path) {
            Ok(there) => {
                let there: Value = serde_json::from_slice(&there).unwrap_or_default();
                let differs = |key: &&String| there.get(*key) != identity.get(*key);
                let others: Vec<&str> =
                    identity.as_object().into_iter().flat_map(|keys| keys.keys()).filter(differs).map(String::as_str).collect();
                if !others.is_empty() {
                    let what = match there.is_object() {
                        true => format!("holds the state of another sweep (other {})", others.join(", ")),
                        false => format!("holds the state of a sweep, and {IDENTITY} cannot be read"),
                    };
                    if !(resume.renews && is_state(folder)) {
                        return Err(unfit(folder, format!("{what}; choose another folder or remove it")));
                    }
                    tracing::warn!("{}: {what}; it is removed, and what was interrupted is scored anew", folder.display());
                    clear(folder)?;
                    write_whole(&path, identity.to_string().as_bytes())?;
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(folder).map_err(|e| bitworth_quant::Error::io(folder, e))?;
                let entries = std::fs::read_dir(folder).map_err(|e| bitworth_quant::Error::io(folder, e))?;
                // An earlier sweep may have been killed while it wrote its first file.
                if entries.flatten().any(|entry| entry.file_name() != UNFINISHED) {
                    let what = "holds other files; give the state of a sweep a folder of its own".to_owned();
                    return Err(unfit(folder, what));
                }
                write_whole(&path, identity.to_string().as_bytes())?;
            }
            Err(e) => return Err(bitworth_quant::Error::io(&path, e).into()),
        }
        let rest = if resume.every_layer { 0 } else { REST };
        Ok(Self { folder: folder.to_owned(), rest, renews: resume.renews, last: Cell::new(None) })
    }

    /// The scores of a pass, where it is finished; `numbers` are those of its sequences.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what was written.
    pub fn finished(&self, pass: usize, numbers: &[usize], sequences: &[Sequence]) -> Result<Option<Scores>> {
        self.or_nothing(&self.scores_path(pass), self.scores(pass, numbers, sequences))
    }

    fn scores(&self, pass: usize, numbers: &[usize], sequences: &[Sequence]) -> Result<Option<Scores>> {
        let Some(mut input) = Input::open(&self.scores_path(pass))? else { return Ok(None) };
        let mut scores = Scores { lanes: Vec::new(), layers: Vec::new() };
        input.expect(pass)?;
        for _ in 0..input.number()? {
            let mut lane = Vec::new();
            for &number in numbers {
                lane.push((0..sequences[number].scored.len()).map(|_| input.head_row()).collect::<Result<Vec<_>>>()?);
            }
            scores.lanes.push(lane);
        }
        for _ in 0..input.number()? {
            let [lane, block, sequence, rows] = input.words::<4>()?.map(|word| word as usize);
            let [error, reference] = input.words::<2>()?.map(f64::from_bits);
            scores.layers.push(LayerError { lane, block, sequence, rows, error, reference });
        }
        input.finish()?;
        Ok(Some(scores))
    }

    /// Keeps the scores of a pass; its activations are no longer needed.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn finish(&self, pass: usize, scores: &Scores) -> Result<()> {
        let path = self.scores_path(pass);
        if !path.exists() {
            let mut output = Output::create(&path)?;
            output.words(&[pass as u64, scores.lanes.len() as u64])?;
            for row in scores.lanes.iter().flatten().flatten() {
                output.words(&head_row_words(row))?;
            }
            output.words(&[scores.layers.len() as u64])?;
            for error in &scores.layers {
                let LayerError { lane, block, sequence, rows, .. } = *error;
                output.words(&[lane, block, sequence, rows].map(|number| number as u64))?;
                output.words(&[error.error, error.reference].map(f64::to_bits))?;
            }
            output.finish()?;
        }
        remove(&self.layer_path(pass))
    }

    /// Keeps the activations behind a block, if it is time: `numbers` hands over all of them, in parts.
    ///
    /// # Errors
    /// A file that cannot be written: a full disk, which leaves the state of an earlier layer as it is.
    pub fn keep(
        &self,
        pass: usize,
        block: usize,
        errors: &[RowError],
        numbers: impl FnOnce(&mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        if self.last.get().is_some_and(|(when, took)| when.elapsed() < self.rest * took) {
            return Ok(());
        }
        let begin = Instant::now();
        let mut output = Output::create(&self.layer_path(pass))?;
        output.words(&[pass as u64, block as u64, errors.len() as u64])?;
        for error in errors {
            output.words(&[error.lane, error.block, error.chunk, error.rows.len()].map(|number| number as u64))?;
            for row in &error.rows {
                output.words(&row.map(f64::to_bits))?;
            }
        }
        numbers(&mut |part| output.bytes(bytemuck::cast_slice(part)))?;
        output.finish()?;
        self.last.set(Some((Instant::now(), begin.elapsed())));
        Ok(())
    }

    /// What `take` makes of the activations that were kept of a pass.
    ///
    /// # Errors
    /// As `take`; a file that cannot be read, or is not what was written.
    pub fn layer<T>(&self, pass: usize, take: impl FnOnce(KeptLayer) -> Result<T>) -> Result<Option<T>> {
        let taken = self.kept(pass).and_then(|kept| kept.map(take).transpose());
        self.or_nothing(&self.layer_path(pass), taken)
    }

    /// What was read of a file. Where that is not what was written and may be thrown away, it is, and there was nothing.
    fn or_nothing<T>(&self, path: &Path, read: Result<Option<T>>) -> Result<Option<T>> {
        match read {
            Err(EngineError::Unfit { .. }) if self.renews => {
                tracing::warn!("{}: is not what was written; it is removed, and the pass begins anew", path.display());
                remove(path)?;
                Ok(None)
            }
            read => read,
        }
    }

    fn kept(&self, pass: usize) -> Result<Option<KeptLayer>> {
        let Some(mut input) = Input::open(&self.layer_path(pass))? else { return Ok(None) };
        input.expect(pass)?;
        let [block, count] = input.words::<2>()?.map(|word| word as usize);
        let mut errors = Vec::new();
        for _ in 0..count {
            let [lane, block, chunk, rows] = input.words::<4>()?.map(|word| word as usize);
            let rows = (0..rows).map(|_| Ok(input.words::<2>()?.map(f64::from_bits))).collect::<Result<Vec<_>>>()?;
            errors.push(RowError { lane, block, chunk, rows });
        }
        Ok(Some(KeptLayer { block, errors, input }))
    }

    /// Removes what it left, and the folder where nothing else is in it.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(self) -> Result<()> {
        clear(&self.folder)
    }

    fn scores_path(&self, pass: usize) -> PathBuf {
        self.folder.join(format!("pass-{pass:05}.scores"))
    }

    fn layer_path(&self, pass: usize) -> PathBuf {
        self.folder.join(format!("pass-{pass:05}.layer"))
    }
}

/// Activations that were kept, to be read in the order in which they were.
pub struct KeptLayer {
    block: usize,
    /// Errors up to there.
    errors: Vec<RowError>,
    input: Input,
}

impl KeptLayer {
    /// The block that they are behind, of as many as `depth`; another one follows.
    ///
    /// # Errors
    /// None of these: the file is not what was written.
    pub fn block(&self, depth: usize) -> Result<usize> {
        if self.block < depth.saturating_sub(1) { Ok(self.block) } else { Err(self.input.broken()) }
    }

    /// The next numbers.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what was written.
    pub fn numbers(&mut self, len: usize) -> Result<Vec<f32>> {
        let mut numbers = vec![0f32; len];
        self.input.bytes(bytemuck::cast_slice_mut(&mut numbers))?;
        Ok(numbers)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// As [`KeptLayer::numbers`].
    pub fn finish(self) -> Result<Vec<RowError>> {
        self.input.finish()?;
        Ok(self.errors)
    }
}

/// Removes the state that a sweep left in `folder`, and the folder; returns whether it did. A folder that holds anything else, or
/// nothing, stays as it is.
///
/// # Errors
/// A file that cannot be removed.
pub fn discard_state(folder: &Path) -> Result<bool> {
    let is_state = is_state(folder);
    if is_state {
        clear(folder)?;
    }
    Ok(is_state)
}

/// Whether a folder holds the state of a sweep, of whatever version and however damaged, and nothing else.
fn is_state(folder: &Path) -> bool {
    let Ok(identity) = std::fs::read(folder.join(IDENTITY)) else { return false };
    let is_marked = match serde_json::from_slice::<Value>(&identity) {
        Ok(there) => there["version"].is_u64(),
        // Torn; what else is there must say whose it is.
        Err(_) => true,
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let is_own = |name: &str| name == IDENTITY || is_of_pass(name);
    is_marked && entries.flatten().all(|entry| is_own(&entry.file_name().to_string_lossy()))
}

/// Whether a file of this name keeps something of a pass, or was to.
fn is_of_pass(name: &str) -> bool {
    let name = name.strip_prefix('.').unwrap_or(name);
    name.starts_with("pass-") && [".scores", ".layer", ".partial"].iter().any(|ending| name.ends_with(ending))
}

/// Removes what a sweep left, and the folder where nothing else is in it.
fn clear(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|e| bitworth_quant::Error::io(folder, e))?;
    for entry in entries.flatten() {
        if is_of_pass(&entry.file_name().to_string_lossy()) {
            remove(&entry.path())?;
        }
    }
    // Last, so that what is left is never of an unknown sweep.
    remove(&folder.join(IDENTITY))?;
    let _ = std::fs::remove_dir(folder);
    Ok(())
}

/// What makes a sweep another one: contents, not names of files.
fn identity(lanes: &[Lane], sequences: &[Sequence], plan: &SweepPlan, options: &SweepOptions<'_>) -> Result<Value> {
    let mut hash = Sha256::new();
    for sequence in sequences {
        hash.update((sequence.tokens.len() as u64).to_le_bytes());
        sequence.tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        hash.update(format!("{:?}", sequence.scored));
    }
    let lane = |lane: &Lane| -> Result<Value> { Ok(json!([lane.name, lane.arithmetic, hex(&lane.variant.fingerprint()?)])) };
    let reference = match options.reference {
        Reference::Walked => "walked".to_owned(),
        Reference::Hidden(stored) => stored.identity()?,
        Reference::LogProbs(stored) => stored.identity()?,
    };
    // Files of a pass are known by its number alone: it must have the same sequences.
    let ends: Vec<usize> = plan.passes.iter().map(|pass| pass.places.end).collect();
    Ok(json!({
        "version": VERSION,
        "program": env!("CARGO_PKG_VERSION"),
        "lanes": lanes.iter().map(lane).collect::<Result<Vec<_>>>()?,
        "tokens": hex(&hash.finalize()),
        "reference": reference,
        "layers": options.layers,
        "memory limits": [plan.chunk.rows, plan.chunk.key_rows, ends],
    }))
}

fn unfit(folder: &Path, what: String) -> EngineError {
    EngineError::Unfit { model: folder.display().to_string(), what }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(bitworth_quant::Error::io(path, e).into()),
        _ => Ok(()),
    }
}

fn head_row_words(row: &HeadRow) -> [u64; 6] {
    let HeadRow { log_sum_exp, target_logit, argmax, rank, entropy, kld, reverse_kld } = *row;
    let [a, b, c, d, e] = [log_sum_exp, target_logit, entropy, kld, reverse_kld].map(f64::to_bits);
    [a, b, c, d, e, u64::from(argmax) << 32 | u64::from(rank)]
}

/// A file being written, with its checksum behind its contents.
struct Output {
    file: AtomicFile,
    at: u64,
    waiting: Vec<u8>,
    hash: Sha256,
}

impl Output {
    fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: AtomicFile::create(path)?, at: 0, waiting: Vec::with_capacity(BLOCK), hash: Sha256::new() })
    }

    fn words(&mut self, words: &[u64]) -> Result<()> {
        words.iter().try_for_each(|word| self.bytes(&word.to_le_bytes()))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(BLOCK) {
            self.waiting.extend_from_slice(part);
            if self.waiting.len() >= BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.hash.update(&self.waiting);
        self.file.write_at(self.at, &self.waiting)?;
        self.at += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.flush()?;
        let sum = self.hash.finalize();
        self.file.write_at(self.at, &sum)?;
        self.file.sync()?;
        Ok(self.file.commit()?)
    }
}

/// A file being read, of which all must be there and as it was written.
struct Input {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes before the checksum that were not read yet.
    left: u64,
    hash: Sha256,
}

/// Bytes of a checksum.
const SUM: u64 = 32;

impl Input {
    /// `None` where there is no such file.
    fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|e| bitworth_quant::Error::io(path, e))?,
        };
        let bytes = file.metadata().map_err(|e| bitworth_quant::Error::io(path, e))?.len();
        let mut input = Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(BLOCK, file),
            left: bytes.saturating_sub(SUM),
            hash: Sha256::new(),
        };
        if bytes < SUM {
            return Err(input.broken());
        }
        input.left = bytes - SUM;
        Ok(Some(input))
    }

    fn broken(&self) -> EngineError {
        unfit(&self.path, "was altered after it was written; remove the folder to begin anew".to_owned())
    }

    fn bytes(&mut self, out: &mut [u8]) -> Result<()> {
        if out.len() as u64 > self.left {
            return Err(self.broken());
        }
        self.file.read_exact(out).map_err(|e| bitworth_quant::Error::io(&self.path, e))?;
        self.left -= out.len() as u64;
        self.hash.update(&*out);
        Ok(())
    }

    fn words<const N: usize>(&mut self) -> Result<[u64; N]> {
        let mut words = [0; N];
        for word in &mut words {
            let mut bytes = [0; 8];
            self.bytes(&mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
    }

    /// The number of the pass that the file is of, which renaming it does not change.
    fn expect(&mut self, pass: usize) -> Result<()> {
        if self.number()? == pass { Ok(()) } else { Err(self.broken()) }
    }

    fn number(&mut self) -> Result<usize> {
        Ok(self.words::<1>()?[0] as usize)
    }

    fn head_row(&mut self) -> Result<HeadRow> {
        let [a, b, c, d, e, last] = self.words::<6>()?;
        let [log_sum_exp, target_logit, entropy, kld, reverse_kld] = [a, b, c, d, e].map(f64::from_bits);
        Ok(HeadRow { log_sum_exp, target_logit, argmax: (last >> 32) as u32, rank: last as u32, entropy, kld, reverse_kld })
    }

    /// Checks that all was read, and that it is what was written.
    fn finish(mut self) -> Result<()> {
        let mut sum = [0; SUM as usize];
        self.file.read_exact(&mut sum).map_err(|e| bitworth_quant::Error::io(&self.path, e))?;
        if self.left > 0 || std::mem::take(&mut self.hash).finalize()[..] != sum {
            return Err(self.broken());
        }
        Ok(())
    }
}
