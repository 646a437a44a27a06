//! Reading the header of one GGUF file: a straight line of checks from the magic to the last tensor's end, each with one
//! error that says where and what to do. The file is a stranger's: nothing is believed before it is checked, and nothing is
//! allocated that the file could not hold.
//!
//! Layout, from the GGUF specification (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>): magic `GGUF`, u32
//! version, u64 tensor count, u64 pair count, the pairs, the tensor infos, padding to the alignment, the tensor data.
//! What is absent: joining split files (see `open`) and decoding weights (see `formats`).

use std::collections::HashSet;
use std::path::Path;

use super::cursor::Cursor;
use super::value::{Metadata, Value};
use super::wire;
use crate::message::Message;
use crate::{DType, Error, Result};

/// Entries that room is made for before they are seen; more are believed as they come.
const BELIEVED: usize = 1 << 12;
/// The first four bytes of every GGUF file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Key that overrides the alignment of tensor data.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// Alignment where the file does not say otherwise.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;
/// ggml keeps names in 64 bytes with a closing zero (`GGML_MAX_NAME`).
pub(super) const MAX_NAME_BYTES: usize = 63;
/// ggml tensors have at most four dimensions (`GGML_MAX_DIMS`).
pub(super) const MAX_DIMS: usize = 4;

/// Far beyond any page size; keeps a hostile file from asking for gigabytes of padding.
const MAX_ALIGNMENT: u64 = 1 << 20;
/// The fewest bytes a tensor info can take: name length, one byte of name, dimension count, one dimension, type, offset.
const MIN_TENSOR_BYTES: usize = 8 + 1 + 4 + 8 + 4 + 8;

/// One tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name, 1 to 63 bytes.
    pub name: String,
    /// How its weights are encoded.
    pub dtype: DType,
    /// Shape as GGUF stores it: row length first; 1 to 4 dimensions, none zero.
    pub shape: Vec<usize>,
    /// Where its bytes begin, counted from the start of its file.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: usize,
    /// Which of the files it lies in: 0 unless the model is split.
    pub shard: usize,
}

/// What the header of one file says.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorEntry>,
    pub(super) data_offset: u64,
}

impl Header {
    /// Reads and checks the header in `bytes`, the whole of the file at `path`. Tensors get the number `shard`.
    pub(super) fn read(path: &Path, bytes: &[u8], shard: usize) -> Result<Self> {
        let mut from = Cursor::new(path, bytes);
        let version = read_version(path, &mut from)?;
        let n_tensors = from.count(MIN_TENSOR_BYTES, "the number of tensors")?;
        let n_pairs = from.count(wire::MIN_PAIR_BYTES, "the number of metadata keys")?;
        let metadata = read_metadata(&mut from, n_pairs)?;
        let alignment = alignment(path, &metadata)?;
        let mut tensors = read_tensors(&mut from, path, n_tensors, shard)?;

        let data_offset = (from.at() as u64).next_multiple_of(alignment);
        for t in &mut tensors {
            set_absolute_offset(path, t, data_offset, alignment, bytes.len() as u64)?;
        }
        refuse_overlap(path, &tensors)?;
        Ok(Self { version, alignment, metadata, tensors, data_offset })
    }
}

fn read_version(path: &Path, from: &mut Cursor) -> Result<u32> {
    let magic = from.take(4, "the magic")?;
    if magic != MAGIC {
        let what = format!(
            "not a GGUF file: it begins with \"{}\" instead of \"GGUF\" (of safetensors, give the folder)",
            magic.escape_ascii()
        );
        return Err(Error::gguf(path, 0, what));
    }
    let version = from.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        1 => Err(from.error("GGUF version 1 is not supported; convert the model again with a current converter")),
        // A small version number stored with the bytes the other way round has its low half empty.
        v if v != 0 && v & 0xffff == 0 => {
            Err(from.error("a big-endian GGUF file is not supported; convert the model again for a little-endian machine"))
        }
        v => Err(from.error(format!("GGUF version {v} is not supported; versions 2 and 3 are"))),
    }
}

fn read_metadata(from: &mut Cursor, n_pairs: usize) -> Result<Metadata> {
    let mut pairs = Vec::with_capacity(n_pairs.min(BELIEVED));
    let mut seen = HashSet::with_capacity(n_pairs.min(BELIEVED));
    for i in 0..n_pairs {
        let key = from.string(&format!("metadata key {i}"))?;
        if key.is_empty() {
            return Err(from.error(format!("metadata key {i} is empty")));
        }
        if !seen.insert(key.clone()) {
            return Err(from.error(format!("duplicate metadata key {key:?}")));
        }
        let value = wire::read_value(from, &key)?;
        pairs.push((key, value));
    }
    Ok(Metadata::from_unique(pairs))
}

/// The alignment of tensor data that `metadata` asks for.
pub(crate) fn alignment(path: &Path, metadata: &Metadata) -> Result<u64> {
    let wanted = match metadata.get(ALIGNMENT_KEY) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(v)) => u64::from(*v),
        Some(_) => return Err(Error::key(path, ALIGNMENT_KEY, "must be a u32")),
    };
    if !wanted.is_power_of_two() || !(8..=MAX_ALIGNMENT).contains(&wanted) {
        let what = format!("alignment {wanted} is not a power of two from 8 to {MAX_ALIGNMENT}");
        return Err(Error::key(path, ALIGNMENT_KEY, what));
    }
    Ok(wanted)
}

