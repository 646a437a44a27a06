//! The names of models on the hub: `hf:OWNER/NAME`, with `@REVISION` and, for publishers of GGUF files, `/FILE.gguf` behind it;
//! those of data sets: `OWNER/NAME`, and of some old ones `NAME` alone. Both are a [`Target`] to whoever asks the hub.
//! What is absent: whether there is such a model or data set.

use std::fmt;

use bitworth_quant::message::Message;

use super::error::{Error, Result};

/// What the name of a model on the hub begins with.
pub const PREFIX: &str = "hf:";
/// The revision where none is named.
const DEFAULT_REVISION: &str = "main";
/// The longest `OWNER/NAME` of the hub.
const MAX_ID: usize = 96;
/// Revisions of more than this are no names of branches.
const MAX_REVISION: usize = 255;

/// A model on the hub, or one GGUF file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    /// User or organization.
    pub owner: String,
    /// The repository.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// The one GGUF file that is meant, by its path in the repository.
    pub file: Option<String>,
    given: String,
}

impl ModelName {
    /// Reads a name that begins with [`PREFIX`].
    ///
    /// # Errors
    /// [`Error::Name`] where it is none.
    pub fn parse(given: &str) -> Result<Self> {
        let wrong = |what: String| Error::Name { given: given.to_owned(), what };
        let rest = given.strip_prefix(PREFIX).ok_or_else(|| wrong(format!("does not begin with {PREFIX}")))?;
        let (owner, rest) = rest.split_once('/').ok_or_else(|| wrong("has no owner".to_owned()))?;
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, tail) = rest.split_at(end);
        for (part, what) in [(owner, "owner"), (name, "name")] {
            check_part(part).map_err(|why| wrong(format!("the {what} {part:?} {why}")))?;
        }
        if owner.len() + 1 + name.len() > MAX_ID {
            return Err(wrong(format!("owner and name have more than {MAX_ID} characters")));
        }
        let (revision, file) = match tail.strip_prefix('@') {
            Some(tail) => split_revision(tail),
            None => (DEFAULT_REVISION, tail.strip_prefix('/')),
        };
        if revision.len() > MAX_REVISION || !is_plain_path(revision) {
            return Err(wrong(format!("the revision {revision:?} is not the name of a branch, tag or commit")));
        }
        if let Some(file) = file.filter(|file| !is_gguf(file) || !is_plain_path(file)) {
            return Err(wrong(format!("{file:?} is no path of a GGUF file")));
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
            given: given.to_owned(),
        })
    }

    /// What the hub is asked for.
    pub(super) fn target(&self) -> Target {
        Target { kind: Kind::Model, id: self.id(), revision: self.revision.clone(), given: self.given.clone() }
    }

    /// `OWNER/NAME`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Where the revision names a commit, that commit.
    pub fn commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(self.revision.as_str())
    }
}

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    DataSet,
}

impl Kind {
    /// Its name to people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::DataSet => "data set",
        }
    }

    /// Its name in the hub's interface and in the cache.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::DataSet => "datasets",
        }
    }

    /// What stands in front of the repository in addresses of pages and files.
    pub(super) fn page(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::DataSet => "datasets/",
        }
    }
}

/// A repository of the hub at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    /// `OWNER/NAME`, or `NAME`.
    pub(super) id: String,
    /// Branch, tag or commit.
    pub(super) revision: String,
    /// What errors name.
    given: String,
}

impl Target {
    /// A data set.
    ///
    /// # Errors
    /// [`Error::DataSetName`] where the names are none.
    pub(super) fn data_set(id: &str, revision: &str) -> Result<Self> {
        let given = format!("the data set {id}");
        let wrong = |what: String| Error::DataSetName { given: given.clone(), what };
        let (owner, name) = id.split_once('/').map_or((None, id), |(owner, name)| (Some(owner), name));
        for (part, what) in [(owner, "owner"), (Some(name), "name")] {
            let Some(part) = part else { continue };
            check_part(part).map_err(|why| wrong(format!("the {what} {part:?} {why}")))?;
        }
        if id.len() > MAX_ID {
            return Err(wrong(format!("owner and name have more than {MAX_ID} characters")));
        }
        if revision.len() > MAX_REVISION || !is_plain_path(revision) {
            return Err(wrong(format!("the revision {revision:?} is not the name of a branch, tag or commit")));
        }
        Ok(Self { kind: Kind::DataSet, id: id.to_owned(), revision: revision.to_owned(), given })
    }

    /// Where the revision names a commit, that commit.
    pub(super) fn commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(self.revision.as_str())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.given)
    }
}

