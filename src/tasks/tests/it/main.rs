//! lm-evaluation-harness's own requests and scores, made by itself on the same data: task files as they are give the same bytes.

mod common;
mod goldens;
mod ifeval;
mod scores;
#[path = "../../../../tests/it/skip.rs"]
mod skip;
