//! bitworth: what is each bit worth? Quantizes language models, scores every quantization against its reference, times it,
//! and reports what each bit width costs in quality and gains in speed.
//!
//! The modules follow the way the data goes: [`engine`] runs models on a device, model files, formats and quantization live
//! in the crate `quant`.

pub mod engine;
pub mod tokenizer;
