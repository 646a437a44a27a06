//! The tests of the library from outside, in one program: the formats against ggml's bytes, the containers against hostile
//! files, conversion against the converter, plans and files against llama-quantize, and how the quantizer runs.
//!
//! Files that they read and that are committed are in `tests/fixtures`; what is larger is in the oracle (`support::oracle`).

mod checkpoint;
mod convert;
mod convert_keys;
mod folders;
mod formats;
mod gguf;
mod imatrix;
mod packed;
mod pipeline;
mod plan;
mod plan_options;
mod quantize;
mod quantize_oracle;
mod safetensors;
mod support;
mod synth;
mod vocab;
