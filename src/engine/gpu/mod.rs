//! The GPU backend: our kernels on Vulkan, Metal and DX12 through wgpu. One `.rs` (what is dispatched) and one `.wgsl` (what it
//! computes) per operation. Works within WebGPU's default limits, assumes no subgroup size, accumulates in f32.
//!
//! Every operation checks its sizes and index lists on the host and then runs without bounds checks on the device. Nothing
//! here picks the CPU instead when something fails: every failure is an error.

mod adapter;
mod add_bias;
mod argmax;
mod attention;
mod combine;
mod conv;
mod copy_columns;
#[cfg(test)]
mod decoding_tests;
mod device;
mod elementwise;
mod embed;
mod errors;
mod gather;
mod head;
#[doc(hidden)]
pub mod kernels;
mod matmul;
mod matvec;
mod memory;
mod norm;
mod pipeline;
mod probe;
mod recorder;
mod recur;
mod rope;
mod storage;
#[cfg(test)]
mod tests;
mod tuning;

use std::ops::Range;

pub(crate) use adapter::list;
pub use device::Gpu;
pub use memory::{GpuBuffer, GpuHeadState, GpuIndices, GpuWeight};
pub use probe::GpuProbe;

use crate::backend::{
    AttentionInputs, AttentionShape, Backend, Choices, ColumnCopy, CombineShape, ConvFilter, DeviceInfo, Gate, GpuSelector,
    HeadRow, HostTensor, Map, Norm, RecurInputs, RecurShape, Result, RopeShape, RunList, Targets, Terms, TileShape,
};

/// Tokens chosen one after the other before the host looks at them: few are in vain where a text ends, and waiting for them is
/// little beside what they take.
const TOKENS_AHEAD: usize = 8;

impl Gpu {
    /// Opens the adapter that `selector` means.
    ///
    /// # Errors
    /// If there is no such adapter (the message says what to install), or if it refuses to open or to compute.
    pub fn open(selector: GpuSelector) -> Result<Self> {
        let adapter = adapter::choose(selector)?;
        let limits = adapter.limits();
        let mut gpu = Self::with_limits(&adapter, limits)?;
        gpu.set_rate(probe::multiply_adds_per_second(&gpu)?);
        Ok(gpu)
    }
}

impl Backend for Gpu {
    type Buffer = GpuBuffer;
    type Indices = GpuIndices;
    type Weight = GpuWeight;
    type HeadState = GpuHeadState;

    fn info(&self) -> &DeviceInfo {
        Gpu::info(self)
    }

    fn max_buffer_len(&self) -> usize {
        self.max_binding_bytes / size_of::<f32>()
    }

    fn few_rows(&self) -> usize {
        matvec::MOST_ROWS
    }

    fn chunk_rows(&self) -> usize {
        tuning::CHUNK_ROWS
    }

    fn tokens_ahead(&self) -> usize {
        TOKENS_AHEAD
    }

