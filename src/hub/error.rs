//! What can go wrong between a name and a model or a data set on the disk, and what to do about each.

use bitworth_quant::message::Message;

/// A failure to fetch a model or a data set. Every text says which one or which setting, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is not of the form of a name.
    #[error("{given}: {what}; write hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME/FILE.gguf")]
    Name {
        /// The name as given.
        given: String,
        /// What is wrong with it.
        what: String,
    },
    /// The name of a data set or of its revision is none.
    #[error("{given}: {what}; the hub's data sets are named OWNER/NAME")]
    DataSetName {
        /// The name as given.
        given: String,
        /// What is wrong with it.
        what: String,
    },
    /// An environment variable cannot be followed.
    #[error("{name}: {what}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What is wrong and what to do. Never holds a token.
        what: String,
    },
    /// The model or data set cannot be had, or is not one.
    #[error("{model}: {what}")]
    Model {
        /// The model or data set as given.
        model: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// One of its files cannot be had, or is not what it should be.
    #[error("{model}: {file}: {what}")]
    File {
        /// The model or data set as given.
        model: String,
        /// The file's path in the repository.
        file: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// The hub gives no answer.
    #[error("{model}: {what}")]
    Unreachable {
        /// The model or data set as given.
        model: String,
        /// What happened and what to do.
        what: String,
    },
    /// A file of the cache cannot be read or written, or what was fetched is no model that can be read.
    #[error(transparent)]
    Disk(#[from] bitworth_quant::Error),
    /// The caller asked to stop.
    #[error("{model}: interrupted; what has been fetched is kept, and the same command goes on from there")]
    Interrupted {
        /// The model or data set as given.
        model: String,
    },
}

impl Error {
    /// All of what it says, causes included.
    pub fn message(&self) -> Message {
        match self {
            Self::Disk(e) => e.message(),
            // What a user can set here are variables of the environment, which go by one name everywhere.
            other => other.to_string().into(),
        }
    }
}

/// Shorthand used throughout the hub.
pub type Result<T, E = Error> = std::result::Result<T, E>;
