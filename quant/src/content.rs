//! What a file holds, as a number that another content does not have: BLAKE3 over every byte. A file that is as it was when it
//! was hashed (size, times, place on the disk) is not read again. Absent: hashes that are published (SHA-256, see `quantize`).

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::atomic_file::write_whole;
use crate::{Error, Result};

/// Bytes read at a time.
const BLOCK: usize = 16 << 20;
/// A file changed so shortly ago may be changed once more without its times telling: they tick coarsely on some systems.
const SETTLED: Duration = Duration::from_secs(2);
/// Bytes from which on a hash is worth keeping.
const WORTH_KEEPING: u64 = 4 << 20;

/// The user's cache folder for this program.
pub fn cache_folder() -> PathBuf {
    let home =
        || std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home);
    cache.unwrap_or_else(std::env::temp_dir).join("bitworth")
}

/// BLAKE3 over every byte of a file, in hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    hash_in(path, &cache_folder().join("content"))
}

fn hash_in(path: &Path, kept: &Path) -> Result<String> {
    let io = |e| Error::io(path, e);
    let before = std::fs::metadata(path).map_err(io)?;
    let place = (before.len() >= WORTH_KEEPING && is_settled(&before)).then(|| kept.join(stamp(path, &before)));
    let known = place.as_deref().and_then(|place| std::fs::read_to_string(place).ok());
    if let Some(known) = known.filter(|hash| hash.len() == 2 * blake3::OUT_LEN) {
        return Ok(known);
    }
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; BLOCK.min(before.len().max(1) as usize)];
    loop {
        let read = file.read(&mut block).map_err(io)?;
        if read == 0 {
            break;
        }
        hasher.update_rayon(&block[..read]);
    }
    let hash = hasher.finalize().to_hex().to_string();
    if let Some(place) = place {
        let after = std::fs::metadata(path).map_err(io)?;
        if stamp(path, &after) == stamp(path, &before) {
            // A cache that cannot be written costs time and nothing else.
            let _ = write_whole(&place, hash.as_bytes());
        }
    }
    Ok(hash)
}

fn is_settled(about: &Metadata) -> bool {
    let passed = |time: SystemTime| SystemTime::now().duration_since(time).is_ok_and(|age| age > SETTLED);
    about.modified().is_ok_and(passed) && changed(about).is_none_or(passed)
}

/// When the file's entry was changed last, which cannot be set back as the time of its contents can.
#[cfg(unix)]
fn changed(about: &Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    let (seconds, nanos) = (u64::try_from(about.ctime()).ok()?, u32::try_from(about.ctime_nsec()).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> Option<SystemTime> {
    None
}

/// The name under which a file's hash is kept: another one as soon as the file is.
fn stamp(path: &Path, about: &Metadata) -> String {
    let time = |time: Option<SystemTime>| time.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|d| d.as_nanos());
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parts = (path, about.len(), time(about.modified().ok()), time(changed(about)), entry(about));
    blake3::hash(format!("{parts:?}").as_bytes()).to_hex().to_string()
}

/// Device and inode.
#[cfg(unix)]
fn entry(about: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (about.dev(), about.ino())
}

#[cfg(not(unix))]
fn entry(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, bytes: &[u8], age: Duration) {
        std::fs::write(path, bytes).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn it_is_the_hash_that_blake3_publishes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        // The empty input of BLAKE3's test vectors.
        write(&path, b"", Duration::ZERO);
        assert_eq!(hash(&path).unwrap(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }

    #[test]
    fn every_byte_counts_and_times_set_back_do_not_hide_a_change() {
        let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("f");
        let mut bytes = vec![7; WORTH_KEEPING as usize];
        let age = Duration::from_secs(100);
        write(&path, &bytes, age);
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let first = hash_in(&path, kept.path()).unwrap();
        *bytes.last_mut().unwrap() = 8;
        write(&path, &bytes, age);
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_ne!(hash_in(&path, kept.path()).unwrap(), first);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_as_it_was_is_not_read_again() {
        let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("f");
        write(&path, &vec![7; WORTH_KEEPING as usize], Duration::from_secs(100));
        std::thread::sleep(SETTLED + Duration::from_millis(100));
        let first = hash_in(&path, kept.path()).unwrap();
        let entries: Vec<PathBuf> = std::fs::read_dir(kept.path()).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(entries.len(), 1);
        let other = "0".repeat(2 * blake3::OUT_LEN);
        std::fs::write(&entries[0], &other).unwrap();
        assert_eq!(hash_in(&path, kept.path()).unwrap(), other, "what was kept is taken");
        std::fs::write(&entries[0], "cut").unwrap();
        assert_eq!(hash_in(&path, kept.path()).unwrap(), first, "what is no hash is not");
    }
}
