//! lm-evaluation-harness's tasks: its task files, the rows they are about, the requests that follow, and what answers mean by its
//! filters, metrics and groups. Nothing of it runs Python: functions that a task file names have twins here, or the task is
//! refused.
//!
//! [`files`] reads and finds task files, [`rows`] reads data, [`ask`] makes documents and requests of both, [`judge`] scores
//! answers, [`results`] writes them as lm-evaluation-harness does. What is absent: models and devices, tasks of our own form
//! (`bitworth_eval::task`), printing.
//!
//! Source of all rules: lm-evaluation-harness 0.4.13 (MIT), read for what it does; no line of it stands here.

pub mod answers;
pub mod ask;
pub mod check;
pub mod evaluation;
mod fields;
pub mod files;
mod filters;
mod fnmatch;
pub mod items;
pub mod judge;
mod lacking;
pub mod llama_perplexity;
mod metrics;
mod pipeline;
mod random;
pub mod requests;
pub mod results;
pub mod rows;
mod short;
pub mod task;
pub mod twins;

pub use filters::{Filter, Make as MakeFilter};

use bitworth_quant::message::Setting;

/// Every setting that a message of this crate may name.
pub const SETTINGS: &[Setting] =
    &[answers::ANSWERS, answers::LIMIT, ask::NUM_FEWSHOT, ask::SAMPLES, files::index::TASKS, rows::DATA_MAP];