fn read_tensors(from: &mut Cursor, path: &Path, n: usize, shard: usize) -> Result<Vec<TensorEntry>> {
    let mut tensors = Vec::with_capacity(n.min(BELIEVED));
    let mut seen = HashSet::with_capacity(n.min(BELIEVED));
    for i in 0..n {
        let tensor = read_tensor(from, path, i, shard)?;
        if !seen.insert(tensor.name.clone()) {
            return Err(Error::tensor(path, tensor.name, "duplicate tensor name"));
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

/// Reads tensor info `i`. Its offset is still relative to the data section.
fn read_tensor(from: &mut Cursor, path: &Path, i: usize, shard: usize) -> Result<TensorEntry> {
    let name = from.string(&format!("name of tensor {i}"))?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(from.error(format!("the name of tensor {i} has {} bytes; 1 to {MAX_NAME_BYTES} are allowed", name.len())));
    }
    let n_dims = from.u32(&name)?;
    if n_dims == 0 || n_dims as usize > MAX_DIMS {
        return Err(Error::tensor(path, name, format!("has {n_dims} dimensions; 1 to {MAX_DIMS} are allowed")));
    }
    let dims = from.numbers(n_dims as usize, u64::from_le_bytes, &name)?;
    let type_id = from.u32(&name)?;
    let offset = from.u64(&name)?;
    let dtype = DType::from_ggml_id(type_id).ok_or_else(|| unknown_type(path, &name, type_id))?;
    let shape = dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>();
    let shape = shape.ok_or_else(|| Error::tensor(path, &name, format!("shape {dims:?} is too large for this machine")))?;
    let bytes = tensor_bytes(dtype, &shape).map_err(|what| Error::tensor(path, &name, what))?;
    Ok(TensorEntry { name, dtype, shape, offset, bytes, shard })
}

/// Types that a file may name and that are not read: `ggml_type`, its name, what it is.
const REFUSED: &[(u32, &str, &str)] = &[
    (4, "Q4_2", "which llama.cpp gave up in 2023"),
    (5, "Q4_3", "which llama.cpp gave up in 2023"),
    (9, "Q8_1", "which is for activations"),
    (15, "Q8_K", "which is for activations"),
    (31, "Q4_0_4_4", "an order of Q4_0 that llama.cpp gave up"),
    (32, "Q4_0_4_8", "an order of Q4_0 that llama.cpp gave up"),
    (33, "Q4_0_8_8", "an order of Q4_0 that llama.cpp gave up"),
    (36, "IQ4_NL_4_4", "an order of IQ4_NL that llama.cpp gave up"),
    (37, "IQ4_NL_4_8", "an order of IQ4_NL that llama.cpp gave up"),
    (38, "IQ4_NL_8_8", "an order of IQ4_NL that llama.cpp gave up"),
    (43, "F8_E4M3", "which llama.cpp's converter writes since b12032 of checkpoints in FP8"),
];

fn unknown_type(path: &Path, name: &str, type_id: u32) -> Error {
    if let Some((_, named, what)) = REFUSED.iter().find(|(id, ..)| *id == type_id) {
        let what =
            format!("is of the type {named} ({type_id}), {what}; make the file anew as BF16 or F16 from the original model");
        return Error::tensor(path, name, what);
    }
    let known: Vec<String> = DType::ALL.iter().map(|d| format!("{} ({})", d.name(), d.ggml_id())).collect();
    let what = format!("has the tensor type {type_id}, which is not known here; known types: {}", known.join(", "));
    Error::tensor(path, name, what)
}

/// The encoded size of a tensor of this `shape`, or what is wrong with the shape.
pub(super) fn tensor_bytes(dtype: DType, shape: &[usize]) -> std::result::Result<usize, Message> {
    if shape.is_empty() || shape.len() > MAX_DIMS || shape.contains(&0) {
        return Err(format!("shape {shape:?} must have 1 to {MAX_DIMS} dimensions, none of them zero").into());
    }
    let (cols, block) = (shape[0], dtype.block_len());
    if !cols.is_multiple_of(block) {
        return Err(format!("rows of {cols} weights do not divide into {} blocks of {block}", dtype.name()).into());
    }
    let blocks = shape[1..].iter().try_fold(cols / block, |n, &d| n.checked_mul(d));
    let bytes = blocks.and_then(|n| n.checked_mul(dtype.block_bytes()));
    // Half the address space: so that offsets and paddings can be added without care.
    bytes.filter(|&n| n <= usize::MAX / 2).ok_or_else(|| format!("the size of shape {shape:?} overflows").into())
}

/// Turns the tensor's offset into an absolute one and checks that its bytes lie in the file.
fn set_absolute_offset(path: &Path, t: &mut TensorEntry, data_offset: u64, alignment: u64, file_bytes: u64) -> Result<()> {
    if !t.offset.is_multiple_of(alignment) {
        let what = format!("its offset {} is not a multiple of the alignment {alignment}", t.offset);
        return Err(Error::tensor(path, &t.name, what));
    }
    let start = data_offset.checked_add(t.offset);
    let end = start.and_then(|s| s.checked_add(t.bytes as u64));
    let (Some(start), Some(end)) = (start, end) else {
        return Err(Error::tensor(path, &t.name, format!("its offset {} overflows", t.offset)));
    };
    if end > file_bytes {
        let what = format!("truncated file: it needs bytes up to {end}, the file has {file_bytes}; fetch the file again");
        return Err(Error::tensor(path, &t.name, what));
    }
    t.offset = start;
    Ok(())
}

fn refuse_overlap(path: &Path, tensors: &[TensorEntry]) -> Result<()> {
    let mut by_offset: Vec<&TensorEntry> = tensors.iter().collect();
    by_offset.sort_by_key(|t| t.offset);
    for pair in by_offset.windows(2) {
        if pair[0].offset + pair[0].bytes as u64 > pair[1].offset {
            return Err(Error::tensor(path, &pair[1].name, format!("its bytes overlap those of tensor {}", pair[0].name)));
        }
    }
    Ok(())
}
