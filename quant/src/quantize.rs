//! Carrying plans out: one read of a model, any number of GGUF files. Rows are read in blocks of a few MiB, decoded to f32
//! once, encoded by all processors for every file that wants them, and written to the place the layout gives them; so memory
//! does not grow with the model. What is absent: deciding (see `plan`) and the encoders (see `formats`).

mod rows;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::{Tensor, TensorBytes};
use crate::gguf::{GgufWriter, Layout, Metadata, SPLIT_KEYS, Value};
use crate::plan::Origin;
use crate::{Checkpoint, DType, Error, Plan, Progress, Recipe, Result};
use rows::RowBlock;

/// Key of llama.cpp's `llama_ftype`.
const FILE_TYPE_KEY: &str = "general.file_type";

/// What weights are read from: a [`Checkpoint`], or a stand-in for one.
pub trait Source: Sync {
    /// The file or directory, for errors.
    fn path(&self) -> &Path;
    /// The files that hold the model, which no output may replace.
    fn files(&self) -> &[PathBuf];
    /// All tensors, in the order in which they lie in the file.
    fn tensors(&self) -> &[Tensor];
    /// The encoded bytes of `rows` of one of the tensors.
    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes>;
}

impl Source for Checkpoint {
    fn path(&self) -> &Path {
        self.path()
    }

    fn files(&self) -> &[PathBuf] {
        self.files()
    }

    fn tensors(&self) -> &[Tensor] {
        self.tensors()
    }

    fn read(&self, tensor: &Tensor, rows: Range<usize>) -> Result<TensorBytes> {
        self.read(tensor, rows)
    }
}

/// A file to be made.
#[derive(Debug, Clone)]
pub struct Output {
    /// What every tensor becomes.
    pub plan: Plan,
    /// Where the file will stand.
    pub path: PathBuf,
    /// Its metadata, see [`quantized_metadata`].
    pub metadata: Metadata,
}

impl Output {
    /// The file at `path` that `recipe` makes of `checkpoint`.
    ///
    /// # Errors
    /// As [`Plan::of`] and [`Checkpoint::output_metadata`].
    pub fn of(checkpoint: &Checkpoint, recipe: &'static Recipe, path: &Path) -> Result<Self> {
        let plan = Plan::of(checkpoint, recipe)?;
        let mut metadata = checkpoint.output_metadata()?;
        if checkpoint.origin() == Origin::Safetensors && recipe.default.is_float() {
            // The converter's own file: only its type differs from what the checkpoint says.
            metadata.set(FILE_TYPE_KEY, Value::U32(recipe.ftype));
        } else {
            metadata = quantized_metadata(&metadata, recipe);
        }
        Ok(Self { plan, path: path.to_owned(), metadata })
    }
}

/// A file that was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Where it stands.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The metadata of the file that `recipe` makes of a model with the metadata `source`, as llama-quantize writes them: the
/// quantization version and the file type go to the end, the keys of split files go away.
pub fn quantized_metadata(source: &Metadata, recipe: &Recipe) -> Metadata {
    /// Version of ggml's quantized encodings (`GGML_QNT_VERSION`).
    const QUANTIZATION_VERSION: u32 = 2;
    let mut out = source.clone();
    for (key, value) in [("general.quantization_version", QUANTIZATION_VERSION), (FILE_TYPE_KEY, recipe.ftype)] {
        out.remove(key);
        out.set(key, Value::U32(value));
    }
    for key in SPLIT_KEYS {
        out.remove(key);
    }
    out
}

/// Makes all `outputs` from one read of `source`. Files appear under their names when all of them are whole; on any error,
/// and when `cancel` becomes true, none is left behind.
///
/// `progress` counts bytes of the source, once for each output that uses them. Work runs on the current rayon pool; the
/// bytes do not depend on its size.
///
/// # Errors
/// [`Error::Tensor`] where a weight is infinite or not a number, or does not fit its new encoding; [`Error::File`] and
/// [`Error::Io`] where a file cannot be written; [`Error::Cancelled`].
pub fn quantize(source: &dyn Source, outputs: &[Output], cancel: &AtomicBool, progress: &dyn Progress) -> Result<Vec<Written>> {
    refuse_same_paths(source, outputs)?;
    let mut files = outputs.iter().map(|o| OpenOutput::create(source, o)).collect::<Result<Vec<_>>>()?;
    let total = files.iter().flat_map(|f| f.place_of.keys()).map(|&t| source_bytes(&source.tensors()[t])).sum();
    progress.start(total, "quantizing");
    let mut block = RowBlock::default();
    for (t, tensor) in source.tensors().iter().enumerate() {
        let wanted: Vec<(usize, Target)> =
            files.iter().enumerate().filter_map(|(f, file)| Some((f, *file.place_of.get(&t)?))).collect();
        if wanted.is_empty() {
            continue;
        }
        for rows in rows::blocks(tensor) {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            block.load(source, tensor, rows)?;
            for &dtype in &distinct(&wanted) {
                let at = block.offset(tensor, dtype);
                let encoded = block.encoded(source, tensor, dtype)?;
                for (f, target) in wanted.iter().filter(|(_, target)| target.dtype == dtype) {
                    files[*f].writer.write(target.index, at, encoded)?;
                }
            }
            progress.advance(block.source_bytes() * wanted.len() as u64);
        }
    }
    // First all of them to the disk, where most failures are, then all names.
    files.iter().try_for_each(|file| file.writer.sync())?;
    let commit = |(file, output): (OpenOutput, &Output)| Ok(Written { path: output.path.clone(), bytes: file.writer.commit()? });
    let written = files.into_iter().zip(outputs).map(commit).collect::<Result<Vec<_>>>()?;
    progress.finish();
    Ok(written)
}

