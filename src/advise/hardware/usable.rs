//! How much of a machine's memory a model may take, by kind of machine and platform, and how the limit is raised.
//!
//! Absent: what a model needs (see `memory`). Sizes of memory as sold ("64 GB") are powers of two and taken as GiB.

use serde::Serialize;

use super::MachineKind;

/// How much of a machine's memory a model may take on one platform.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limit {
    /// Operating system and, where there are several, the kind of memory: `macOS`, `Linux (GTT)`, `Windows (VGM)`, `VRAM`.
    pub platform: &'static str,
    /// GiB as the platform comes.
    pub usable_gib: f64,
    /// GiB once the limit is raised, where it can be.
    pub raised_gib: Option<f64>,
    /// How it is raised to that.
    pub how: Option<String>,
}

impl Limit {
    fn fixed(platform: &'static str, usable_gib: f64) -> Self {
        Self { platform, usable_gib, raised_gib: None, how: None }
    }

    /// Sets what it can be raised to, and says how; nothing where that is no more than it is.
    pub(super) fn raise_to(&mut self, gib: Option<f64>) {
        self.raised_gib = gib.filter(|&gib| gib > self.usable_gib);
        self.how = self.raised_gib.and_then(|gib| how(self.platform, gib));
    }

    fn raised(platform: &'static str, usable_gib: f64, raised_gib: f64) -> Self {
        let mut limit = Self::fixed(platform, usable_gib);
        limit.raise_to(Some(raised_gib));
        limit
    }

    /// What to do so that a model may take `gib`, where that lies between what is usable and what it can be raised to.
    pub fn how_for(&self, gib: f64) -> Option<String> {
        let within = gib > self.usable_gib && self.raised_gib.is_some_and(|raised| gib <= raised);
        // Whole GiB: nobody sets a limit to the byte.
        if within { how(self.platform, gib.ceil().min(self.raised_gib?)) } else { None }
    }
}

const MACOS: &str = "macOS";
const GTT: &str = "Linux (GTT)";
const VGM: &str = "Windows (VGM)";
const WINDOWS: &str = "Windows";

fn how(platform: &str, gib: f64) -> Option<String> {
    let mib = gib * 1024.0;
    match platform {
        MACOS => Some(format!("sudo sysctl iogpu.wired_limit_mb={mib:.0} (lost when restarted)")),
        // Pages of 4 KiB.
        GTT => Some(format!("kernel parameter ttm.pages_limit={:.0}, BIOS video memory at its least", mib * 256.0)),
        VGM => Some(
            "Variable Graphics Memory at its most (AMD Software or BIOS), and a Vulkan build, which adds half of the rest".into(),
        ),
        WINDOWS => Some("a newer graphics driver (shared GPU memory override)".into()),
        _ => None,
    }
}

/// What is left to the operating system: 8 GiB, or a quarter where memory is small.
fn all_but_system(gb: f64) -> f64 {
    gb - (gb / 4.0).min(8.0)
}

/// The limits of a kind of machine with `gb` of memory, the usual platform first.
pub(super) fn limits(kind: MachineKind, gb: f64) -> Vec<Limit> {
    match kind {
        // Metal's recommendedMaxWorkingSetSize: 2/3 of the memory up to 36 GB, 3/4 above (5.33 of 8, 10.67 of 16, 21.33 of 32, 36
        // of 48, 48 of 64, 144 of 192 GiB in XiongjieDai's notebooks).
        MachineKind::AppleUnified => {
            vec![Limit::raised(MACOS, gb * if gb <= 36.0 { 2.0 / 3.0 } else { 0.75 }, all_but_system(gb))]
        }
        // Linux: the kernel's graphics translation table takes half of the memory unless told otherwise; 120 to 124 of 128 GiB
        // are in use (lhl/strix-halo-testing, kyuz0/amd-strix-halo-toolboxes). Windows: Variable Graphics Memory dedicates up to
        // three quarters, and Vulkan adds half of the rest (AMD's answers on VGM, 2025-07-29: 96 + 16 of 128).
        MachineKind::AmdUnified => {
            vec![Limit::raised(GTT, gb / 2.0, all_but_system(gb)), Limit::raised(VGM, gb * 0.75, gb * 0.875)]
        }
        // Windows shares half of the memory with graphics, newer drivers 57 %.
        MachineKind::IntelUnified => vec![Limit::raised(WINDOWS, gb / 2.0, gb * 0.57)],
        // CUDA may use all that the system leaves.
        MachineKind::NvidiaUnified => vec![Limit::fixed("Linux", all_but_system(gb))],
        // The driver, its context and a display take 0.3 to 1 GiB.
        MachineKind::DiscreteGpu => vec![Limit::fixed("VRAM", gb - (gb / 8.0).min(1.0))],
        MachineKind::Cpu => vec![Limit::fixed("RAM", all_but_system(gb))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_limits_come_out() {
        let check = |kind, gb, expected: &[(f64, Option<f64>)]| {
            let found: Vec<(f64, Option<f64>)> = limits(kind, gb).iter().map(|l| (l.usable_gib, l.raised_gib)).collect();
            assert_eq!(found, expected, "{kind:?} {gb}");
        };
        check(MachineKind::AppleUnified, 36.0, &[(24.0, Some(28.0))]);
        check(MachineKind::AppleUnified, 64.0, &[(48.0, Some(56.0))]);
        check(MachineKind::AppleUnified, 192.0, &[(144.0, Some(184.0))]);
        check(MachineKind::AmdUnified, 128.0, &[(64.0, Some(120.0)), (96.0, Some(112.0))]);
        check(MachineKind::DiscreteGpu, 24.0, &[(23.0, None)]);
        check(MachineKind::DiscreteGpu, 4.0, &[(3.5, None)]);
        check(MachineKind::Cpu, 16.0, &[(12.0, None)]);
    }

    #[test]
    fn raising_a_limit_is_said_as_a_command_for_what_is_needed() {
        let mac = &limits(MachineKind::AppleUnified, 64.0)[0];
        assert_eq!(mac.how_for(50.2).unwrap(), "sudo sysctl iogpu.wired_limit_mb=52224 (lost when restarted)");
        assert_eq!((mac.how_for(40.0), mac.how_for(57.0)), (None, None));
        let linux = &limits(MachineKind::AmdUnified, 128.0)[0];
        assert!(linux.how_for(119.5).unwrap().contains("ttm.pages_limit=31457280"), "120 GiB in pages of 4 KiB");
    }
}
