//! A reference that is kept for later: its final hidden states ([`store`]), from which the head computes the same logits
//! again, or its log-probabilities as llama-perplexity keeps them ([`logits_file`]). [`lane`] puts either in the place of a lane
//! that walks. What is absent: the walk, and what is made of the scores.

mod file;
pub mod head;
pub mod lane;
pub mod log_probs;
pub mod logits_file;
pub mod store;
#[cfg(test)]
mod tests;
