//! The files that a task names itself, in its own folder or at the address of a data set. Absent: what files hold (see
//! [`super::file`]).

use std::path::{Component, Path, PathBuf};

use bitworth_quant::message::Message;
use serde_json::{Map, Value};

use super::data_set::{self, DataSetFiles};
use super::file::{self, Json, Kind};
use super::{DATA_MAP, Docs};
use crate::files::config::TaskConfig;
use crate::files::source::is_inside;

/// More files or deeper folders are not looked through for those that a pattern means.
const MOST_FILES: usize = 100_000;
const MOST_DEPTH: usize = 32;

/// The rows of a task whose `dataset_path` is a format and whose `dataset_kwargs` name the files. They lie in the task file's
/// folder or below it, or in a data set that `source` has (`hf://datasets/OWNER/NAME/FILE`). Names may be patterns.
///
/// # Errors
/// No file for the split, one that leads out of the folder, or one that is broken.
pub(super) fn of_task(task: &TaskConfig, source: Option<&dyn DataSetFiles>, format: &str, split: &str) -> Result<Docs, Message> {
    let folder = task.path.parent().unwrap_or(Path::new(""));
    let options = Options::new(&task.dataset_kwargs)?;
    let named = match task.dataset_kwargs.get("data_files") {
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
        return Err(or_mapped(format!("dataset_kwargs.data_files names no file for the split {split:?}; name one with ")));
    }
    let mut files = Vec::new();
    for name in named {
        let places = match data_set::at_address(source, name) {
            Some(places) => places?,
            None => local(folder, name, format)?,
        };
        for place in places {
            files.push(options.read(&place)?);
        }
    }
    Ok(Docs::of_files(files))
}

/// How files are read.
struct Options<'a> {
    field: Option<&'a str>,
    /// What stands between the fields of CSV.
    separator: Option<u8>,
}

impl<'a> Options<'a> {
    /// What is followed of `dataset_kwargs`.
    ///
    /// # Errors
    /// A key that would change the rows and is not followed.
    fn new(kwargs: &'a Map<String, Value>) -> Result<Self, Message> {
        let mut options = Self { field: None, separator: None };
        for (key, value) in kwargs.iter().filter(|(_, value)| !value.is_null()) {
            let refuse = |what: &str| {
                Err(or_mapped(format!("dataset_kwargs has the key {key:?}, {what}; name a file that needs no such key with ")))
            };
            match (key.as_str(), value.as_str()) {
                ("data_files" | "trust_remote_code", _) => {}
                ("field", Some(field)) => options.field = Some(field),
                ("sep" | "delimiter", Some(text)) => match text.as_bytes() {
                    // Where both are there, `delimiter` counts.
                    [one] if one.is_ascii() && (key == "delimiter" || kwargs.get("delimiter").is_none_or(Value::is_null)) => {
                        options.separator = Some(*one);
                    }
                    [one] if one.is_ascii() => {}
                    _ => return refuse("and fields of CSV are parted by one character here"),
                },
                ("encoding", Some(text)) if matches!(text.to_ascii_lowercase().as_str(), "utf-8" | "utf8") => {}
                ("encoding", _) => return refuse("and files are read as UTF-8 alone"),
                _ => return refuse("which is not followed for files"),
            }
        }
        Ok(options)
    }

    fn read(&self, place: &Path) -> Result<Vec<super::DataRow>, Message> {
        let kind = match (file::kind_of(place).map_err(|e| e.message())?, self.separator) {
            (Kind::Table(_), Some(separator)) => Kind::Table(separator),
            (_, Some(_)) => return Err(format!("{}: sep and delimiter are keys for CSV, and it is none", place.display()).into()),
            (kind, None) => kind,
        };
        file::read_as(place, kind, self.field, Json::Inferred).map_err(|e| e.message())
    }
}

fn or_mapped(what: String) -> Message {
    Message::from(what).then(DATA_MAP)
}

/// The files in the task file's folder that a name or a pattern means.
fn local(folder: &Path, name: &str, format: &str) -> Result<Vec<PathBuf>, Message> {
    if name.contains("://") || name.contains("::") {
        let what = "is an address, and addresses are not fetched but for those of data sets (hf://datasets/OWNER/NAME/FILE)";
        return Err(or_mapped(format!(
            "the file {name:?} {what}; fetch it and name it as seen from the task file's folder, or name it with "
        )));
    }
    let outside = || or_mapped(format!("the file {name:?} leads out of the task file's folder; refused, name it with "));
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    if !data_set::is_pattern(name) {
        let path = folder.join(name);
        // Names without an ending mean the format's.
        let path = if path.extension().is_some() { path } else { path.with_extension(format) };
        return if is_inside(folder, &path) { Ok(vec![path]) } else { Err(outside()) };
    }
    let mut files = Vec::new();
    below(folder, "", 0, &mut files)?;
    files.sort_unstable();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let found = data_set::matching(&files, name)?;
    if found.is_empty() {
        return Err(or_mapped(format!("no file of data in {} fits {name:?}; name one with ", folder.display())));
    }
    let places: Vec<PathBuf> = found.into_iter().map(|path| folder.join(path)).collect();
    if places.iter().all(|place| is_inside(folder, place)) { Ok(places) } else { Err(outside()) }
}

