//! The texts of the kernels that read weights, as they are handed to a driver, for tools that compile them without a device
//! (`examples/kernel_budget`). No part of what runs models.

use bitworth_quant::DType;

use super::matvec;
use super::pipeline::Kernel;
use super::tuning::MatmulKernel;

/// The WGSL text of one kernel for one encoding, and what a lane does in one turn of its inner loop.
#[derive(Debug, Clone)]
pub struct KernelText {
    /// The kernel's name, with the size it is made for: rows of a tile, or of a dispatch.
    pub name: String,
    /// The encoding of the weights.
    pub dtype: DType,
    /// The whole text, its parameters in a uniform buffer; its entry point is `main`.
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
    // The columns of most matrices are whole sixteens.
    let inner = 16;
    let tiled = MatmulKernel::Tiled.shapes().iter().map(|shape| {
        let kernel = MatmulKernel::Tiled.kernel(inner).decoding(dtype).with(shape.constants);
        // A turn has 16 columns, for 8 x 8 outputs.
        text(&kernel, dtype, shape.tile.0 as u32, 16, 1024)
    });
    let few = matvec::ROWS.map(|rows| {
        let constants = [("ROWS", rows)];
        let kernel = matvec::kernel(inner).decoding(dtype).with(&constants);
        text(&kernel, dtype, rows, matvec::LANE_WEIGHTS, matvec::LANE_WEIGHTS * rows)
    });
    tiled.chain(few).collect()
}

fn text(kernel: &Kernel, dtype: DType, size: u32, weights: u32, multiply_adds: u32) -> KernelText {
    let (name, storage) = (format!("{} {size}", kernel.name), kernel.writes.len() as u32);
    KernelText { name, dtype, wgsl: kernel.source(false), storage, weights, multiply_adds }
}
