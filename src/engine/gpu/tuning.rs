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

    /// Weights that a lane decodes, and multiply-adds that it does, in one turn of the loop over k.
    pub(super) fn lane_step(self) -> (u32, u32) {
        match self {
            Self::Tiled => (16, 1024),
            Self::Registers => (16, 64),
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

/// Rows of a chunk of a sweep: some hundred workgroups of the narrowest product of a model of a billion weights, and activations
/// that still fit beside the weights.
pub(super) const CHUNK_ROWS: usize = 2048;
/// Seconds that the work of a dispatch would take at the rate of plain multiply-adds; products reach a quarter to a half of it.
const DISPATCH_SECONDS: f64 = 0.1;

impl Tuning {
    /// The same for a device that does `rate` multiply-adds a second: at least as much work in a dispatch as before.
    pub(super) fn at_rate(self, rate: f64) -> Self {
        Self { work_limit: self.work_limit.max(rate * DISPATCH_SECONDS), ..self }
    }

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

#[cfg(test)]
mod tests {
    use super::Tuning;
    use crate::backend::DeviceKind;

    #[test]
    fn a_fast_integrated_device_computes_a_large_product_in_one_dispatch() {
        let slow = Tuning::of(DeviceKind::IntegratedGpu);
        assert_eq!(slow.at_rate(1e9).work_limit, slow.work_limit);
        // 15 TFLOP/s, and the widest product of a 7B model over a chunk.
        assert!(slow.at_rate(7.5e12).work_limit > 2048.0 * 4096.0 * 14336.0);
    }
}
