//! The integration tests, in one program so that it is linked once: the commands, the golden data, the demo run, the devices.

mod advise;
mod chat;
mod cli;
mod common;
mod demo;
mod devices;
mod docs;
mod examples;
mod forecast;
mod hub;
mod imatrix;
mod job;
mod layers;
mod lm_eval;
mod logits;
mod published;
mod quantize;
mod reference;
mod report;
mod shown;
mod skip;
mod statistics;
mod sweep;
mod synth;
mod tidy;
mod tokenizer;
