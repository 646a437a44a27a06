//! The rows of data sets that have names (`allenai/ai2_arc`): which files of a repository belong to a configuration and a split,
//! and their rows. Whoever holds the repositories says which files there are and fetches them ([`DataSetFiles`]).
//!
//! A data set says its files itself (`card`); of one that does not, or that a program makes, the hub's own conversion to parquet
//! is taken (`converted`); of what is left, the names of files say what they are (`pattern`, `format`). Columns get the types
//! that the card gives them (`features`). Absent: the network.
//!
//! Source: Hugging Face's `datasets` 5.2 (`load.py`), the hub's guides "Structure your repository" and "Data files
//! configuration".

mod card;
mod converted;
mod features;
mod format;
mod pattern;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use bitworth_quant::message::Message;
use serde_json::{Map, Value};

use super::file::{self, Json, Kind, MAX_BYTES};
use super::{DataRow, Docs};
use crate::files::config::TaskConfig;
use card::{Card, Config, DEFAULT, unknown_config, unknown_split};
use converted::{CONVERTED, Converted};
use features::Features;
use pattern::Splits;

/// The revision where none is named.
const MAIN: &str = "main";
/// What the address of a file of a data set begins with.
const ADDRESS: &str = "hf://datasets/";
/// The files with the configurations of a data set, and the largest that is read.
const README: &str = "README.md";
const STANDALONE: &str = ".huggingface.yaml";
const MAX_CARD_BYTES: u64 = 16 << 20;
/// Keys of `dataset_kwargs` that change no rows.
const WITHOUT_EFFECT: [&str; 8] =
    ["trust_remote_code", "streaming", "verification_mode", "download_mode", "cache_dir", "keep_in_memory", "num_proc", "token"];

/// Repositories of data sets.
pub trait DataSetFiles: fmt::Debug + Send + Sync {
    /// The files of a data set at a revision, or nothing where it has no such revision.
    ///
    /// # Errors
    /// It cannot be had: why, and what to do. The text names the data set.
    fn list(&self, data_set: &str, revision: &str) -> Result<Option<Listed>, Message>;

    /// Where some of its files stand on the disk, whole, in the order of `paths`.
    ///
    /// # Errors
    /// As [`Self::list`].
    fn fetch(&self, data_set: &str, revision: &str, paths: &[&str]) -> Result<Vec<PathBuf>, Message>;
}

/// The files of a data set at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Their paths in the repository with their lengths.
    pub files: Vec<(String, u64)>,
    /// Whether these are all. A cache may know only those that it holds.
    pub whole: bool,
}

/// What a task's `dataset_kwargs` say.
#[derive(Default)]
struct Options {
    revision: Option<String>,
    folder: Option<String>,
    splits: Option<Splits>,
    field: Option<String>,
}

/// A data set at one revision.
struct Repository<'a> {
    source: &'a dyn DataSetFiles,
    id: &'a str,
    revision: &'a str,
    listed: Listed,
}

/// The files of a split, and how they are read.
struct Found {
    paths: Vec<String>,
    kind: Kind,
    field: Option<String>,
    /// The types of the columns, where the data set says them.
    features: Option<Features>,
}

/// The rows of one split of a task's data set.
///
/// # Errors
/// The data set, the configuration or the split is not there (with those that are), a file cannot be had or is broken.
pub(super) fn rows(source: &dyn DataSetFiles, task: &TaskConfig, id: &str, split: &str) -> Result<Docs, Message> {
    let options = Options::new(&task.dataset_kwargs)?;
    let name = task.dataset_name.as_deref();
    let revision = options.revision.as_deref().unwrap_or(MAIN);
    let Some(main) = Repository::open(source, id, revision)? else {
        return Err(format!("the data set {id} has no revision {revision:?}").into());
    };
    let of_set = |what: Message| Message::from(format!("the data set {id}: ")).then(what);
    let own = |card: &Card| main.find(card, &options, name, split).and_then(|found| main.read(&found));
    let card = main.card().map_err(of_set)?;
    let script = format!("{}.py", id.rsplit('/').next().unwrap_or(id));
    let is_made = main.has(&script);
    if options.names_files() || !card.configs.is_empty() && !is_made {
        return own(&card).map_err(of_set);
    }
    // The conversion is one of `main`, of what is found without an option of a reader. It may be named itself.
    let other = if revision == MAIN && options.field.is_none() { Repository::open(source, id, CONVERTED)? } else { None };
    let named = || (revision == CONVERTED && name.is_some()).then_some(&main);
    if let Some(repository) = other.as_ref().or_else(named)
        && let Some(found) = Converted::new(&repository.paths()).find(name, split).map_err(of_set)?
    {
        if found.is_partial {
            // Its own files have all rows, where they can be read.
            if !is_made && let Ok(docs) = own(&card) {
                return Ok(docs);
            }
            tracing::warn!(
                "the data set {id}: the hub has converted only the beginning of the split {split:?}; scores are of these rows"
            );
        }
        let found = Found { paths: found.paths, kind: Kind::Parquet, field: None, features: None };
        return repository.read(&found).map_err(of_set);
    }
    if is_made && card.configs.is_empty() {
        let what = format!("the program {script} makes its rows, which is not run, and the hub has no conversion of them; ");
        return Err(of_set(Message::from(format!("{what}name a file with ")).then(super::DATA_MAP)));
    }
    own(&card).map_err(of_set)
}

