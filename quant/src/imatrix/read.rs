//! Reading the two file formats of `llama-imatrix`, checked as hostile. Both hold sums and counts, and so they come out, or as
//! means, divided as `load_imatrix` of llama.cpp's tools/quantize/quantize.cpp (b11434) divides. What is absent: writing them.

use std::collections::BTreeMap;
use std::path::Path;

use super::Imatrix;
use crate::gguf::{Array, Cursor, GgufFile, MAGIC, TensorEntry, Value};
use crate::mmap::map_file;
use crate::{DType, Error, Result, kind};

pub(super) const DATASETS_KEY: &str = "imatrix.datasets";
pub(super) const CHUNK_COUNT_KEY: &str = "imatrix.chunk_count";
pub(super) const CHUNK_SIZE_KEY: &str = "imatrix.chunk_size";
pub(super) const SQUARES: &str = ".in_sum2";
pub(super) const COUNTS: &str = ".counts";
pub(super) const ACTIVATIONS: &str = ".in_sum";

/// A file as it is.
pub(super) struct Raw {
    pub(super) entries: BTreeMap<String, RawEntry>,
    pub(super) datasets: Vec<String>,
    pub(super) chunk_count: u32,
    /// Tokens in a chunk; `None` in the older format, whose counts are of chunks.
    pub(super) chunk_size: Option<u32>,
}

/// What it says of one tensor.
pub(super) struct RawEntry {
    /// For each matrix one run of columns.
    pub(super) squares: Vec<f32>,
    /// The same of the activations themselves, where the file has them.
    pub(super) activations: Option<Vec<f32>>,
    /// One for all matrices or one for each.
    pub(super) counts: Vec<f32>,
}

impl Raw {
    /// Sums divided by counts.
    pub(super) fn into_means(self, path: &Path) -> Imatrix {
        let legacy = self.chunk_size.is_none();
        let entries = self.entries.into_iter().map(|(name, entry)| (name, entry.into_means(legacy))).collect();
        Imatrix { path: path.to_owned(), entries, datasets: self.datasets, chunk_count: self.chunk_count }
    }
}

impl RawEntry {
    fn into_means(self, legacy: bool) -> Vec<f32> {
        let Self { squares: mut out, counts, .. } = self;
        let columns = out.len() / counts.len();
        for (row, count) in out.chunks_exact_mut(columns).zip(counts) {
            match (count > 0.0, legacy) {
                (true, _) => row.iter_mut().for_each(|sum| *sum /= count),
                // Without calls the values are means already, as llama.cpp's loader takes them.
                (false, true) => {}
                (false, false) => row.fill(1.0),
            }
        }
        out
    }
}

/// Reads the file in whichever format it is.
pub(super) fn open(path: &Path) -> Result<Raw> {
    let map = map_file(path)?;
    if let Some(what) = kind::of(&map).filter(|_| !map.starts_with(MAGIC)) {
        return Err(Error::file(path, what));
    }
    let matrix = if map.starts_with(MAGIC) { gguf(path)? } else { legacy(path, &map)? };
    if matrix.entries.is_empty() {
        return Err(Error::file(path, "holds no importance matrix: it has no entries"));
    }
    Ok(matrix)
}

/// GGUF: for each tensor the sums `NAME.in_sum2` of shape [columns, matrices] and the numbers of summands `NAME.counts` of shape
/// [1, matrices], in newer files the sums of the activations themselves, `NAME.in_sum`; all F32.
fn gguf(path: &Path) -> Result<Raw> {
    let file = GgufFile::open(path)?;
    let missing = |key| Error::key(path, key, "is missing; this GGUF file holds no importance matrix");
    let datasets = match file.metadata.get(DATASETS_KEY).ok_or_else(|| missing(DATASETS_KEY))? {
        Value::Array(Array::String(names)) => names.clone(),
        _ => return Err(Error::key(path, DATASETS_KEY, "is not an array of strings")),
    };
    let number = |key| match file.metadata.get(key).ok_or_else(|| missing(key))? {
        Value::U32(n) => Ok(*n),
        _ => Err(Error::key(path, key, "is not a u32")),
    };
    let chunk_count = number(CHUNK_COUNT_KEY)?;
    let chunk_size = number(CHUNK_SIZE_KEY)?;

    let by_name: BTreeMap<&str, &TensorEntry> = file.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut entries = BTreeMap::new();
    for t in &file.tensors {
        let part_of = |other: &str, lacking: &str| match by_name.get(other) {
            Some(part) => Ok(*part),
            None => Err(Error::tensor(path, &t.name, format!("has no {lacking} beside it; collect the matrix again"))),
        };
        if let Some(name) = t.name.strip_suffix(COUNTS) {
            part_of(&format!("{name}{SQUARES}"), "sums")?;
        } else if let Some(name) = t.name.strip_suffix(SQUARES) {
            let counts = part_of(&format!("{name}{COUNTS}"), "counts")?;
            let activations = by_name.get(format!("{name}{ACTIVATIONS}").as_str()).copied();
            entries.insert(name.to_owned(), entry(path, &file, t, activations, counts)?);
        }
    }
    Ok(Raw { entries, datasets, chunk_count, chunk_size: Some(chunk_size) })
}

