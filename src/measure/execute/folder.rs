//! The folder of a run: what it is for, which files and records it holds, and whether they are still those. What a later job adds
//! is added; what does not belong is refused by name. Records of different models, programs or devices never mix.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::content;
use bitworth_quant::message::{Command, Message};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::stand_in::TIMED;
use crate::error::{Error, Result};
use crate::session::session;
use bitworth_eval::record::{Record, SessionInfo};
use bitworth_eval::records;

/// What the folder of a run is for; written first, compared before anything is added.
pub const IDENTITY: &str = "run.json";
/// The folder of the GGUF files.
pub const MODELS: &str = "models";
/// Grows whenever [`IDENTITY`] changes its meaning. 1 had no number and hashed the first row of each tensor only;
/// in 2 a task did not say through which groups it was chosen.
const FORMAT: u32 = 3;
/// How the names of a run's own items begin, with one more for parts; other commands add records of other names (`bench`).
const OWN: [&str; 6] = ["lane.", "left_out.", "part.", "speed.", "task.", "text."];
/// Stands behind the name of a file of records that is not read.
const LEFT_OVER: &str = "left-over";

/// What stands in [`IDENTITY`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunIdentity {
    format: u32,
    /// Version of the program.
    bitworth: String,
    device: Value,
    /// The model's name, what it holds, and its tokenizer.
    model: Value,
    arithmetic: String,
    imatrix: Value,
    speed: Value,
    /// How far below the reference a lane may stay in tasks, in points, as the last job said.
    #[serde(default)]
    margin: Option<f64>,
    /// By name: what the lanes beside the reference are.
    lanes: Map<String, Value>,
    /// By name: what is scored.
    walks: Map<String, Value>,
    tasks: Map<String, Value>,
    /// By name: the hash of each file in [`MODELS`].
    files: Map<String, Value>,
    /// By item of work: the hash of its file of records.
    records: Map<String, Value>,
    /// Every start of the program on this folder ([`SessionInfo`]), also of earlier versions, which may have said less.
    sessions: Vec<Value>,
}

/// What a job brings to a folder.
pub struct Wanted {
    pub device: Value,
    pub model: Value,
    pub arithmetic: String,
    pub imatrix: Value,
    pub speed: Value,
    pub margin: Option<f64>,
    pub lanes: Vec<(String, Value)>,
    pub walks: Vec<(String, Value)>,
    pub tasks: Vec<(String, Value)>,
}

/// Where records go: a folder that outlasts the run, or memory.
pub enum Store {
    /// With the lock that keeps other programs out.
    Folder {
        path: PathBuf,
        identity: Box<RunIdentity>,
        session: SessionInfo,
        _lock: File,
    },
    Memory(Vec<Record>),
}

impl Store {
    /// Makes `path` the folder of a job, or finds that it is and adds what the job brings anew; removes what an interrupted run
    /// left half-written.
    pub fn open(path: &Path, wanted: Wanted) -> Result<Self> {
        let file = path.join(IDENTITY);
        std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
        let lock = lock(path)?;
        let mut identity = match std::fs::read(&file) {
            Ok(there) => {
                let identity = read(&file, &there)?;
                identity.check(path, &wanted)?;
                identity.check_files(path)?;
                for folder in [path.to_owned(), path.join(MODELS), path.join(TIMED), path.join(records::RECORDS)] {
                    remove_partial(&folder);
                }
                identity.set_aside(path)?;
                identity
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let holds = std::fs::read_dir(path.join(records::RECORDS)).is_ok_and(|mut entries| entries.next().is_some());
                if holds {
                    let what = Message::from(format!("holds records and no {IDENTITY} that says of what; choose another "));
                    return Err(refusal(path, what));
                }
                RunIdentity::new(&wanted)
            }
            Err(e) => return Err(Error::io(&file, e)),
        };
        identity.add(wanted);
        let session = session();
        identity.sessions.push(json!(session));
        let store = Self::Folder { path: path.to_owned(), identity: Box::new(identity), session, _lock: lock };
        store.save()?;
        Ok(store)
    }