/// The files that an address `hf://datasets/OWNER/NAME[@REVISION]/PATTERN` means, or `None` where a text is no such address.
///
/// # Errors
/// They cannot be had.
pub(super) fn at_address(source: Option<&dyn DataSetFiles>, address: &str) -> Option<Result<Vec<PathBuf>, Message>> {
    let rest = address.strip_prefix(ADDRESS)?;
    let files = || {
        let wrong = || Message::from(format!("{address:?} is no address of a file of a data set: {ADDRESS}OWNER/NAME/FILE"));
        let (owner, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let (name, path) = rest.split_once('/').ok_or_else(wrong)?;
        let (name, revision) = name.split_once('@').unwrap_or((name, MAIN));
        let (id, revision) = (format!("{owner}/{name}"), revision.replace("%2F", "/"));
        let source = source.ok_or_else(|| {
            Message::from(format!("data sets of the hub are not fetched here ({address}); name a file with "))
                .then(super::DATA_MAP)
        })?;
        let Some(repository) = Repository::open(source, &id, &revision)? else {
            return Err(format!("the data set {id} has no revision {revision:?}").into());
        };
        let of_set = |what: Message| Message::from(format!("the data set {id}: ")).then(what);
        let paths = repository.resolve(&[path.to_owned()], "").map_err(of_set)?;
        if paths.is_empty() {
            return Err(of_set(format!("no file fits {path:?}").into()));
        }
        repository.fetch(&paths).map_err(of_set)
    };
    Some(files())
}

/// Whether a path is a pattern.
pub(super) fn is_pattern(path: &str) -> bool {
    pattern::is_magic(path)
}

/// The files that a pattern means, of those in a task file's folder, in order.
///
/// # Errors
/// A pattern that leads out of the folder.
pub(super) fn matching<'a>(files: &[&'a str], pattern: &str) -> Result<Vec<&'a str>, Message> {
    pattern::resolve(files, &[pattern.to_owned()], "")
}

impl Options {
    /// What is followed of `dataset_kwargs`.
    ///
    /// # Errors
    /// A key that would change the rows and is not followed, a value of another kind.
    fn new(kwargs: &Map<String, Value>) -> Result<Self, Message> {
        let mut options = Self::default();
        for (key, value) in kwargs {
            let text = || match value {
                Value::String(text) => Ok(Some(text.clone())),
                Value::Null => Ok(None),
                _ => Err(Message::from(format!("dataset_kwargs.{key} must be a text"))),
            };
            match key.as_str() {
                "revision" => options.revision = text()?,
                "data_dir" => options.folder = text()?,
                "field" => options.field = text()?,
                "data_files" if !value.is_null() => options.splits = Some(splits(value)?),
                "data_files" => {}
                key if WITHOUT_EFFECT.contains(&key) => {}
                _ => return Err(format!("dataset_kwargs has the key {key:?}, which is not followed for data sets").into()),
            }
        }
        Ok(options)
    }

    /// Whether they say where the data lie.
    fn names_files(&self) -> bool {
        self.splits.is_some() || self.folder.is_some()
    }
}

