//! What runs where, how fast, and what it costs in quality: machines, models, memory, speeds, and what follows from them. Pure: no
//! clock, no environment, no device; files are read only where a caller names them. Nothing is measured here.

pub mod advice;
pub mod advisor;
pub mod choice;
pub mod claims;
pub mod hardware;
pub mod memory;
pub mod models;
pub mod overtake;
pub mod quality;
pub mod rank;
pub mod request;
pub mod sizes;
pub mod speed;
mod spelling;
