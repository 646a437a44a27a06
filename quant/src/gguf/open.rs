//! A GGUF model opened read-only: one file, or all files of a split model (`name-00001-of-00003.gguf`) joined as one.
//! What is absent: the checks of a single file's header (see `read`) and what the metadata mean.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mmap::FileMap;

use super::read::{Header, MAGIC, TensorEntry};
use super::value::Metadata;
use crate::mmap::map_file;
use crate::tensor_bytes::TensorBytes;
use crate::{Error, Result, kind};

/// Keys of a split model, from llama.cpp's `gguf-split`: which file this is (from 0), how many there are, how many tensors
/// they have together.
pub(crate) const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];

/// One of the files of a model.
struct Shard {
    path: PathBuf,
    map: Arc<FileMap>,
}

/// A GGUF model, mapped into memory.
pub struct GgufFile {
    /// The file it was opened by (the first one of a split model).
    pub path: PathBuf,
    /// GGUF version: 2 or 3.
    pub version: u32,
    /// Alignment of tensor data in bytes.
    pub alignment: u64,
    /// Metadata in file order, of the first file if the model is split.
    pub metadata: Metadata,
    /// All tensors in file order.
    pub tensors: Vec<TensorEntry>,
    /// Where the tensor data begin in the first file.
    pub data_offset: u64,
    shards: Vec<Shard>,
}

impl GgufFile {
    /// Opens `path`; where it is one file of a split model, all of them (any of them may be named).
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read, [`Error::Gguf`], [`Error::Tensor`] and [`Error::Key`] where it breaks the
    /// format, [`Error::File`] where files of a split model are missing or do not belong together.
    pub fn open(path: &Path) -> Result<Self> {
        let map = map_gguf(path)?;
        let header = Header::read(path, &map, 0)?;
        if let Some(key) = SPLIT_KEYS.iter().find(|key| header.metadata.get(key).is_some() && header.metadata.u64(key).is_none())
        {
            return Err(Error::key(path, *key, "is no count"));
        }
        match header.metadata.u64(SPLIT_KEYS[1]) {
            None | Some(0 | 1) => {
                let single = Self::single(path, map, header);
                single.check_tensors()?;
                Ok(single)
            }
            Some(count) => Self::joined(path, count),
        }
    }

    fn single(path: &Path, map: Arc<FileMap>, header: Header) -> Self {
        let Header { version, alignment, metadata, tensors, data_offset } = header;
        let shards = vec![Shard { path: path.to_owned(), map }];
        Self { path: path.to_owned(), version, alignment, metadata, tensors, data_offset, shards }
    }

    fn joined(path: &Path, count: u64) -> Result<Self> {
        let paths = shard_paths(path, count)?;
        let map = map_gguf(&paths[0])?;
        let first = Header::read(&paths[0], &map, 0)?;
        check_shard(&paths[0], &first, 0, count)?;
        let mut joined = Self::single(&paths[0], map, first);
        for (i, path) in paths.iter().enumerate().skip(1) {
            let map = map_gguf(path)?;
            let header = Header::read(path, &map, i)?;
            check_shard(path, &header, i as u64, count)?;
            joined.tensors.extend(header.tensors);
            joined.shards.push(Shard { path: path.clone(), map });
        }
        joined.check_tensors()?;
        Ok(joined)
    }

    /// Across files, names are still unique and the tensors as many as announced.
    fn check_tensors(&self) -> Result<()> {
        let mut seen = HashSet::with_capacity(self.tensors.len());
        if let Some(t) = self.tensors.iter().find(|t| !seen.insert(t.name.as_str())) {
            return Err(Error::tensor(self.file_of(t), &t.name, "is in an earlier file of the split model too"));
        }
        match self.metadata.u64(SPLIT_KEYS[2]) {
            Some(n) if n != self.tensors.len() as u64 => {
                let what = format!("announces {n} tensors, the {} files have {}", self.shards.len(), self.tensors.len());
                Err(Error::key(&self.path, SPLIT_KEYS[2], what))
            }
            _ => Ok(()),
        }
    }

    /// The encoded bytes of `tensor`, which must be one of [`Self::tensors`].
    pub fn bytes(&self, tensor: &TensorEntry) -> TensorBytes {
        // Neither cast nor sum can overflow: the header's checks put the end of every tensor inside the mapped file.
        let start = tensor.offset as usize;
        TensorBytes::Mapped(Arc::clone(&self.shards[tensor.shard].map), start..start + tensor.bytes)
    }

    /// The file that holds `tensor`.
    pub fn file_of(&self, tensor: &TensorEntry) -> &Path {
        &self.shards[tensor.shard].path
    }

    /// All files of the model, in order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|s| s.path.as_path())
    }
}

/// Maps a file, unless its first bytes say that it is something else.
fn map_gguf(path: &Path) -> Result<Arc<FileMap>> {
    let map = map_file(path)?;
    match kind::of(&map).filter(|_| !map.starts_with(MAGIC)) {
        Some(what) => Err(Error::file(path, what)),
        None => Ok(map),
    }
}

/// The paths of all files of a split model, by the name of one of them.
fn shard_paths(path: &Path, count: u64) -> Result<Vec<PathBuf>> {
    let stem = path.file_name().and_then(|n| n.to_str()).and_then(|name| {
        let (stem, tail) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = stem.rsplit_once('-')?;
        let digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
        (digits(number) && digits(tail) && tail.parse() == Ok(count)).then_some(stem)
    });
    let Some(stem) = stem else {
        let what = format!(
            "is one of {count} files of a split model, but is not named like NAME-00001-of-{count:05}.gguf; rename the files"
        );
        return Err(Error::file(path, what));
    };
    let paths: Vec<PathBuf> = (1..=count).map(|i| path.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf"))).collect();
    match paths.iter().find(|p| !p.exists()) {
        Some(missing) => Err(Error::file(missing, format!("this file of a model split into {count} is missing; fetch it"))),
        None => Ok(paths),
    }
}

fn check_shard(path: &Path, header: &Header, number: u64, count: u64) -> Result<()> {
    let (no, of) = (header.metadata.u64(SPLIT_KEYS[0]), header.metadata.u64(SPLIT_KEYS[1]));
    if (no, of) == (Some(number), Some(count)) {
        return Ok(());
    }
    let show = |v: Option<u64>| v.map_or("nothing".to_owned(), |v| v.to_string());
    let what = format!(
        "should be file {number} (from 0) of {count}, but says {} of {}; the files do not belong together",
        show(no),
        show(of)
    );
    Err(Error::file(path, what))
}
