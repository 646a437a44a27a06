//! Which tasks, groups and tags a folder of task files has, and which tasks a list of names means. Absent: what a task is told to
//! do ([`super::config`]).
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/tasks/_index.py`, `_factory.py`, `manager.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bitworth_quant::message::Setting;
use bitworth_quant::spelling::closest;
use bitworth_quant::{Error, Result};
use rayon::prelude::*;

use super::builtin;
use super::source::{Sources, TaskSource, merge, normal};
use super::yaml::Node;
use crate::fnmatch::NamePattern;

/// Names of tasks, groups and tags, and patterns of them.
pub const TASKS: Setting = Setting::new("tasks");
/// More files are no folder of task files.
const MAX_FILES: usize = 500_000;
/// Groups that hold groups, this deep at most.
const MAX_DEPTH: usize = 16;
/// Most entries that a selection leads to, one as often as there are ways to it: groups that hold each other's groups many times
/// over are few lines and many ways.
const MAX_ENTRIES: usize = 100_000;
/// Keys of a file that say what it is; the keys of a group's file that are none of these are handed on to its tasks.
const GROUP_KEYS: [&str; 5] = ["group", "group_alias", "task", "aggregate_metric_list", "metadata"];

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A task with its keys, includes followed.
    Task(TaskSource),
    /// A task that is a Python class.
    Python(TaskSource),
    /// A group with its keys.
    Group(TaskSource),
    /// Tasks that carry a tag.
    Tag(BTreeSet<String>),
}

/// A task that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Its name.
    pub name: String,
    /// Its file and keys, with what groups override.
    pub source: TaskSource,
}

/// A group that was asked for, with its members.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub source: TaskSource,
    /// Names of its direct members, tasks and groups.
    pub members: Vec<String>,
}

/// What a list of names means.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// Tasks, each once, in order.
    pub tasks: Vec<Chosen>,
    /// Groups, outer before inner.
    pub groups: Vec<Group>,
}

