//! Which start of the program measures: when, where and by what, as records and the folders of runs keep it.

use std::time::{SystemTime, UNIX_EPOCH};

use bitworth_eval::record::SessionInfo;

/// This session, begun now.
pub fn session() -> SessionInfo {
    SessionInfo {
        unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        host: sysinfo::System::host_name(),
        system: sysinfo::System::long_os_version(),
        threads: rayon::current_num_threads(),
        bitworth: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("BITWORTH_COMMIT").map(str::to_owned),
    }
}
