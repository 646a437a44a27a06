//! bitworth: what is each bit worth? Quantizes language models, scores every quantization against its reference, times it,
//! and reports what each bit width costs in quality and gains in speed.
//!
//! The modules follow the way the data goes: [`advise`] forecasts and recommends, [`engine`] runs models on a device, [`eval`] says what to ask of them and what
//! the answers mean, [`hub`] fetches models, [`runner`] joins them, [`report`] draws the result, [`cli`] talks to the user. Model files, formats
//! and quantization live in the crate `quant`.

pub mod advise;
pub mod chat;
pub mod cli;
pub mod engine;
pub mod eval;
pub mod hub;
pub mod report;
pub mod runner;
pub mod tokenizer;
