//! Carrying plans out: one read of a model, any number of GGUF files. Rows are read in small blocks, decoded to f32 once,
//! encoded by all processors for every file that wants them, and written to the place the layout gives them; so memory does
//! not grow with the model. What is absent: deciding (see `plan`) and the encoders (see `formats`).
//!
//! Every file is written as `.NAME.partial` and renamed when all files of the run are whole and on the disk. Renames come one
//! after another: where one fails, the files renamed before it stand, whole, under their names, and the error says which one
//! failed. A run with [`Options::resume`] keeps its unfinished files, each output with a journal beside its first file
//! (`.NAME.partial.json`), and takes up what an earlier one left, tensor by tensor.

mod hash;
mod journal;
mod pipeline;
mod report;
mod rows;
mod sink;
mod space;
mod split;
mod writer;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;

use crate::atomic_file::directory_of;
pub use crate::checkpoint::Source;
use crate::checkpoint::{Model, Tensor};
use crate::gguf::{MAGIC, Metadata};
use crate::message::Setting;
pub use crate::plan::quantized_metadata;
use crate::plan::{Choices, PlanEntry};
use crate::recipe::Category;
use crate::{DType, Error, Imatrix, Plan, Progress, Recipe, Result};
pub use hash::hex;
pub use report::TensorReport;
use rows::{Encoder, Lane, SourceRows};
pub use sink::Sink;
pub use split::Split;
use writer::Writer;

/// [`Options::allow_non_finite`].
pub const ALLOW_NON_FINITE: Setting = Setting::new("allow_non_finite");
/// [`Options::resume`].
pub const RESUME: Setting = Setting::new("resume");

/// A file to be made.
#[derive(Debug, Clone)]
pub struct Output {
    /// What every tensor becomes.
    pub plan: Plan,
    /// Where the file will stand.
    pub path: PathBuf,
    /// Its metadata, see [`Plan::metadata`]; without `split.` keys.
    pub metadata: Metadata,
    /// How much each column matters, for the encodings that ask.
    pub imatrix: Option<Arc<Imatrix>>,
    /// Into which files it is cut.
    pub split: Split,
}

impl Output {
    /// The file at `path` that `recipe` makes of `model`.
    ///
    /// # Errors
    /// As [`Plan::of`], [`Plan::check_importance`] and [`Model::output_metadata`].
    pub fn of(model: &dyn Model, recipe: &Arc<Recipe>, choices: &Choices, path: &Path) -> Result<Self> {
        let plan = Plan::of(model, recipe, choices)?;
        plan.check_importance(model.path())?;
        let metadata = plan.metadata(&model.output_metadata()?);
        Ok(Self { plan, path: path.to_owned(), metadata, imatrix: choices.imatrix.clone(), split: Split::None })
    }

    /// The files it will be, and how many bytes each will have.
    ///
    /// # Errors
    /// [`Error::File`] where the split does not fit the plan, and as [`crate::gguf::Layout::new`].
    pub fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        Ok(split::parts(self)?.into_iter().map(|part| (part.path, part.layout.file_bytes())).collect())
    }

    /// Cuts it as its source, the GGUF model at `like`, is cut (llama-quantize `--keep-split`). It must have been planned with
    /// [`Choices::keep_split`].
    ///
    /// # Errors
    /// As [`Split::like`].
    pub fn keep_split(&mut self, like: &Path) -> Result<()> {
        self.split = Split::like(like, &self.plan)?;
        Ok(())
    }

    /// The tensors that the importance matrix should weigh and has no entry for; embedding and head aside, for which
    /// llama-imatrix collects nothing unless asked to. They are encoded as without a matrix.
    pub fn unweighted(&self) -> Vec<&str> {
        let Some(imatrix) = &self.imatrix else { return Vec::new() };
        let aside = |name: &str| matches!(Category::of(name), Category::TokenEmbd | Category::Output);
        let weighed = |entry: &&PlanEntry| entry.from != entry.to && !entry.to.is_float() && !aside(entry.source());
        let weighed = self.plan.entries.iter().filter(weighed).map(PlanEntry::source);
        weighed.filter(|name| imatrix.weights(name).is_none()).collect()
    }

    /// The importance of the columns of a tensor, see [`importance_of`].
    fn importance(&self, entry: &PlanEntry) -> Result<Option<&[f32]>> {
        self.imatrix
            .as_deref()
            .map_or(Ok(None), |imatrix| importance_of(imatrix, entry.source(), &entry.shape, entry.from, entry.to))
    }
}

