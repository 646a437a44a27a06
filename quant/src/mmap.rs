//! Opening a model file as a read-only memory map, and telling the system which parts of it are needed. What is absent: any
//! look at the contents.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::cut_files::Watched;
use crate::{Error, Result};

/// A mapped file.
pub struct FileMap {
    /// Goes before the map does.
    _watched: Watched,
    map: Mmap,
    /// To speak with the system about the file's pages. The file itself is closed: there are models in a thousand of them, and
    /// systems that let a program have 256 open.
    #[cfg_attr(not(any(target_os = "linux", target_os = "android")), allow(dead_code))]
    path: PathBuf,
}

impl std::ops::Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// A part of a mapped file.
#[derive(Clone)]
pub(crate) struct Span {
    pub(crate) map: Arc<FileMap>,
    pub(crate) range: Range<usize>,
}

impl Span {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    /// A part of it as a range of the file.
    pub(crate) fn within(&self, part: Range<usize>) -> Range<usize> {
        self.range.start + part.start..self.range.start + part.end
    }
}

/// Maps the whole of `path`. An empty file, a directory and a missing file are errors that say so.
pub(crate) fn map_file(path: &Path) -> Result<Arc<FileMap>> {
    // Asked before it is opened, because opening a named pipe would wait for somebody who writes.
    let about = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !about.is_file() {
        return Err(Error::file(path, "not a regular file; give the path of a model file"));
    }
    if about.len() == 0 {
        return Err(Error::file(path, "the file is empty; fetch or make it again"));
    }
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    // SAFETY: the map is read-only and private to this process. As with every memory map, another process that cuts the
    // file short while it is mapped can make a read fault (see `cut_files`); model files are not edited in place, and our own
    // are replaced by rename, which leaves an open map valid.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    Ok(Arc::new(FileMap { _watched: Watched::new(path, map.as_ptr() as usize, map.len()), map, path: path.to_owned() }))
}

/// Has the system read `range` of `map` now, in one go instead of page by page. A request only: systems that cannot do so
/// read when the bytes are touched.
pub(crate) fn populate(map: &FileMap, range: &Range<usize>) {
    #[cfg(target_os = "linux")]
    let _ = map.map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
    #[cfg(not(target_os = "linux"))]
    let _ = (map, range);
}

/// Has the system begin to read `range` of `map`. A request only.
pub(crate) fn will_need(map: &FileMap, range: &Range<usize>) {
    #[cfg(unix)]
    let _ = map.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
    #[cfg(not(unix))]
    let _ = (map, range);
}

/// Takes the pages of `range` of `map` out of this process, so that they no longer count as its memory. They come back when
/// touched again. A request only.
///
/// The page in which the range ends is left to the range that goes on there: were it touched again, the system would bring
/// back its neighbours too.
pub(crate) fn release(map: &FileMap, range: &Range<usize>) {
    /// A multiple of the page sizes in use but for the rare 64 KiB, where a little more comes back.
    const PAGE: usize = 16 << 10;
    let (start, end) = (range.start / PAGE * PAGE, range.end / PAGE * PAGE);
    // SAFETY: the map is of a file, read-only and never written through, so its pages are the file's, and a page that was
    // dropped is read from there again. This holds for whoever else looks at them meanwhile.
    #[cfg(unix)]
    #[allow(unsafe_code)]
    let _ = unsafe { map.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
    #[cfg(not(unix))]
    let _ = (map, start, end);
}

/// As [`release`], and out of the system's file cache too. Where a system cannot do that, only the former.
pub(crate) fn evict(map: &FileMap, range: &Range<usize>) {
    release(map, range);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let (Some(len), Ok(file)) = (std::num::NonZeroU64::new(range.len() as u64), File::open(&map.path)) {
        let _ = rustix::fs::fadvise(&file, range.start as u64, Some(len), rustix::fs::Advice::DontNeed);
    }
}
