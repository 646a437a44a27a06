//! What a long measurement keeps in a folder, to go on with: one file for each thing that is done, and one that says of what.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bitworth_quant::atomic_file::write_whole;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};

/// The file that says which measurement the folder is of.
const IDENTITY: &str = "measure.json";

/// A folder, or none: then nothing is kept.
pub struct Kept(Option<PathBuf>);

impl Kept {
    /// Opens a folder that holds nothing, or what an earlier run of the same measurement left.
    ///
    /// # Errors
    /// One that holds anything else, or cannot be written.
    pub fn open(folder: Option<&Path>, identity: &Value) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Self(None)) };
        let path = folder.join(IDENTITY);
        match std::fs::read(&path) {
            Ok(there) => {
                let there: Value = serde_json::from_slice(&there).unwrap_or_default();
                let keys = identity.as_object().into_iter().flat_map(|keys| keys.keys());
                let others: Vec<&str> = keys.filter(|key| there.get(*key) != identity.get(*key)).map(String::as_str).collect();
                if !others.is_empty() {
                    let what = format!("holds another measurement (other {})", others.join(", "));
                    return Err(unfit(folder, format!("{what}; choose another folder or remove it")));
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
                let mut entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
                if entries.next().is_some() {
                    return Err(unfit(folder, "holds other files; give a measurement a folder of its own".to_owned()));
                }
                write_whole(&path, identity.to_string().as_bytes())?;
            }
            Err(e) => return Err(Error::io(&path, e)),
        }
        Ok(Self(Some(folder.to_owned())))
    }

    /// The place of a file, where anything is kept.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join(name))
    }

    /// What was kept under a name, or what `make` makes, which is kept.
    ///
    /// # Errors
    /// As `make`; a file that was altered or cannot be written.
    pub fn item<T: Serialize + DeserializeOwned>(&self, name: &str, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(path) = self.path(&format!("{name}.json")) else { return make() };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| unfit(&path, format!("was altered after it was written: {e}; remove the folder to begin anew"))),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let made = make()?;
                let text = serde_json::to_vec(&made).map_err(|e| unfit(&path, e.to_string()))?;
                write_whole(&path, &text)?;
                Ok(made)
            }
            Err(e) => Err(Error::io(&path, e)),
        }
    }

    /// Removes what it left, and the folder where nothing else is in it.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove(self) -> Result<()> {
        let Some(folder) = self.0 else { return Ok(()) };
        let remove = |path: &Path| match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, e)),
            _ => Ok(()),
        };
        let entries = std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("branches-") || name == "errors.json" || name == "imatrix.gguf" {
                remove(&entry.path())?;
            }
        }
        // Last, so that what is left is never of an unknown measurement.
        remove(&folder.join(IDENTITY))?;
        let _ = std::fs::remove_dir(&folder);
        Ok(())
    }
}

fn unfit(folder: &Path, what: String) -> Error {
    Error::unfit(format!("{}: {what}", folder.display()))
}
