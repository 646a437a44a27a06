//! What can go wrong while something is measured. Absent: what programs call settings (see `bitworth_quant::message`).

use std::fmt;
use std::path::Path;

use bitworth_engine::backend::DeviceError;
use bitworth_engine::error::EngineError;
use bitworth_quant::message::Message;
use bitworth_text::chat::ChatError;
use bitworth_text::tokenizer::TokenizerError;

/// A failure to measure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine: a device, a model that it does not run, an interruption.
    Engine(#[from] EngineError),
    /// A file: a model, a matrix, a store, records.
    File(#[from] bitworth_quant::Error),
    /// A model whose tokenizer cannot be used.
    Tokenizer(#[from] TokenizerError),
    /// A model that cannot be asked as a chat.
    Chat(#[from] ChatError),
    /// A model that cannot be had from the hub.
    #[cfg(feature = "hub")]
    Hub(#[from] bitworth_hub::Error),
    /// What was asked for makes no sense, or not for this model.
    Unfit {
        /// What is wrong and what to do.
        what: Message,
    },
    /// A candidate that opens, and is no version of the model that it is to be compared with.
    OtherModel {
        /// How they differ and what to do.
        what: Message,
    },
    /// Any of them, and where it happened.
    At {
        /// The request, the task, the key of a configuration.
        place: Message,
        /// What happened there.
        source: Box<Error>,
    },
}

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Unfit`].
    pub fn unfit(what: impl Into<Message>) -> Self {
        Self::Unfit { what: what.into() }
    }

    /// An error of the system's at `path`.
    pub(crate) fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        bitworth_quant::Error::io(path, source).into()
    }

    /// The error of a user who asked to stop.
    pub(crate) fn interrupted() -> Self {
        EngineError::Interrupted.into()
    }

    /// Whether the user asked to stop.
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Engine(EngineError::Interrupted) => true,
            Self::At { source, .. } => source.is_interruption(),
            _ => false,
        }
    }

    /// All of what it says, causes included.
    pub fn message(&self) -> Message {
        match self {
            Self::Engine(e) => e.message(),
            Self::File(e) => e.message(),
            Self::Tokenizer(e) => e.message(),
            Self::Chat(e) => e.message(),
            #[cfg(feature = "hub")]
            Self::Hub(e) => e.message(),
            Self::Unfit { what } | Self::OtherModel { what } => what.clone(),
            Self::At { place, source } => Message::from(place).then(": ").then(source.message()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        EngineError::from(error).into()
    }
}

/// Says where a failure happened.
pub(crate) trait At<T> {
    /// With `place` in front of the error.
    fn at<M: Into<Message>>(self, place: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: Into<Error>> At<T> for Result<T, E> {
    fn at<M: Into<Message>>(self, place: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|e| Error::At { place: place().into(), source: Box::new(e.into()) })
    }
}

#[cfg(test)]
mod tests {
    use bitworth_engine::backend::DEVICE;

    use super::*;

    #[test]
    fn an_error_says_where_it_happened_and_names_settings_throughout() {
        let what = Message::from("out of memory: use ").then(DEVICE.with("cpu"));
        let error: Result<()> = Err(DeviceError { device: "d".into(), what }).at(|| "request 1").at(|| "task t");
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "task t: request 1: device d: out of memory: use device cpu");
        let told = error.message().describe(&|setting| format!("--{setting}"));
        assert_eq!(told, "task t: request 1: device d: out of memory: use --device cpu");
        assert!(!error.is_interruption());
        assert!(Err::<(), _>(Error::interrupted()).at(|| "task t").unwrap_err().is_interruption());
    }
}
