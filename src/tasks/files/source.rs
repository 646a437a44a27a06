//! One task file with what it includes. An include stays inside of the folder of task files that it belongs to. Absent: what the
//! keys mean.
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/tasks/_yaml_loader.py`.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use bitworth_quant::{Error, Result, kind};

use super::yaml::{self, Entries, Node};

/// Larger files are no task files.
const MAX_BYTES: u64 = 8 << 20;

/// A task file and its keys.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSource {
    /// The file.
    pub path: PathBuf,
    /// Its keys.
    pub entries: Entries,
}

impl TaskSource {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }
}

/// Reads task files below one folder; files that many others include are read once.
#[derive(Debug)]
pub struct Sources {
    root: PathBuf,
    read: Mutex<HashMap<PathBuf, Arc<Entries>>>,
}

impl Sources {
    /// Of the folder `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: normal(root), read: Mutex::default() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The keys of the file at `path`, those of its includes first and overridden by its own.
    ///
    /// # Errors
    /// A file that cannot be read or is no mapping; an include that is missing, includes itself, or leads out of the folder.
    pub fn load(&self, path: &Path) -> Result<Entries> {
        Ok(self.merged(&normal(path), &mut Vec::new())?.to_vec())
    }

    fn merged(&self, path: &Path, open: &mut Vec<PathBuf>) -> Result<Arc<Entries>> {
        if let Some(known) = self.read.lock().unwrap_or_else(|e| e.into_inner()).get(path) {
            return Ok(Arc::clone(known));
        }
        if open.iter().any(|other| other == path) {
            return Err(Error::file(path, "includes itself; remove one of the includes"));
        }
        open.push(path.to_owned());
        let (own, includes) = self.own(path)?;
        let is_template = includes.is_empty();
        let mut entries = Entries::new();
        for include in includes {
            let target = normal(&path.parent().unwrap_or(Path::new("")).join(&include));
            if Path::new(&include).is_absolute() || !is_inside(&self.root, &target) {
                let root = self.root.display();
                return Err(Error::file(path, format!("includes {include:?}, which leads out of the folder {root}; refused")));
            }
            let mut more = self
                .merged(&target, open)
                .map_err(|e| match e {
                    Error::Io { .. } => Error::file(path, format!("includes {include:?}, which cannot be read: {e}")),
                    other => other,
                })?
                .to_vec();
            // What an included file lists is its own.
            more.retain(|(key, _)| key != "task_list");
            merge(&mut entries, more);
        }
        merge(&mut entries, own);
        open.pop();
        let entries = Arc::new(entries);
        if is_template {
            let mut read = self.read.lock().unwrap_or_else(|e| e.into_inner());
            read.insert(path.to_owned(), Arc::clone(&entries));
        }
        Ok(entries)
    }

    fn own(&self, path: &Path) -> Result<(Entries, Vec<String>)> {
        let length = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
        if length > MAX_BYTES {
            return Err(Error::file(path, format!("has {length} bytes; task files of at most {MAX_BYTES} are supported")));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let text = kind::utf8(bytes).map_err(|what| Error::file(path, what))?;
        let folder: Arc<Path> = Arc::from(path.parent().unwrap_or(Path::new("")));
        let node =
            yaml::parse(text.strip_prefix('\u{feff}').unwrap_or(&text), &folder).map_err(|what| Error::file(path, what))?;
        let Node::Map(mut entries) = node else { return Err(Error::file(path, format!("is {}, not a mapping", node.kind()))) };
        let mut includes = Vec::new();
        if let Some(at) = entries.iter().position(|(key, _)| key == "include") {
            includes = match entries.remove(at).1 {
                Node::Text(include) => vec![include],
                Node::List(items) => items
                    .into_iter()
                    .map(|item| item.as_text().map(str::to_owned).ok_or_else(|| Error::file(path, "include must name files")))
                    .collect::<Result<_>>()?,
                Node::Null => Vec::new(),
                other => return Err(Error::file(path, format!("include must name files, and is {}", other.kind()))),
            };
        }
        Ok((entries, includes))
    }
}

/// As Python's `dict.update`: what is there keeps its place.
pub fn merge(entries: &mut Entries, more: Entries) {
    for (key, value) in more {
        match entries.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 = value,
            None => entries.push((key, value)),
        }
    }
}

