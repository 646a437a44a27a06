//! The names of the items of work, each of which leaves its records in a file of its name.

use bitworth_quant::hex::hex;
use sha2::{Digest, Sha256};

use super::prepare::Walk;
use super::questions::Questions;

/// The item that describes the reference.
pub const REFERENCE_ITEM: &str = "lane.reference";

/// The item that describes a lane.
pub fn lane_item(lane: &str) -> String {
    format!("lane.{lane}")
}

/// The item that says why a candidate was left out.
pub fn left_out_item(candidate: &str) -> String {
    // A path may be longer than the name of a file.
    format!("left_out.{}", &hex(&Sha256::digest(candidate))[..16])
}

/// The item of a pass over a text.
pub fn text_item(walk: &Walk, number: usize) -> String {
    format!("text.{}.{number:05}", walk.name())
}

/// The item of a task.
pub fn task_item(task: &Questions) -> String {
    format!("task.{}", task.name)
}

/// The item of a lane's timings.
pub fn speed_item(lane: &str) -> String {
    format!("speed.{lane}")
}
