//! The journal of an output that can be resumed: which of its tensors are safely on the disk, beside the unfinished file as
//! `.NAME.partial.json`. It is believed only by a run that would write the very same bytes. What is absent: writing weights.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::output::{Output, QuantizeOptions};
use super::parts::Part;
use super::report::Sums;
use crate::atomic_file::{AtomicFile, remove_whole, write_whole};
use crate::checkpoint::Source;
use crate::hex::hex;
use crate::message::Message;
use crate::{Error, Result};

/// Journals are a few KiB; what is larger is none.
const MAX_BYTES: u64 = 64 << 20;

/// What is done of one output.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// What the run was asked for, see [`fingerprint`].
    pub(super) fingerprint: String,
    /// Entries of the plan that are on the disk.
    pub(super) tensors: Vec<usize>,
    /// The sums of their reports as bits, where there is a report.
    pub(super) sums: Vec<[u64; 8]>,
}

impl Done {
    /// The tensors that are on the disk, with their sums.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, Option<Sums>)> + '_ {
        self.tensors.iter().enumerate().map(|(i, &tensor)| (tensor, self.sums.get(i).map(|&bits| Sums::from_bits(bits))))
    }
}

/// Where the journal of an output stands whose first (or only) file is `file`.
pub(super) fn path(file: &AtomicFile) -> PathBuf {
    let mut path = file.partial_path().as_os_str().to_owned();
    path.push(".json");
    PathBuf::from(path)
}

/// Replaces the journal.
pub(super) fn write(path: &Path, done: &Done) -> Result<()> {
    let text = serde_json::to_vec(done).map_err(|e| Error::file(path, e.to_string()))?;
    write_whole(path, &text)
}

/// Reads the journal; `None` where there is none.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn read(path: &Path, fingerprint: &str) -> Result<Option<Done>, Message> {
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string().into()),
    };
    if about.len() > MAX_BYTES {
        return Err("its journal is too large to be one".into());
    }
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let done: Done = serde_json::from_slice(&text).map_err(|e| format!("its journal is broken ({e})"))?;
    if done.fingerprint != fingerprint {
        return Err("it was begun from another model, with other settings or by another version".into());
    }
    Ok(Some(done))
}

/// Removes the journal, for good before anything is written that it does not know of; there need not be one.
pub(super) fn remove(path: &Path) -> Result<()> {
    remove_whole(path)
}

/// All that decides an output's bytes, as a hash: this program's version, the source's files by path, size and time of
/// change, what else its weights depend on, the headers of the output's files (and with them metadata, types and places), the
/// importance of columns, whether weights may be no numbers; and whether the report is wanted, whose sums the journal then
/// holds.
pub(super) fn fingerprint(source: &dyn Source, output: &Output, parts: &[Part], options: &QuantizeOptions) -> Result<String> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(&[u8::from(options.report.is_some()), u8::from(options.allow_non_finite)]);
    add(source.path().as_os_str().as_encoded_bytes());
    add(&source.identity());
    for file in source.files() {
        let about = file.metadata().map_err(|e| Error::io(file, e))?;
        let changed = about.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        add(file.as_os_str().as_encoded_bytes());
        add(&about.len().to_le_bytes());
        add(&changed.as_nanos().to_le_bytes());
    }
    for part in parts {
        add(part.path.as_os_str().as_encoded_bytes());
        add(part.layout.header());
    }
    for entry in &output.plan.entries {
        add(entry.source().as_bytes());
        add(entry.from.name().as_bytes());
        let importance = output.imatrix.as_ref().and_then(|imatrix| imatrix.weights(entry.source()));
        add(bytemuck::cast_slice(importance.unwrap_or_default()));
    }
    Ok(hex(&hash.finalize()))
}
