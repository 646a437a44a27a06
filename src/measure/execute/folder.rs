//! The folder of a run: what it is for, which files and records it holds, and whether they are still those. What a later job adds
//! is added; what does not belong is refused by name. Records of different models, programs or devices never mix.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::content;
use bitworth_quant::message::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use bitworth_eval::record::Record;
use bitworth_eval::records;

/// What the folder of a run is for; written first, compared before anything is added.
pub const IDENTITY: &str = "run.json";
/// The folder of the GGUF files.
pub const MODELS: &str = "models";
/// Grows whenever [`IDENTITY`] changes its meaning. 1 had no number and hashed the first row of each tensor only.
const FORMAT: u32 = 2;

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
    /// The lanes beside the reference, in the order in which they came.
    lanes: Vec<LaneIdentity>,
    /// By name: what is scored.
    walks: Map<String, Value>,
    tasks: Map<String, Value>,
    /// By name: the hash of each file in [`MODELS`].
    files: Map<String, Value>,
    /// Every start of the program on this folder.
    sessions: Vec<Value>,
}

/// A lane of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LaneIdentity {
    name: String,
    content: Value,
    /// With which addition to the run it came; 0 for the first lanes.
    generation: u32,
}

/// What a job brings to a folder.
pub struct Wanted {
    pub device: Value,
    pub model: Value,
    pub arithmetic: String,
    pub imatrix: Value,
    pub speed: Value,
    pub lanes: Vec<(String, Value)>,
    pub walks: Vec<(String, Value)>,
    pub tasks: Vec<(String, Value)>,
}

/// Where records go: a folder that outlasts the run, or memory.
pub enum Store {
    Folder { path: PathBuf, identity: Box<RunIdentity> },
    Memory(Vec<Record>),
}

impl Store {
    /// Makes `path` the folder of a job, or finds that it is and adds what the job brings anew; removes what an interrupted run
    /// left half-written.
    pub fn open(path: &Path, wanted: Wanted) -> Result<Self> {
        let file = path.join(IDENTITY);
        let mut identity = match std::fs::read(&file) {
            Ok(there) => {
                let identity = read(&file, &there)?;
                identity.check(path, &wanted)?;
                identity.check_files(path)?;
                for folder in [path.to_owned(), path.join(MODELS), path.join(records::RECORDS)] {
                    remove_partial(&folder);
                }
                identity
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let holds = std::fs::read_dir(path.join(records::RECORDS)).is_ok_and(|mut entries| entries.next().is_some());
                if holds {
                    let what = Message::from(format!("holds records and no {IDENTITY} that says of what; choose another "));
                    return Err(refusal(path, what));
                }
                std::fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
                RunIdentity::new(&wanted)
            }
            Err(e) => return Err(Error::io(&file, e)),
        };
        identity.add(wanted);
        identity.sessions.push(session());
        let store = Self::Folder { path: path.to_owned(), identity: Box::new(identity) };
        store.save()?;
        Ok(store)
    }

    fn save(&self) -> Result<()> {
        let Self::Folder { path, identity } = self else { return Ok(()) };
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

    /// The records of an item of work that was done before.
    pub fn found(&self, item: &str) -> Result<Option<Vec<Record>>> {
        match self {
            Self::Folder { path, .. } if records::has(path, item) => Ok(Some(records::load_item(path, item)?)),
            _ => Ok(None),
        }
    }

    /// Keeps the records of an item of work.
    pub fn keep(&mut self, item: &str, new: Vec<Record>) -> Result<()> {
        match self {
            Self::Folder { path, .. } => Ok(records::append(path, item, &new)?),
            Self::Memory(all) => {
                all.extend(new);
                Ok(())
            }
        }
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

    /// With which addition a lane came to the run.
    pub fn generation(&self, lane: &str) -> u32 {
        let Self::Folder { identity, .. } = self else { return 0 };
        identity.lanes.iter().find(|known| known.name == lane).map_or(0, |known| known.generation)
    }
}

fn refusal(path: &Path, what: Message) -> Error {
    bitworth_quant::Error::file(path, what.then(records::OUT).then(" or remove it")).into()
}

fn read(file: &Path, bytes: &[u8]) -> Result<RunIdentity> {
    let broken = |e: serde_json::Error| bitworth_quant::Error::file(file, e.to_string());
    let there: Value = serde_json::from_slice(bytes).map_err(broken)?;
    if there["format"].as_u64() != Some(u64::from(FORMAT)) {
        let by = there["bitworth"].as_str().unwrap_or("of unknown number");
        let format = there["format"].as_u64().unwrap_or(1);
        let what = format!(
            "the run was made by version {by} in format {format}, this program goes on with format {FORMAT}; `bitworth report` \
             reads its records; choose another "
        );
        return Err(refusal(file, what.into()));
    }
    Ok(serde_json::from_value(there).map_err(broken)?)
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
            lanes: Vec::new(),
            walks: Map::new(),
            tasks: Map::new(),
            files: Map::new(),
            sessions: Vec::new(),
        }
    }

    /// Refuses by name what is not what it was.
    fn check(&self, folder: &Path, wanted: &Wanted) -> Result<()> {
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
        for (name, content) in &wanted.lanes {
            let here = self.lanes.iter().find(|lane| lane.name == *name);
            compare(&format!("lane {name}"), here.is_none_or(|lane| lane.content == *content));
        }
        for (kind, here, new) in [("text", &self.walks, &wanted.walks), ("task", &self.tasks, &wanted.tasks)] {
            for (name, content) in new {
                compare(&format!("{kind} {name}"), here.get(name).is_none_or(|there| there == content));
            }
        }
        if others.is_empty() {
            return Ok(());
        }
        Err(refusal(folder, format!("the folder holds another run (other {}); choose another ", others.join(", ")).into()))
    }

    /// Files that were made must be what they were.
    fn check_files(&self, folder: &Path) -> Result<()> {
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

    fn add(&mut self, wanted: Wanted) {
        let generation = self.lanes.iter().map(|lane| lane.generation + 1).max().unwrap_or(0);
        for (name, content) in wanted.lanes {
            if !self.lanes.iter().any(|lane| lane.name == name) {
                self.lanes.push(LaneIdentity { name, content, generation });
            }
        }
        if !wanted.imatrix.is_null() {
            self.imatrix = wanted.imatrix;
        }
        if !wanted.speed.is_null() {
            self.speed = wanted.speed;
        }
        self.walks.extend(wanted.walks);
        self.tasks.extend(wanted.tasks);
    }
}

/// When, where and by what the program was started.
fn session() -> Value {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "unix_seconds": seconds,
        "host": sysinfo::System::host_name(),
        "system": sysinfo::System::long_os_version(),
        "threads": rayon::current_num_threads(),
        "bitworth": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("BITWORTH_COMMIT"),
    })
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

/// Whether records that were found are those of an item of work.
pub fn check_found(folder: &Path, item: &str, found: &[Record], expected: &BTreeSet<(String, u32)>, is_own: bool) -> Result<()> {
    let number = |record: &Record| {
        let numbers = (record.as_sequence().map(|s| s.sequence), record.as_item().map(|i| i.item));
        numbers.0.or(numbers.1).unwrap_or(0)
    };
    let there: BTreeSet<(String, u32)> = found.iter().map(|record| (record.origin.lane.clone(), number(record))).collect();
    if there == *expected && is_own {
        return Ok(());
    }
    let what = "holds other lanes, windows or items than this part of the run; remove it, and it is measured again";
    Err(bitworth_quant::Error::file(records::path(folder, item), what).into())
}
