//! What can go wrong while a model runs.

use super::backend::DeviceError;

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model file is not what it should be.
    #[error(transparent)]
    Model(#[from] bitworth_quant::Error),
    /// The model cannot do what was asked.
    #[error("{model}: {what}")]
    Unfit {
        /// The model.
        model: String,
        /// What it cannot do and what to do.
        what: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Shorthand used throughout the engine.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;
