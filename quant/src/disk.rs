//! Room on a disk, asked for before hours are spent on what is to go there. What is absent: reserving it; a disk that others fill
//! meanwhile still ends the run.

use std::path::Path;

use crate::atomic_file::directory_of;
use crate::{Error, Result};

/// The bytes that the file system of a folder has free for this user.
///
/// # Errors
/// [`Error::Io`]: no such folder, a system that does not say.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    fs4::available_space(folder).map_err(|e| Error::io(folder, e))
}

/// Refuses `bytes` of which `free` are there; the error names `path`.
pub(crate) fn check(path: &Path, bytes: u64, free: u64) -> Result<()> {
    if bytes > free {
        let what = format!("the disk has {free} bytes free, {bytes} are needed; free some space or write elsewhere");
        return Err(Error::file(path, what));
    }
    Ok(())
}

/// Refuses a file of `bytes` that its disk has no room for.
///
/// # Errors
/// [`Error::File`] where it has not, [`Error::Io`] where that cannot be told; both name `path`.
pub fn check_room(path: &Path, bytes: u64) -> Result<()> {
    let free = fs4::available_space(directory_of(path)).map_err(|e| Error::io(path, e))?;
    check(path, bytes, free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        check_room(&path, 1).unwrap();
        let error = check_room(&path, u64::MAX).unwrap_err().to_string();
        assert!(
            error.contains("a.bin: the disk has ") && error.contains(" bytes free, 18446744073709551615 are needed"),
            "{error}"
        );
        let error = check_room(&dir.path().join("none/a.bin"), 1).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
