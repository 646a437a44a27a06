//! Data sets of the hub: which files a repository has, and the files themselves, in the cache that other tools share. A process
//! asks for a list once, however many tasks want it.
//!
//! What is absent: which files belong to which configuration and split, and what stands in them.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bitworth_quant::progress::{Progress, Silent};

use super::cache::Repository;
use super::client::{Client, FetchWatch, Patience};
use super::download;
use super::error::{Error, Result};
use super::files::{Listing, file_error};
use super::name::Target;
use super::settings::Settings;

/// What the names of branches begin with that the hub itself makes.
const HUBS_OWN: &str = "refs/";

/// Who waits for data sets, as long as they may be asked for.
pub struct Watcher {
    /// Is told how many bytes have come.
    pub progress: Box<dyn Progress + Send>,
    /// Becomes true when a call should end early.
    pub stop: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Watcher {
    /// Nobody.
    pub fn silent() -> Self {
        Self { progress: Box::new(Silent), stop: Box::new(|| false) }
    }
}

/// The files of a data set at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileList {
    /// Their paths in the repository, with their lengths.
    pub files: Vec<(String, u64)>,
    /// Whether these are all: of a data set that another tool fetched, only those are known that it fetched.
    pub whole: bool,
}

/// Data sets of the hub, as one process uses them.
pub struct DataSets {
    watcher: Watcher,
    state: Mutex<State>,
}

struct State {
    /// Read when they are first needed: most runs need no data set of the hub.
    settings: Option<Settings>,
    /// What is known of data sets at revisions; nothing where there is no such revision.
    known: HashMap<(String, String), Option<Known>>,
    /// The hub gave no answer before, and is not waited for as long again.
    unreachable: bool,
}

/// A data set at a revision.
struct Known {
    target: Target,
    commit: String,
    files: Files,
    /// Why only the cache is asked, where it is.
    cache_only: Option<String>,
}

enum Files {
    /// As the hub lists them.
    Listed(Listing),
    /// What the cache holds of them.
    Cached(Vec<(String, u64)>),
}

impl DataSets {
    /// With the settings of this process's environment, read when a data set is first asked for.
    pub fn new(watcher: Watcher) -> Self {
        Self::of(None, watcher)
    }

    /// With these settings.
    pub fn with_settings(settings: Settings, watcher: Watcher) -> Self {
        Self::of(Some(settings), watcher)
    }

    fn of(settings: Option<Settings>, watcher: Watcher) -> Self {
        Self { watcher, state: Mutex::new(State { settings, known: HashMap::new(), unreachable: false }) }
    }

    /// The files of the data set `id` at a revision, or nothing where it has no such revision.
    ///
    /// A branch or a tag is asked for, unless there is no network: then it is what it was when it was last asked for. Of the
    /// hub's own branches (`refs/convert/parquet`) those that the cache lacks then count as not there.
    ///
    /// # Errors
    /// There is no such data set, or it may not be read; the hub gives no answer and the cache does not know it.
    pub fn list(&self, id: &str, revision: &str) -> Result<Option<FileList>> {
        let target = Target::data_set(id, revision)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.find(&target, self.watch())?.map(Known::list))
    }

    /// The places of some of these files on the disk, after fetching what is missing.
    ///
    /// # Errors
    /// A file is not there, cannot be fetched, or is not the one that is listed; the cache cannot be written.
    pub fn fetch(&self, id: &str, revision: &str, paths: &[&str]) -> Result<Vec<PathBuf>> {
        let target = Target::data_set(id, revision)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.find(&target, self.watch())?.is_none() {
            let what = format!("has no revision {revision:?}");
            return Err(Error::Model { model: target.to_string(), what });
        }
        state.fetch(&target, paths, self.watch())
    }

    fn watch(&self) -> FetchWatch<'_> {
        FetchWatch { progress: &*self.watcher.progress, stop: &*self.watcher.stop }
    }
}

impl fmt::Debug for DataSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataSets").finish_non_exhaustive()
    }
}

impl State {
    fn settings(&mut self) -> Result<&Settings> {
        match &mut self.settings {
            Some(settings) => Ok(settings),
            none => Ok(none.insert(Settings::from_env()?)),
        }
    }

    /// What is known of a data set, asked for where nothing is.
    fn find(&mut self, target: &Target, watch: FetchWatch) -> Result<Option<&Known>> {
        let key = (target.id.clone(), target.revision.clone());
        if !self.known.contains_key(&key) {
            let patient = !self.unreachable;
            let found = look(self.settings()?, target, patient, watch);
            self.unreachable |= match &found {
                Err(Error::Unreachable { .. }) => true,
                Ok(Some(known)) => known.cache_only.is_some(),
                _ => false,
            };
            self.known.insert(key.clone(), found?);
        }
        Ok(self.known.get(&key).and_then(Option::as_ref))
    }

