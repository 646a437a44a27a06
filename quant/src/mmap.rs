//! Opening a model file as a read-only memory map. What is absent: any look at the contents.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::{Error, Result};

/// Maps the whole of `path`. An empty file, a directory and a missing file are errors that say so.
pub(crate) fn map_file(path: &Path) -> Result<Arc<Mmap>> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let about = file.metadata().map_err(|e| Error::io(path, e))?;
    if !about.is_file() {
        return Err(Error::file(path, "not a regular file; give the path of a model file"));
    }
    if about.len() == 0 {
        return Err(Error::file(path, "the file is empty; fetch or make it again"));
    }
    // SAFETY: the map is read-only and private to this process. As with every memory map, another process that cuts the
    // file short while it is mapped can make a read fault; model files are not edited in place, and our own are replaced
    // by rename, which leaves an open map valid.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    Ok(Arc::new(map))
}
