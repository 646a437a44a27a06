//! Runs models: one forward function ([`forward`]) over a [`backend::Backend`], layer-major scoring ([`sweep`]) and decoding
//! ([`generate`]). Absent: tasks, statistics over items, files of records (see `eval`, `runner`).

pub mod backend;
pub mod cpu;
pub mod error;
pub mod forward;
pub mod generate;
pub mod gpu;
pub mod head;
pub mod model;
pub mod observe;
pub mod probe;
pub mod rope;
pub mod routing;
#[cfg(test)]
pub(crate) mod suite;
pub mod supply;
pub mod sweep;