/// All files below a folder, as seen from it, with `/` between folders.
fn below(folder: &Path, within: &str, depth: usize, files: &mut Vec<String>) -> Result<(), Message> {
    let fail = |what: &dyn std::fmt::Display| Message::from(format!("{}: {what}", folder.join(within).display()));
    for entry in std::fs::read_dir(folder.join(within)).map_err(|e| fail(&e))? {
        // Names that are no text fit no pattern.
        let Ok(name) = entry.map_err(|e| fail(&e))?.file_name().into_string() else { continue };
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        // Links are followed; those to nothing are no files.
        let Ok(about) = std::fs::metadata(folder.join(&path)) else { continue };
        if files.len() >= MOST_FILES || depth >= MOST_DEPTH {
            let what =
                format!("has more than {MOST_FILES} files or {MOST_DEPTH} folders in each other; a pattern is not sought there");
            return Err(fail(&what));
        }
        if about.is_dir() {
            if is_inside(folder, &folder.join(&path)) {
                below(folder, &path, depth + 1, files)?;
            }
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::files::source::TaskSource;
    use crate::files::yaml::{self, Node};

    /// The column `a` of the split `train` of a task with these `dataset_kwargs`.
    fn values(folder: &Path, format: &str, kwargs: &str) -> Result<Vec<Value>, String> {
        let text = format!("dataset_path: {format}\ndoc_to_text: a\ndoc_to_target: a\ndataset_kwargs: {kwargs}\n");
        let Ok(Node::Map(entries)) = yaml::parse(&text, &Arc::from(folder)) else { panic!("{text}") };
        let chosen =
            crate::files::index::Chosen { name: "t".to_owned(), source: TaskSource { path: folder.join("t.yaml"), entries } };
        let docs = of_task(&TaskConfig::new(&chosen).unwrap(), None, format, "train").map_err(|e| e.to_string())?;
        Ok(docs.rows.iter().map(|row| row["a"].clone()).collect())
    }

    #[test]
    fn paths_stay_in_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        let is_refused = |name: &str| local(dir.path(), name, "json").is_err_and(|e| e.to_string().contains("leads out of"));
        for bad in ["../x.json", "/etc/passwd", "a/../../x.json", "../*.json"] {
            assert!(is_refused(bad), "{bad}");
        }
        #[cfg(unix)]
        {
            let other = tempfile::tempdir().unwrap();
            std::fs::write(other.path().join("x.json"), "{}").unwrap();
            std::os::unix::fs::symlink(other.path(), dir.path().join("link")).unwrap();
            std::os::unix::fs::symlink(other.path().join("x.json"), dir.path().join("x.json")).unwrap();
            // Folders that lead out of it are not looked through.
            assert!(is_refused("link/x.json") && is_refused("x.json") && is_refused("*.json"));
            assert!(local(dir.path(), "link/*.json", "json").unwrap_err().to_string().contains("no file of data"));
        }
        assert_eq!(local(dir.path(), "./a/b.json", "json").unwrap(), [dir.path().join("./a/b.json")]);
    }

    /// Expected: `load_dataset("json", data_files=..., split="train")` of datasets 5.2, called in the folder.
    #[test]
    fn patterns_mean_the_files_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for (name, value) in [("eval.jsonl", 1), ("el.jsonl", 2), ("e.txt", 3), ("d/el.jsonl", 4), (".el.jsonl", 5)] {
            std::fs::write(dir.path().join(name), format!("{{\"a\": {value}}}\n")).unwrap();
        }
        let values = |files: &str| values(dir.path(), "json", &format!("{{data_files: {files}}}"));
        assert_eq!(values("e*l.jsonl").unwrap(), [2, 1]);
        assert_eq!(values("'**/el.jsonl'").unwrap(), [4, 2]);
        assert_eq!(values("'e?.jsonl'").unwrap(), [2]);
        assert!(values("'x*.jsonl'").unwrap_err().contains("fits \"x*.jsonl\"; name one with data_map"));
    }

    #[test]
    fn what_is_not_followed_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.csv"), "b;a\n0;6\n").unwrap();
        let values = |kwargs: &str| values(dir.path(), "csv", kwargs);
        assert_eq!(values("{data_files: t.csv, sep: ';'}").unwrap(), [6]);
        assert_eq!(values("{data_files: t.csv, sep: ',', delimiter: ';'}").unwrap(), [6]);
        assert_eq!(values("{data_files: t.csv, delimiter: ';', encoding: UTF-8, field: null}").unwrap(), [6]);
        for (kwargs, expected) in [
            ("{data_files: t.csv, sep: '||'}", "\"sep\", and fields of CSV are parted by one character"),
            ("{data_files: t.csv, encoding: latin-1}", "\"encoding\", and files are read as UTF-8 alone"),
            ("{data_files: t.csv, skiprows: 1}", "\"skiprows\", which is not followed"),
            ("{data_files: 'https://x.y/z.json'}", "\"https://x.y/z.json\" is an address"),
            ("{data_files: 'zip://a.json::b.zip'}", "is an address"),
        ] {
            let error = values(kwargs).unwrap_err();
            assert!(error.contains(expected) && error.ends_with("with data_map"), "{error}");
        }
    }
}