/// The tasks, groups and tags of some folders.
#[derive(Debug, Default)]
pub struct Index {
    entries: BTreeMap<String, Entry>,
    /// Files that are none, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Index {
    /// The tasks that come with the program, and all `.yaml` files below the folders; names of later folders replace those of
    /// earlier ones.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        let mut index = Self::default();
        builtin::sources()?.into_iter().for_each(|source| index.add(source));
        let own = Self::of_folders(folders)?;
        index.entries.extend(own.entries);
        index.skipped.extend(own.skipped);
        Ok(index)
    }

    /// All `.yaml` files below the folders and nothing else.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn of_folders(folders: &[PathBuf]) -> Result<Self> {
        let mut index = Self::default();
        for folder in folders {
            let own = Self::of_folder(folder)?;
            index.entries.extend(own.entries);
            index.skipped.extend(own.skipped);
        }
        Ok(index)
    }

    fn of_folder(folder: &Path) -> Result<Self> {
        let root = normal(folder);
        let mut files = Vec::new();
        yaml_files(&root, &mut files)?;
        files.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
        let sources = Sources::new(&root);
        let loaded: Vec<_> = files.par_iter().map(|path| (path, sources.load(path))).collect();
        let mut index = Self::default();
        for (path, loaded) in loaded {
            match loaded {
                Ok(entries) => index.add(TaskSource { path: path.clone(), entries }),
                Err(e) => index.skipped.push((path.clone(), what_of(&e))),
            }
        }
        Ok(index)
    }

    /// The first of equal names stays.
    fn add(&mut self, source: TaskSource) {
        let name = |key: &str| source.get(key).and_then(Node::as_text).map(str::to_owned);
        let is = |key: &str| source.get(key).is_some();
        let (name, make): (_, fn(TaskSource) -> Entry) = match (is("class"), is("group")) {
            (true, _) => (name("task"), Entry::Python),
            (false, true) => (name("group"), Entry::Group),
            (false, false) => (name("task"), Entry::Task),
        };
        let Some(name) = name else {
            self.skipped.push((source.path, "names no task and no group".to_owned()));
            return;
        };
        // One odd name must not stop a pattern that happens to match it.
        let kind = if is("group") && !is("class") { "group" } else { "task" };
        if let Some(why) = odd_name(kind, &name) {
            self.skipped.push((source.path, why));
            return;
        }
        if self.entries.contains_key(&name) {
            let what = format!("{name:?} is in another file already");
            self.skipped.push((source.path, what));
            return;
        }
        let tags = if is("group") && !is("class") { Vec::new() } else { texts(source.get("tag")) };
        self.entries.insert(name.clone(), make(source));
        for tag in tags {
            if let Entry::Tag(tasks) = self.entries.entry(tag).or_insert_with(|| Entry::Tag(BTreeSet::new())) {
                tasks.insert(name.clone());
            }
        }
    }

    /// All names with what they stand for.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The tasks and groups that `names` mean: names of tasks, groups and tags, patterns with `*`, `?` and `[...]`, and paths of
    /// task files.
    ///
    /// # Errors
    /// A name that is unknown (with the closest ones), a pattern that matches nothing, a group with a member that is unknown
    /// or that holds itself, a task that is a Python class.
    pub fn select(&self, names: &[String]) -> Result<Selection> {
        let mut picker = Picker { index: self, selection: Selection::default(), open: Vec::new(), taken: 0 };
        for name in names {
            if let Some(entry) = self.entries.get(name) {
                picker.take(name, entry, &[], 0)?;
            } else if name.ends_with(".yaml") || name.ends_with(".yml") {
                picker.take_file(Path::new(name))?;
            } else if let Some((path, why)) = self.skipped_for_its_name(name) {
                return Err(Error::file(path, why.as_str()));
            } else {
                let pattern = NamePattern::new(name);
                let matched: Vec<_> = self.entries.iter().filter(|(known, _)| pattern.fits(known)).collect();
                if matched.is_empty() {
                    // Perhaps its file is there and was not understood.
                    let stem = |path: &Path| path.file_stem().is_some_and(|stem| pattern.fits(&stem.to_string_lossy()));
                    if let Some((path, why)) = self.skipped.iter().find(|(path, _)| stem(path)) {
                        return Err(Error::file(path, why.as_str()));
                    }
                    if NamePattern::is_one(name) {
                        return Err(Error::option(TASKS, name, "no task, group or tag fits this pattern"));
                    }
                    return Err(unknown(name, self.entries.keys().map(String::as_str)));
                }
                for (known, entry) in matched {
                    picker.take(known, entry, &[], 0)?;
                }
            }
        }
        Ok(picker.selection)
    }

    /// The file that was skipped because of the name of its task or group, and why.
    fn skipped_for_its_name(&self, name: &str) -> Option<&(PathBuf, String)> {
        let reasons = ["task", "group"].map(|kind| odd_name(kind, name));
        self.skipped.iter().find(|(_, why)| reasons.iter().flatten().any(|reason| reason == why))
    }
}

/// Collects what was asked for.
struct Picker<'a> {
    index: &'a Index,
    selection: Selection,
    /// The groups whose members are being taken, the outermost first.
    open: Vec<String>,
    /// Entries so far.
    taken: usize,
}

