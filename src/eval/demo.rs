//! The demo world inside the program: a small trained model, texts and tasks (datasets/demo), so that the whole pipeline
//! runs anywhere without a download. A path that begins with `demo:` means a file or folder of it.
//!
//! What this does not do: choose where on disk the files go (the caller names a directory), or read a model.

use std::path::{Path, PathBuf};

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::{Error, Result};

/// What a path into the demo world begins with: `demo:data/eval.txt`, `demo:demo-model`.
pub const PREFIX: &str = "demo:";

/// What a name on the hub begins with: `hf:OWNER/NAME`.
pub const HUB_PREFIX: &str = "hf:";
/// The short name of the demo's model.
pub const MODEL: &str = "demo";

/// Whether the name of a model or a text is a path, which counts from a folder.
pub fn is_path(name: &str) -> bool {
    !name.starts_with(PREFIX) && !name.starts_with(HUB_PREFIX) && !is_model(name)
}

/// Whether a name means the demo's model, for short. What stands under that name on the disk comes first.
pub fn is_model(name: &str) -> bool {
    name == MODEL && !Path::new(name).exists()
}

/// One row of [`FILES`]: the path under datasets/demo, and the bytes of that file.
macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/demo/", $path)).as_slice())),*]
    };
}

/// Every file of the demo world: its path, with `/` between the parts, and its bytes.
pub const FILES: &[(&str, &[u8])] = embed![
    "demo-model/config.json",
    "demo-model/generation_config.json",
    "demo-model/model.safetensors",
    "demo-model/tokenizer.json",
    "demo-model/tokenizer_config.json",
    "data/calib.txt",
    "data/eval.txt",
    "data/tasks/arithmetic.jsonl",
    "data/tasks/facts.jsonl",
    "data/tasks/grammar.jsonl",
    "data/tasks/recall.jsonl",
    "data/tasks/sums.jsonl",
];

/// The bytes of one embedded file, by its path without [`PREFIX`].
pub fn file(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}

/// Writes the demo world under `dir` and returns `dir`. Files already there with the same bytes are left alone; others are
/// replaced in one step (written beside, then renamed), so that two programs may do this at the same time.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn materialize(dir: &Path) -> Result<PathBuf> {
    for (path, bytes) in FILES {
        let target = dir.join(path);
        if std::fs::read(&target).is_ok_and(|there| there == *bytes) {
            continue;
        }
        write_whole(&target, bytes)?;
    }
    Ok(dir.to_owned())
}

/// The path on disk that `path` means: a `demo:` path after [`materialize`] into `dir`, any other path as it is.
///
/// # Errors
/// A `demo:` path that names neither a file nor a folder of the demo world; a directory that cannot be written.
pub fn resolve(path: &str, dir: &Path) -> Result<PathBuf> {
    let Some(inside) = path.strip_prefix(PREFIX) else {
        return Ok(PathBuf::from(path));
    };
    let inside = inside.trim_end_matches('/');
    let folder = format!("{inside}/");
    if !FILES.iter().any(|(name, _)| *name == inside || name.starts_with(&folder)) {
        return Err(unknown(path));
    }
    Ok(materialize(dir)?.join(inside))
}

/// The bytes of the file that `path` means, embedded (`demo:`) or on disk.
///
/// # Errors
/// A `demo:` path that is not a file of the demo world; a file that cannot be read.
pub fn read(path: &str) -> Result<Vec<u8>> {
    match path.strip_prefix(PREFIX) {
        Some(inside) => file(inside).map(<[u8]>::to_vec).ok_or_else(|| unknown(path)),
        None => std::fs::read(path).map_err(|e| Error::io(path, e)),
    }
}

fn unknown(path: &str) -> Error {
    Error::unknown("demo file", path, FILES.iter().map(|(name, _)| format!("{PREFIX}{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitworth_quant::hex::hex;
    use sha2::{Digest, Sha256};

    fn source() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/demo")
    }

    #[test]
    fn every_embedded_file_has_its_published_checksum() {
        let sums = std::fs::read_to_string(source().join("SHA256SUMS")).unwrap();
        for (path, bytes) in FILES {
            let hash = hex(&Sha256::digest(bytes));
            assert!(sums.lines().any(|line| line == format!("{hash}  {path}")), "{path} is not in SHA256SUMS with {hash}");
        }
    }

    #[test]
    fn the_table_names_every_file_of_the_model_and_the_tasks() {
        for folder in ["demo-model", "data/tasks"] {
            for entry in std::fs::read_dir(source().join(folder)).unwrap() {
                let path = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
                assert!(file(&path).is_some(), "{path} is missing in FILES");
            }
        }
    }

    #[test]
    fn materialize_writes_what_is_missing_and_mends_what_differs() {
        let dir = tempfile::tempdir().unwrap();
        materialize(dir.path()).unwrap();
        let text = dir.path().join("data/eval.txt");
        let model = dir.path().join("demo-model/model.safetensors");
        std::fs::write(&text, "damaged").unwrap();
        let before = std::fs::metadata(&model).unwrap().modified().unwrap();
        materialize(dir.path()).unwrap();
        assert_eq!(std::fs::read(&text).unwrap(), file("data/eval.txt").unwrap());
        assert_eq!(std::fs::metadata(&model).unwrap().modified().unwrap(), before, "an equal file was written again");
        let written = walk(dir.path());
        assert_eq!(written, FILES.len(), "temporary files were left behind");
    }

    fn walk(dir: &Path) -> usize {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        entries.map(|path| if path.is_dir() { walk(&path) } else { 1 }).sum()
    }

    #[test]
    fn demo_paths_resolve_to_files_and_folders_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(resolve("demo:demo-model", dir.path()).unwrap(), dir.path().join("demo-model"));
        assert!(resolve("demo:data/eval.txt", dir.path()).unwrap().is_file());
        assert_eq!(resolve("other/model", dir.path()).unwrap(), Path::new("other/model"));
        for wrong in ["demo:demo-mod", "demo:", "demo:../Cargo.toml", "demo:/etc/passwd"] {
            let error = resolve(wrong, dir.path()).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
