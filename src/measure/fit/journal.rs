//! What is done of a call that can be taken up again, beside its first unfinished file: the inputs whose matrices are on the disk
//! in all files. It is believed only by a call that would write the very same bytes. Absent: the weights themselves, which
//! stand in the unfinished files.

use std::path::{Path, PathBuf};

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::checkpoint::Source;
use bitworth_quant::fit::{FitReport, Shrinkage};
use bitworth_quant::quantize::{Sink, hex};
use bitworth_quant::{Checkpoint, DType};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::FittedTensor;
use crate::error::{Error, Result};

/// What is larger is no journal.
const MAX_BYTES: u64 = 1 << 30;

/// A journal on the disk.
pub(super) struct Journal {
    path: PathBuf,
    kept: Kept,
}

/// What it holds.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    fingerprint: String,
    inputs: Vec<DoneInput>,
}

/// An input whose matrices are done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DoneInput {
    pub(super) block: usize,
    /// Its number among the sites of a block.
    pub(super) site: usize,
    /// By name of an encoding: the share of the diagonal that was used, as bits.
    pub(super) rho: Vec<(String, u32)>,
    pub(super) tensors: Vec<DoneTensor>,
}

/// A tensor that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DoneTensor {
    name: String,
    to: String,
    shrinkage: [u64; 2],
    report: [u64; 4],
    seconds: u64,
    /// How much each column matters, as bits, where a report is wanted.
    importance: Vec<u32>,
}

impl DoneTensor {
    pub(super) fn new(fitted: &FittedTensor, importance: &[f32]) -> Self {
        Self {
            name: fitted.tensor.clone(),
            to: fitted.to.clone(),
            shrinkage: fitted.shrinkage.to_bits(),
            report: fitted.report.to_bits(),
            seconds: fitted.seconds.to_bits(),
            importance: importance.iter().map(|weight| weight.to_bits()).collect(),
        }
    }

    /// What became of it, and how much its columns matter.
    pub(super) fn read(&self) -> (FittedTensor, Vec<f32>) {
        let fitted = FittedTensor {
            tensor: self.name.clone(),
            to: self.to.clone(),
            shrinkage: Shrinkage::from_bits(self.shrinkage),
            report: FitReport::from_bits(self.report),
            seconds: f64::from_bits(self.seconds),
        };
        (fitted, self.importance.iter().map(|&bits| f32::from_bits(bits)).collect())
    }
}

impl Journal {
    /// Takes up what an earlier call left in the files of `sinks`, where that call was for the same bytes; else begins anew and
    /// says why to `note`. `how` is what decides bytes and is in none of the files. `None` without files.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub(super) fn open(source: &Checkpoint, sinks: &mut [Sink], how: &str, note: &dyn Fn(&str)) -> Result<Option<Self>> {
        let Some(path) = sinks.first().map(Sink::journal) else { return Ok(None) };
        let mut hash = Sha256::new_with_prefix(how);
        for sink in sinks.iter() {
            hash.update(sink.fingerprint(source)?);
        }
        let fingerprint = hex(&hash.finalize());
        let why = match read(&path) {
            Some(kept) if kept.fingerprint != fingerprint => "it was begun from another model, with other settings or texts",
            Some(kept) => match take_up(source, sinks, &kept)? {
                true => return Ok(Some(Self { path, kept })),
                false => "the unfinished files have lost bytes that their journal has seen",
            },
            None if path.exists() => "its journal is broken",
            None => "",
        };
        remove(&path)?;
        sinks.iter_mut().try_for_each(Sink::start_anew)?;
        if !why.is_empty() {
            note(&format!("{}: begun anew: {why}", sinks[0].path().display()));
        }
        Ok(Some(Self { path, kept: Kept { fingerprint, inputs: Vec::new() } }))
    }

    /// What is done.
    pub(super) fn inputs(&self) -> &[DoneInput] {
        &self.kept.inputs
    }

    /// Adds an input whose matrices have been written, by [`Self::write`] to be believed.
    pub(super) fn add(&mut self, input: DoneInput) {
        self.kept.inputs.push(input);
    }

    /// Replaces the journal; what it speaks of must be on the disk.
    pub(super) fn write(&self) -> bitworth_quant::Result<()> {
        let text = serde_json::to_vec(&self.kept).map_err(|e| bitworth_quant::Error::file(&self.path, e.to_string()))?;
        write_whole(&self.path, &text)
    }

    /// Removes it, because all files are whole.
    pub(super) fn remove(self) -> Result<()> {
        remove(&self.path)
    }
}

fn read(path: &Path) -> Option<Kept> {
    let about = std::fs::metadata(path).ok().filter(|about| about.len() <= MAX_BYTES);
    about.and_then(|_| serde_json::from_slice(&std::fs::read(path).ok()?).ok())
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

/// Whether all that is done is there.
fn take_up(source: &Checkpoint, sinks: &mut [Sink], kept: &Kept) -> Result<bool> {
    for done in kept.inputs.iter().flat_map(|input| &input.tensors) {
        let tensor = Source::tensors(source).iter().find(|tensor| tensor.name == done.name);
        let Some((tensor, to)) = tensor.zip(DType::from_name(&done.to)) else { return Ok(false) };
        for sink in sinks.iter_mut() {
            if !sink.take_up(tensor, to)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