    fn save(&self) -> Result<()> {
        let Self::Folder { path, identity, .. } = self else { return Ok(()) };
        let text = serde_json::to_string_pretty(identity).map_err(|e| Error::unfit(e.to_string()))?;
        Ok(write_whole(&path.join(IDENTITY), text.as_bytes())?)
    }

    /// The folder; none for memory.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder { path, .. } => Some(path),
            Self::Memory(_) => None,
        }
    }

    /// Whether an item of work was done before.
    pub fn has(&self, item: &str) -> Result<bool> {
        match self {
            Self::Folder { path, identity, .. } => identity.has(path, item),
            Self::Memory(_) => Ok(false),
        }
    }

    /// What was done before of an item that later jobs may have added lanes to.
    pub fn parts(&self, item: &str) -> Result<Parts> {
        match self {
            Self::Folder { path, identity, .. } => identity.parts(path, item),
            Self::Memory(_) => Ok(Parts { lanes: BTreeSet::new(), next: item.to_owned() }),
        }
    }

    /// Keeps the records of an item of work.
    pub fn keep(&mut self, item: &str, new: Vec<Record>) -> Result<()> {
        match self {
            Self::Folder { path, identity, session, .. } => {
                records::append(path, item, &new, Some(&*session))?;
                let hash = content::hash(&records::path(path, item))?;
                identity.records.insert(item.to_owned(), json!(hash));
                self.save()
            }
            Self::Memory(all) => {
                all.extend(new);
                Ok(())
            }
        }
    }

    /// Removes the records of an item of work, where there are some.
    pub fn forget(&mut self, item: &str) -> Result<()> {
        let Self::Folder { path, identity, .. } = self else { return Ok(()) };
        if identity.records.remove(item).is_none() {
            return Ok(());
        }
        let file = records::path(path, item);
        if file.exists() {
            std::fs::remove_file(&file).map_err(|e| Error::io(&file, e))?;
        }
        self.save()
    }

    /// Notes the hashes of files in [`MODELS`], before anything is measured of them.
    pub fn note_files(&mut self, files: &[PathBuf]) -> Result<()> {
        let Self::Folder { identity, .. } = self else { return Ok(()) };
        for file in files {
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            identity.files.insert(name, json!(content::hash(file)?));
        }
        self.save()
    }
}

/// What a folder holds of one item of work.
pub struct Parts {
    /// The lanes that it was done for.
    pub lanes: BTreeSet<String>,
    /// The name under which more is to be kept.
    pub next: String,
}

/// Keeps other programs out of a folder for as long as the file lives.
fn lock(path: &Path) -> Result<File> {
    let place = path.join(".lock");
    let file = File::create(&place).map_err(|e| Error::io(&place, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let what = "another run is at work in this folder; wait until it is done, or choose another ";
            Err(bitworth_quant::Error::file(path, Message::from(what).then(records::OUT)).into())
        }
        Err(TryLockError::Error(e)) => Err(Error::io(&place, e)),
    }
}

/// A folder is of one model, or holds one folder for each of several.
pub fn check_kind(out: &Path, several: bool) -> Result<()> {
    let is_one = out.join(IDENTITY).exists();
    let holds = |entry: std::fs::DirEntry| entry.path().join(IDENTITY).exists();
    let is_several = std::fs::read_dir(out).into_iter().flatten().flatten().any(holds);
    match (several, is_one, is_several) {
        (true, true, _) => Err(refusal(out, "the folder holds a run of one model; for several choose another ".into())),
        (false, _, true) => Err(refusal(out, "the folder holds runs of several models; for one choose another ".into())),
        _ => Ok(()),
    }
}

