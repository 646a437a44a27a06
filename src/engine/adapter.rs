//! Graphics adapters as this machine has them: every one, with and without the feature `gpu`, which opens them (`gpu/`).

pub use crate::backend::{AdapterDescription, GpuSelector};

/// Every adapter of this machine, in the order that `gpu:n` counts: hardware before software, the fastest kind first. None where
/// the feature `gpu` is off.
#[cfg(feature = "gpu")]
pub fn list_adapters() -> Vec<AdapterDescription> {
    crate::gpu::list()
}

/// Every adapter of this machine. None where the feature `gpu` is off.
#[cfg(not(feature = "gpu"))]
pub fn list_adapters() -> Vec<AdapterDescription> {
    Vec::new()
}
