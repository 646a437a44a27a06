//! A reference that is kept for later: its final hidden states ([`store`]), from which the head computes the same logits
//! again, or its log-probabilities as llama-perplexity keeps them ([`logits_file`]). What is absent: computing either, and what
//! is made of them.

mod file;
pub mod head;
pub mod log_probs;
pub mod logits_file;
pub mod store;
#[cfg(test)]
mod tests;
