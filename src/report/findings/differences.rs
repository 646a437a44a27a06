//! Differences of two lanes, paired by text and sequence: of their divergences from the reference, their perplexities and their
//! agreement with the reference.

use bitworth_eval::record::SequenceRecord;
use bitworth_eval::stats::{self, Cluster, Estimate};

use super::standing::{AGREEMENT, DIVERGENCE, FEW, RESOLUTION};
use crate::gathered::GatheredLane;
use crate::scored::TextKey;

/// What the tokens of a sequence add up to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequenceSums {
    /// Scored tokens.
    pub tokens: u64,
    /// Their divergences from the reference, in nats.
    pub kld: f64,
    /// Their negative log-likelihoods, in nats.
    pub nll: f64,
    /// How many have the reference's most probable successor.
    pub matches: f64,
}

/// The sums of every sequence by its number, of every text; both ascending.
pub type LaneSums<'a> = Vec<(TextKey<'a>, Vec<(u32, SequenceSums)>)>;

/// The sums of a lane; `None` where it was compared with no reference.
pub fn lane_sums<'a>(lane: &GatheredLane<'a>) -> Option<LaneSums<'a>> {
    let sums = |s: &SequenceRecord| {
        let against = s.against.as_ref()?;
        let (kld, matches) = (against.kld.iter().sum(), f64::from(against.top1_matches));
        Some((s.sequence, SequenceSums { tokens: u64::from(s.tokens), kld, nll: s.nll_sum, matches }))
    };
    let texts = lane.scored().by_text();
    let sums = texts.map(|(key, own)| Some((*key, own.values().map(|s| sums(s)).collect::<Option<Vec<_>>>()?)));
    sums.collect::<Option<LaneSums<'a>>>().filter(|sums| !sums.is_empty())
}

/// The differences (first less second) of two lanes, sequence by sequence, where both have as many tokens.
pub struct Differences(Vec<(SequenceSums, SequenceSums)>);

impl Differences {
    /// Pairs the sequences of two lanes.
    pub fn of(first: &LaneSums<'_>, second: &LaneSums<'_>) -> Self {
        let texts = common(first, second);
        let sequences = texts.flat_map(|((_, own), (_, others))| common(own, others)).map(|((_, a), (_, b))| (*a, *b));
        Self(sequences.filter(|(a, b)| a.tokens == b.tokens).collect())
    }

    fn clusters(&self, sum: impl Fn(&SequenceSums) -> f64) -> Vec<Cluster> {
        self.0.iter().map(|(a, b)| Cluster { sum: sum(a) - sum(b), count: a.tokens }).collect()
    }

    /// Mean difference of the divergences, nats per token.
    pub fn divergence(&self) -> Option<Estimate> {
        stats::mean(&self.clusters(|s| s.kld))
    }

    /// The first perplexity over the second.
    pub fn perplexity_ratio(&self) -> Option<Estimate> {
        stats::perplexity(&self.clusters(|s| s.nll))
    }

    /// Difference of the shares of tokens that have the reference's most probable successor.
    pub fn agreement(&self) -> Option<Estimate> {
        stats::mean(&self.clusters(|s| s.matches))
    }

    /// Whether the first lane is nearer to the reference: the interval of the divergences shows it, neither that of perplexity
    /// nor that of agreement speaks against it, and they rest on [`FEW`] sequences or more.
    pub fn show_the_first_nearer(&self) -> bool {
        let interval = |estimate: Option<Estimate>| estimate.and_then(|e| e.interval);
        self.0.len() as u64 >= FEW
            && interval(self.divergence()).is_some_and(|i| i.high < 0.0)
            && interval(self.perplexity_ratio()).is_some_and(|i| i.low <= 1.0)
            && interval(self.agreement()).is_some_and(|i| i.high >= 0.0)
    }

    /// Whether the lanes are as near to the reference as each other by all three measures: each interval holds no difference,
    /// and none that would count against a lane that is as good as its reference. A wide interval, or one of fewer than [`FEW`]
    /// sequences, shows nothing.
    pub fn show_none(&self) -> bool {
        let within = |estimate: Option<Estimate>, none: f64, margin: f64| {
            let interval = estimate.and_then(|e| e.interval);
            interval.is_some_and(|i| i.contains(none) && none - i.low <= margin && i.high - none <= margin)
        };
        self.0.len() as u64 >= FEW
            && within(self.divergence(), 0.0, DIVERGENCE)
            && within(self.perplexity_ratio(), 1.0, RESOLUTION)
            && within(self.agreement(), 0.0, 1.0 - AGREEMENT)
    }
}

/// The entries of two ascending lists that have the same key: found in one walk, as every two lanes of a run are compared.
fn common<'a, A: Ord, B, C: PartialOrd<A>, D>(
    first: &'a [(A, B)],
    second: &'a [(C, D)],
) -> impl Iterator<Item = (&'a (A, B), &'a (C, D))> {
    let mut rest = second;
    first.iter().filter_map(move |own| {
        let before = rest.iter().take_while(|other| other.0 < own.0).count();
        rest = &rest[before..];
        rest.first().filter(|other| other.0 == own.0).map(|other| (own, other))
    })
}
