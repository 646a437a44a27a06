//! The files that a task names itself, in its own folder or at the address of a data set. Absent: what files hold (see
//! [`super::file`]).

use std::path::{Component, Path, PathBuf};

use bitworth_quant::message::Message;
use serde_json::Value;

use super::data_set::{self, DataSetFiles};
use super::{DATA_MAP, Docs, file};
use crate::files::config::TaskConfig;

/// The rows of a task whose `dataset_path` is a format and whose `dataset_kwargs` name the files. They lie in the task file's
/// folder or below it, or in a data set that `source` has (`hf://datasets/OWNER/NAME/FILE`).
///
/// # Errors
/// No file for the split, one that leads out of the folder, or one that is broken.
pub(super) fn of_task(task: &TaskConfig, source: Option<&dyn DataSetFiles>, format: &str, split: &str) -> Result<Docs, Message> {
    let folder = task.path.parent().unwrap_or(Path::new(""));
    let kwargs = &task.dataset_kwargs;
    if let Some(key) = kwargs.keys().find(|key| !matches!(key.as_str(), "data_files" | "field" | "trust_remote_code")) {
        return Err(format!("dataset_kwargs has the key {key:?}, which is not followed for files").into());
    }
    let named = match kwargs.get("data_files") {
        // Without splits, all files are `train`.
        Some(Value::Object(splits)) => splits.get(split),
        Some(files) if split == "train" => Some(files),
        _ => None,
    };
    let named = match named {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if named.is_empty() {
        return Err(Message::from(format!("dataset_kwargs.data_files names no file for the split {split:?}; name one with "))
            .then(DATA_MAP));
    }
    let field = kwargs.get("field").and_then(Value::as_str);
    let mut rows = Vec::new();
    for name in named {
        if let Some(places) = data_set::at_address(source, name) {
            for place in places? {
                rows.extend(file::read(&place, field).map_err(|e| e.message())?);
            }
            continue;
        }
        let path = inside(folder, name).ok_or_else(|| {
            Message::from(format!("the file {name:?} leads out of the task file's folder; refused, name it with ")).then(DATA_MAP)
        })?;
        let read = match path.extension() {
            Some(_) => file::read(&path, field),
            None => file::read(&path.with_extension(format), field),
        };
        rows.extend(read.map_err(|e| e.message())?);
    }
    Ok(Docs::new(rows))
}

/// A relative path that stays in the folder, links followed.
fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let relative = Path::new(name);
    if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return None;
    }
    let path = folder.join(relative);
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(real), Ok(root)) if !real.starts_with(&root) => None,
        _ => Some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../x", "/etc/passwd", "a/../../x"] {
            assert_eq!(inside(dir.path(), bad), None, "{bad}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
            assert_eq!(inside(dir.path(), "link/passwd"), None);
        }
        assert_eq!(inside(dir.path(), "./a/b"), Some(dir.path().join("./a/b")));
    }
}
