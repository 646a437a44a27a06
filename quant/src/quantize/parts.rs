//! The files of an output: their names, which tensors each holds, and where everything stands in them. What is absent: writing
//! them.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::output::Output;
use super::split::Split;
use crate::gguf::{Layout, Metadata, SPLIT_KEYS, Value};
use crate::{Error, Result};

/// One of the files of an output.
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Which entries of the plan it holds.
    pub(super) entries: Range<usize>,
    pub(super) layout: Layout,
}

/// The files of `output`, in order.
pub(super) fn parts(output: &Output) -> Result<Vec<Part>> {
    let counts = output.split.counts(&output.plan);
    let tensors = output.plan.entries.len();
    if counts.iter().sum::<usize>() != tensors {
        let what = format!("is to be split into {} tensors, but the model has {tensors}", counts.iter().sum::<usize>());
        return Err(Error::file(&output.path, what));
    }
    let Ok(count) = u16::try_from(counts.len()) else {
        let what = format!("would be split into {} files; allow larger ones (at most {} files)", counts.len(), u16::MAX);
        return Err(Error::file(&output.path, what));
    };
    let Ok(total) = i32::try_from(tensors) else {
        return Err(Error::file(&output.path, "has too many tensors to be split"));
    };
    let specs = output.plan.specs();
    let mut begin = 0;
    let mut parts = Vec::with_capacity(counts.len());
    for (no, n) in (0..count).zip(counts) {
        let entries = begin..begin + n;
        begin = entries.end;
        let path = part_path(&output.path, &output.split, no, count);
        let mut metadata = if no == 0 { output.metadata.clone() } else { Metadata::new() };
        if count > 1 {
            let values = [Value::U16(no), Value::U16(count), Value::I32(total)];
            SPLIT_KEYS.iter().zip(values).for_each(|(&key, value)| metadata.set(key, value));
        }
        let layout = Layout::new(&path, &metadata, &specs[entries.clone()])?;
        parts.push(Part { path, entries, layout });
    }
    Ok(parts)
}

fn part_path(path: &Path, split: &Split, no: u16, count: u16) -> PathBuf {
    if count == 1 && !matches!(split, Split::Like(_)) {
        return path.to_owned();
    }
    let name = path.file_name().unwrap_or_default();
    let stem = if path.extension().is_some_and(|e| e == "gguf") { path.file_stem().unwrap_or(name) } else { name };
    let mut name = stem.to_owned();
    name.push(format!("-{:05}-of-{count:05}.gguf", no + 1));
    path.with_file_name(name)
}

impl Output {
    /// The files it will be, and how many bytes each will have.
    ///
    /// # Errors
    /// [`Error::File`] where the split does not fit the plan, and as [`crate::gguf::Layout::new`].
    pub fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        Ok(parts(self)?.into_iter().map(|part| (part.path, part.layout.file_bytes())).collect())
    }
}