/// `data_files` of a task: a pattern, several, or splits with theirs.
fn splits(value: &Value) -> Result<Splits, Message> {
    let expected = || Message::from("dataset_kwargs.data_files must be a path, several, or splits with theirs");
    let patterns = |value: &Value| -> Result<Vec<String>, Message> {
        match value {
            Value::String(one) => Ok(vec![one.clone()]),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(expected)).collect(),
            _ => Err(expected()),
        }
    };
    match value {
        Value::Object(splits) => splits.iter().map(|(split, value)| Ok((split.clone(), patterns(value)?))).collect(),
        other => Ok(vec![("train".to_owned(), patterns(other)?)]),
    }
}

impl Found {
    fn new(paths: &[&str], kind: Kind, field: Option<String>, features: Option<Features>) -> Result<Self, Message> {
        if kind != Kind::Json && field.is_some() {
            return Err("the option \"field\" is one of JSON, and its files are none".into());
        }
        // Parquet says its types itself.
        let features = features.filter(|_| kind != Kind::Parquet);
        Ok(Self { paths: paths.iter().map(|path| (*path).to_owned()).collect(), kind, field, features })
    }
}

impl<'a> Repository<'a> {
    /// What a revision has, if there is such a revision.
    fn open(source: &'a dyn DataSetFiles, id: &'a str, revision: &'a str) -> Result<Option<Self>, Message> {
        let mut listed = match source.list(id, revision)? {
            Some(listed) => listed,
            None => return Ok(None),
        };
        listed.files.sort();
        Ok(Some(Self { source, id, revision, listed }))
    }

    fn paths(&self) -> Vec<&str> {
        self.listed.files.iter().map(|(path, _)| path.as_str()).collect()
    }

    fn size(&self, path: &str) -> Option<u64> {
        let at = self.listed.files.binary_search_by(|(known, _)| known.as_str().cmp(path)).ok()?;
        Some(self.listed.files[at].1)
    }

    fn has(&self, path: &str) -> bool {
        self.size(path).is_some()
    }

    /// What the data set says of itself.
    fn card(&self) -> Result<Card, Message> {
        let there: Vec<&str> = [README, STANDALONE].into_iter().filter(|path| self.has(path)).collect();
        if let Some(path) = there.iter().find(|path| self.size(path) > Some(MAX_CARD_BYTES)) {
            return Err(format!("its {path} is larger than {MAX_CARD_BYTES} bytes, which no such file is").into());
        }
        let mut texts = self.fetch(&there)?.into_iter().zip(&there).map(|(place, path)| {
            let bytes = std::fs::read(&place).map_err(|e| Message::from(format!("{}: {e}", place.display())))?;
            String::from_utf8(bytes).map(|text| (*path, text)).map_err(|_| Message::from(format!("its {path} is not UTF-8")))
        });
        let texts: Vec<(&str, String)> = texts.by_ref().collect::<Result<_, Message>>()?;
        let text = |name: &str| texts.iter().find(|(path, _)| *path == name).map(|(_, text)| text.as_str());
        Card::read(text(README), text(STANDALONE))
    }

    /// The data set's own files of a split.
    fn find(&self, card: &Card, options: &Options, name: Option<&str>, split: &str) -> Result<Found, Message> {
        match (options.names_files(), card.configs.is_empty()) {
            (true, _) => self.named(card, options, name, split),
            (false, false) => self.described(card, options, name, split),
            (false, true) => self.by_default(card, options, name, split),
        }
    }

    /// The files of a split that the task's own options name.
    fn named(&self, card: &Card, options: &Options, name: Option<&str>, split: &str) -> Result<Found, Message> {
        if let Some(name) = name {
            let names: Vec<&str> = match card.configs.is_empty() {
                true => vec![DEFAULT],
                false => card.configs.iter().map(|config| config.name.as_str()).collect(),
            };
            if !names.contains(&name) {
                return Err(unknown_config(name, names.into_iter()));
            }
        }
        let folder = options.folder.as_deref().unwrap_or_default();
        let splits = match &options.splits {
            Some(splits) => splits.clone(),
            None => pattern::by_default(&self.paths(), folder)?,
        };
        let paths = self.of_split(&splits, split, folder)?;
        let config = card.find(name).map_or(DEFAULT, |config| &config.name);
        Found::new(&paths, format::kind(&paths)?, options.field.clone(), card.features(config))
    }