/// A path without `.` and `..`, from the root of the file system; links are not followed. An empty path is the current folder: it
/// is the parent of a bare file name.
pub fn normal(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut made = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                made.pop();
            }
            other => made.push(other),
        }
    }
    made
}

/// Whether a file that a task file names lies in the folder or below it, by its path and with all links followed. What is not
/// there cannot be read either, so that its path says enough.
pub(crate) fn is_inside(folder: &Path, path: &Path) -> bool {
    let (folder, path) = (normal(folder), normal(path));
    let by_links = || match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        _ => true,
    };
    path.starts_with(&folder) && by_links()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn load(dir: &tempfile::TempDir, name: &str) -> Result<Vec<(String, Node)>, String> {
        Sources::new(dir.path()).load(&dir.path().join(name)).map_err(|e| e.to_string())
    }

    #[test]
    fn own_keys_override_those_of_includes() {
        let dir = folder(&[
            ("base", "a: 1\nb: 1\ntask_list: [x]\nf: !function utils.f"),
            ("deep/mid", "include: ../base\nb: 2\nc: 2"),
            ("deep/task.yaml", "include: [mid, ../base]\nc: 3\nf2: !function utils.f"),
        ]);
        let entries = load(&dir, "deep/task.yaml").unwrap();
        let shown: Vec<String> = entries.iter().map(|(key, value)| format!("{key}={}", value.to_json())).collect();
        assert_eq!(shown, ["a=1", "b=1", "f=\"!function utils.f\"", "c=3", "f2=\"!function utils.f\""]);
        let folder_of = |key: &str| match &entries.iter().find(|(known, _)| known == key).unwrap().1 {
            Node::Function(function) => function.folder.to_path_buf(),
            _ => unreachable!(),
        };
        assert_eq!((folder_of("f"), folder_of("f2")), (dir.path().to_owned(), dir.path().join("deep")));
    }

    #[test]
    fn an_empty_folder_is_the_current_one() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(normal(Path::new("")), normal(&here));
        // What a task file that is named without a folder has as one.
        let sources = Sources::new(Path::new("bare.yaml").parent().unwrap());
        assert_eq!(sources.root(), normal(&here));
        assert!(is_inside(Path::new(""), Path::new("x/../bare.yaml")) && !is_inside(Path::new(""), Path::new("../bare.yaml")));
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_out_of_the_folder_are_not_followed() {
        let other = folder(&[("base", "a: 1")]);
        let dir =
            folder(&[("t.yaml", "include: link"), ("u.yaml", "include: out/base"), ("v.yaml", "include: in"), ("own", "b: 1")]);
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        link(&other.path().join("base"), "link");
        link(other.path(), "out");
        link(&dir.path().join("own"), "in");
        for name in ["t.yaml", "u.yaml"] {
            assert!(load(&dir, name).unwrap_err().contains("leads out of the folder /"), "{name}");
        }
        assert_eq!(load(&dir, "v.yaml").unwrap().len(), 1);
        // The folder may be reached over a link itself.
        let around = folder(&[]);
        std::os::unix::fs::symlink(dir.path(), around.path().join("tasks")).unwrap();
        let root = around.path().join("tasks");
        assert_eq!(Sources::new(&root).load(&root.join("v.yaml")).unwrap().len(), 1);
        assert!(Sources::new(&root).load(&root.join("t.yaml")).is_err());
    }

    #[test]
    fn includes_that_cannot_be_followed_are_named() {
        let dir = folder(&[
            ("a.yaml", "include: b.yaml"),
            ("b.yaml", "include: a.yaml"),
            ("out.yaml", "include: ../../etc/passwd"),
            ("root.yaml", "include: /etc/passwd"),
            ("gone.yaml", "include: nothing"),
            ("list.yaml", "- 1"),
            ("bad.yaml", "include: {a: 1}"),
        ]);
        for (name, expected) in [
            ("a.yaml", "includes itself"),
            ("out.yaml", "leads out of the folder"),
            ("root.yaml", "leads out of the folder"),
            ("gone.yaml", "\"nothing\", which cannot be read"),
            ("list.yaml", "not a mapping"),
            ("bad.yaml", "must name files"),
        ] {
            let error = load(&dir, name).unwrap_err();
            assert!(error.contains(expected) && error.contains(".yaml"), "{name}: {error}");
        }
    }
}
