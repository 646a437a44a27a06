//! The processor's last-level cache, as the system tells it.

/// Bytes of the largest cache that a core reads through; `None` where the system tells none.
#[cfg(target_os = "linux")]
pub fn last_level_cache() -> Option<u64> {
    let caches = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let size = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join("size")).ok()?;
        parse(text.trim())
    };
    caches.flatten().filter_map(size).max()
}

/// Bytes of the largest cache that a core reads through; `None` where the system tells none.
#[cfg(target_vendor = "apple")]
pub fn last_level_cache() -> Option<u64> {
    let told = |name: &str| {
        let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", name]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u64>().ok().filter(|&bytes| bytes > 0)
    };
    ["hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"].into_iter().filter_map(told).max()
}

/// Bytes of the largest cache that a core reads through; `None` where the system tells none.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub fn last_level_cache() -> Option<u64> {
    None
}

/// A size as Linux writes it: `32768K`.
#[cfg(target_os = "linux")]
fn parse(size: &str) -> Option<u64> {
    let (digits, unit) = size.split_at(size.len() - size.chars().rev().take_while(char::is_ascii_alphabetic).count());
    let factor = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::parse;

    #[test]
    fn sizes_are_read_as_linux_writes_them() {
        let sizes = ["32768K", "32M", "512", "", "K", "1G", "99999999999999999999K"];
        assert_eq!(sizes.map(parse), [Some(32 << 20), Some(32 << 20), Some(512), None, None, None, None]);
    }
}