/// Seconds since some moment; the caller's, because nothing here reads a clock.
pub type Clock<'a> = &'a (dyn Fn() -> f64 + Sync);

/// How outputs are made. The bytes do not depend on it, but for [`Self::allow_non_finite`].
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Bytes that all rows under way may take: the pages of the source and the encoded rows. At least a piece of 16 Ki
    /// weights, or one row, is under way in each thread however little this is.
    pub max_memory: u64,
    /// Whether weights may be infinite or not a number. They become what ggml's arithmetic makes of them. llama-quantize
    /// knows no such permission: it refuses such weights in the source, and in what it made.
    pub allow_non_finite: bool,
    /// Whether to take up what an earlier run of the same outputs left, and to leave what is done when this one ends early.
    pub resume: bool,
    /// How many bytes of an output are written until they begin to be put on the disk (and into the journal).
    pub sync_bytes: u64,
    /// Whether to hash the files made.
    pub sha256: bool,
    /// With a clock, [`Written::report`] is made.
    pub report: Option<Clock<'a>>,
    /// Receives what the user should know and is no error: an unfinished file that could not be taken up.
    pub note: &'a (dyn Fn(&str) + Sync),
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            max_memory: 256 << 20,
            allow_non_finite: false,
            resume: false,
            sync_bytes: 64 << 20,
            sha256: false,
            report: None,
            note: &|_| {},
        }
    }
}

/// An output that was made.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Written {
    /// Where it stands: its first file, by which all of them are opened.
    pub path: PathBuf,
    /// Its size, all files together.
    pub bytes: u64,
    /// Its files; one, unless it was split.
    pub files: Vec<WrittenFile>,
    /// What each tensor lost, in the order of the plan; empty unless asked for.
    #[serde(skip)]
    pub report: Vec<TensorReport>,
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct WrittenFile {
    /// Where it stands.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 as 64 hexadecimal digits, where asked for.
    pub sha256: Option<String>,
}

