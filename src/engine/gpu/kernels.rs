//! The texts of the kernels that read weights, as they are handed to a driver, for tools that compile them without a device
//! (`examples/kernel_budget`). No part of what runs models.

use bitworth_quant::DType;

use super::matvec;
use super::tuning::MatmulKernel;

/// The WGSL text of one kernel for one encoding, and what a lane does in one turn of its inner loop.
#[derive(Debug, Clone)]
pub struct KernelText {
    /// The kernel's name, with the rows it is made for.
    pub name: String,
    /// The encoding of the weights.
    pub dtype: DType,
    /// The whole text; its entry point is `main`.
    pub wgsl: String,
    /// Storage buffers, from binding 1 on; binding 0 is the uniform.
    pub storage: u32,
    /// Weights that a lane decodes in a turn.
    pub weights: u32,
    /// Multiply-adds of a lane in a turn.
    pub multiply_adds: u32,
}

/// The products of a graphics processor for weights of the encoding `dtype`: the tiles, then decoding by the rows it is made for.
pub fn weight_kernels(dtype: DType) -> Vec<KernelText> {
    let tile = MatmulKernel::Tiled;
    let kernel = tile.kernel().decoding(dtype);
    let tiled = KernelText {
        name: kernel.name.into(),
        dtype,
        wgsl: kernel.source(),
        storage: kernel.writes.len() as u32,
        weights: tile.lane_step().0,
        multiply_adds: tile.lane_step().1,
    };
    let few = matvec::ROWS.map(|rows| {
        let constants = [("ROWS", rows)];
        let kernel = matvec::KERNEL.decoding(dtype).with(&constants);
        KernelText {
            name: format!("{} {rows}", kernel.name),
            dtype,
            wgsl: kernel.source(),
            storage: kernel.writes.len() as u32,
            weights: matvec::LANE_WEIGHTS,
            multiply_adds: matvec::LANE_WEIGHTS * rows,
        }
    });
    std::iter::once(tiled).chain(few).collect()
}