    /// The files of a split that the card describes.
    fn described(&self, card: &Card, options: &Options, name: Option<&str>, split: &str) -> Result<Found, Message> {
        let config: &Config = card.find(name)?;
        let splits = match &config.splits {
            Some(splits) => splits.clone(),
            None => pattern::by_default(&self.paths(), &config.folder)?,
        };
        let paths = self.of_split(&splits, split, &config.folder)?;
        let kind = match (format::kind(&paths)?, config.separator) {
            (Kind::Table(_), Some(separator)) => Kind::Table(separator),
            (kind, _) => kind,
        };
        let field = options.field.clone().or_else(|| config.field.clone());
        Found::new(&paths, kind, field, card.features(&config.name))
    }

    /// The files of a split where nothing says them: of all splits those of one format, the most common one.
    fn by_default(&self, card: &Card, options: &Options, name: Option<&str>, split: &str) -> Result<Found, Message> {
        if let Some(name) = name.filter(|name| *name != DEFAULT) {
            return Err(unknown_config(name, std::iter::once(DEFAULT)));
        }
        let splits = pattern::by_default(&self.paths(), "")?;
        let mut formats = Vec::new();
        for (split, patterns) in &splits {
            let files = pattern::resolve(&self.paths(), patterns, "")?;
            formats.push((split, format::of_files(&files)));
        }
        if let [(first, format), rest @ ..] = formats.as_slice()
            && let Some((other, _)) = rest.iter().find(|(_, other)| other != format)
        {
            return Err(format!("by their names, the files of the splits {first:?} and {other:?} have different formats").into());
        }
        let mut paths = self.of_split(&splits, split, "")?;
        if let Some((_, Some(format))) = formats.first() {
            paths.retain(|path| format::includes(*format, path));
        }
        Found::new(&paths, format::kind(&paths)?, options.field.clone(), card.features(DEFAULT))
    }

    /// The files of one of these splits.
    fn of_split(&self, splits: &Splits, split: &str, folder: &str) -> Result<Vec<&str>, Message> {
        let Some((_, patterns)) = splits.iter().find(|(known, _)| known == split) else {
            return Err(unknown_split(split, splits.iter().map(|(name, _)| name.as_str())));
        };
        let paths = self.resolve(patterns, folder)?;
        match paths.is_empty() {
            true => Err(format!("no file of data fits the patterns of the split {split:?}: {}", patterns.join(", ")).into()),
            false => Ok(paths),
        }
    }

    /// The files that patterns mean. Where only some files are known, all parts of what they mean must be among them.
    fn resolve(&self, patterns: &[String], folder: &str) -> Result<Vec<&str>, Message> {
        let paths = pattern::resolve(&self.paths(), patterns, folder)?;
        if !self.listed.whole
            && patterns.iter().any(|text| pattern::is_magic(text))
            && let Some((part, count)) = pattern::missing_part(&paths)
        {
            return Err(format!("of {count} parts (as {}), the one with the number {part} is not in the cache", paths[0]).into());
        }
        Ok(paths)
    }

    /// Where files stand on the disk.
    fn fetch(&self, paths: &[&str]) -> Result<Vec<PathBuf>, Message> {
        self.source.fetch(self.id, self.revision, paths)
    }

    /// The rows of the files of a split.
    fn read(&self, found: &Found) -> Result<Docs, Message> {
        let paths: Vec<&str> = found.paths.iter().map(String::as_str).collect();
        let bytes = paths.iter().filter_map(|path| self.size(path)).fold(0u64, u64::saturating_add);
        // Before hours of fetching.
        if bytes > MAX_BYTES {
            let what = format!("the split has {bytes} bytes; of at most {MAX_BYTES} rows are kept in memory; name a part with ");
            return Err(Message::from(what).then(super::DATA_MAP));
        }
        let mut once = paths.clone();
        once.sort_unstable();
        once.dedup();
        let places = self.fetch(&once)?;
        let json = if found.features.is_some() { Json::Typed } else { Json::Inferred };
        let mut files: Vec<Vec<DataRow>> = Vec::new();
        for path in &paths {
            let place = once.binary_search(path).ok().and_then(|at| places.get(at));
            let place = place.ok_or_else(|| Message::from(format!("the file {path} was not fetched")))?;
            let more = file::read_as(place, found.kind, found.field.as_deref(), json).map_err(|e| e.message())?;
            files.push(match &found.features {
                Some(features) => features.cast(more).map_err(|what| Message::from(format!("{path}: ")).then(what))?,
                None => more,
            });
        }
        Ok(Docs::of_files(files))
    }
}
