//! Asking and judging: requests, records, task kinds, statistics. Pure: no device, no clock, no terminal.
//!
//! - [`request`]: what can be asked of a model, and its answers;
//! - [`task`] and [`kinds`]: tasks as data, turned into requests, and answers turned into right and wrong;
//! - [`record`]: the rows a run leaves behind, one per lane and sequence, item, or timing; [`records`] keeps them in parquet
//!   files, [`groups`] says through which groups of tasks an item was asked;
//! - [`sensitivity`]: what units of a model lose in each type;
//! - [`metrics`]: the figures of one lane on one text that reports have, [`tokens`]: all the others;
//! - [`stats`]: means, intervals, quantiles, paired tests, verdicts, and what a number of items can show;
//! - [`overlap`]: whether texts share runs of words;
//! - [`demo`]: the demo world carried inside the program.

pub mod demo;
pub mod groups;
pub mod job;
pub mod kinds;
pub mod metrics;
pub mod overlap;
pub mod record;
pub mod records;
pub mod request;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
pub mod sensitivity;
pub mod slice;
pub mod stats;
pub mod task;
pub mod tokens;

use bitworth_quant::message::Setting;

/// Every setting that a message of this crate may name.
pub const SETTINGS: &[Setting] = &[records::OUT, job::FIT, job::INCLUDE_PATH];
