//! Whether the outputs of a run fit their disks together, asked before anything is written. What is absent: a single file (see
//! `disk`).

use std::collections::BTreeMap;
use std::path::Path;

use crate::atomic_file::directory_of;
use crate::gguf::GgufWriter;
use crate::{Error, Result, disk};

/// Refuses outputs that do not fit: for each file system, their sizes less what unfinished files hold already.
pub(super) fn check<'a>(parts: impl Iterator<Item = &'a GgufWriter>) -> Result<()> {
    let mut needed: BTreeMap<String, (&Path, u64)> = BTreeMap::new();
    for part in parts {
        let directory = directory_of(part.file().path());
        let bytes = part.layout().file_bytes().saturating_sub(part.file().allocated()?);
        let (_, sum) = needed.entry(file_system(directory)?).or_insert((directory, 0));
        *sum = sum.saturating_add(bytes);
    }
    for (directory, bytes) in needed.into_values() {
        disk::check(directory, bytes, disk::free_bytes(directory)?)?;
    }
    Ok(())
}

/// A name for the file system of `directory`.
#[cfg(unix)]
fn file_system(directory: &Path) -> Result<String> {
    let about = directory.metadata().map_err(|e| Error::io(directory, e))?;
    Ok(std::os::unix::fs::MetadataExt::dev(&about).to_string())
}

/// A name for the file system of `directory`: its drive.
#[cfg(not(unix))]
fn file_system(directory: &Path) -> Result<String> {
    let full = directory.canonicalize().map_err(|e| Error::io(directory, e))?;
    Ok(full.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default())
}
