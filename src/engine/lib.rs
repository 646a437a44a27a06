//! Runs models: one forward function ([`forward`]) over a [`backend::Backend`], layer-major scoring ([`sweep`]) and decoding
//! ([`generate`]). Absent: tasks, statistics over items, files of records (see `eval`, `measure`).

pub mod adapter;
pub mod backend;
pub mod cpu;
pub mod error;
pub mod footprint;
pub mod forward;
pub mod generate;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod head;
pub mod model;
pub mod observe;
mod prefetch;
pub mod probe;
pub mod rope;
mod routing;
pub mod state;
#[cfg(test)]
pub(crate) mod suite;
mod supply;
pub mod sweep;
mod variant;

pub use supply::{Supply, TensorRows};

use bitworth_quant::message::Setting;

/// Every setting that a message of this crate may name.
pub const SETTINGS: &[Setting] = &[backend::ARITHMETIC, backend::DEVICE, error::MAX_MEMORY];
