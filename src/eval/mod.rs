//! Asking and judging: requests, records, task kinds, statistics. Pure: no device, no clock, no terminal.
//!
//! - [`request`]: what can be asked of a model, and its answers;
//! - [`task`] and [`kinds`]: tasks as data, turned into requests, and answers turned into right and wrong;
//! - [`record`]: the rows a run leaves behind, one per lane and sequence, item, or timing;
//! - [`metrics`]: the figures of one lane on one text;
//! - [`stats`]: means, intervals, quantiles, paired tests;
//! - [`demo`]: the demo world carried inside the program.

pub mod demo;
pub mod kinds;
pub mod metrics;
pub mod record;
pub mod request;
pub mod stats;
pub mod task;
pub mod tokens;
