//! The hub's list of a repository's files, read as a stranger's, and which of them a model needs. Decides only; what is absent is
//! the network, the cache, and which files a data set needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::path::Path;

use bitworth_quant::message::Message;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::name::{ModelName, Target, is_commit, is_gguf, is_hex, is_plain_path};

/// The files beside the weights that conversion and tokenizing read, or that other tools expect beside them.
pub(super) const BESIDE_WEIGHTS: [&str; 14] = [
    CONFIG,
    "generation_config.json",
    "hf_quant_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
    INDEX,
];
/// What makes a repository a model.
pub(super) const CONFIG: &str = "config.json";
/// The weights where they are one file, and the list of their files where they are many.
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// The folder of templates beyond `chat_template.jinja`.
const TEMPLATES: &str = "additional_chat_templates/";
/// No file beside the weights is larger; tokenizers and indexes of the largest public models have some 30 MB.
const MAX_BESIDE_WEIGHTS: u64 = 256 << 20;
/// How many files an error lists.
const SHOWN: usize = 20;

/// One file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path in the repository.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// Its hash, and the name of its blob in the cache.
    pub(super) hash: Hash,
}

/// The hash of a file in base 16, as the hub gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    /// SHA-256 of the content: what git keeps elsewhere because it is large.
    Sha256(String),
    /// git's own: SHA-1 of `blob LENGTH\0` and the content.
    Git(String),
}

impl Hash {
    pub(super) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }
}

/// A repository at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    files: Vec<Sibling>,
}

/// The hub's answer, as far as it is read.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// A list of files as it is kept.
#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, TreeFile>,
}

#[derive(Serialize, Deserialize)]
struct TreeFile {
    size: Option<u64>,
    blob_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

/// The version of that form.
const TREE_VERSION: u32 = 1;

impl Listing {
    /// Reads the hub's answer about `target`.
    ///
    /// # Errors
    /// It is no such answer, or names what could lead out of the cache.
    pub(super) fn parse(target: &Target, json: &[u8]) -> Result<Self> {
        let wrong = |what: String| Error::Model { model: target.to_string(), what };
        let answer: Answer = serde_json::from_slice(json)
            .map_err(|e| wrong(format!("the hub's answer is no list of files: {e}; check HF_ENDPOINT")))?;
        if !is_commit(&answer.sha) || target.commit().is_some_and(|commit| commit != answer.sha) {
            return Err(wrong(format!("the hub answers with the commit {:?}, which was not asked for", answer.sha)));
        }
        match answer.siblings.iter().find(|file| !is_plain_path(&file.rfilename)) {
            Some(file) => Err(wrong(format!("it has a file {:?}, which would not stay in its folder; refused", file.rfilename))),
            None => Ok(Self { commit: answer.sha, files: answer.siblings }),
        }
    }

    /// Reads a list that was kept of a commit, as [`Self::to_tree`] writes it. What is broken or of another version is as good as
    /// not there.
    pub(super) fn from_tree(commit: &str, json: &[u8]) -> Option<Self> {
        let tree: Tree = serde_json::from_slice(json).ok().filter(|tree: &Tree| tree.format_version == TREE_VERSION)?;
        let sibling = |(rfilename, file): (String, TreeFile)| {
            let lfs = file.lfs_sha256.zip(file.lfs_size).map(|(sha256, size)| Lfs { sha256, size });
            is_plain_path(&rfilename).then_some(Sibling { rfilename, size: file.size, blob_id: file.blob_id, lfs })
        };
        let files: Option<Vec<Sibling>> = tree.files.into_iter().map(sibling).collect();
        Some(Self { commit: commit.to_owned(), files: files? })
    }

    /// The list in the form in which `huggingface_hub` (2.x, `_tree_cache.py`) keeps it in the cache.
    pub(super) fn to_tree(&self) -> Vec<u8> {
        let file = |file: &Sibling| {
            let lfs = file.lfs.as_ref();
            let (lfs_sha256, lfs_size) = (lfs.map(|lfs| lfs.sha256.clone()), lfs.map(|lfs| lfs.size));
            let tree_file = TreeFile { size: file.size, blob_id: file.blob_id.clone(), lfs_sha256, lfs_size };
            (file.rfilename.clone(), tree_file)
        };
        let tree = Tree { format_version: TREE_VERSION, files: self.files.iter().map(file).collect() };
        serde_json::to_vec(&tree).unwrap_or_default()
    }

    /// All files with their sizes, where the hub says them.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        self.files.iter().map(|file| (file.rfilename.as_str(), file.lfs.as_ref().map(|lfs| lfs.size).or(file.size)))
    }

