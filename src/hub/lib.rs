//! Models by their names on the Hugging Face hub: `hf:OWNER/NAME[@REVISION]` becomes a folder on the disk, in the cache that
//! other tools share, and `hf:OWNER/NAME[@REVISION]/FILE.gguf` a file in it. Only what a model needs is fetched; every file is
//! checked. [`DataSets`] lists and fetches files of data sets likewise.
//!
//! [`ModelName`] is the name, [`Settings`] what the environment says; `files` chooses, `client` asks, `download` fetches one
//! file, `cache` knows where things are. What is absent: uploading, the hub's other protocols (Xet), opening models, and which
//! files of a data set belong to what.

mod cache;
mod client;
mod data_sets;
mod download;
mod error;
mod files;
mod name;
mod settings;

use std::path::PathBuf;

use bitworth_quant::convert::config::Config;
use bitworth_quant::message::Message;

use cache::Repository;
pub use client::FetchWatch;
use client::{Client, Patience};
pub use data_sets::{DataSets, FileList, Watcher};
pub use error::{Error, Result};
use files::{BESIDE_WEIGHTS, Listing, file_error, first_missing, gguf_parts};
pub use name::{ModelName, PREFIX};
pub use settings::Settings;

/// Where the model stands on the disk, after fetching what is missing of it: a folder, or the (first) GGUF file.
///
/// A commit that is there whole needs no network. A branch or a tag is asked for, unless there is no network: then it is what it
/// was when it was last asked for.
///
/// # Errors
/// There is no such model, it may not be read, it is none that can be read here; a file cannot be fetched or is not the one
/// that is listed; the cache cannot be written. What has been fetched is kept for another try.
pub fn fetch(model: &ModelName, settings: &Settings, watch: FetchWatch) -> Result<PathBuf> {
    let repository = Repository::new(&settings.cache, &model.target());
    if let Some(commit) = model.commit().filter(|commit| is_known_whole(model, &repository, commit)) {
        return local_path(model, &repository, commit);
    }
    let cached = cached(model, &repository);
    if settings.offline {
        return cached.map_err(|missing| Error::Model {
            model: model.to_string(),
            what: format!("{missing} in {}, and HF_HUB_OFFLINE asks to do without the network", repository.root().display()),
        });
    }
    let client = Client::new(settings, model.target(), watch)?;
    let mut patience = if cached.is_ok() { Patience::short() } else { Patience::new() };
    let listing = match (client.listing(&mut patience), cached) {
        (Err(Error::Unreachable { what, .. }), Ok(path)) => {
            tracing::warn!("{model}: {what}; using what is in the cache");
            return Ok(path);
        }
        (Err(Error::Unreachable { model, what }), Err(missing)) => {
            return Err(Error::Unreachable { model, what: format!("{what} ({missing} in the cache)") });
        }
        (listing, _) => listing?,
    };
    let fetched = fetch_listed(&client, model, &repository, &listing)?;
    match repository.keep_commit(&model.revision, &listing.commit) {
        // All was there, perhaps in a cache that may not be written.
        Err(_) if !fetched => {}
        kept => kept?,
    }
    local_path(model, &repository, &listing.commit)
}

/// Fetches what is missing of the listed model. Whether something was.
fn fetch_listed(client: &Client, model: &ModelName, repository: &Repository, listing: &Listing) -> Result<bool> {
    let commit = listing.commit.as_str();
    if let Some(file) = &model.file {
        return download::fetch(client, repository, commit, &listing.gguf(model, file)?);
    }
    let beside = listing.beside_weights(model)?;
    let mut fetched = download::fetch(client, repository, commit, &beside)?;
    // A model that cannot be read is refused before hours of weights.
    let snapshot = repository.snapshot(commit);
    Config::read(&snapshot)?;
    fetched |= download::fetch(client, repository, commit, &listing.weights(model, &snapshot)?)?;
    for path in BESIDE_WEIGHTS.iter().filter(|path| !beside.iter().any(|entry| entry.path == **path)) {
        match repository.keep_absent(commit, path) {
            Err(_) if !fetched => break,
            kept => kept?,
        }
    }
    Ok(fetched)
}

/// What the cache holds of the model's revision, or what it lacks.
fn cached(model: &ModelName, repository: &Repository) -> Result<PathBuf, Message> {
    let commit = model.commit().map(str::to_owned).or_else(|| repository.commit_of(&model.revision));
    let Some(commit) = commit else { return Err(format!("nothing is known of the revision {:?}", model.revision).into()) };
    match first_missing(&repository.snapshot(&commit), model.file.as_deref()) {
        Some(missing) => Err(format!("{missing} is not").into()),
        None => local_path(model, repository, &commit).map_err(|e| e.message()),
    }
}

/// Whether all files of a commit that a model needs are there, and those that are not are known not to exist.
fn is_known_whole(model: &ModelName, repository: &Repository, commit: &str) -> bool {
    let snapshot = repository.snapshot(commit);
    let known = |path: &str| snapshot.join(path).is_file() || repository.is_absent(commit, path);
    first_missing(&snapshot, model.file.as_deref()).is_none()
        && (model.file.is_some() || BESIDE_WEIGHTS.iter().all(|path| known(path)))
}

/// The path that stands for the model.
fn local_path(model: &ModelName, repository: &Repository, commit: &str) -> Result<PathBuf> {
    let snapshot = repository.snapshot(commit);
    let Some(file) = &model.file else { return Ok(snapshot) };
    let parts = gguf_parts(file).map_err(|what| file_error(model, file, what.to_string()))?;
    Ok(snapshot.join(&parts[0]))
}
