//! What is each bit worth? bitworth quantizes language models, scores every quantization against its reference, times it, and
//! reports what each bit width costs in quality and gains in speed.
//!
//! This crate joins the others and holds the program. A [`Checkpoint`] is a model on disk; a [`Lane`] is one variant of it: the
//! file as stored, or a [`Recipe`] applied to each layer as it is read. [`score`] walks all lanes through the model at once,
//! layer by layer, over all [`TextWindows`], so that every comparison is paired. What comes out are [`Record`]s; a [`Report`] is
//! made from them and from nothing else.
//!
//! To read, plan and quantize files alone, [`bitworth_quant`] is enough.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use bitworth::{Cpu, Silent, SweepLimits, TextMetrics, TextWindows, Tokenizer, Watch, candidate, demo, open, reference, score};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stop = AtomicBool::new(false);
//! let watch = Watch { progress: &Silent, stop: &stop };
//! // The demo model is inside of the program; a folder or a GGUF file is opened the same way.
//! let checkpoint = open("demo:demo-model", watch)?;
//! let lanes = [reference(&checkpoint), candidate(&checkpoint, "@q4_0", None, watch)?];
//!
//! let text = String::from_utf8(demo::read("demo:data/eval.txt")?)?;
//! let windows = TextWindows::windows(&Tokenizer::new(&checkpoint)?, &text, 128, Some(2))?;
//! let scored = score(&Cpu::new(), &lanes, &windows, 0..windows.sequences.len(), SweepLimits::default(), watch)?;
//!
//! let metrics = |lane: usize| TextMetrics::of(&scored[lane].iter().collect::<Vec<_>>());
//! let (original, quantized) = (metrics(0).unwrap(), metrics(1).unwrap());
//! assert_eq!(original.tokens, quantized.tokens);
//! let distance = quantized.against.unwrap();
//! assert!(distance.kld.mean.value > 0.0 && distance.top1_agreement.value > 0.8);
//! println!("perplexity {:.3}, with Q4_0 {:.3}", original.perplexity.value, quantized.perplexity.value);
//! # Ok(())
//! # }
//! ```
//!
//! The folder `examples` has the three ways in: `quantize`, `score`, `report`.

mod cli;

pub use bitworth_advise as advise;
pub use bitworth_engine as engine;
pub use bitworth_eval as eval;
pub use bitworth_measure as measure;
pub use bitworth_quant as quant;
pub use bitworth_report as report;
pub use bitworth_tasks as tasks;
pub use bitworth_text as text;

pub use bitworth_engine::cpu::Cpu;
pub use bitworth_engine::generate::Generator;
#[cfg(feature = "gpu")]
pub use bitworth_engine::gpu::Gpu;
pub use bitworth_engine::sweep::{Lane, SweepLimits};
pub use bitworth_eval::demo;
pub use bitworth_eval::metrics::TextMetrics;
pub use bitworth_eval::record::Record;
pub use bitworth_measure::Watch;
pub use bitworth_measure::device::{Device, DeviceSelector};
pub use bitworth_measure::models::{candidate, open, reference};
pub use bitworth_measure::text::{TextWindows, score};
pub use bitworth_quant::{Checkpoint, Recipe, Silent};
pub use bitworth_report::Report;
pub use bitworth_text::tokenizer::Tokenizer;
pub use cli::main;