fn entry(
    path: &Path,
    file: &GgufFile,
    sums: &TensorEntry,
    activations: Option<&TensorEntry>,
    counts: &TensorEntry,
) -> Result<RawEntry> {
    let squares = floats(path, file, sums)?;
    let mut counts_of = floats(path, file, counts)?;
    if !squares.len().is_multiple_of(counts_of.len()) {
        let what = format!("has {} sums, which is no multiple of its {} counts", squares.len(), counts_of.len());
        return Err(Error::tensor(path, &sums.name, what));
    }
    if let Some(count) = counts_of.iter().find(|count| **count < 0.0) {
        return Err(Error::tensor(path, &counts.name, format!("a count is {count}; collect the matrix again")));
    }
    if counts_of.iter().all(|count| count.round() == 0.0) {
        let what = "all counts are zero: nothing was collected for this tensor; collect the matrix again";
        return Err(Error::tensor(path, &counts.name, what));
    }
    if counts_of.iter().any(|count| !count.is_finite()) {
        return Err(Error::tensor(path, &counts.name, "a count is infinite or not a number; collect the matrix again"));
    }
    // Whole numbers, ties away from zero, as llama.cpp's loader rounds them.
    counts_of.iter_mut().for_each(|count| *count = count.round());
    let activations = activations.map(|t| floats(path, file, t).map(|values| (t, values))).transpose()?;
    if let Some((t, values)) = activations.as_ref().filter(|(_, values)| values.len() != squares.len()) {
        let what = format!("has {} sums, but {} has {}; collect the matrix again", values.len(), sums.name, squares.len());
        return Err(Error::tensor(path, &t.name, what));
    }
    Ok(RawEntry { squares, activations: activations.map(|(_, values)| values), counts: counts_of })
}

fn floats(path: &Path, file: &GgufFile, t: &TensorEntry) -> Result<Vec<f32>> {
    if t.dtype != DType::F32 {
        return Err(Error::tensor(path, &t.name, format!("is {}, but sums and counts are F32", t.dtype)));
    }
    let bytes = file.bytes(t);
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(numbers.iter().map(|&b| f32::from_le_bytes(b)).collect())
}

/// The fewest bytes an entry can take: length of the name, calls, number of values, one value.
const MIN_ENTRY_BYTES: usize = 4 + 4 + 4 + 4;

/// The older format: i32 number of entries; for each, i32 length of the name, the name, i32 calls, i32 number of values, the
/// values (sums over calls of means) as f32; then, in newer files, i32 number of chunks, i32 length and name of the data set.
fn legacy(path: &Path, bytes: &[u8]) -> Result<Raw> {
    let mut from = Cursor::new(path, bytes);
    let n_entries = from.count_i32(MIN_ENTRY_BYTES, "the number of entries of an importance matrix (it is no GGUF file)")?;
    let mut entries = BTreeMap::new();
    for i in 0..n_entries {
        let length = from.count_i32(1, &format!("length of the name of entry {i}"))?;
        let name = from.text(length, &format!("name of entry {i}"))?;
        let calls = from.i32(&name)?;
        let length = from.count_i32(4, &format!("number of values of {name:?}"))?;
        if name.is_empty() || length == 0 {
            return Err(from.error(format!("entry {i} ({name:?}) has no name or no values; the file is broken")));
        }
        let squares = from.numbers(length, f32::from_le_bytes, &name)?;
        let entry = RawEntry { squares, activations: None, counts: vec![calls as f32] };
        if entries.insert(name.clone(), entry).is_some() {
            return Err(from.error(format!("entry {i}: {name:?} occurs twice")));
        }
    }
    let (mut chunk_count, mut datasets) = (0, Vec::new());
    if from.left() > 0 {
        chunk_count = u32::try_from(from.i32("the number of chunks")?).unwrap_or(0);
        if from.left() > 0 {
            let length = from.count_i32(1, "length of the name of the data set")?;
            let dataset = from.text(length, "name of the data set")?;
            datasets.extend((!dataset.is_empty()).then_some(dataset));
        }
    }
    Ok(Raw { entries, datasets, chunk_count, chunk_size: None })
}