/// What a folder says that it is of, where it is a run's.
pub fn identity(path: &Path) -> Result<Option<RunIdentity>> {
    let file = path.join(IDENTITY);
    match std::fs::read(&file) {
        Ok(bytes) => read(&file, &bytes).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(&file, e)),
    }
}

/// The margin that the last job in a folder judged tasks by, in points; `None` where none did, or none is known.
///
/// # Errors
/// A folder whose `run.json` cannot be read.
pub fn margin(path: &Path) -> Result<Option<f64>> {
    Ok(identity(path)?.and_then(|identity| identity.margin))
}

fn refusal(path: &Path, what: Message) -> Error {
    bitworth_quant::Error::file(path, what.then(records::OUT).then(" or remove it")).into()
}

fn read(file: &Path, bytes: &[u8]) -> Result<RunIdentity> {
    let broken = |e: serde_json::Error| refusal(file, format!("is damaged ({e}); put it back, choose another ").into());
    let there: Value = serde_json::from_slice(bytes).map_err(broken)?;
    if there["format"].as_u64() != Some(u64::from(FORMAT)) {
        let by = there["bitworth"].as_str().map_or("an unknown version".to_owned(), |by| format!("version {by}"));
        let format = there["format"].as_u64().unwrap_or(1);
        let what = format!("the run was made by {by} in format {format}, this program goes on with format {FORMAT}; ");
        let what = Message::from(what).then(Command::Report).then(" reads its records; choose another ");
        return Err(refusal(file, what));
    }
    serde_json::from_value(there).map_err(broken)
}

impl RunIdentity {
    fn new(wanted: &Wanted) -> Self {
        Self {
            format: FORMAT,
            bitworth: env!("CARGO_PKG_VERSION").to_owned(),
            device: wanted.device.clone(),
            model: wanted.model.clone(),
            arithmetic: wanted.arithmetic.clone(),
            imatrix: Value::Null,
            speed: Value::Null,
            margin: None,
            lanes: Map::new(),
            walks: Map::new(),
            tasks: Map::new(),
            files: Map::new(),
            records: Map::new(),
            sessions: Vec::new(),
        }
    }

    /// Refuses by name what is not what it was.
    pub fn check(&self, folder: &Path, wanted: &Wanted) -> Result<()> {
        if self.bitworth != env!("CARGO_PKG_VERSION") {
            let what = format!(
                "the run was made by version {}, this is {}; go on with that version, or choose another ",
                self.bitworth,
                env!("CARGO_PKG_VERSION")
            );
            return Err(refusal(folder, what.into()));
        }
        let mut others: Vec<String> = Vec::new();
        let mut compare = |name: &str, is_same: bool| {
            if !is_same {
                others.push(name.to_owned());
            }
        };
        compare("model", self.model == wanted.model);
        compare("device", self.device == wanted.device);
        compare("arithmetic", self.arithmetic == wanted.arithmetic);
        let known = |here: &Value, new: &Value| here.is_null() || new.is_null() || here == new;
        compare("imatrix", known(&self.imatrix, &wanted.imatrix));
        compare("speed", known(&self.speed, &wanted.speed));
        let named =
            [("lane", &self.lanes, &wanted.lanes), ("text", &self.walks, &wanted.walks), ("task", &self.tasks, &wanted.tasks)];
        for (kind, here, new) in named {
            for (name, content) in new {
                compare(&format!("{kind} {name}"), here.get(name).is_none_or(|there| there == content));
            }
        }
        // The importance matrix and the fingerprints of candidates differ because the model does.
        if others.first().is_some_and(|first| first == "model") {
            others.truncate(1);
        }
        if others.is_empty() {
            return self.check_names(folder, wanted);
        }
        Err(refusal(folder, format!("the folder holds another run (other {}); choose another ", others.join(", ")).into()))
    }

