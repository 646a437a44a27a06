//! What goes into the matrices of a model, told to whoever collects it on a walk through the layers: importance matrices and
//! second moments. Absent: collecting (see `measure::imatrix`).

use std::ops::Range;

use bitworth_quant::arch::Role;

use super::backend::Backend;
use super::error::Result;

/// A place in a model where activations meet matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// The input of attention, or of the mixer in its place.
    Attention,
    /// Latent attention's compressed queries.
    CompressedQueries,
    /// Latent attention's queries without their rotated part, head by head. GGUF's matrix of the keys is absorbed into them
    /// (DeepSeek-AI 2024, section 2.1.2), so this is what meets it.
    LatentKeys,
    /// What latent attention's heads would gather of compressed values, which meets the matrix of the values after absorption.
    LatentValues,
    /// What all heads have gathered.
    AttentionOutput,
    /// What a mixer with a state puts out.
    StateOutput,
    /// The input of a network without experts.
    FeedForward,
    /// What its gate lets through.
    FeedForwardDown,
    /// The input of a mixture of experts, for all but the experts.
    Router,
    /// The same, for the experts, each with the rows that go to it.
    Experts,
    /// What the experts' gates let through.
    ExpertsDown,
    /// What experts that write something narrower than the stream have written.
    LatentExperts,
    /// What the gate of the shared expert lets through.
    SharedDown,
    /// The stream, where a block's gate on its other input reads it.
    LayerGate,
    /// What that gate lets through.
    LayerProjection,
    /// The input of the output matrix.
    Output,
}

impl Site {
    /// All sites of a block, in the order of its computation.
    pub const OF_BLOCK: [Self; 15] = [
        Self::Attention,
        Self::CompressedQueries,
        Self::LatentKeys,
        Self::LatentValues,
        Self::AttentionOutput,
        Self::StateOutput,
        Self::FeedForward,
        Self::FeedForwardDown,
        Self::Router,
        Self::Experts,
        Self::ExpertsDown,
        Self::LatentExperts,
        Self::SharedDown,
        Self::LayerGate,
        Self::LayerProjection,
    ];

    /// The matrices that read it; a model has some of them.
    pub fn readers(self) -> &'static [Role] {
        match self {
            Self::Attention => &[
                Role::AttnQ,
                Role::AttnK,
                Role::AttnV,
                Role::AttnQkv,
                Role::AttnQA,
                Role::AttnKvAMqa,
                Role::AttnGate,
                Role::SsmAlpha,
                Role::SsmBeta,
                Role::SsmBa,
                Role::SsmIn,
                Role::ShortConvIn,
            ],
            Self::CompressedQueries => &[Role::AttnQB],
            Self::LatentKeys => &[Role::AttnKB],
            Self::LatentValues => &[Role::AttnVB],
            Self::AttentionOutput => &[Role::AttnOutput],
            Self::StateOutput => &[Role::SsmOut, Role::ShortConvOut],
            Self::FeedForward => &[Role::FfnGate, Role::FfnUp],
            Self::FeedForwardDown => &[Role::FfnDown],
            Self::Router => &[Role::FfnGateInp, Role::FfnGateInpShexp, Role::FfnGateShexp, Role::FfnUpShexp, Role::FfnLatentDown],
            Self::Experts => &[Role::FfnGateExps, Role::FfnUpExps, Role::FfnGateUpExps],
            Self::ExpertsDown => &[Role::FfnDownExps],
            Self::LatentExperts => &[Role::FfnLatentUp],
            Self::SharedDown => &[Role::FfnDownShexp],
            Self::LayerGate => &[Role::InpGate],
            Self::LayerProjection => &[Role::Proj],
            Self::Output => &[Role::Output],
        }
    }

    /// Whether the matrices of a tensor get different rows.
    pub fn is_routed(self) -> bool {
        matches!(self, Self::Experts | Self::ExpertsDown)
    }
}

/// Rows on their way into the matrices of one site of one block.
pub struct Observed<'a, B: Backend> {
    /// The block; 0 where the site is in none.
    pub block: usize,
    /// The place.
    pub site: Site,
    /// `[rows, K]`
    pub x: &'a B::Buffer,
    /// K.
    pub cols: usize,
    /// Which rows of `x` go to which of the matrices that a tensor holds one behind the other (experts, heads).
    pub parts: &'a [(usize, Range<usize>)],
    /// The number of the step's first row among all rows of the pass, which stand in the order of the sequences.
    pub first: usize,
    /// For each row of `x` the row of the step that it is of, where rows go to experts; else they are the step's.
    pub rows: Option<&'a [u32]>,
}

impl<B: Backend> Observed<'_, B> {
    /// The number of a row of `x` among all rows of the pass.
    pub fn row(&self, row: usize) -> usize {
        self.first + self.rows.map_or(row, |rows| rows[row] as usize)
    }
}

/// Is told of every input of a matrix, layer by layer, and within a layer row by row in the order of the sequences.
pub trait Observer<B: Backend> {
    /// Takes rows in; `backend` reads them.
    ///
    /// # Errors
    /// What ends the walk.
    fn observe(&self, backend: &B, observed: &Observed<'_, B>) -> Result<()>;
}
