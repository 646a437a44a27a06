//! The one error of this crate: what went wrong, in which file, tensor and place, and what to do about it. What is absent: what
//! a program calls the settings that an error names (see [`crate::message`]).

use std::fmt;
use std::path::{Path, PathBuf};

use crate::message::{Message, Setting};

/// [`QuantizeOptions::resume`](crate::quantize::QuantizeOptions::resume), which the error of an interrupted run names.
pub(crate) const RESUME: Setting = Setting::new("resume");

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to read, plan or write a model. Every variant names the file; the text says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// A GGUF file breaks the format.
    Gguf {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong and what to do.
        what: Message,
    },
    /// A file as a whole is not what it should be (a missing shard, JSON that does not parse, a lying header).
    File {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        what: Message,
    },
    /// One tensor is not what it should be.
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// What is wrong and what to do.
        what: Message,
    },
    /// A hyper-parameter or metadata key is missing, of the wrong type, or asks for something not understood.
    Key {
        /// The file.
        path: PathBuf,
        /// The key in `config.json` or in the GGUF metadata.
        key: String,
        /// What is wrong and what to do.
        what: Message,
    },
    /// A name that is not in one of our tables (architecture, recipe, type).
    Unknown {
        /// What kind of name it is.
        kind: &'static str,
        /// The name as given.
        found: String,
        /// All names that would have been understood.
        known: Vec<String>,
    },
    /// A name that is known, of something that is not there.
    Unsupported {
        /// What kind of name it is.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is missing.
        what: Message,
    },
    /// A setting of the caller's cannot be followed.
    Option {
        /// The setting, as `tensor_type`.
        setting: Setting,
        /// What was asked for, as it was given.
        value: String,
        /// What is wrong and what to do.
        what: Message,
    },
    /// Settings of the caller's cannot be followed together.
    Settings {
        /// The settings with their values.
        settings: Message,
        /// What is wrong and what to do.
        what: Message,
    },
    /// The caller asked to stop. What had been written was removed.
    Cancelled,
    /// The caller asked to stop. What had been written is kept.
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
    pub fn gguf(path: impl AsRef<Path>, offset: u64, what: impl Into<Message>) -> Self {
        Self::Gguf { path: path.as_ref().to_owned(), offset, what: what.into() }
    }

    /// An [`Error::File`] at `path`.
    pub fn file(path: impl AsRef<Path>, what: impl Into<Message>) -> Self {
        Self::File { path: path.as_ref().to_owned(), what: what.into() }
    }

    /// An [`Error::Tensor`] for `tensor` in `path`.
    pub fn tensor(path: impl AsRef<Path>, tensor: impl Into<String>, what: impl Into<Message>) -> Self {
        Self::Tensor { path: path.as_ref().to_owned(), tensor: tensor.into(), what: what.into() }
    }

    /// An [`Error::Key`] for `key` in `path`.
    pub fn key(path: impl AsRef<Path>, key: impl Into<String>, what: impl Into<Message>) -> Self {
        Self::Key { path: path.as_ref().to_owned(), key: key.into(), what: what.into() }
    }

    /// An [`Error::Option`]: `value` was given for `setting`.
    pub fn option(setting: Setting, value: impl Into<String>, what: impl Into<Message>) -> Self {
        Self::Option { setting, value: value.into(), what: what.into() }
    }

    /// An [`Error::Unsupported`] name of `kind`.
    pub fn unsupported(kind: &'static str, name: impl Into<String>, what: impl Into<Message>) -> Self {
        Self::Unsupported { kind, name: name.into(), what: what.into() }
    }

    /// An [`Error::Unknown`] name of `kind`, with the names that are known.
    pub fn unknown(kind: &'static str, found: impl Into<String>, known: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Unknown { kind, found: found.into(), known: known.into_iter().map(Into::into).collect() }
    }

    /// All of what it says, causes included.
    pub fn message(&self) -> Message {
        match self {
            Self::Io { path, source } => format!("{}: {source}", path.display()).into(),
            Self::Gguf { path, offset, what } => Message::from(format!("{}: at byte {offset}: ", path.display())).then(what),
            Self::File { path, what } => Message::from(format!("{}: ", path.display())).then(what),
            Self::Tensor { path, tensor, what } => Message::from(format!("{}: tensor {tensor}: ", path.display())).then(what),
            Self::Key { path, key, what } => Message::from(format!("{}: {key}: ", path.display())).then(what),
            Self::Unknown { kind, found, known } => format!("unknown {kind} {found:?}; known: {}", known.join(", ")).into(),
            Self::Unsupported { kind, name, what } => Message::from(format!("{kind} {name:?} is not supported: ")).then(what),
            Self::Option { setting, value, what } => setting.with(value).then(": ").then(what),
            Self::Settings { settings, what } => Message::from(settings).then(": ").then(what),
            Self::Cancelled => "interrupted; no unfinished file was left behind".into(),
            Self::Suspended { path } => {
                let is = format!("interrupted; {} is unfinished and kept, run the same command again with ", path.display());
                Message::from(is).then(RESUME).then(" to finish it")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}
