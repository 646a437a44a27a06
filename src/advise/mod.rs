//! Advice from figures: machines ([`hardware`]), models without weights ([`models`]), and what one needs of the other.
//!
//! Pure: nothing here reads a clock or the environment, or a file but the ones it is handed. Absent: measuring (see `runner`),
//! drawing (see `report`) and printing (see `cli`).

pub mod hardware;
pub mod models;
mod spelling;