    /// Fetches what is missing of files of a data set that is known.
    fn fetch(&self, target: &Target, paths: &[&str], watch: FetchWatch) -> Result<Vec<PathBuf>> {
        let key = (target.id.clone(), target.revision.clone());
        let (Some(Some(known)), Some(settings)) = (self.known.get(&key), &self.settings) else { return Ok(Vec::new()) };
        let repository = Repository::new(&settings.cache, target);
        let snapshot = repository.snapshot(&known.commit);
        match (&known.files, &known.cache_only) {
            (Files::Listed(listing), None) => {
                let entries = paths.iter().map(|path| listing.entry(target, path)).collect::<Result<Vec<_>>>()?;
                let client = Client::new(settings, target.clone(), watch)?;
                let fetched = download::fetch(&client, &repository, &known.commit, &entries)?;
                match self.keep(&repository, target) {
                    // All was there, perhaps in a cache that may not be written.
                    Err(_) if !fetched => {}
                    kept => kept?,
                }
            }
            (_, why) => known.check_cached(&repository, paths, why.as_deref().unwrap_or_default())?,
        }
        Ok(paths.iter().map(|path| snapshot.join(path)).collect())
    }

    /// Keeps what was listed of a data set on the way to its files: all revisions, because which were looked at says which
    /// there are, and only together with a file, because a commit without any is of no use without the network.
    fn keep(&self, repository: &Repository, target: &Target) -> Result<()> {
        let same = self.known.values().flatten().filter(|known| known.target.id == target.id);
        for known in same {
            if let (Files::Listed(listing), None) = (&known.files, &known.cache_only) {
                repository.keep_tree(&known.commit, || listing.to_tree())?;
                repository.keep_commit(&known.target.revision, &known.commit)?;
            }
        }
        Ok(())
    }
}

/// Asks the hub about a data set, or the cache where that will do or there is no network.
fn look(settings: &Settings, target: &Target, patient: bool, watch: FetchWatch) -> Result<Option<Known>> {
    let repository = Repository::new(&settings.cache, target);
    let cached = cached(&repository, target);
    if settings.offline {
        let why = "HF_HUB_OFFLINE asks to do without the network";
        return without_network(&repository, target, cached, why.to_owned());
    }
    let client = Client::new(settings, target.clone(), watch)?;
    // A commit never changes. What may be missing of its files is still fetched.
    if target.commit().is_some() && cached.as_ref().is_some_and(|known| matches!(known.files, Files::Listed(_))) {
        return Ok(cached);
    }
    let mut patience = if patient && cached.is_none() { Patience::new() } else { Patience::short() };
    match client.listing_if_any(&mut patience) {
        Ok(listing) => Ok(listing.map(|listing| Known {
            target: target.clone(),
            commit: listing.commit.clone(),
            files: Files::Listed(listing),
            cache_only: None,
        })),
        // Of the hub's own branches the cache may say that there are none, where it was all there is before.
        Err(Error::Unreachable { what, .. }) if cached.is_some() || !patient && target.revision.starts_with(HUBS_OWN) => {
            if cached.is_some() {
                tracing::warn!("{target}: {what}; using what is in the cache");
            }
            without_network(&repository, target, cached, what)
        }
        Err(error) => Err(error),
    }
}

/// What the cache knows of a revision.
fn cached(repository: &Repository, target: &Target) -> Option<Known> {
    let commit = target.commit().map(str::to_owned).or_else(|| repository.commit_of(&target.revision))?;
    let listing = repository.tree(&commit).and_then(|json| Listing::from_tree(&commit, &json));
    let files = match listing {
        Some(listing) => Files::Listed(listing),
        None => Files::Cached(Some(repository.files(&commit)).filter(|files| !files.is_empty())?),
    };
    Some(Known { target: target.clone(), commit, files, cache_only: None })
}

fn without_network(repository: &Repository, target: &Target, cached: Option<Known>, why: String) -> Result<Option<Known>> {
    match cached {
        Some(mut known) => {
            if matches!(known.files, Files::Cached(_)) {
                tracing::warn!("{target}: only those of its files are known that are in {}", repository.root().display());
            }
            known.cache_only = Some(why);
            Ok(Some(known))
        }
        None if target.revision.starts_with(HUBS_OWN) && repository.root().is_dir() => Ok(None),
        None => Err(Error::Model {
            model: target.to_string(),
            what: format!("nothing is known of its revision {:?} in {}, and {why}", target.revision, repository.root().display()),
        }),
    }
}

impl Known {
    fn list(&self) -> FileList {
        match &self.files {
            // A file without a length is refused when it is fetched.
            Files::Listed(listing) => FileList {
                files: listing.sizes().map(|(path, size)| (path.to_owned(), size.unwrap_or(0))).collect(),
                whole: true,
            },
            Files::Cached(files) => FileList { files: files.clone(), whole: false },
        }
    }

    /// Whether the cache has all of these files.
    fn check_cached(&self, repository: &Repository, paths: &[&str], why: &str) -> Result<()> {
        for path in paths {
            let size = match &self.files {
                Files::Listed(listing) => Some(listing.entry(&self.target, path)?.size),
                Files::Cached(files) => files.iter().find(|(known, _)| known == path).map(|(_, size)| *size),
            };
            if !size.is_some_and(|size| repository.has(&self.commit, path, size)) {
                return Err(file_error(&self.target, path, format!("is not in {}, and {why}", repository.root().display())));
            }
        }
        Ok(())
    }
}
