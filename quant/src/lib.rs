//! `quant`: everything bitworth knows about model files: tensor encodings, GGUF and safetensors, architectures as data,
//! the plan of what becomes which type, and the quantizer that carries a plan out.
//!
//! What is absent: printing, GPU code, clocks, the environment. Callers pass a [`Progress`] and get errors that name the
//! file, the tensor and the offset. The GPU's decoders (`formats/*.wgsl`) are carried here as text only.

pub mod about;
pub mod arch;
pub mod atomic_file;
pub mod checkpoint;
pub mod convert;
pub mod disk;
pub mod error;
pub mod formats;
pub mod gguf;
pub mod hparams;
pub mod imatrix;
pub mod message;
mod mmap;
pub mod plan;
pub mod progress;
pub mod quantize;
pub mod random;
pub mod recipe;
pub mod safetensors;
pub mod synth;
mod tensor;
pub mod vocab;

pub use about::About;
pub use checkpoint::Checkpoint;
pub use error::{Error, Result};
pub use formats::DType;
pub use hparams::HParams;
pub use imatrix::Imatrix;
pub use plan::Plan;
pub use progress::Progress;
pub use recipe::Recipe;

use message::Setting;

/// Every setting that a message of this crate may name.
pub const SETTINGS: &[Setting] = &[
    imatrix::EXCLUDE_WEIGHTS,
    imatrix::INCLUDE_WEIGHTS,
    plan::choices::ALLOW_REQUANTIZE,
    plan::choices::IMATRIX,
    plan::choices::LEAVE_OUTPUT_TENSOR,
    plan::choices::OUTPUT_TENSOR_TYPE,
    plan::choices::OVERRIDE_KV,
    plan::choices::PRUNE_LAYERS,
    plan::choices::PURE,
    plan::choices::TENSOR_TYPE,
    plan::choices::TOKEN_EMBEDDING_TYPE,
    quantize::ALLOW_NON_FINITE,
    quantize::RESUME,
];