/// Makes all `outputs` from one read of `source`. Files appear under their names when all of them are whole; on any error,
/// and when `cancel` becomes true, none is left behind, unless [`Options::resume`] is set.
///
/// `progress` counts bytes of the source, once for each output that gets something made of them. Work runs on the current
/// rayon pool, one more thread per output writes; the bytes do not depend on the pool's size.
///
/// # Errors
/// [`Error::Tensor`] where a weight is infinite or not a number, or does not fit its new encoding, or where the importance
/// matrix is of another model; [`Error::File`] and [`Error::Io`] where a file cannot be written, is being written by another
/// process, or would not fit the disk; [`Error::Cancelled`], or [`Error::Suspended`] where there is something to resume.
pub fn quantize(
    source: &dyn Source,
    outputs: &[Output],
    options: &Options,
    cancel: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Vec<Written>> {
    for output in outputs {
        check_plan(source, output)?;
        output.plan.entries.iter().try_for_each(|entry| output.importance(entry).map(drop))?;
    }
    refuse_same_paths(source, outputs)?;
    let writers = outputs.iter().map(|output| Writer::open(source, output, options)).collect::<Result<Vec<_>>>()?;
    space::check(writers.iter().flat_map(Writer::parts))?;
    let mut writers = pipeline::run(source, outputs, writers, options, cancel, progress).map_err(|e| match (e, outputs) {
        (Error::Cancelled, [first, ..]) if options.resume => Error::Suspended { path: first.path.clone() },
        (e, _) => e,
    })?;
    // First all of them to the disk, where most failures are, then all names.
    writers.iter_mut().try_for_each(Writer::finish)?;
    let written = writers.into_iter().map(Writer::commit).collect::<Result<Vec<_>>>()?;
    progress.finish();
    Ok(written)
}

/// The bytes of `rows` of one tensor in another encoding, for those who quantize on the fly; the same as [`quantize`] writes.
///
/// # Errors
/// As [`quantize`]; and [`Error::Tensor`] where the source has no such tensor or not so many rows, or its rows do not divide
/// into blocks.
pub fn encode_rows(source: &dyn Source, name: &str, rows: Range<usize>, to: DType, imatrix: Option<&Imatrix>) -> Result<Vec<u8>> {
    /// Fewer than in a run, because all threads share one tensor.
    const BLOCK_WEIGHTS: usize = 64 << 10;
    let tensor = source.tensors().iter().find(|t| t.name == name);
    let tensor = tensor.ok_or_else(|| Error::tensor(source.path(), name, "there is no such tensor"))?;
    let importance = match imatrix {
        Some(imatrix) => importance_of(imatrix, name, &tensor.shape, tensor.dtype, to)?,
        None => None,
    };
    let row_bytes = rows::row_bytes(source, tensor, to)?;
    let block_rows = rows::block_rows(tensor, BLOCK_WEIGHTS);
    let lanes = [Lane { dtype: to, importance }];
    let encoder = Encoder { source, allow_non_finite: false, clock: None };
    let mut out = vec![0; row_bytes.saturating_mul(rows.len())];
    out.par_chunks_mut((block_rows * row_bytes).max(1)).enumerate().try_for_each(|(block, out)| {
        let first = rows.start + block * block_rows;
        let stored = SourceRows::read(source, tensor, first..first + out.len() / row_bytes)?;
        let encoded = encoder.encode(tensor, first, &stored, &lanes)?;
        out.copy_from_slice(if to == tensor.dtype { &stored } else { &encoded[0].bytes });
        Ok(())
    })?;
    Ok(out)
}

/// [`encode_rows`] of a whole tensor.
///
/// # Errors
/// As there.
pub fn encode_tensor(source: &dyn Source, name: &str, to: DType, imatrix: Option<&Imatrix>) -> Result<Vec<u8>> {
    let rows = source.tensors().iter().find(|t| t.name == name).map_or(0, Tensor::rows);
    encode_rows(source, name, 0..rows, to, imatrix)
}

/// Every entry of the plan is for a tensor of the source, as it is there, and no tensor is meant twice.
fn check_plan(source: &dyn Source, output: &Output) -> Result<()> {
    let tensors: HashMap<&str, &Tensor> = source.tensors().iter().map(|t| (t.name.as_str(), t)).collect();
    for entry in &output.plan.entries {
        let same = |t: &&&Tensor| {
            t.dtype == entry.from && t.cols() == entry.shape[0] && t.rows() == entry.shape[1..].iter().product::<usize>()
        };
        if tensors.get(entry.source()).filter(same).is_none() {
            let what = format!("the plan for {} is not one for this model", output.path.display());
            return Err(Error::tensor(source.path(), &entry.tensor, what));
        }
    }
    Ok(())
}

/// Whether there is nothing at `place`, or an empty or a GGUF file.
fn may_be_replaced(place: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    match std::fs::metadata(place) {
        Err(_) => true,
        Ok(about) if !about.is_file() => false,
        Ok(about) if about.len() == 0 => true,
        Ok(_) => File::open(place).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *MAGIC,
    }
}

/// The importance of the columns of a tensor (see [`Imatrix::weights_for`]); `None` where it is not asked for, because the
/// tensor is copied or becomes floats.
fn importance_of<'a>(imatrix: &'a Imatrix, name: &str, shape: &[usize], from: DType, to: DType) -> Result<Option<&'a [f32]>> {
    if from == to || to.is_float() { Ok(None) } else { imatrix.weights_for(name, shape) }
}

/// Neither may two outputs be one file, nor may an output replace what it is made from, or anything but a GGUF file.
fn refuse_same_paths(source: &dyn Source, outputs: &[Output]) -> Result<()> {
    let matrices = outputs.iter().filter_map(|output| output.imatrix.as_ref()).map(|matrix| matrix.path());
    let inputs: Vec<PathBuf> =
        source.files().iter().map(PathBuf::as_path).chain(matrices).filter_map(|file| file.canonicalize().ok()).collect();
    let mut places = HashSet::new();
    for output in outputs {
        for part in split::parts(output)? {
            // The file need not exist yet, but its folder does.
            let folder = directory_of(&part.path);
            let place = folder.canonicalize().map_err(|e| Error::io(folder, e))?.join(part.path.file_name().unwrap_or_default());
            if inputs.iter().any(|input| place.canonicalize().is_ok_and(|place| place == *input)) {
                return Err(Error::file(&part.path, "is a file to be read for this; write to another name"));
            }
            if !may_be_replaced(&place) {
                return Err(Error::file(&part.path, "is there and no GGUF file; remove it or write to another name"));
            }
            if !places.insert(place) {
                return Err(Error::file(&part.path, "is asked for twice; give every output a name of its own"));
            }
        }
    }
    Ok(())
}