    /// The files beside the weights.
    ///
    /// # Errors
    /// There is no `config.json` (with GGUF files instead: how to name one), or a file is absurd.
    pub(super) fn beside_weights(&self, model: &ModelName) -> Result<Vec<Entry>> {
        if !self.has(CONFIG) {
            return Err(Error::Model { model: model.to_string(), what: self.why_no_model(model) });
        }
        let template = |path: &str| path.strip_prefix(TEMPLATES).is_some_and(|name| !name.contains('/'));
        let wanted = self.files.iter().map(|file| file.rfilename.as_str());
        let wanted = wanted.filter(|path| BESIDE_WEIGHTS.contains(path) || template(path));
        let entries = wanted.map(|path| self.entry(model, path)).collect::<Result<Vec<_>>>()?;
        match entries.iter().find(|entry| entry.size > MAX_BESIDE_WEIGHTS) {
            Some(entry) => Err(file_error(model, &entry.path, format!("has {} bytes, more than any such file", entry.size))),
            None => Ok(entries),
        }
    }

    /// The files of the weights. Those beside them are in the folder `snapshot` already.
    ///
    /// # Errors
    /// There are none, the index names what is not there, or there is no tokenizer, without which they are of no use.
    pub(super) fn weights(&self, model: &ModelName, snapshot: &Path) -> Result<Vec<Entry>> {
        if !self.has(INDEX) && !self.has(SINGLE) {
            return Err(Error::Model { model: model.to_string(), what: self.why_no_model(model) });
        }
        // Weights are large, so what would make them useless is said first.
        let slow = self.has("vocab.json") && self.has("merges.txt");
        if !slow && !self.has("tokenizer.json") && !self.has("tokenizer.model") {
            let what = "has no tokenizer: no tokenizer.json, no tokenizer.model, and not vocab.json with merges.txt; put the \
                        model into a local folder, and save its tokenizer there with transformers (`save_pretrained`)";
            return Err(Error::Model { model: model.to_string(), what: what.to_owned() });
        }
        if self.has(INDEX) {
            let shards = shards(snapshot).map_err(|what| file_error(model, INDEX, what.to_string()))?;
            return shards.iter().map(|shard| self.entry(model, shard)).collect();
        }
        Ok(vec![self.entry(model, SINGLE)?])
    }

    /// The GGUF file that the name asks for, all files where the model is split.
    ///
    /// # Errors
    /// One of them is not there.
    pub(super) fn gguf(&self, model: &ModelName, path: &str) -> Result<Vec<Entry>> {
        if !self.has(path) {
            let what = match self.gguf_files() {
                files if files.is_empty() => "is not in the repository, which has no GGUF files".to_owned(),
                files => format!("is not in the repository; its GGUF files: {}", files.join(", ")),
            };
            return Err(file_error(model, path, what));
        }
        let parts = gguf_parts(path).map_err(|what| file_error(model, path, what.to_string()))?;
        parts.iter().map(|part| self.entry(model, part)).collect()
    }

    fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.rfilename == path)
    }

    /// The file of that path. `given` is what errors name.
    ///
    /// # Errors
    /// It is not there, or there is nothing to check it by.
    pub(super) fn entry(&self, given: &impl Display, path: &str) -> Result<Entry> {
        let file = self.files.iter().find(|file| file.rfilename == path);
        let file = file.ok_or_else(|| file_error(given, path, "is not in the repository".to_owned()))?;
        let (size, hash) = match &file.lfs {
            Some(lfs) => (Some(lfs.size), is_hex(&lfs.sha256, 64).then(|| Hash::Sha256(lfs.sha256.clone()))),
            None => (file.size, file.blob_id.clone().filter(|id| is_hex(id, 40)).map(Hash::Git)),
        };
        match (size, hash) {
            (Some(size), Some(hash)) => Ok(Entry { path: path.to_owned(), size, hash }),
            _ => {
                let what =
                    "the hub gives no size and hash to check it by; fetch it with another tool and name what that tool made";
                Err(file_error(given, path, what.to_owned()))
            }
        }
    }

    /// The GGUF files, of split ones the first.
    fn gguf_files(&self) -> Vec<&str> {
        let first = |path: &str| gguf_parts(path).is_ok_and(|parts| parts[0] == path);
        let mut files: Vec<&str> =
            self.files.iter().map(|file| file.rfilename.as_str()).filter(|path| is_gguf(path) && first(path)).collect();
        files.sort_unstable();
        files
    }

    /// Why a repository without weights or configuration is none that can be read, and what to do.
    fn why_no_model(&self, model: &ModelName) -> String {
        let gguf = self.gguf_files();
        if let Some(first) = gguf.first() {
            let more = if gguf.len() > SHOWN { format!(" and {} more", gguf.len() - SHOWN) } else { String::new() };
            let revision = if model.to_string().contains('@') { format!("@{}", model.revision) } else { String::new() };
            let shown = gguf[..gguf.len().min(SHOWN)].join(", ");
            return format!("has GGUF files only: {shown}{more}; name one of them, as hf:{}{revision}/{first}", model.id());
        }
        if !self.has(CONFIG) {
            return format!("has no {CONFIG}, so it is no model of the transformers library");
        }
        let pickled = self.files.iter().any(|file| file.rfilename.ends_with(".bin") || file.rfilename.ends_with(".pth"));
        let but = if pickled { ", only weights in PyTorch's own format" } else { "" };
        format!("has neither {SINGLE} nor {INDEX}{but}; look for a revision or a copy with safetensors")
    }
}

