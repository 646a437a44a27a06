//! What can go wrong while a model runs.

use std::fmt;

use bitworth_quant::message::{Message, Setting};

use super::backend::DeviceError;

/// The memory of a sweep, in MiB.
pub const MAX_MEMORY: Setting = Setting::new("max_memory");

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device refused or failed.
    Device(#[from] DeviceError),
    /// The model file is not what it should be.
    Model(#[from] bitworth_quant::Error),
    /// The model cannot do what was asked.
    Unfit {
        /// The model.
        model: String,
        /// What it cannot do and what to do.
        what: String,
    },
    /// Not even the shortest pass of a sweep fits the memory.
    TooLittleMemory {
        /// The first lane.
        model: String,
        /// The memory that it may take, in MiB.
        given_mib: usize,
        /// The memory that would do.
        needed_mib: usize,
        /// Tokens of the longest sequence.
        longest: usize,
    },
    /// The user asked to stop.
    Interrupted,
}

/// Shorthand used throughout the engine.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

impl EngineError {
    /// All of what it says, causes included.
    pub fn message(&self) -> Message {
        match self {
            Self::Device(e) => e.message(),
            Self::Model(e) => e.message(),
            Self::Unfit { model, what } => format!("{model}: {what}").into(),
            Self::TooLittleMemory { model, given_mib, needed_mib, longest } => {
                let few = format!(
                    "{model}: {given_mib} MiB of memory are too few for one layer of all lanes and a sequence of {longest} \
                     tokens; that takes {needed_mib} MiB ("
                );
                let remedy = MAX_MEMORY.with(needed_mib).then("), fewer lanes or shorter sequences take less");
                Message::from(few).then(remedy)
            }
            Self::Interrupted => "interrupted".into(),
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}
