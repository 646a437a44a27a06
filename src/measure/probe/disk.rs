//! How fast a drive is read: a temporary file, written, put on the drive, and read from its beginning past the system's cache
//! where the system lets us.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use bitworth_quant::random::SplitMix64;

use super::Watch;
use crate::error::{Error, Result};

/// Bytes of the file; fewer where writing them takes longer than [`LONGEST`].
const BYTES: usize = 256 << 20;
/// Bytes of one read. Reading past the cache wants addresses and sizes that are multiples of pages.
const BLOCK: usize = 4 << 20;
const PAGE: usize = 4096;
const LONGEST: Duration = Duration::from_millis(1500);

/// What reading gave.
pub struct DiskRead {
    /// Bytes a second of each pass over the file.
    pub rates: Vec<f64>,
    /// What stood between the drive and us.
    pub cache: Cache,
    /// Bytes of the file.
    pub bytes: usize,
}

/// How the system's cache was kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code)] // No system can all of them.
pub enum Cache {
    /// The system was told to read past its cache.
    Bypassed,
    /// The system was told to drop what its cache had of the file, and may have done so.
    Dropped,
    /// It could not be: the figure is that of the cache.
    InUse,
}

impl Cache {
    /// For a person.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Bypassed => "past the system's cache",
            Self::Dropped => "after the system was asked to drop its cache",
            Self::InUse => "through the system's cache, which may hold it",
        }
    }
}

/// Measures the drive that holds the folder `dir`.
///
/// # Errors
/// A folder or file that cannot be written or read; an interruption.
pub fn measure(dir: &Path, watch: Watch<'_>) -> Result<DiskRead> {
    let failed = |e: std::io::Error| Error::io(dir, e);
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    let bytes = fill(file.as_file_mut(), dir, watch)?;
    let (mut reader, cache) = uncached(file.path()).map_err(failed)?;
    // One page more, so that the block can begin at the beginning of one.
    let mut room = vec![0u8; BLOCK + PAGE];
    let start = room.as_ptr().align_offset(PAGE).min(PAGE);
    let block = &mut room[start..][..BLOCK];
    let mut rates = Vec::new();
    let begin = Instant::now();
    while rates.len() < 3 || (rates.len() < 7 && begin.elapsed() < LONGEST) {
        if cache == Cache::Dropped {
            drop_cache(&reader);
        }
        reader.seek(SeekFrom::Start(0)).map_err(failed)?;
        let (begin, mut left) = (Instant::now(), bytes);
        while left > 0 {
            if watch.stopped() {
                return Err(Error::interrupted());
            }
            match reader.read(block).map_err(failed)? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        rates.push((bytes - left) as f64 / begin.elapsed().as_secs_f64().max(1e-9));
    }
    Ok(DiskRead { rates, cache, bytes })
}

/// Writes whole blocks that no file system can compress, until there are enough or it took too long, and puts them on the drive.
fn fill(file: &mut File, dir: &Path, watch: Watch<'_>) -> Result<usize> {
    let mut random = SplitMix64::new(0);
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        block.extend_from_slice(&random.bits().to_le_bytes());
    }
    let (begin, mut bytes) = (Instant::now(), 0);
    while bytes < BYTES && (bytes == 0 || begin.elapsed() < LONGEST) {
        if watch.stopped() {
            return Err(Error::interrupted());
        }
        // Nor may it find the same block twice.
        block[..8].copy_from_slice(&(bytes as u64).to_le_bytes());
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(|e| Error::io(dir, e))?;
        bytes += BLOCK;
    }
    Ok(bytes)
}

#[cfg(target_os = "linux")]
fn uncached(path: &Path) -> std::io::Result<(File, Cache)> {
    use std::os::unix::fs::OpenOptionsExt;
    let direct = rustix::fs::OFlags::DIRECT.bits() as i32;
    if let Ok(mut file) = File::options().read(true).custom_flags(direct).open(path) {
        // Some file systems open it and then refuse to read.
        let mut page = vec![0u8; 2 * PAGE];
        let start = page.as_ptr().align_offset(PAGE).min(PAGE);
        if file.read(&mut page[start..][..PAGE]).is_ok() {
            return Ok((file, Cache::Bypassed));
        }
    }
    let file = File::open(path)?;
    let cache = if drop_cache(&file) { Cache::Dropped } else { Cache::InUse };
    Ok((file, cache))
}

#[cfg(target_os = "linux")]
fn drop_cache(file: &File) -> bool {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).is_ok()
}

#[cfg(target_vendor = "apple")]
fn uncached(path: &Path) -> std::io::Result<(File, Cache)> {
    let file = File::open(path)?;
    let cache = if rustix::fs::fcntl_nocache(&file, true).is_ok() { Cache::Bypassed } else { Cache::InUse };
    Ok((file, cache))
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn uncached(path: &Path) -> std::io::Result<(File, Cache)> {
    Ok((File::open(path)?, Cache::InUse))
}

#[cfg(not(target_os = "linux"))]
fn drop_cache(_: &File) -> bool {
    false
}