/// The first file that a folder of the cache lacks to be a model that can be opened.
pub(super) fn first_missing(snapshot: &Path, file: Option<&str>) -> Option<String> {
    let missing = |path: &str| (!snapshot.join(path).is_file()).then(|| path.to_owned());
    if let Some(file) = file {
        return match gguf_parts(file) {
            Ok(parts) => parts.iter().find_map(|part| missing(part)),
            Err(_) => Some(file.to_owned()),
        };
    }
    missing(CONFIG).or_else(|| match snapshot.join(INDEX).is_file() {
        true => match shards(snapshot) {
            Ok(shards) => shards.iter().find_map(|shard| missing(shard)),
            Err(_) => Some(INDEX.to_owned()),
        },
        false => missing(SINGLE),
    })
}

/// The shards that the index in a folder names, each once.
fn shards(snapshot: &Path) -> Result<BTreeSet<String>, Message> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let path = snapshot.join(INDEX);
    let size = std::fs::metadata(&path).map_err(|e| e.to_string())?.len();
    if size > MAX_BESIDE_WEIGHTS {
        return Err(format!("has {size} bytes, more than any index of shards").into());
    }
    let text = std::fs::read(&path).map_err(|e| e.to_string())?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| format!("is not an index of shards: {e}"))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards.iter().find(|shard| !is_plain_path(shard) || shard.contains('/')) {
        Some(shard) => Err(format!("names the shard {shard:?}, which is not a plain file name").into()),
        None if shards.is_empty() => Err("names no shards".into()),
        None => Ok(shards),
    }
}

/// All files of the GGUF model that `path` belongs to: itself, or every `NAME-0000i-of-0000n.gguf`, the first one first.
pub(super) fn gguf_parts(path: &str) -> Result<Vec<String>, Message> {
    let number = |text: &str| (text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u32>().ok())?;
    let split = || {
        let (stem, count) = path.get(..path.len().checked_sub(5)?)?.rsplit_once("-of-")?;
        let (stem, no) = stem.rsplit_once('-')?;
        Some((stem, number(no)?, number(count)?))
    };
    let Some((stem, no, count)) = split() else { return Ok(vec![path.to_owned()]) };
    if no == 0 || no > count {
        return Err(format!("says of itself to be part {no} of {count}").into());
    }
    let end = &path[path.len() - 5..];
    Ok((1..=count).map(|i| format!("{stem}-{i:05}-of-{count:05}{end}")).collect())
}