    fn allocated_bytes(&self) -> Option<u64> {
        self.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    fn alloc(&self, len: usize) -> Result<GpuBuffer> {
        self.alloc_numbers(len)
    }

    fn upload(&self, data: &[f32]) -> Result<GpuBuffer> {
        self.upload_numbers(data)
    }

    fn indices(&self, data: &[u32]) -> Result<GpuIndices> {
        self.upload_indices(data)
    }

    fn weight(&self, tensor: HostTensor) -> Result<GpuWeight> {
        self.upload_weight(&tensor)
    }

    fn read(&self, buffer: &GpuBuffer, range: Range<usize>) -> Result<Vec<f32>> {
        self.require("read", "the buffer", buffer.len, range.end)?;
        self.read_back(&buffer.raw, range)
    }

    fn synchronize(&self) -> Result<()> {
        self.finish()
    }

    fn embed(&self, table: &GpuWeight, tokens: &GpuIndices, count: usize, out: &mut GpuBuffer) -> Result<()> {
        embed::record(self, embed::EMBED, table, tokens, count, out)
    }

    fn norm(&self, kind: Norm, x: &GpuBuffer, rows: usize, gain: &GpuWeight, eps: f32, out: &mut GpuBuffer) -> Result<()> {
        norm::record(self, kind, x, rows, gain, eps, out)
    }

    fn matmul(&self, x: &GpuBuffer, rows: Range<usize>, w: &GpuWeight, w_rows: Range<usize>, out: &mut GpuBuffer) -> Result<()> {
        matmul::record(self, x, rows, w, w_rows, out)
    }

    fn matvec(&self, x: &GpuBuffer, rows: Range<usize>, w: &GpuWeight, w_rows: Range<usize>, out: &mut GpuBuffer) -> Result<()> {
        matvec::record(self, x, rows, w, w_rows, out)
    }

    fn add_bias(&self, x: &mut GpuBuffer, rows: usize, bias: &GpuWeight) -> Result<()> {
        add_bias::record(self, x, rows, bias)
    }

    fn add_rows(&self, x: &mut GpuBuffer, rows: usize, table: &GpuWeight, index: &GpuIndices) -> Result<()> {
        embed::record(self, embed::ADD_ROWS, table, index, rows, x)
    }

    fn rope(&self, x: &mut GpuBuffer, shape: RopeShape, table: &GpuBuffer, positions: &GpuIndices) -> Result<()> {
        rope::record(self, x, shape, table, positions)
    }

    fn attention(
        &self,
        inputs: AttentionInputs<'_, Self>,
        rows: usize,
        shape: AttentionShape,
        out: &mut GpuBuffer,
    ) -> Result<()> {
        attention::record(self, inputs, rows, shape, out)
    }

    fn attention_few(
        &self,
        inputs: AttentionInputs<'_, Self>,
        rows: usize,
        shape: AttentionShape,
        out: &mut GpuBuffer,
    ) -> Result<()> {
        attention::record_few(self, inputs, rows, shape, out)
    }

    fn conv(&self, x: &mut GpuBuffer, filter: ConvFilter<'_, Self>, runs: &RunList<Self>, state: &mut GpuBuffer) -> Result<()> {
        conv::record(self, x, filter, runs, state)
    }

    fn recur(
        &self,
        inputs: RecurInputs<'_, Self>,
        shape: RecurShape,
        runs: &RunList<Self>,
        state: &mut GpuBuffer,
        values: &mut GpuBuffer,
    ) -> Result<()> {
        recur::record(self, inputs, shape, runs, state, values)
    }

    fn gate(&self, f: Gate, gate: &mut GpuBuffer, up: &GpuBuffer, len: usize) -> Result<()> {
        elementwise::record_gate(self, f, gate, up, len)
    }

    fn map(&self, f: Map, x: &mut GpuBuffer, len: usize) -> Result<()> {
        elementwise::record_map(self, f, x, len)
    }

    fn add(&self, x: &mut GpuBuffer, y: &GpuBuffer, factor: f32, len: usize) -> Result<()> {
        elementwise::record_add(self, x, y, factor, len)
    }

    fn combine(&self, terms: Terms<'_, Self>, shape: CombineShape, out: &mut GpuBuffer) -> Result<()> {
        combine::record(self, terms, shape, out)
    }

    fn copy_columns(&self, src: &GpuBuffer, dst: &mut GpuBuffer, copy: ColumnCopy) -> Result<()> {
        copy_columns::record(self, src, dst, copy)
    }

    fn copy(&self, src: &GpuBuffer, src_at: usize, dst: &mut GpuBuffer, dst_at: usize, len: usize) -> Result<()> {
        self.require("copy", "the source", src.len, src_at.saturating_add(len))?;
        self.require("copy", "the destination", dst.len, dst_at.saturating_add(len))?;
        // As a dispatch: a copy would end the pass that decoding records.
        copy_columns::record_part(self, src, src_at, dst, dst_at, len)
    }

    fn gather(&self, x: &GpuBuffer, rows: &GpuIndices, count: usize, cols: usize, out: &mut GpuBuffer) -> Result<()> {
        gather::record(self, x, rows, count, cols, out)
    }

    fn argmax(&self, logits: &GpuBuffer, shape: [usize; 2], out: Choices<'_, Self>) -> Result<()> {
        argmax::record(self, logits, shape, out)
    }

    fn read_indices(&self, list: &GpuIndices, range: Range<usize>) -> Result<Vec<u32>> {
        self.require("read", "the list", list.host.len(), range.end)?;
        self.read_back(&list.raw, range)
    }

    fn head_state(&self, rows: usize) -> Result<GpuHeadState> {
        head::new_state(self, rows)
    }

    fn head_tile(
        &self,
        logits: &GpuBuffer,
        reference: Option<&GpuBuffer>,
        tile: TileShape,
        targets: Option<Targets<'_, Self>>,
        state: &mut GpuHeadState,
    ) -> Result<()> {
        head::record(self, logits, reference, tile, targets, state)
    }

    fn read_head(&self, state: &GpuHeadState) -> Result<Vec<HeadRow>> {
        head::read(self, state)
    }
}
