//! What the blocks of a step share beside weights: the model's constants, and where the rows stand.

use bitworth_quant::HParams;
use bitworth_quant::arch::BlockTraits;

use crate::backend::Backend;
use crate::error::Result;
use crate::model::Variant;
use crate::rope::{LengthClasses, Rope};

/// The constants of a model that every block uses.
pub struct Graph<B: Backend> {
    pub(super) traits: &'static BlockTraits,
    pub(super) hparams: HParams,
    rope: Rope,
    /// Angles by position.
    pub(super) table: B::Buffer,
    /// The same for blocks with a sliding window, where those have their own.
    pub(super) local_table: Option<B::Buffer>,
}

impl<B: Backend> Graph<B> {
    /// For sequences of the lengths in `classes`.
    pub fn new(backend: &B, variant: &Variant, rope: Rope, classes: &LengthClasses) -> Result<Self> {
        let traits = variant.checkpoint().block_traits()?;
        let (table, local_table) = Self::tables(backend, &rope, classes)?;
        Ok(Self { traits, hparams: variant.hparams().clone(), rope, table, local_table })
    }

    fn tables(backend: &B, rope: &Rope, classes: &LengthClasses) -> Result<(B::Buffer, Option<B::Buffer>)> {
        let local = rope.local_table(classes).map(|table| backend.upload(&table)).transpose()?;
        Ok((backend.upload(&rope.table(classes))?, local))
    }

    /// Makes it one for sequences of other lengths.
    pub fn retable(&mut self, backend: &B, classes: &LengthClasses) -> Result<()> {
        (self.table, self.local_table) = Self::tables(backend, &self.rope, classes)?;
        Ok(())
    }

    /// The model's hyper-parameters.
    pub fn hparams(&self) -> &HParams {
        &self.hparams
    }

    /// The model's rotary embedding.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }
}

/// Where the rows of one step stand.
pub struct Batch<B: Backend> {
    /// Number of rows T.
    pub rows: usize,
    /// Position of each row in its sequence.
    pub positions: B::Indices,
    /// The same in the table of angles.
    pub angles: B::Indices,
    /// For each row the first and the one-past-last key row that it sees.
    pub spans: B::Indices,
    /// The same for sliding windows, by their width.
    pub windows: Vec<(usize, B::Indices)>,
}

impl<B: Backend> Batch<B> {
    /// From lists, one entry a row (two for `spans`), for models with windows of these widths. A row's own key is the last that
    /// it sees.
    pub fn new(backend: &B, positions: &[u32], angles: &[u32], spans: &[u32], widths: &[usize]) -> Result<Self> {
        let within = |width: usize| {
            let (pairs, _) = spans.as_chunks::<2>();
            let first = |end: u32| end.saturating_sub(u32::try_from(width).unwrap_or(u32::MAX));
            pairs.iter().flat_map(|&[start, end]| [start.max(first(end)), end]).collect::<Vec<u32>>()
        };
        let windows = widths.iter().map(|&width| Ok((width, backend.indices(&within(width))?)));
        Ok(Self {
            rows: positions.len(),
            positions: backend.indices(positions)?,
            angles: backend.indices(angles)?,
            spans: backend.indices(spans)?,
            windows: windows.collect::<Result<_>>()?,
        })
    }

    pub(super) fn spans(&self, window: Option<usize>) -> &B::Indices {
        let list = window.and_then(|width| self.windows.iter().find(|(known, _)| *known == width));
        list.map_or(&self.spans, |(_, spans)| spans)
    }
}
