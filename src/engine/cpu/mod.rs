//! The CPU backend: the referee of every other device and the fallback where there is none.
//!
//! Plain f32 arithmetic on the weights as stored, spread over the current rayon pool; on request products with activations in 8
//! bits (`q8.rs`). Results are the same bits for every instruction set, number of threads and batch size (`gemm.rs` says how).

mod attention;
mod conv;
mod gemm;
mod halves;
mod head;
mod interleave;
mod isa;
mod math;
mod matvec;
mod naive;
mod packed;
mod probe;
mod q8;
#[cfg(target_arch = "x86_64")]
mod q8_avx512;
mod q8_kernel;
#[cfg(target_arch = "aarch64")]
mod q8_neon;
mod q8_rows;
#[cfg(target_arch = "x86_64")]
mod q8_rows_x86;
mod q8_tile;
#[cfg(target_arch = "x86_64")]
mod q8_x86;
mod recur;
mod rowwise;
mod shared;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bitworth_quant::DType;
use bitworth_quant::checkpoint::TensorBytes;

use self::isa::Isa;
pub use self::probe::CpuProbe;

/// Numbers that products keep beside their operands, for whatever instruction set needs most.
pub(crate) struct ProductScratch {
    /// Decoded weights, all threads together.
    pub decoded: usize,
    /// Rows of a thread's tile.
    pub tile_rows: usize,
    /// Columns of a thread's tile.
    pub tile_columns: usize,
}

/// See there.
pub(crate) const PRODUCT_SCRATCH: ProductScratch =
    ProductScratch { decoded: gemm::PACKED, tile_rows: gemm::LARGEST_TILE.0, tile_columns: gemm::LARGEST_TILE.1 };
use super::backend::{
    Arithmetic, AttentionInputs, AttentionShape, Backend, Choices, ColumnCopy, CombineShape, ConvFilter, DeviceError, DeviceInfo,
    DeviceKind, Gate, HeadRow, HostTensor, Map, Norm, RecurInputs, RecurShape, Result, RopeShape, RunList, Targets, Terms,
    TileShape,
};

/// An encoded tensor, as stored.
pub struct CpuWeight {
    dtype: DType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    /// None where there are panels.
    bytes: TensorBytes,
    /// What products in 8 bits read.
    panels: Option<packed::Panels>,
}

impl CpuWeight {
    /// Row `row`, decoded.
    fn decode_row(&self, row: usize, out: &mut [f32]) {
        match &self.panels {
            Some(panels) => panels.decode_row(row, &mut out[..self.cols]),
            None => {
                let (bytes, out) = (&self.bytes[row * self.row_bytes..][..self.row_bytes], &mut out[..self.cols]);
                if self.dtype != DType::F16 || !halves::widen(bytes, out) {
                    self.dtype.decode_row(bytes, out);
                }
            }
        }
    }

    /// The same for products in 8 bits; in a format without integers as it is.
    fn in_panels(mut self) -> Self {
        self.panels = packed::Panels::of(&mut self);
        self
    }

    /// All of it, decoded (norm gains and biases).
    fn decode(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        for (row, out) in out.chunks_exact_mut(self.cols).enumerate() {
            self.decode_row(row, out);
        }
        out
    }
}

/// The processor at hand.
pub struct Cpu {
    isa: Isa,
    info: DeviceInfo,
}

impl Cpu {
    /// The processor with the best instruction set it has.
    pub fn new() -> Self {
        Self::with_isa(Isa::detect())
    }

    fn with_isa(isa: Isa) -> Self {
        let info = DeviceInfo {
            name: processor_name().unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH)),
            api: "cpu".into(),
            kind: DeviceKind::Cpu,
            driver: isa.name().into(),
        };
        Self { isa, info }
    }
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

