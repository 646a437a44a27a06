//! bitworth: what is each bit worth? Quantizes language models, scores every quantization against its reference, times it,
//! and reports what each bit width costs in quality and gains in speed.

pub use bitworth_advise as advise;
pub use bitworth_engine as engine;
pub use bitworth_eval as eval;
pub use bitworth_measure as measure;
pub use bitworth_quant as quant;
pub use bitworth_report as report;
pub use bitworth_text as text;

pub mod cli;
