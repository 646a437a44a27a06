//! Laying out and writing a GGUF version 3 file: the header as llama.cpp's writers make it, every tensor at its aligned
//! offset, zeros between. Where everything goes is known before the first byte is written. What is absent: choosing types
//! and encoding weights.

use std::collections::HashSet;
use std::path::Path;

use super::open::SPLIT_KEYS;
use super::read::{self, MAGIC, MAX_NAME_BYTES, tensor_bytes};
use super::value::Metadata;
use super::wire;
use crate::atomic_file::AtomicFile;
use crate::{DType, Error, Result};

/// GGUF version of all files we write.
const VERSION: u32 = 3;

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// GGUF name, 1 to 63 bytes.
    pub name: String,
    /// Encoding in the file.
    pub dtype: DType,
    /// Shape as GGUF stores it, row length first.
    pub shape: Vec<usize>,
}

/// Where one tensor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TensorExtent {
    /// From the start of the file.
    offset: u64,
    /// Without padding.
    bytes: u64,
}

/// A whole GGUF file but for the weights: header bytes, the place of each tensor, the file's size.
#[derive(Debug, Clone)]
pub struct Layout {
    header: Vec<u8>,
    places: Vec<TensorExtent>,
    alignment: u64,
    file_bytes: u64,
}

impl Layout {
    /// Lays out the file that is to stand at `path` (used in errors only): tensors in the given order, aligned to
    /// `general.alignment` or 32 bytes, the last one padded too, as llama.cpp does.
    ///
    /// # Errors
    /// [`Error::Tensor`] where a name is too long or occurs twice or a shape is impossible, [`Error::Key`] where the
    /// alignment is.
    pub fn new(path: &Path, metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Self> {
        let alignment = read::alignment(path, metadata)?;
        let too_large = |t: &TensorSpec| Error::tensor(path, &t.name, "the file would be too large");
        let mut seen = HashSet::with_capacity(tensors.len());
        let mut places = Vec::with_capacity(tensors.len());
        let mut end: u64 = 0;
        for t in tensors {
            check_name(path, t, &mut seen)?;
            let bytes = tensor_bytes(t.dtype, &t.shape).map_err(|what| Error::tensor(path, &t.name, what))? as u64;
            places.push(TensorExtent { offset: end, bytes });
            end = end.checked_add(bytes).and_then(|e| e.checked_next_multiple_of(alignment)).ok_or_else(|| too_large(t))?;
        }

        let mut header = header(metadata, tensors, &places);
        // The first part of a split model may have no tensors; llama.cpp's writers pad that header, but not that of a file of
        // metadata alone.
        if !tensors.is_empty() || metadata.get(SPLIT_KEYS[1]).is_some() {
            header.resize(header.len().next_multiple_of(alignment as usize), 0);
        }
        let data_offset = header.len() as u64;
        let file_bytes = data_offset.checked_add(end).ok_or_else(|| Error::file(path, "the file would be too large"))?;
        places.iter_mut().for_each(|p| p.offset += data_offset);
        Ok(Self { header, places, alignment, file_bytes })
    }

    /// Everything before the tensor data, padding included.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Where tensor `i` begins in the file.
    pub fn offset(&self, i: usize) -> u64 {
        self.places[i].offset
    }

    /// How many bytes tensor `i` has, padding not included.
    pub fn tensor_bytes(&self, i: usize) -> u64 {
        self.places[i].bytes
    }

    /// What the place of every tensor is a multiple of.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// How many bytes the whole file has.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

fn check_name<'a>(path: &Path, t: &'a TensorSpec, seen: &mut HashSet<&'a str>) -> Result<()> {
    if t.name.is_empty() || t.name.len() > MAX_NAME_BYTES {
        let what = format!("its name has {} bytes; GGUF allows 1 to {MAX_NAME_BYTES}", t.name.len());
        return Err(Error::tensor(path, &t.name, what));
    }
    if !seen.insert(&t.name) {
        return Err(Error::tensor(path, &t.name, "duplicate tensor name"));
    }
    Ok(())
}

/// The header without padding; offsets in it count from the start of the data section.
fn header(metadata: &Metadata, tensors: &[TensorSpec], places: &[TensorExtent]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        wire::write_string(&mut out, key);
        wire::write_value(&mut out, value);
    }
    for (t, place) in tensors.iter().zip(places) {
        wire::write_string(&mut out, &t.name);
        out.extend((t.shape.len() as u32).to_le_bytes());
        t.shape.iter().for_each(|&d| out.extend((d as u64).to_le_bytes()));
        out.extend(t.dtype.ggml_id().to_le_bytes());
        out.extend(place.offset.to_le_bytes());
    }
    out
}

