//! How much memory of the process a model took at most. Linux counts the peak anew when asked (`VmHWM` of `/proc/self/status`,
//! after `/proc/self/clear_refs`), Apple's systems from the start of the process (`getrusage`); elsewhere it is not known. Memory
//! of a graphics device is the backend's to count.

/// The process's memory at one time, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Resident {
    now: u64,
    /// The most since the count began.
    peak: u64,
}

/// A count of the most memory from now on.
pub struct PeakMemory {
    before: Option<Resident>,
}

impl PeakMemory {
    /// Begins to count.
    pub fn begin() -> Self {
        system::forget_peak();
        Self { before: system::resident() }
    }

    /// The most memory since then less what there was, in bytes; `None` where the system does not tell, or where the process had
    /// more before than since and its peak cannot be reset.
    pub fn growth(&self) -> Option<u64> {
        growth(self.before?, system::resident()?)
    }
}

fn growth(before: Resident, after: Resident) -> Option<u64> {
    // A peak that was reset is about what there is; one that was not must have been passed to say anything.
    let reset = before.peak <= before.now + before.now / 50;
    (reset || after.peak > before.peak).then(|| after.peak.saturating_sub(before.now))
}

#[cfg(target_os = "linux")]
mod system {
    use super::Resident;

    /// Makes the peak what there is now (`man 5 proc`, `clear_refs`, value 5). Not every container allows it; `growth` sees that.
    pub fn forget_peak() {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }

    pub fn resident() -> Option<Resident> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Resident { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

#[cfg(target_vendor = "apple")]
mod system {
    use nix::sys::resource::{UsageWho, getrusage};
    use sysinfo::{ProcessesToUpdate, System, get_current_pid};

    use super::Resident;

    pub fn forget_peak() {}

    pub fn resident() -> Option<Resident> {
        let peak = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
        let pid = get_current_pid().ok()?;
        let mut system = System::new();
        system.refresh_processes(ProcessesToUpdate::Some(&[pid]), false);
        Some(Resident { now: system.process(pid)?.memory(), peak })
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
mod system {
    use super::Resident;

    pub fn forget_peak() {}

    pub fn resident() -> Option<Resident> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[track_caller]
    fn check(before: (u64, u64), peak_after: u64, expected: Option<u64>) {
        let [before, after] = [before, (0, peak_after)].map(|(now, peak)| Resident { now: now * MIB, peak: peak * MIB });
        assert_eq!(growth(before, after), expected.map(|mib| mib * MIB));
    }

    #[test]
    fn growth_is_the_peak_less_what_there_was() {
        check((100, 100), 350, Some(250));
        check((100, 100), 100, Some(0));
    }

    #[test]
    fn an_older_and_higher_peak_says_nothing() {
        check((100, 400), 400, None);
        check((100, 400), 500, Some(400));
    }
}
