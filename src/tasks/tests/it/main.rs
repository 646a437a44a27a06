//! lm-evaluation-harness's own requests and scores, made by itself on the same data: task files as they are give the same bytes.

mod common;
mod data_sets;
mod goldens;
mod ifeval;
mod scores;
#[path = "../../../hub/tests/it/server.rs"]
#[allow(dead_code, reason = "the hub's own tests use all of it")]
mod server;
#[path = "../../../../tests/it/skip.rs"]
mod skip;
