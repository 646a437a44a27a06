//! What the blocks of a step share beside weights: the model's constants, and where the rows stand.

use std::sync::Arc;

use bitworth_quant::HParams;
use bitworth_quant::arch::BlockTraits;
use bitworth_quant::hparams::{Sight, Temperature};

use crate::backend::Backend;
use crate::error::{EngineError, Result};
use crate::model::Variant;
use crate::rope::{LengthClasses, Rope};

/// The constants of a model that every block uses.
pub struct Graph<B: Backend> {
    pub(super) traits: &'static BlockTraits,
    pub(super) hparams: HParams,
    rope: Rope,
    /// Angles by position.
    pub(super) table: Arc<B::Buffer>,
    /// The same for blocks with a sliding window, where those have their own.
    pub(super) local_table: Option<Arc<B::Buffer>>,
}

impl<B: Backend> Clone for Graph<B> {
    fn clone(&self) -> Self {
        let Self { traits, hparams, rope, table, local_table } = self;
        let (hparams, rope) = (hparams.clone(), rope.clone());
        Self { traits, hparams, rope, table: table.clone(), local_table: local_table.clone() }
    }
}

/// Angles of all blocks, and of those with a sliding window where they have others.
type Tables<B> = (Arc<<B as Backend>::Buffer>, Option<Arc<<B as Backend>::Buffer>>);

impl<B: Backend> Graph<B> {
    /// For sequences of the lengths in `classes`.
    pub fn new(backend: &B, variant: &Variant, rope: Rope, classes: &LengthClasses) -> Result<Self> {
        let traits = variant.checkpoint().block_traits()?;
        let (table, local_table) = Self::tables(backend, &rope, classes)?;
        Ok(Self { traits, hparams: variant.hparams().clone(), rope, table, local_table })
    }

    fn tables(backend: &B, rope: &Rope, classes: &LengthClasses) -> Result<Tables<B>> {
        let upload = |table: Vec<f32>| Ok::<_, EngineError>(Arc::new(backend.upload(&table)?));
        Ok((upload(rope.table(classes))?, rope.local_table(classes).map(upload).transpose()?))
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
    /// The same for blocks that do not see everything, by what they see.
    pub windows: Vec<(Sight, B::Indices)>,
    /// Factors on queries, where blocks have some.
    pub temperatures: Option<Temperatures<B>>,
}

/// Factors on the queries of the rows of a step.
pub struct Temperatures<B: Backend> {
    /// The numbers of the rows.
    pub rows: B::Indices,
    /// For each temperature that blocks have, a factor for each row.
    pub factors: Vec<(Temperature, B::Buffer)>,
}

/// What blocks of the models of a step make of positions, beside rotary embedding.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Positional {
    sights: Vec<Sight>,
    temperatures: Vec<Temperature>,
}

impl Positional {
    /// Of these models.
    pub fn of<'h>(models: impl IntoIterator<Item = &'h HParams>) -> Self {
        let mut found = Self::default();
        for h in models {
            found
                .sights
                .extend(h.window.iter().map(|w| w.sight).filter(|sight| !found.sights.contains(sight)).collect::<Vec<_>>());
            found.temperatures.extend(h.temperature.filter(|t| !found.temperatures.contains(t)));
        }
        found
    }
}

impl<B: Backend> Batch<B> {
    /// From lists, one entry a row (two for `spans`). A row's own key is the last that it sees.
    pub fn new(backend: &B, positions: &[u32], angles: &[u32], spans: &[u32], positional: &Positional) -> Result<Self> {
        let (pairs, _) = spans.as_chunks::<2>();
        let within = |sight: Sight| pairs.iter().flat_map(|&[start, end]| [sight.first(start, end), end]).collect::<Vec<u32>>();
        let windows = positional.sights.iter().map(|&sight| Ok((sight, backend.indices(&within(sight))?)));
        let factors = |t: &Temperature| {
            let factors: Vec<f32> = positions.iter().map(|&position| factor_at(t, position)).collect();
            Ok((*t, backend.upload(&factors)?))
        };
        let temperatures = if positional.temperatures.is_empty() {
            None
        } else {
            let rows: Vec<u32> = (0..positions.len() as u32).collect();
            let factors = positional.temperatures.iter().map(factors).collect::<Result<_>>()?;
            Some(Temperatures { rows: backend.indices(&rows)?, factors })
        };
        Ok(Self {
            rows: positions.len(),
            positions: backend.indices(positions)?,
            angles: backend.indices(angles)?,
            spans: backend.indices(spans)?,
            windows: windows.collect::<Result<_>>()?,
            temperatures,
        })
    }

    pub(super) fn spans(&self, window: Option<Sight>) -> &B::Indices {
        let list = window.and_then(|sight| self.windows.iter().find(|(known, _)| *known == sight));
        list.map_or(&self.spans, |(_, spans)| spans)
    }

    /// The numbers of the rows and their factors, in blocks with this temperature.
    pub(super) fn factors(&self, temperature: Option<&Temperature>) -> Option<(&B::Indices, &B::Buffer)> {
        let Temperatures { rows, factors } = self.temperatures.as_ref()?;
        let (_, factors) = factors.iter().find(|(known, _)| Some(known) == temperature)?;
        Some((rows, factors))
    }
}

/// The factor on queries at a position: `1 + scale ln(1 + floor((position + offset) / floor))`.
fn factor_at(t: &Temperature, position: u32) -> f32 {
    let steps = (position as usize + t.offset) / t.floor.max(1);
    (1.0 + f64::from(t.scale) * libm::log(1.0 + steps as f64)) as f32
}
