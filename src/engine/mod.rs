//! Runs models: one forward function over a [`backend::Backend`], layer-major scoring ([`sweep`]) and decoding
//! ([`generate`]). Absent: tasks, statistics over items, files of records (see `eval`, `runner`).

pub mod backend;
pub mod cpu;
pub mod gpu;
#[cfg(test)]
pub(crate) mod suite;
