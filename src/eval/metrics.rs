//! What the scored sequences of one lane say about a text: perplexity, bits per byte, and the distance from the reference.
//!
//! Absent: formulas (see `stats`) and records of more than one lane (see `report`).

use serde::Serialize;

use super::record::{Against, SequenceRecord};
use super::stats::{self, Cluster, DeltaP, Divergence, Estimate};

/// The figures of one lane on one text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TextMetrics {
    /// Scored tokens.
    pub tokens: u64,
    /// exp of the mean negative log-likelihood of a token.
    pub perplexity: Estimate,
    /// Negative log-likelihood in bits over the bytes of the scored tokens.
    pub bits_per_byte: Option<Estimate>,
    /// The comparison with the reference lane; `None` for the reference itself.
    pub against: Option<AgainstMetrics>,
}

/// The distance of a lane from the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AgainstMetrics {
    /// KL(reference || lane), in nats.
    pub kld: Divergence,
    /// Share of tokens with the same likeliest successor.
    pub top1_agreement: Estimate,
    /// Change of the probability of the token that came.
    pub delta_p: DeltaP,
}

impl TextMetrics {
    /// The figures of these sequences; `None` where nothing was scored.
    pub fn of(sequences: &[&SequenceRecord]) -> Option<Self> {
        let clusters = |sum: fn(&SequenceRecord) -> f64, count: fn(&SequenceRecord) -> u64| -> Vec<Cluster> {
            sequences.iter().map(|s| Cluster { sum: sum(s), count: count(s) }).collect()
        };
        Some(Self {
            tokens: sequences.iter().map(|s| u64::from(s.tokens)).sum(),
            perplexity: stats::perplexity(&clusters(|s| s.nll_sum, |s| u64::from(s.tokens)))?,
            bits_per_byte: stats::bits_per_byte(&clusters(|s| s.nll_sum, |s| s.bytes)),
            against: AgainstMetrics::of(sequences),
        })
    }
}

impl AgainstMetrics {
    fn of(sequences: &[&SequenceRecord]) -> Option<Self> {
        let pairs: Vec<(&Against, u64)> =
            sequences.iter().map(|s| s.against.as_ref().map(|a| (a, u64::from(s.tokens)))).collect::<Option<_>>()?;
        let clusters = |sum: fn(&Against) -> f64| -> Vec<Cluster> {
            pairs.iter().map(|&(a, count)| Cluster { sum: sum(a), count }).collect()
        };
        Some(Self {
            kld: stats::divergence(&pairs.iter().map(|(a, _)| a.kld.as_slice()).collect::<Vec<_>>())?,
            top1_agreement: stats::agreement(&clusters(|a| f64::from(a.top1_matches)))?,
            delta_p: stats::delta_p(&clusters(|a| a.delta_p_sum), &clusters(|a| a.delta_p_sq_sum))?,
        })
    }
}
