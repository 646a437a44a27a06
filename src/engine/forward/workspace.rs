//! The buffers of a step. How wide they are is said in `footprint`.

use bitworth_quant::HParams;

use crate::backend::Backend;
use crate::error::Result;
use crate::footprint::WorkspaceColumns;

/// Buffers that every block of a step reuses.
pub struct Workspace<B: Backend> {
    /// What a part of the block reads.
    pub(super) normed: B::Buffer,
    pub(super) scratch: Scratch<B>,
}

/// What a part of the block writes.
pub(super) struct Scratch<B: Backend> {
    pub q: B::Buffer,
    pub k: B::Buffer,
    pub v: B::Buffer,
    /// Queries or keys before their norm, and what latent attention makes of them in between.
    pub raw: B::Buffer,
    pub latent: B::Buffer,
    pub compressed: B::Buffer,
    pub attended: B::Buffer,
    /// Decays and rates of the heads of a mixer with a state.
    pub decays: B::Buffer,
    pub rates: B::Buffer,
    /// What goes into the residual stream, and its norm.
    pub projected: B::Buffer,
    pub post_normed: B::Buffer,
    pub gate: B::Buffer,
    pub up: B::Buffer,
    pub experts: Option<ExpertSpace<B>>,
    /// What the router and what the experts read, where a dense network beside them reads something else.
    pub beside: Option<[B::Buffer; 2]>,
}

/// Buffers of mixtures of experts; a slot is a row together with one of its experts.
pub(super) struct ExpertSpace<B: Backend> {
    pub scores: B::Buffer,
    /// `[slots, H]`
    pub gathered: B::Buffer,
    pub gate: B::Buffer,
    pub up: B::Buffer,
    /// `[slots, H]`
    pub out: B::Buffer,
}

/// Buffers of what blocks read beside the stream.
pub struct LayerSpace<B: Backend> {
    /// The embeddings of a step's tokens: `[T, H]`.
    pub embedded: B::Buffer,
    /// The rows of the tokens in the block's table, and then the input: `[T, d]`.
    pub input: B::Buffer,
    pub(super) projected: B::Buffer,
    pub(super) normed: B::Buffer,
}

impl<B: Backend> LayerSpace<B> {
    /// For steps of up to `rows` rows; `None` where blocks read nothing beside the stream.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn new(backend: &B, h: &HParams, rows: usize) -> Result<Option<Self>> {
        let [input, embedded] = WorkspaceColumns::of(h).layer_input;
        if input == 0 {
            return Ok(None);
        }
        let buffer = |columns: usize| backend.alloc(rows * columns);
        let (embedded, normed) = (buffer(embedded)?, buffer(input)?);
        Ok(Some(Self { embedded, input: buffer(input)?, projected: buffer(input)?, normed }))
    }
}

impl<B: Backend> Workspace<B> {
    /// For steps of up to `rows` rows.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn new(backend: &B, h: &HParams, rows: usize) -> Result<Self> {
        let columns = WorkspaceColumns::of(h);
        let buffer = |columns: usize| backend.alloc(rows * columns);
        let beside = match columns.experts {
            Some(columns) if columns.normed > 0 => Some([buffer(columns.normed)?, buffer(columns.normed)?]),
            _ => None,
        };
        let experts = match columns.experts {
            None => None,
            Some(columns) => Some(ExpertSpace {
                scores: buffer(columns.scores)?,
                gathered: buffer(columns.outer)?,
                gate: buffer(columns.inner)?,
                up: buffer(columns.inner)?,
                out: buffer(columns.outer)?,
            }),
        };
        let scratch = Scratch {
            q: buffer(columns.q)?,
            k: buffer(columns.k)?,
            v: buffer(columns.v)?,
            raw: buffer(columns.raw)?,
            latent: buffer(columns.latent)?,
            compressed: buffer(columns.latent)?,
            attended: buffer(columns.attended)?,
            decays: buffer(columns.state_gates)?,
            rates: buffer(columns.state_gates)?,
            projected: buffer(columns.projected)?,
            post_normed: buffer(columns.projected)?,
            gate: buffer(columns.gate)?,
            up: buffer(columns.gate)?,
            experts,
            beside,
        };
        Ok(Self { normed: buffer(columns.normed)?, scratch })
    }
}
