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
    lane.file = lane.file.map(|file| placed(Path::new(&file)).map_or(file, |path| path.display().to_string()));
    Body::Lane(lane)
}

/// From one place or another it is the same file. Its name stays, as a report tells files by it: what a link points to may have
/// another one.
fn placed(file: &Path) -> std::io::Result<PathBuf> {
    match (file.parent(), file.file_name()) {
        (Some(folder), Some(name)) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            Ok(std::fs::canonicalize(folder)?.join(name))
        }
        _ => std::fs::canonicalize(file),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_name_wherever_it_is_named_from() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        std::fs::create_dir(folder.join("blobs")).unwrap();
        std::fs::write(folder.join("blobs/0123"), "").unwrap();
        assert_eq!(placed(&folder.join("blobs/../model.gguf")).unwrap(), folder.join("model.gguf"));
        assert_eq!(placed(&folder.join("blobs/..")).unwrap(), folder);
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(placed(Path::new("here.gguf")).unwrap(), here.join("here.gguf"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("blobs/0123", folder.join("linked.gguf")).unwrap();
            std::os::unix::fs::symlink("blobs", folder.join("linked")).unwrap();
            assert_eq!(placed(&folder.join("linked.gguf")).unwrap(), folder.join("linked.gguf"));
            assert_eq!(placed(&folder.join("linked/0123")).unwrap(), folder.join("blobs").join("0123"));
        }
    }
}