impl Picker<'_> {
    /// A task file by its path; its includes stay in its folder.
    fn take_file(&mut self, path: &Path) -> Result<()> {
        let entries = Sources::new(path.parent().unwrap_or(Path::new(""))).load(path)?;
        let mut own = Index::default();
        own.add(TaskSource { path: normal(path), entries });
        match own.entries.iter().find(|(_, entry)| !matches!(entry, Entry::Tag(_))) {
            Some((name, entry)) => self.take(name, entry, &[], 0).map(drop),
            None => {
                let why = own.skipped.first().map_or("names no task and no group", |(_, why)| why.as_str());
                Err(Error::file(path, why))
            }
        }
    }

    /// The names of the tasks or of the group that an entry gives.
    fn take(&mut self, name: &str, entry: &Entry, overrides: &[(String, Node)], depth: usize) -> Result<Vec<String>> {
        self.taken += 1;
        match entry {
            Entry::Task(source) => Ok(vec![self.take_task(name, source.clone(), overrides)?]),
            Entry::Python(source) => {
                Err(Error::file(&source.path, format!("the task {name} is a Python class, which is not run here")))
            }
            Entry::Tag(tasks) => {
                let mut taken = Vec::new();
                for task in tasks {
                    if let Some(entry) = self.index.entries.get(task) {
                        taken.extend(self.take(task, entry, overrides, depth + 1)?);
                    }
                }
                Ok(taken)
            }
            Entry::Group(source) => self.take_group(name, source, overrides, depth),
        }
    }

    fn take_task(&mut self, name: &str, mut source: TaskSource, overrides: &[(String, Node)]) -> Result<String> {
        check_name("task", name, &source)?;
        merge(&mut source.entries, overrides.iter().filter(|(key, _)| key != "task").cloned().collect());
        if !self.selection.tasks.iter().any(|known| known.name == name) {
            self.selection.tasks.push(Chosen { name: name.to_owned(), source });
        }
        Ok(name.to_owned())
    }

    fn take_group(&mut self, name: &str, source: &TaskSource, overrides: &[(String, Node)], depth: usize) -> Result<Vec<String>> {
        check_name("group", name, source)?;
        let fail = |what: String| Error::file(&source.path, format!("group {name}: {what}"));
        if self.taken > MAX_ENTRIES {
            return Err(fail(format!(
                "what was asked for leads to more than {MAX_ENTRIES} tasks and groups, counted once a way"
            )));
        }
        if depth > MAX_DEPTH {
            return Err(fail(format!("groups are nested more than {MAX_DEPTH} times")));
        }
        self.open.push(name.to_owned());
        let own = |key: &str| !GROUP_KEYS.contains(&key) && !matches!(key, "tag" | "task_list");
        let mut handed_on: Vec<(String, Node)> = source.entries.iter().filter(|(key, _)| own(key)).cloned().collect();
        merge(&mut handed_on, overrides.to_vec());
        let at = self.selection.groups.len();
        self.selection.groups.push(Group { name: name.to_owned(), source: source.clone(), members: Vec::new() });
        let listed = match source.get("task") {
            Some(Node::List(items)) => items.clone(),
            Some(Node::Text(one)) => vec![Node::Text(one.clone())],
            _ => Vec::new(),
        };
        let mut members: Vec<String> = Vec::new();
        for item in listed {
            let taken = self.member(name, source, item, &handed_on, depth).map_err(|e| match e {
                Error::Unknown { kind, found, .. } => fail(format!("its member {found:?} is no {kind} that is known")),
                other => other,
            })?;
            for member in taken {
                // One that is listed twice is one.
                if !members.contains(&member) {
                    members.push(member);
                }
            }
        }
        self.open.pop();
        self.selection.groups[at].members = members;
        Ok(vec![name.to_owned()])
    }

    /// One line of a group's list: a name, or a mapping that names a task or a group and overrides its keys, or that is one.
    fn member(
        &mut self,
        group: &str,
        source: &TaskSource,
        item: Node,
        handed_on: &[(String, Node)],
        depth: usize,
    ) -> Result<Vec<String>> {
        let mut overrides = handed_on.to_vec();
        let (name, own) = match item {
            Node::Text(name) => (name, Vec::new()),
            Node::Map(entries) => {
                let text = |key: &str| entries.iter().find(|(known, _)| known == key).and_then(|(_, value)| value.as_text());
                match (text("group").map(str::to_owned), text("task").map(str::to_owned)) {
                    (Some(inner), _) if self.index.entries.contains_key(&inner) => {
                        (inner, entries.into_iter().filter(|(key, _)| key != "group").collect())
                    }
                    (Some(inner), _) => {
                        let inline = TaskSource { path: source.path.clone(), entries };
                        return self.take_group(&format!("{group}::{inner}"), &inline, handed_on, depth + 1);
                    }
                    (None, Some(name)) => (name, entries),
                    (None, None) => {
                        return Err(Error::file(&source.path, format!("group {group}: a member names no task and no group")));
                    }
                }
            }
            other => {
                return Err(Error::file(&source.path, format!("group {group}: a member is {}", other.kind())));
            }
        };
        let is_inline = !own.is_empty();
        merge(&mut overrides, own);
        let known = self.index.entries.get(&name);
        // A group that is named by its path is not in the index; what stands whole in its file gets another name.
        if self.open.contains(&name) && (known.is_some() || !is_inline) {
            let what = match name == group {
                true => format!("group {group}: it names itself among its members"),
                false => format!("group {group}: its member {name:?} is a group that holds this one"),
            };
            return Err(Error::file(&source.path, what));
        }
        match known {
            Some(entry) => {
                overrides.retain(|(key, _)| key != "task");
                self.take(&name, entry, &overrides, depth + 1)
            }
            // A task that stands in the group's file as a whole.
            None if is_inline => {
                let name = format!("{group}::{name}");
                overrides.retain(|(key, _)| key != "task");
                overrides.push(("task".to_owned(), Node::Text(name.clone())));
                Ok(vec![self.take_task(&name, TaskSource { path: source.path.clone(), entries: overrides }, &[])?])
            }
            None => Err(unknown(&name, self.index.entries.keys().map(String::as_str))),
        }
    }
}