/// Writes one file by its [`Layout`]: the header at once, then tensors' bytes in any order. The file appears under its name
/// only on [`GgufWriter::commit`].
pub struct GgufWriter {
    file: AtomicFile,
    layout: Layout,
    /// Bytes of each tensor that have been written.
    written: Vec<u64>,
}

impl GgufWriter {
    /// Begins the file.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create(path: &Path, layout: Layout) -> Result<Self> {
        let mut writer = Self::of(AtomicFile::create(path)?, layout);
        writer.start_anew()?;
        Ok(writer)
    }

    /// Opens what an earlier, interrupted writer left, and keeps it when dropped. Then either [`Self::start_anew`], or
    /// [`Self::resume`] for the tensors known to be whole.
    ///
    /// # Errors
    /// As [`AtomicFile::reopen`].
    pub(crate) fn reopen(path: &Path, layout: Layout) -> Result<Self> {
        Ok(Self::of(AtomicFile::reopen(path)?, layout))
    }

    fn of(file: AtomicFile, layout: Layout) -> Self {
        let written = vec![0; layout.places.len()];
        Self { file, layout, written }
    }

    /// Discards all that was written and writes the header.
    pub(crate) fn start_anew(&mut self) -> Result<()> {
        self.file.clear()?;
        self.written.fill(0);
        self.file.write_at(0, &self.layout.header)
    }

    /// Writes another header, of which only values of the metadata are others, and no longer ones.
    ///
    /// # Errors
    /// A layout that has anything at another place.
    pub(crate) fn replace_header(&mut self, layout: Layout) -> Result<()> {
        if layout.header.len() != self.layout.header.len() || layout.places != self.layout.places {
            return Err(Error::file(self.file.path(), "the new metadata does not have the size of the old"));
        }
        self.file.write_at(0, &layout.header)?;
        self.layout = layout;
        Ok(())
    }

    /// Takes tensor `i` for written; false where the file is too short to hold it.
    pub(crate) fn resume(&mut self, i: usize) -> Result<bool> {
        let place = self.layout.places[i];
        let there = self.file.len()? >= place.offset + place.bytes;
        self.written[i] = if there { place.bytes } else { 0 };
        Ok(there)
    }

    /// Whether all bytes of tensor `i` have been written.
    pub(crate) fn is_whole(&self, i: usize) -> bool {
        self.written[i] == self.layout.places[i].bytes
    }

    /// The unfinished file.
    pub(crate) fn file(&self) -> &AtomicFile {
        &self.file
    }

    /// Where everything goes.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes `bytes` of tensor `i`, from byte `at` of the tensor on; no byte may be written twice.
    pub fn write(&mut self, i: usize, at: u64, bytes: &[u8]) -> Result<()> {
        let place = self.layout.places[i];
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > place.bytes) {
            let what = format!("{} bytes at byte {at} of tensor {i} go past its {} bytes", bytes.len(), place.bytes);
            return Err(Error::file(self.file.path(), what));
        }
        self.file.write_at(place.offset + at, bytes)?;
        self.written[i] += bytes.len() as u64;
        Ok(())
    }

    /// Puts everything on the disk, still under the temporary name. Refuses a file with a tensor of which not all bytes were
    /// written.
    pub fn sync(&self) -> Result<()> {
        let lacking = (0..self.written.len()).find(|&i| !self.is_whole(i));
        if let Some(i) = lacking {
            let (written, bytes) = (self.written[i], self.layout.places[i].bytes);
            let what = format!("tensor {i} got {written} of its {bytes} bytes; the file is not kept");
            return Err(Error::file(self.file.path(), what));
        }
        // The padding after the last tensor.
        self.file.set_len(self.layout.file_bytes)?;
        self.file.sync()
    }

    /// [`Self::sync`], then puts the file in place; its size in bytes.
    pub fn commit(self) -> Result<u64> {
        self.sync()?;
        self.file.commit()?;
        Ok(self.layout.file_bytes)
    }
}
