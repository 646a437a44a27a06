//! What differs between kinds of adapters: how products are tiled, and how much work a dispatch holds.

use super::pipeline::{Kernel, product_kernel, whole};
use crate::backend::DeviceKind;

/// How a matrix product is tiled. Within one kernel an output's sum runs over k in order, whatever the number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MatmulKernel {
    /// Tiles of 64 x 64 or 128 x 128 outputs, decoded into workgroup memory: what real GPUs want.
    Tiled,
    /// 4 x 4 outputs an invocation, nothing shared: what software adapters want.
    Registers,
}

impl MatmulKernel {
    /// Both, for tests that walk them.
    #[cfg(test)]
    pub(super) const ALL: [Self; 2] = [Self::Tiled, Self::Registers];

    /// The shapes that this one has, widest first.
    pub(super) fn shapes(self) -> &'static [Shape] {
        match self {
            Self::Tiled => {
                &[Shape { tile: (128, 128), constants: &[("TILE", 128)] }, Shape { tile: (64, 64), constants: &[("TILE", 64)] }]
            }
            Self::Registers => &[Shape { tile: (4, 32), constants: &[] }],
        }
    }

    /// The shape for a product of `rows` x `cols` outputs: the widest of `fewest_groups` workgroups. All of them add in one
    /// order, so that a row's bits do not depend on it.
    fn shape(self, rows: usize, cols: usize, fewest_groups: usize) -> Shape {
        let shapes = self.shapes();
        let groups = |shape: &Shape| rows.div_ceil(shape.tile.0) * cols.div_ceil(shape.tile.1);
        shapes.iter().find(|shape| groups(shape) >= fewest_groups).copied().unwrap_or(shapes[shapes.len() - 1])
    }

    /// The kernel for rows of x of `inner` numbers.
    pub(super) fn kernel(self, inner: usize) -> Kernel<'static> {
        match (self, whole(inner)) {
            (Self::Tiled, true) => product_kernel!("matmul_tiled", "x_whole.wgsl", "matmul_tiled.wgsl"),
            (Self::Tiled, false) => product_kernel!("matmul_tiled_ragged", "x_ragged.wgsl", "matmul_tiled.wgsl"),
            (Self::Registers, true) => product_kernel!("matmul_registers", "x_whole.wgsl", "matmul_registers.wgsl"),
            (Self::Registers, false) => product_kernel!("matmul_registers_ragged", "x_ragged.wgsl", "matmul_registers.wgsl"),
        }
    }
}

/// One shape of a product's tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Rows and columns of outputs of one workgroup.
    pub tile: (usize, usize),
    /// What the kernel's text is told of it.
    pub constants: &'static [(&'static str, u32)],
}

/// What differs between kinds of adapters. Results of two tunings may differ in the last bits; one device has one tuning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    /// How matrix products are tiled.
    pub matmul: MatmulKernel,
    /// Workgroups that a product should have: below, narrower tiles serve more of a device's compute units.
    pub fewest_groups: usize,
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
    /// The shape of tiles for a product of `rows` x `cols` outputs.
    pub(super) fn shape(&self, rows: usize, cols: usize) -> Shape {
        self.matmul.shape(rows, cols, self.fewest_groups)
    }

    /// The same for a device that does `rate` multiply-adds a second: at least as much work in a dispatch as before.
    pub(super) fn at_rate(self, rate: f64) -> Self {
        Self { work_limit: self.work_limit.max(rate * DISPATCH_SECONDS), ..self }
    }

    /// Rough orders of magnitude of what the slower devices of a kind do in a tenth of a second; a submission may hold nearly
    /// twice that, and desktop systems reset a device that is busy for two seconds.
    pub(super) fn of(kind: DeviceKind) -> Self {
        let tiled = MatmulKernel::Tiled;
        match kind {
            DeviceKind::DiscreteGpu => Self { matmul: tiled, fewest_groups: 128, work_limit: 2e10 },
            DeviceKind::IntegratedGpu | DeviceKind::OtherGpu => Self { matmul: tiled, fewest_groups: 64, work_limit: 5e9 },
            // Measured on lavapipe: shared memory and barriers cost a software adapter 2 to 3 times the plain loop.
            DeviceKind::SoftwareGpu | DeviceKind::Cpu => {
                Self { matmul: MatmulKernel::Registers, fewest_groups: 0, work_limit: 2e9 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tuning;
    use crate::backend::DeviceKind;

    #[test]
    fn wide_tiles_need_enough_of_them() {
        let tuning = Tuning::of(DeviceKind::DiscreteGpu);
        assert_eq!(tuning.shape(2048, 1024).tile, (128, 128));
        assert_eq!(tuning.shape(2048, 512).tile, (64, 64));
        assert_eq!(tuning.shape(1, 1).tile, (64, 64));
    }

    #[test]
    fn a_fast_integrated_device_computes_a_large_product_in_one_dispatch() {
        let slow = Tuning::of(DeviceKind::IntegratedGpu);
        assert_eq!(slow.at_rate(1e9).work_limit, slow.work_limit);
        // 15 TFLOP/s, and the widest product of a 7B model over a chunk.
        assert!(slow.at_rate(7.5e12).work_limit > 2048.0 * 4096.0 * 14336.0);
    }
}
