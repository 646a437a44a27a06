//! Timings as records that a report reads: beside those of other runs, never in their place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::Checkpoint;

use crate::error::Result;
use crate::execute::lane_record;
use crate::models;
use bitworth_engine::backend::DeviceInfo;
use bitworth_engine::sweep::Lane;
use bitworth_eval::record::{Body, Origin, Record, Speed};
use bitworth_eval::records;

/// Writes the timings of `checkpoints` to the folder `dir`, one file each, and returns the files. A model is a lane of its own
/// name.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn append(dir: &Path, device: &DeviceInfo, checkpoints: &[Arc<Checkpoint>], speeds: &[Vec<Speed>]) -> Result<Vec<PathBuf>> {
    let mut lanes: Vec<Lane> = checkpoints.iter().map(models::reference).collect();
    let recipes: Vec<String> = checkpoints.iter().map(models::recipe_name).collect();
    lanes.iter_mut().zip(checkpoints).for_each(|(lane, checkpoint)| lane.name = checkpoint.name().to_owned());
    models::number_duplicates(&mut lanes);
    let mut files = Vec::new();
    for (((lane, recipe), checkpoint), speeds) in lanes.iter().zip(&recipes).zip(checkpoints).zip(speeds) {
        let record =
            |body| Record { origin: Origin::new(checkpoint.name(), &lane.name, &device.name, lane.arithmetic.name()), body };
        // From one place or another it is the same file.
        let file = std::fs::canonicalize(checkpoint.path()).unwrap_or_else(|_| checkpoint.path().to_owned());
        let bpw = 8.0 * checkpoint.total_bytes() as f64 / checkpoint.parameter_count() as f64;
        let bytes = models::stored_bytes(checkpoint)?;
        let mut records = vec![record(lane_record(lane, recipe, false, Some(&file), bytes, bpw, None))];
        records.extend(speeds.iter().map(|speed| record(Body::Speed(speed.clone()))));
        let item = free_unit(dir, &lane.name);
        records::append(dir, &item, &records)?;
        files.push(records::path(dir, &item));
    }
    Ok(files)
}

/// The first name that no earlier timing of the lane has.
fn free_unit(dir: &Path, lane: &str) -> String {
    let name = |number: usize| format!("bench.{lane}.{number:04}");
    let mut number = 0;
    while records::has(dir, &name(number)) {
        number += 1;
    }
    name(number)
}