/// The bytes of one tensor in another encoding, for those who quantize on the fly.
///
/// # Errors
/// As [`quantize`]; and [`Error::Tensor`] where the source has no such tensor or its rows do not divide into blocks.
pub fn encode_tensor(source: &dyn Source, name: &str, to: DType) -> Result<Vec<u8>> {
    let tensor = source.tensors().iter().find(|t| t.name == name);
    let tensor = tensor.ok_or_else(|| Error::tensor(source.path(), name, "there is no such tensor"))?;
    let row_bytes = rows::row_bytes(source, tensor, to)?;
    let mut out = Vec::with_capacity(row_bytes.saturating_mul(tensor.rows()));
    let mut block = RowBlock::default();
    for rows in rows::blocks(tensor) {
        block.load(source, tensor, rows)?;
        out.extend_from_slice(block.encoded(source, tensor, to)?);
    }
    Ok(out)
}

/// What one output makes of one tensor of the source.
#[derive(Debug, Clone, Copy)]
struct Target {
    /// Number of the tensor in the output.
    index: usize,
    dtype: DType,
}

/// An output being written.
struct OpenOutput {
    writer: GgufWriter,
    /// By number of the tensor in the source.
    place_of: HashMap<usize, Target>,
}

impl OpenOutput {
    fn create(source: &dyn Source, output: &Output) -> Result<Self> {
        let numbers: HashMap<&str, usize> = source.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
        let mut place_of = HashMap::with_capacity(output.plan.entries.len());
        for (index, entry) in output.plan.entries.iter().enumerate() {
            let number = numbers.get(entry.tensor.as_str());
            let same = |&&i: &&usize| {
                let t = &source.tensors()[i];
                t.dtype == entry.from && t.cols() == entry.shape[0] && t.rows() == entry.shape[1..].iter().product::<usize>()
            };
            let Some(&number) = number.filter(same) else {
                let what = format!("the plan for {} is not one for this model", output.path.display());
                return Err(Error::tensor(source.path(), &entry.tensor, what));
            };
            place_of.insert(number, Target { index, dtype: entry.to });
        }
        let layout = Layout::new(&output.path, &output.metadata, &output.plan.specs())?;
        Ok(Self { writer: GgufWriter::create(&output.path, layout)?, place_of })
    }
}

/// Every encoding that is wanted, once.
fn distinct(wanted: &[(usize, Target)]) -> Vec<DType> {
    let mut dtypes: Vec<DType> = Vec::with_capacity(wanted.len());
    for (_, target) in wanted {
        if !dtypes.contains(&target.dtype) {
            dtypes.push(target.dtype);
        }
    }
    dtypes
}

fn source_bytes(tensor: &Tensor) -> u64 {
    (tensor.cols() / tensor.dtype.block_len() * tensor.dtype.block_bytes()) as u64 * tensor.rows() as u64
}

/// Neither may two outputs be one file, nor may an output replace the model it is made from.
fn refuse_same_paths(source: &dyn Source, outputs: &[Output]) -> Result<()> {
    let inputs: Vec<PathBuf> = source.files().iter().filter_map(|file| file.canonicalize().ok()).collect();
    let mut places = HashSet::new();
    for output in outputs {
        // The file need not exist yet, but its folder does.
        let name = output.path.file_name().unwrap_or_default();
        let folder = output.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = folder.canonicalize().map_err(|e| Error::io(folder, e))?.join(name);
        if inputs.iter().any(|input| place.canonicalize().is_ok_and(|place| place == *input)) {
            return Err(Error::file(&output.path, "is a file of the model to be read; write to another name"));
        }
        if !places.insert(place) {
            return Err(Error::file(&output.path, "is asked for twice; give every output a name of its own"));
        }
    }
    Ok(())
}
