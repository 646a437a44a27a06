//! Which start of the program measures: when, where and by what, as records and the folders of runs keep it.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use bitworth_eval::record::SessionInfo;

/// This session. All that one start of the program measures is of one session, which begins where it is first asked for.
pub fn session() -> SessionInfo {
    static BEGUN: OnceLock<u64> = OnceLock::new();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    SessionInfo {
        unix_seconds: *BEGUN.get_or_init(now),
        host: sysinfo::System::host_name(),
        system: sysinfo::System::long_os_version(),
        threads: rayon::current_num_threads(),
        bitworth: env!("CARGO_PKG_VERSION").to_owned(),
        commit: option_env!("BITWORTH_COMMIT").map(str::to_owned),
    }
}
