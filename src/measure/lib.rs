//! Joins evaluation and engine: opens models and devices, packs requests into sweeps, times lanes, and keeps the records of a
//! run. Absent: what scores mean (`eval`), how they are shown (`report`, `cli`).

pub mod allocate;
pub mod device;
pub mod error;
pub mod execute;
pub mod fit;
pub mod generation;
pub mod imatrix;
pub mod models;
pub mod probe;
mod readers;
pub mod reference;
pub mod requests;
pub mod second_moment;
pub mod sensitivity;
mod session;
pub mod settings;
pub mod text;
pub mod timing;

use std::sync::atomic::{AtomicBool, Ordering};

use bitworth_quant::Progress;

pub use error::{Error, Result};
pub use session::session;
pub use settings::SETTINGS;

/// What a long call is given to talk to whoever waits for it.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Receives progress.
    pub progress: &'a dyn Progress,
    /// Becomes true when the call should end early.
    pub stop: &'a AtomicBool,
}

impl Watch<'_> {
    /// Whether to end early.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