/// Tells a revision from the file behind it. The names of the hub's own references have slashes (`refs/pr/7`); other branches
/// with slashes can be named where no file is.
fn split_revision(text: &str) -> (&str, Option<&str>) {
    if !is_gguf(text) {
        return (text, None);
    }
    let parts = if text.starts_with("refs/") { 3 } else { 1 };
    match text.match_indices('/').nth(parts - 1) {
        Some((at, _)) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// The hub's rules for owners and names.
fn check_part(part: &str) -> Result<(), Message> {
    if part.is_empty() {
        return Err("is empty".into());
    }
    if !part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err("may have letters, digits, '-', '_' and '.' only".into());
    }
    if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) || part.contains("--") || part.contains("..") {
        return Err("may neither begin nor end with '-' or '.', nor have two of one in a row".into());
    }
    Ok(())
}

/// Whether a path of the hub stays where it is put: parts between slashes, none of them empty, `.` or `..`, nothing that
/// another system would read as more than a name.
pub(super) fn is_plain_path(path: &str) -> bool {
    let odd = |c: char| c.is_control() || c == '\\' || cfg!(windows) && "<>:\"|?*".contains(c);
    !path.contains(odd) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a text is a commit: git's SHA-1, or its SHA-256.
pub(super) fn is_commit(text: &str) -> bool {
    is_hex(text, 40) || is_hex(text, 64)
}

/// Whether a text has that many digits of base 16, in lower case.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

pub(super) fn is_gguf(path: &str) -> bool {
    path.len() > 5 && path.get(path.len() - 5..).is_some_and(|end| end.eq_ignore_ascii_case(".gguf"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, id: &str, revision: &str, file: Option<&str>) {
        let name = ModelName::parse(given).unwrap();
        assert_eq!((name.id().as_str(), name.revision.as_str(), name.file.as_deref()), (id, revision, file), "{given}");
        assert_eq!(name.to_string(), given);
    }

    #[test]
    fn names_have_revisions_and_files() {
        check("hf:owner/My-Model_1.5", "owner/My-Model_1.5", "main", None);
        check("hf:o/n@v1.0", "o/n", "v1.0", None);
        check("hf:o/n@refs/pr/7", "o/n", "refs/pr/7", None);
        check("hf:o/n@feature/x", "o/n", "feature/x", None);
        check("hf:o/n/a.gguf", "o/n", "main", Some("a.gguf"));
        check("hf:o/n/q4/a@b.GGUF", "o/n", "main", Some("q4/a@b.GGUF"));
        check("hf:o/n@v2/q4/a.gguf", "o/n", "v2", Some("q4/a.gguf"));
        check("hf:o/n@refs/pr/7/a.gguf", "o/n", "refs/pr/7", Some("a.gguf"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("hf:{}/{}", "o".repeat(50), "n".repeat(50));
        for given in [
            "hf:",
            "hf:name",
            "hf:/name",
            "hf:o/",
            "hf:o/n@",
            "hf:o/n/",
            "hf:o/n/file.bin",
            "hf:o/n/../a.gguf",
            "hf:o/n//a.gguf",
            "hf:../n",
            "hf:o/..",
            "hf:o/a--b",
            "hf:o/-n",
            "hf:o/n o",
            "hf:o/n@../x",
            "hf:o/n@a\\b",
            "hf:o/n@/x",
            long.as_str(),
        ] {
            let error = ModelName::parse(given).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{given}: ")) && error.contains("hf:OWNER/NAME"), "{error}");
        }
    }

    #[test]
    fn data_sets_have_an_owner_or_none() {
        for id in ["allenai/ai2_arc", "xnli", "paws-x"] {
            let target = Target::data_set(id, "refs/convert/parquet").unwrap();
            assert_eq!((target.id.as_str(), target.commit()), (id, None));
            assert_eq!(target.to_string(), format!("the data set {id}"));
        }
        let long = format!("{}/{}", "o".repeat(50), "n".repeat(50));
        for (id, revision) in
            [("", "main"), ("../n", "main"), ("o/n/x", "main"), ("o/", "main"), ("o/n", "../x"), ("o/n", ""), (&long, "main")]
        {
            let error = Target::data_set(id, revision).unwrap_err().to_string();
            assert!(error.starts_with(&format!("the data set {id}: ")) && !error.contains("gguf"), "{error}");
        }
    }

    #[test]
    fn only_a_whole_hash_is_a_commit() {
        let commit = |revision: &str| ModelName::parse(&format!("hf:o/n@{revision}")).unwrap().commit().is_some();
        assert!(commit(&"0a".repeat(20)));
        assert!(!commit("main") && !commit("0a0a0a0") && !commit(&"0A".repeat(20)));
    }
}