    /// Windows are known by the text's content: under a second name they would be recorded twice.
    fn check_names(&self, folder: &Path, wanted: &Wanted) -> Result<()> {
        for (name, content) in &wanted.walks {
            // Protocol and hash of the text.
            let is_same = |other: &Value| (&other[0], &other[1]) == (&content[0], &content[1]);
            if let Some((known, _)) = self.walks.iter().find(|(known, other)| *known != name && is_same(other)) {
                let what =
                    format!("text {name} is {known} of this run under another name; name it as before, or choose another ");
                return Err(refusal(folder, what.into()));
            }
        }
        Ok(())
    }

    /// Whether an item was done; its file must be what was written.
    pub fn has(&self, folder: &Path, item: &str) -> Result<bool> {
        let path = records::path(folder, item);
        let Some(hash) = self.records.get(item).filter(|_| path.exists()) else { return Ok(false) };
        if json!(content::hash(&path)?) == *hash {
            return Ok(true);
        }
        let what = "is not the file that the run wrote; remove it, and it is measured again, or choose another ";
        Err(bitworth_quant::Error::file(&path, Message::from(what).then(records::OUT)).into())
    }

    /// What was done of an item: its file, and one more for each job that added lanes.
    pub fn parts(&self, folder: &Path, item: &str) -> Result<Parts> {
        // No item's own name begins so.
        let name = |number: usize| if number == 1 { item.to_owned() } else { format!("part.{number}.{item}") };
        let is_part =
            |key: &str| key.strip_prefix("part.").and_then(|rest| rest.split_once('.')).is_some_and(|(_, of)| of == item);
        let mut lanes = BTreeSet::new();
        for part in self.records.keys().filter(|key| *key == item || is_part(key)) {
            if self.has(folder, part)? {
                lanes.extend(records::load_item(folder, part)?.into_iter().map(|record| record.origin.lane));
            }
        }
        let mut number = 1;
        while self.has(folder, &name(number))? {
            number += 1;
        }
        Ok(Parts { lanes, next: name(number) })
    }

    /// Files that were made must be what they were.
    pub fn check_files(&self, folder: &Path) -> Result<()> {
        for (name, hash) in &self.files {
            let path = folder.join(MODELS).join(name);
            // One that was removed is made again.
            if path.exists() && json!(content::hash(&path)?) != *hash {
                let what = "is not the file that was measured; remove it, and it is made again, or choose another ";
                return Err(bitworth_quant::Error::file(&path, Message::from(what).then(records::OUT)).into());
            }
        }
        Ok(())
    }

    /// Renames files of records under names of a run's items that the run did not write, so that nothing reads them: one that was
    /// renamed, or that an earlier run was killed behind.
    fn set_aside(&self, folder: &Path) -> Result<()> {
        let known: BTreeSet<PathBuf> = self.records.keys().map(|item| records::path(folder, item)).collect();
        for entry in std::fs::read_dir(folder.join(records::RECORDS)).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let is_own = OWN.iter().any(|begin| name.starts_with(begin)) && name.ends_with(".parquet");
            if !is_own || known.contains(&path) {
                continue;
            }
            let aside = format!("{name}.{LEFT_OVER}");
            std::fs::rename(&path, path.with_file_name(&aside)).map_err(|e| Error::io(&path, e))?;
            tracing::warn!(
                "{}: is left over, as the run knows no records of this name; it is not read, and its name is now {aside}",
                path.display()
            );
        }
        Ok(())
    }

    fn add(&mut self, wanted: Wanted) {
        self.lanes.extend(wanted.lanes);
        if !wanted.imatrix.is_null() {
            self.imatrix = wanted.imatrix;
        }
        if !wanted.speed.is_null() {
            self.speed = wanted.speed;
        }
        self.margin = wanted.margin.or(self.margin);
        self.walks.extend(wanted.walks);
        self.tasks.extend(wanted.tasks);
    }
}

/// Removes the temporary files of a run that was killed. What cannot be removed does no harm but take room.
fn remove_partial(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".partial") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
