//! Advice from figures: machines ([`hardware`]), models without weights ([`models`]), and what one needs of the other.
//!
//! Pure: nothing here reads a clock or the environment, or a file but the ones it is handed. Absent: measuring (see `measure`),
//! drawing (see `report`) and printing (see `cli`).

pub mod advice;
pub mod advisor;
mod choice;
pub mod claims;
mod file_size;
pub mod hardware;
pub mod measured;
pub mod memory;
pub mod models;
mod overtake;
pub mod page;
pub mod quality;
mod rank;
pub mod request;
pub mod settings;
pub mod sizes;
pub mod speed;

pub use choice::{Choice, Room};
pub use file_size::{FileSize, TypeBytes};
pub use overtake::{Contest, Leader, Stretch};
pub use rank::{Needs, Pick, Use, Yardstick};
pub use settings::SETTINGS;