/// The processor's marketing name, where the system tells it without asking another program.
fn processor_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl Backend for Cpu {
    type Buffer = Vec<f32>;
    type Indices = Vec<u32>;
    type Weight = CpuWeight;
    type HeadState = Vec<head::RowState>;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn max_buffer_len(&self) -> usize {
        usize::MAX / size_of::<f32>()
    }

    fn alloc(&self, len: usize) -> Result<Vec<f32>> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(len).map_err(|_| DeviceError {
            device: self.info.name.clone(),
            what: format!("no memory for {} MiB of activations; score fewer tokens at once", len >> 18).into(),
        })?;
        buffer.resize(len, 0.0);
        Ok(buffer)
    }

    fn upload(&self, data: &[f32]) -> Result<Vec<f32>> {
        Ok(data.to_vec())
    }

    fn indices(&self, data: &[u32]) -> Result<Vec<u32>> {
        Ok(data.to_vec())
    }

    fn weight(&self, tensor: HostTensor) -> Result<CpuWeight> {
        let HostTensor { dtype, rows, cols, bytes } = tensor;
        let row_bytes = dtype.row_bytes(cols).filter(|row| row.checked_mul(rows) == Some(bytes.len()));
        let row_bytes = row_bytes.ok_or_else(|| DeviceError {
            device: self.info.name.clone(),
            what: format!("a {dtype} tensor of {rows} x {cols} cannot have {} bytes", bytes.len()).into(),
        })?;
        Ok(CpuWeight { dtype, rows, cols, row_bytes, bytes, panels: None })
    }

    fn matrix(&self, tensor: HostTensor, arithmetic: Arithmetic) -> Result<CpuWeight> {
        let weight = self.weight(tensor)?;
        Ok(match arithmetic {
            Arithmetic::F32 => weight,
            Arithmetic::Q8 => weight.in_panels(),
        })
    }

    fn few_rows(&self) -> usize {
        32
    }

    fn check_arithmetic(&self, _: Arithmetic) -> Result<()> {
        Ok(())
    }

    fn read(&self, buffer: &Vec<f32>, range: Range<usize>) -> Result<Vec<f32>> {
        Ok(buffer[range].to_vec())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn embed(&self, table: &CpuWeight, tokens: &Vec<u32>, count: usize, out: &mut Vec<f32>) -> Result<()> {
        rowwise::embed(table, &tokens[..count], &mut out[..count * table.cols]);
        Ok(())
    }

    fn norm(&self, kind: Norm, x: &Vec<f32>, rows: usize, gain: &CpuWeight, eps: f32, out: &mut Vec<f32>) -> Result<()> {
        let (cols, gain) = (gain.cols, gain.decode());
        let len = rows * cols;
        rowwise::norm(self.isa, kind, &x[..len], &gain, cols, eps, &mut out[..len]);
        Ok(())
    }

    fn matmul(&self, x: &Vec<f32>, rows: Range<usize>, w: &CpuWeight, w_rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let count = w_rows.len();
        let x = &x[rows.start * w.cols..rows.end * w.cols];
        let out = &mut out[rows.start * count..rows.end * count];
        match &w.panels {
            None => gemm::matmul(self.isa, x, rows.len(), w, w_rows.start, count, out),
            Some(panels) => q8::matmul(self.isa, x, rows.len(), panels, w_rows, out),
        }
        Ok(())
    }

    fn matvec(&self, x: &Vec<f32>, rows: Range<usize>, w: &CpuWeight, w_rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        let count = w_rows.len();
        let x = &x[rows.start * w.cols..rows.end * w.cols];
        let out = &mut out[rows.start * count..rows.end * count];
        match &w.panels {
            None => matvec::matvec(self.isa, x, rows.len(), w, w_rows.start, count, out),
            Some(panels) => q8::matmul(self.isa, x, rows.len(), panels, w_rows, out),
        }
        Ok(())
    }

    fn add_bias(&self, x: &mut Vec<f32>, rows: usize, bias: &CpuWeight) -> Result<()> {
        let bias = bias.decode();
        rowwise::add_bias(&mut x[..rows * bias.len()], &bias);
        Ok(())
    }

    fn add_rows(&self, x: &mut Vec<f32>, rows: usize, table: &CpuWeight, index: &Vec<u32>) -> Result<()> {
        rowwise::add_rows(&mut x[..rows * table.cols], table, &index[..rows]);
        Ok(())
    }

    fn rope(&self, x: &mut Vec<f32>, shape: RopeShape, table: &Vec<f32>, positions: &Vec<u32>) -> Result<()> {
        let len = shape.rows * shape.heads * shape.head_dim;
        rowwise::rope(self.isa, &mut x[..len], shape, table, &positions[..shape.rows]);
        Ok(())
    }

    fn attention(&self, inputs: AttentionInputs<'_, Self>, rows: usize, shape: AttentionShape, out: &mut Vec<f32>) -> Result<()> {
        attention::attention(self.isa, inputs, rows, shape, out);
        Ok(())
    }

    fn conv(&self, x: &mut Vec<f32>, filter: ConvFilter<'_, Self>, runs: &RunList<Self>, state: &mut Vec<f32>) -> Result<()> {
        conv::conv(self.isa, x, filter, runs, state);
        Ok(())
    }

    fn recur(
        &self,
        inputs: RecurInputs<'_, Self>,
        shape: RecurShape,
        runs: &RunList<Self>,
        state: &mut Vec<f32>,
        values: &mut Vec<f32>,
    ) -> Result<()> {
        recur::recur(self.isa, inputs, shape, runs, state, values);
        Ok(())
    }

    fn gate(&self, f: Gate, gate: &mut Vec<f32>, up: &Vec<f32>, len: usize) -> Result<()> {
        rowwise::gate(self.isa, f, &mut gate[..len], &up[..len]);
        Ok(())
    }

    fn map(&self, f: Map, x: &mut Vec<f32>, len: usize) -> Result<()> {
        rowwise::map(self.isa, f, &mut x[..len]);
        Ok(())
    }

    fn add(&self, x: &mut Vec<f32>, y: &Vec<f32>, factor: f32, len: usize) -> Result<()> {
        rowwise::add(self.isa, &mut x[..len], &y[..len], factor);
        Ok(())
    }

    fn combine(&self, terms: Terms<'_, Self>, shape: CombineShape, out: &mut Vec<f32>) -> Result<()> {
        rowwise::combine(self.isa, terms, shape, out);
        Ok(())
    }

    fn copy_columns(&self, src: &Vec<f32>, dst: &mut Vec<f32>, copy: ColumnCopy) -> Result<()> {
        rowwise::copy_columns(src, dst, copy);
        Ok(())
    }

    fn copy(&self, src: &Vec<f32>, src_at: usize, dst: &mut Vec<f32>, dst_at: usize, len: usize) -> Result<()> {
        dst[dst_at..dst_at + len].copy_from_slice(&src[src_at..src_at + len]);
        Ok(())
    }

    fn gather(&self, x: &Vec<f32>, rows: &Vec<u32>, count: usize, cols: usize, out: &mut Vec<f32>) -> Result<()> {
        rowwise::gather(x, &rows[..count], cols, &mut out[..count * cols]);
        Ok(())
    }

    fn argmax(&self, logits: &Vec<f32>, [rows, cols]: [usize; 2], out: Choices<'_, Self>) -> Result<()> {
        for (t, row) in logits[..rows * cols].chunks_exact(cols).enumerate() {
            let found = head::likeliest(row);
            out.next[t] = found.unwrap_or(0) as u32;
            out.log[out.log_at + t] = found.unwrap_or(cols) as u32;
        }
        Ok(())
    }

    fn read_indices(&self, list: &Vec<u32>, range: Range<usize>) -> Result<Vec<u32>> {
        Ok(list[range].to_vec())
    }

    fn head_state(&self, rows: usize) -> Result<Vec<head::RowState>> {
        Ok(vec![head::RowState::EMPTY; rows])
    }

    fn head_tile(
        &self,
        logits: &Vec<f32>,
        reference: Option<&Vec<f32>>,
        tile: TileShape,
        targets: Option<Targets<'_, Self>>,
        state: &mut Vec<head::RowState>,
    ) -> Result<()> {
        let targets = targets.map(|t| (t.tokens.as_slice(), t.logits.as_slice()));
        head::tile(self.isa, logits, reference.map(Vec::as_slice), tile, targets, state);
        Ok(())
    }

    fn read_head(&self, state: &Vec<head::RowState>) -> Result<Vec<HeadRow>> {
        Ok(state.iter().map(head::RowState::finish).collect())
    }
}
