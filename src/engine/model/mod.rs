//! A model as the engine sees it: a [`Reader`] reads the tensors of a [`Variant`]; [`BlockWeights`] and [`OutputHead`] are
//! weights on a device. Nothing here holds more than the tensors asked for. Absent: the computation (`forward`) and the order of
//! reading (`sweep`, `generate`).

mod head;
mod inputs;
mod load;
mod reader;
mod weights;

pub use crate::variant::Variant;
pub use head::{Embedding, OutputBias, OutputHead, output_norm, output_rows};
pub use inputs::InputTables;
pub use reader::Reader;
pub(crate) use weights::gate_of;
pub use weights::{
    Attention, Beside, BlockWeights, DeltaNet, Dense, Experts, FeedForward, Gated, HeadNorm, Latent, LayerGate, LayerInput,
    Linear, Mamba2, Mixer, NormWeights, Projections, Queries, Shared, ShortConv, Stack,
};
