//! What the integration tests share: where the golden data is.

use std::path::{Path, PathBuf};

/// A file or folder of the golden data beside the repository (`../shared`, or `BITWORTH_SHARED`). Where there is none the caller
/// skips and says so; in CI that is a failure, because nothing may be skipped there.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("BITWORTH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, and in CI nothing may be skipped", found.display());
    None
}