pub(super) fn file_error(given: &impl Display, path: &str, what: String) -> Error {
    Error::File { model: given.to_string(), file: path.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model(text: &str) -> ModelName {
        ModelName::parse(text).unwrap()
    }

    /// A listing with these files, those of weights with a SHA-256.
    fn listing(paths: &[&str]) -> Result<Listing> {
        let sibling = |path: &&str| match path.ends_with(".safetensors") || path.ends_with(".gguf") {
            true => {
                json!({"rfilename": path, "size": 9, "blobId": "00".repeat(20), "lfs": {"sha256": "ab".repeat(32), "size": 9}})
            }
            false => json!({"rfilename": path, "size": 7, "blobId": "cd".repeat(20)}),
        };
        let siblings: Vec<_> = paths.iter().map(sibling).collect();
        Listing::parse(&model("hf:o/n").target(), json!({"sha": "12".repeat(20), "siblings": siblings}).to_string().as_bytes())
    }

    fn paths(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.path.as_str()).collect()
    }

    #[test]
    fn only_what_a_model_needs_is_chosen() {
        let listing = listing(&[
            "config.json",
            "tokenizer.json",
            "README.md",
            "model.safetensors",
            "consolidated.safetensors",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "original/tokenizer.model",
            "additional_chat_templates/tool_use.jinja",
        ])
        .unwrap();
        let model = model("hf:o/n");
        let beside = listing.beside_weights(&model).unwrap();
        assert_eq!(paths(&beside), ["config.json", "tokenizer.json", "README.md", "additional_chat_templates/tool_use.jinja"]);
        assert_eq!(beside[0].hash, Hash::Git("cd".repeat(20)));
        let weights = listing.weights(&model, Path::new("nowhere")).unwrap();
        assert_eq!(paths(&weights), ["model.safetensors"]);
        assert_eq!((weights[0].size, &weights[0].hash), (9, &Hash::Sha256("ab".repeat(32))));
    }

    #[test]
    fn the_index_says_which_shards() {
        let dir = tempfile::TempDir::new().unwrap();
        let index = |map: serde_json::Value| {
            std::fs::write(dir.path().join(INDEX), json!({"weight_map": map}).to_string()).unwrap();
            let weights = ["a.safetensors", "b.safetensors", "c.safetensors"];
            let all = [&["config.json", "tokenizer.json", INDEX, "model.safetensors"], &weights[..]].concat();
            listing(&all).unwrap().weights(&model("hf:o/n"), dir.path())
        };
        let found = index(json!({"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"})).unwrap();
        assert_eq!(paths(&found), ["a.safetensors", "b.safetensors"]);
        for (map, expected) in [
            (json!({"x": "../b.safetensors"}), "not a plain file name"),
            (json!({"x": "d.safetensors"}), "d.safetensors: is not in the repository"),
            (json!({}), "names no shards"),
            (json!([1]), "not an index"),
        ] {
            let error = index(map).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_repository_of_gguf_files_says_how_to_name_one() {
        let files = listing(&["README.md", "n-Q8_0.gguf", "f16/n-00002-of-00002.gguf", "f16/n-00001-of-00002.gguf"]).unwrap();
        let error = files.beside_weights(&model("hf:o/n@v1")).unwrap_err().to_string();
        assert!(error.contains("f16/n-00001-of-00002.gguf, n-Q8_0.gguf;"), "{error}");
        assert!(error.ends_with("as hf:o/n@v1/f16/n-00001-of-00002.gguf"), "{error}");
        let parts = files.gguf(&model("hf:o/n"), "f16/n-00002-of-00002.gguf").unwrap();
        assert_eq!(paths(&parts), ["f16/n-00001-of-00002.gguf", "f16/n-00002-of-00002.gguf"]);
        let error = files.gguf(&model("hf:o/n"), "n-Q4_0.gguf").unwrap_err().to_string();
        assert!(error.contains("n-Q4_0.gguf: is not in the repository") && error.contains("n-Q8_0.gguf"), "{error}");
    }

    #[test]
    fn what_is_no_model_is_said() {
        for (files, expected) in [
            (&["README.md"][..], "no config.json"),
            (&["config.json", "pytorch_model.bin"], "PyTorch's own format"),
            (&["config.json"], "neither model.safetensors nor"),
        ] {
            let listing = listing(files).unwrap();
            let found = listing.beside_weights(&model("hf:o/n")).and_then(|_| listing.weights(&model("hf:o/n"), Path::new("")));
            let error = found.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_strangers_list_is_not_believed() {
        for path in ["../x", "/etc/x", "a/../../x", "a\\b", "a//b", "", "a\nb"] {
            let error = listing(&["config.json", path]).unwrap_err().to_string();
            assert!(error.contains("would not stay in its folder"), "{path}: {error}");
        }
        let parse = |json: serde_json::Value, name: &str| Listing::parse(&model(name).target(), json.to_string().as_bytes());
        let sha = |sha: &str| json!({"sha": sha, "siblings": []});
        assert!(parse(sha("../../x"), "hf:o/n").is_err());
        assert!(parse(sha(&"12".repeat(20)), &format!("hf:o/n@{}", "34".repeat(20))).is_err());
        assert!(parse(sha(&"12".repeat(20)), "hf:o/n").is_ok());
        assert!(Listing::parse(&model("hf:o/n").target(), b"<html>").is_err());
        for sibling in [
            json!({"rfilename": "config.json"}),
            json!({"rfilename": "config.json", "size": 1, "blobId": "../../x"}),
            json!({"rfilename": "config.json", "size": 1, "lfs": {"sha256": "x", "size": 1}}),
            json!({"rfilename": "config.json", "size": u64::MAX, "blobId": "00".repeat(20)}),
        ] {
            let listing = parse(json!({"sha": "12".repeat(20), "siblings": [sibling]}), "hf:o/n").unwrap();
            assert!(listing.beside_weights(&model("hf:o/n")).is_err());
        }
    }

    #[test]
    fn parts_are_told_by_their_names() {
        assert_eq!(gguf_parts("a.gguf").unwrap(), ["a.gguf"]);
        assert_eq!(gguf_parts("a-1-of-2.gguf").unwrap(), ["a-1-of-2.gguf"]);
        assert_eq!(gguf_parts("d/a-00002-of-00002.gguf").unwrap(), ["d/a-00001-of-00002.gguf", "d/a-00002-of-00002.gguf"]);
        assert!(gguf_parts("a-00003-of-00002.gguf").is_err() && gguf_parts("a-00000-of-00002.gguf").is_err());
    }
}
