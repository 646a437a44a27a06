//! Advice about hardware: what fits, how fast, how good, and what to pick. Pure: no clock, no environment, no files but embedded ones
//! and those it is handed.

pub mod choice;
pub mod overtake;
pub mod quality;
pub mod rank;
