//! What differs between kinds of adapters: how products are tiled, and how much work a dispatch holds.

use super::pipeline::Kernel;
use crate::backend::DeviceKind;

/// How a matrix product is tiled. Within one kernel an output's sum runs over k in order, whatever the number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MatmulKernel {
    /// Tiles of 64 x 64 outputs, decoded into workgroup memory: what real GPUs want.
    Tiled,
    /// 4 x 4 outputs an invocation, nothing shared: what software adapters want.
    Registers,
}

impl MatmulKernel {
    /// Both, for tests that walk them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 2] = [Self::Tiled, Self::Registers];

    pub(super) fn kernel(self) -> Kernel<'static> {
        const WRITES: &[bool] = &[false, false, true];
        match self {
            Self::Tiled => Kernel::plain("matmul_tiled", include_str!("matmul_tiled.wgsl"), WRITES),
            Self::Registers => Kernel::plain("matmul_registers", include_str!("matmul_registers.wgsl"), WRITES),
        }
    }

    /// Rows and columns of outputs of one workgroup, as in the kernel's text.
    pub(super) fn tile(self) -> (usize, usize) {
        match self {
            Self::Tiled => (64, 64),
            Self::Registers => (4, 32),
        }
    }
}

/// What differs between kinds of adapters. Results of two tunings may differ in the last bits; one device has one tuning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    /// How matrix products are tiled.
    pub matmul: MatmulKernel,
    /// Multiply-adds in one dispatch and about those in one submission: a fraction of a second, well below the two seconds
    /// after which Windows resets a device.
    pub work_limit: f64,
}

impl Tuning {
    /// Rough orders of magnitude of what the slower devices of a kind do in a tenth of a second; a submission may hold nearly
    /// twice that, and desktop systems reset a device that is busy for two seconds.
    pub(super) fn of(kind: DeviceKind) -> Self {
        let tiled = MatmulKernel::Tiled;
        match kind {
            DeviceKind::DiscreteGpu => Self { matmul: tiled, work_limit: 2e10 },
            DeviceKind::IntegratedGpu | DeviceKind::OtherGpu => Self { matmul: tiled, work_limit: 5e9 },
            // Measured on lavapipe: shared memory and barriers cost a software adapter 2 to 3 times the plain loop.
            DeviceKind::SoftwareGpu | DeviceKind::Cpu => Self { matmul: MatmulKernel::Registers, work_limit: 2e9 },
        }
    }
}
