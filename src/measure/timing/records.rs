//! Timings as records that a report reads: beside those of other runs, never in their place.

use std::path::{Path, PathBuf};

use crate::error::Result;
use bitworth_eval::record::{Body, Record, SessionInfo};
use bitworth_eval::records;

/// Writes the records of a job of timings, which `session` did, to the folder `dir`, one file a lane, and returns the files. No
/// lane is a reference: these models need not be versions of one.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn append(dir: &Path, timed: &[Record], session: &SessionInfo) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for lane in timed.iter().filter(|record| record.as_lane().is_some()) {
        let of_lane = timed.iter().filter(|record| record.origin == lane.origin).cloned();
        let of_lane: Vec<Record> = of_lane.map(|record| Record { body: described(record.body), ..record }).collect();
        // A lane that was not timed says nothing.
        if of_lane.len() == 1 {
            continue;
        }
        let item = free_unit(dir, &lane.origin.lane);
        records::append(dir, &item, &of_lane, Some(session))?;
        files.push(records::path(dir, &item));
    }
    Ok(files)
}

fn described(body: Body) -> Body {
    let Body::Lane(mut lane) = body else { return body };
    lane.is_reference = false;
    // From one place or another it is the same file.
    lane.file = lane.file.map(|file| std::fs::canonicalize(&file).map_or(file, |path| path.display().to_string()));
    Body::Lane(lane)
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
