//! Everything bitworth knows about model files: tensor encodings, GGUF and safetensors, architectures as data, the plan of
//! what becomes which type, and the quantizer that carries a plan out. Files are llama.cpp's, byte for byte.
//!
//! A model is opened ([`open_model`]: a Hugging Face directory or a GGUF file of any architecture; [`Checkpoint`] where the
//! architecture must be known), a [`Recipe`] is found by its name, as `q4_k_m`, and a [`Plan`] says what every tensor becomes and
//! why, before a byte is written. [`quantize()`](quantize::quantize) reads the model once and makes any number of [`Output`]s, in
//! a fixed amount of memory.
//!
//! Nothing here prints, computes on a GPU, or reads a clock or the environment, with two exceptions that change no byte of a
//! model file: [`content`] finds the user's cache folder and asks how old a file is before it keeps its hash, and [`cut_files`]
//! ends the process with an error where a program asked for it, in the handler of a signal. Callers pass a [`Progress`] and get
//! an [`Error`] that names the file, the tensor and the offset. The GPU's decoders (`formats/*.wgsl`) are carried as text only.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use bitworth_quant::Silent;
//! use bitworth_quant::quantize::quantize;
//! use bitworth_quant::{Config, DType, GgufFile, Output, Plan, PlanOptions, QuantizeOptions, Recipe, Synth};
//!
//! // A model of random weights; `open_model` opens one on disk.
//! let json = serde_json::json!({
//!     "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
//!     "num_attention_heads": 4, "vocab_size": 384, "rms_norm_eps": 1e-5
//! });
//! let config = Config::parse("config.json".into(), json.as_object().unwrap().clone())?;
//! let model = Synth::new("tiny", &config, 1)?;
//!
//! let (recipe, options) = (Recipe::find("q4_k_m")?, PlanOptions::default());
//! let plan = Plan::of(&model, &recipe, &options)?;
//! let entry = plan.get("blk.0.attn_q.weight").unwrap();
//! assert_eq!((entry.from, entry.to), (DType::F16, DType::Q4_K));
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("tiny.gguf");
//! let output = Output::of(&model, &recipe, &options, &path)?;
//! quantize(&model, &[output], &QuantizeOptions::default(), &AtomicBool::new(false), &Silent)?;
//!
//! let file = GgufFile::open(&path)?;
//! let tensor = file.tensors.iter().find(|tensor| tensor.name == "blk.0.attn_q.weight").unwrap();
//! assert_eq!(tensor.dtype, DType::Q4_K);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Modules that are hidden from the documentation are what the crates of bitworth share.
mod about;
pub mod allocate;
pub mod arch;
#[doc(hidden)]
pub mod atomic_file;
pub mod checkpoint;
pub mod content;
pub mod contents;
pub mod convert;
pub mod cut_files;
#[doc(hidden)]
pub mod disk;
mod error;
pub mod fit;
pub mod formats;
#[doc(hidden)]
pub mod front_matter;
pub mod gguf;
#[doc(hidden)]
pub mod hex;
pub mod hparams;
pub mod imatrix;
mod json;
pub mod kind;
pub mod message;
mod mmap;
mod packed;
mod packing;
pub mod plan;
pub mod progress;
pub mod quantize;
#[doc(hidden)]
pub mod random;
pub mod recipe;
pub mod safetensors;
#[doc(hidden)]
pub mod spelling;
pub mod synth;
mod tensor;
mod tensor_bytes;
pub mod vocab;

pub use about::About;
pub use checkpoint::{Checkpoint, open_model};
pub use convert::config::Config;
pub use error::{Error, Result};
pub use formats::DType;
pub use gguf::GgufFile;
pub use hparams::HParams;
pub use imatrix::Imatrix;
pub use plan::{Plan, PlanOptions};
pub use progress::{Progress, Silent};
pub use quantize::{Output, QuantizeOptions};
pub use recipe::Recipe;
pub use synth::Synth;

use message::Setting;

/// Every setting that a message of this crate may name.
pub const SETTINGS: &[Setting] = &[
    imatrix::EXCLUDE_WEIGHTS,
    imatrix::INCLUDE_WEIGHTS,
    plan::options::ALLOW_REQUANTIZE,
    plan::options::IMATRIX,
    plan::options::LEAVE_OUTPUT_TENSOR,
    plan::options::OUTPUT_TENSOR_TYPE,
    plan::options::OVERRIDE_KV,
    plan::options::PRUNE_LAYERS,
    plan::options::PURE,
    plan::options::TENSOR_TYPE,
    plan::options::TOKEN_EMBEDDING_TYPE,
    quantize::ALLOW_NON_FINITE,
    error::RESUME,
];
