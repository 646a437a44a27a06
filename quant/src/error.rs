//! The one error of this crate: what went wrong, in which file, tensor and place, and what to do about it.

use std::path::{Path, PathBuf};

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to read, plan or write a model. Every variant names the file; the text says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// A GGUF file breaks the format.
    #[error("{}: at byte {offset}: {what}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong and what to do.
        what: String,
    },
    /// A file as a whole is not what it should be (a missing shard, JSON that does not parse, a lying header).
    #[error("{}: {what}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// One tensor is not what it should be.
    #[error("{}: tensor {tensor}: {what}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A hyper-parameter or metadata key is missing, of the wrong type, or asks for something not understood.
    #[error("{}: {key}: {what}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key in `config.json` or in the GGUF metadata.
        key: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// A name that is not in one of our tables (architecture, recipe, type).
    #[error("unknown {kind} {found:?}; known: {}", known.join(", "))]
    Unknown {
        /// What kind of name it is.
        kind: &'static str,
        /// The name as given.
        found: String,
        /// All names that would have been understood.
        known: Vec<String>,
    },
    /// An option of the caller's cannot be followed.
    #[error("{option} {value}: {what}")]
    Option {
        /// The option, as `--tensor-type`.
        option: &'static str,
        /// What was asked for, as it was given.
        value: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// The caller asked to stop. What had been written was removed.
    #[error("interrupted; no unfinished file was left behind")]
    Cancelled,
    /// The caller asked to stop. What had been written is kept.
    #[error("interrupted; {} is unfinished and kept, run the same command again with --resume to finish it", path.display())]
    Suspended {
        /// The file that will be finished by resuming.
        path: PathBuf,
    },
}

impl Error {
    /// An [`Error::Io`] at `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }

    /// An [`Error::Gguf`] at `offset` of `path`.
    pub fn gguf(path: impl AsRef<Path>, offset: u64, what: impl Into<String>) -> Self {
        Self::Gguf { path: path.as_ref().to_owned(), offset, what: what.into() }
    }

    /// An [`Error::File`] at `path`.
    pub fn file(path: impl AsRef<Path>, what: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), what: what.into() }
    }

    /// An [`Error::Tensor`] for `tensor` in `path`.
    pub fn tensor(path: impl AsRef<Path>, tensor: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Tensor { path: path.as_ref().to_owned(), tensor: tensor.into(), what: what.into() }
    }

    /// An [`Error::Key`] for `key` in `path`.
    pub fn key(path: impl AsRef<Path>, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Key { path: path.as_ref().to_owned(), key: key.into(), what: what.into() }
    }

    /// An [`Error::Option`]: `value` was given for `option`.
    pub fn option(option: &'static str, value: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Option { option, value: value.into(), what: what.into() }
    }

    /// An [`Error::Unknown`] name of `kind`, with the names that are known.
    pub fn unknown(kind: &'static str, found: impl Into<String>, known: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Unknown { kind, found: found.into(), known: known.into_iter().map(Into::into).collect() }
    }
}