/// A name becomes a part of names of files and a cell of tables, where a line break would do harm.
pub(super) fn check_name(kind: &str, name: &str, source: &TaskSource) -> Result<()> {
    odd_name(kind, name).map_or(Ok(()), |why| Err(Error::file(&source.path, why)))
}

/// What is wrong with a name.
fn odd_name(kind: &str, name: &str) -> Option<String> {
    let is_odd = name.chars().any(char::is_control);
    is_odd.then(|| format!("the name {name:?} of a {kind} holds a control character; remove it"))
}

/// What an error says beside its file.
fn what_of(error: &Error) -> String {
    match error {
        Error::File { what, .. } => what.to_string(),
        other => other.to_string(),
    }
}

/// The texts of a text or of a list of texts.
fn texts(node: Option<&Node>) -> Vec<String> {
    match node {
        Some(Node::Text(one)) => vec![one.clone()],
        Some(Node::List(items)) => items.iter().filter_map(|item| item.as_text().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// An unknown name, with the known ones that are closest to it.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    Error::unknown("task", name, closest(name, known, 5))
}

/// All files `*.yaml` below a folder. Links to folders are not followed.
fn yaml_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            let kind = entry.file_type().map_err(|e| Error::io(entry.path(), e))?;
            let name = entry.file_name();
            if kind.is_dir() && name != "__pycache__" && name != ".ipynb_checkpoints" {
                folders.push(entry.path());
            } else if kind.is_file() && Path::new(&name).extension().is_some_and(|extension| extension == "yaml") {
                files.push(entry.path());
            }
            if files.len() > MAX_FILES {
                return Err(Error::file(folder, format!("holds more than {MAX_FILES} task files")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(files: &[(&str, &str)]) -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let index = Index::read(&[dir.path().to_owned()]).unwrap();
        (dir, index)
    }

    const FILES: &[(&str, &str)] = &[
        ("a/_base", "output_type: multiple_choice\ntag: letters"),
        ("a/one.yaml", "include: _base\ntask: one"),
        ("a/two.yaml", "include: _base\ntask: two\nnum_fewshot: 1"),
        ("a/two_again.yaml", "task: two"),
        ("b/three.yaml", "task: three\ntag: [numbers]"),
        (
            "g.yaml",
            "group: all\nnum_fewshot: 3\ntask:\n- letters\n- task: three\n  num_fewshot: 4\n- group: inner\n  task: [one]\n  \
         x: 1\n- task: own\n  output_type: generate_until\naggregate_metric_list: [{metric: acc}]",
        ),
        ("loop.yaml", "group: loop\ntask: [loop]"),
        ("ring.yaml", "group: ring\ntask: [round]"),
        ("round.yaml", "group: round\ntask: [one, ring]"),
        ("gone.yaml", "group: gone\ntask: [nothing]"),
        ("class.yaml", "task: python\nclass: !function t.T"),
        ("none.yaml", "a: 1"),
        ("broken.yaml", "a: ["),
    ];

    fn names(selection: &Selection) -> Vec<&str> {
        selection.tasks.iter().map(|task| task.name.as_str()).collect()
    }

    fn select(index: &Index, names: &[&str]) -> Result<Selection, String> {
        index.select(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).map_err(|e| e.to_string())
    }

    #[test]
    fn names_tags_patterns_and_paths_are_found() {
        let (dir, index) = index(FILES);
        assert_eq!(names(&select(&index, &["three", "one"]).unwrap()), ["three", "one"]);
        assert_eq!(names(&select(&index, &["letters", "one"]).unwrap()), ["one", "two"]);
        assert_eq!(names(&select(&index, &["t[!w]*e"]).unwrap()), ["three"]);
        let path = dir.path().join("b/three.yaml");
        assert_eq!(names(&select(&index, &[path.to_str().unwrap()]).unwrap()), ["three"]);
        let skipped: Vec<&str> = index.skipped.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(skipped, ["two_again.yaml", "broken.yaml", "none.yaml"]);
    }

    #[test]
    fn groups_hand_their_keys_on() {
        let (_dir, index) = index(FILES);
        let selection = select(&index, &["all"]).unwrap();
        assert_eq!(names(&selection), ["one", "two", "three", "all::own"]);
        let shots = |name: &str| {
            let task = selection.tasks.iter().find(|task| task.name == name).unwrap();
            task.source.get("num_fewshot").cloned()
        };
        assert_eq!([shots("one"), shots("two"), shots("three")], [Some(Node::Int(3)), Some(Node::Int(3)), Some(Node::Int(4))]);
        let groups: Vec<_> = selection.groups.iter().map(|group| (group.name.as_str(), group.members.join(" "))).collect();
        assert_eq!(groups, [("all", "one two three all::inner all::own".to_owned()), ("all::inner", "one".to_owned())]);
    }

    #[test]
    fn many_ways_through_groups_are_refused() {
        // Fifteen levels of two groups, each with both of the next level: 32,768 ways to each task, and twice as many groups.
        let mut files = vec![("one.yaml".to_owned(), "task: one".to_owned()), ("two.yaml".to_owned(), "task: two".to_owned())];
        for level in 0..15 {
            for side in ["a", "b"] {
                let members = if level == 14 { "one, two".to_owned() } else { format!("a{0}, b{0}", level + 1) };
                files.push((format!("{side}{level}.yaml"), format!("group: {side}{level}\ntask: [{members}]")));
            }
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let (_dir, index) = index(&files);
        let error = select(&index, &["a0", "b0"]).unwrap_err();
        assert!(error.contains("more than 100000 tasks and groups"), "{error}");
        assert_eq!(names(&select(&index, &["a10"]).unwrap()), ["one", "two"]);
    }

    #[test]
    fn names_with_control_characters_are_refused() {
        let (dir, index) = index(&[
            ("task.yaml", "task: \"a\\nb\"\ntag: odd"),
            ("group.yaml", "group: \"g\\th\"\ntask: [plain]"),
            ("inner.yaml", "group: outer\ntask:\n- task: \"x\\ry\"\n  output_type: generate_until"),
            ("plain.yaml", "task: plain"),
            // Matched by the same pattern as the first.
            ("alike.yaml", "task: alike"),
        ]);
        let path = dir.path().join("task.yaml");
        for (name, shown) in [
            ("a\nb", r#""a\nb" of a task"#),
            ("task", r#""a\nb" of a task"#),
            ("tas?", r#""a\nb" of a task"#),
            (path.to_str().unwrap(), r#""a\nb" of a task"#),
            ("g\th", r#""g\th" of a group"#),
            ("outer", r#""outer::x\ry" of a task"#),
        ] {
            let error = select(&index, &[name]).unwrap_err();
            assert!(error.contains(shown) && error.contains(".yaml") && !error.contains(char::is_control), "{error:?}");
        }
        assert_eq!(names(&select(&index, &["plain"]).unwrap()), ["plain"]);
        assert_eq!(names(&select(&index, &["a[!r]*"]).unwrap()), ["alike"]);
        assert!(index.get("odd").is_none(), "no task has this tag");
        let skipped: Vec<&str> = index.skipped.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(skipped, ["group.yaml", "task.yaml"]);
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let (_dir, index) = index(FILES);
        assert!(select(&index, &["thre"]).unwrap_err().contains("three"));
        let error = select(&index, &["x*"]).unwrap_err();
        assert_eq!(error, "tasks x*: no task, group or tag fits this pattern");
        assert!(select(&index, &["loop"]).unwrap_err().contains("group loop: it names itself among its members"));
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join("g4.yaml");
        std::fs::write(&path, "group: g4\ntask: [one, g4]").unwrap();
        assert!(select(&index, &[path.to_str().unwrap()]).unwrap_err().contains("group g4: it names itself among its members"));
        std::fs::write(&path, "group: g4\ntask: [one, {task: g4, output_type: generate_until}]").unwrap();
        assert_eq!(names(&select(&index, &[path.to_str().unwrap()]).unwrap()), ["one", "g4::g4"]);
        assert!(
            select(&index, &["ring"]).unwrap_err().contains("group round: its member \"ring\" is a group that holds this one")
        );
        assert!(select(&index, &["gone"]).unwrap_err().contains("\"nothing\" is no task"));
        assert!(select(&index, &["python"]).unwrap_err().contains("Python class"));
        assert!(select(&index, &["nothing.yaml"]).unwrap_err().contains("nothing.yaml"));
    }
}
