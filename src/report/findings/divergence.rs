//! Differences of two lanes' divergences from their reference, paired by text and sequence.

use bitworth_eval::stats::{self, Cluster, Estimate};

use crate::gather::GatheredLane;
use crate::scored::TextKey;

/// Tokens and the sum of the divergences of every sequence by its number, of every text; both ascending.
pub type DivergenceSums<'a> = Vec<(TextKey<'a>, Vec<(u32, Cluster)>)>;

/// The sums of a lane's divergences; `None` where it was compared with no reference.
pub fn divergence_sums<'a>(lane: &GatheredLane<'a>) -> Option<DivergenceSums<'a>> {
    let sum = |s: &bitworth_eval::record::SequenceRecord| {
        let sum = s.against.as_ref()?.kld.iter().sum();
        Some((s.sequence, Cluster { sum, count: u64::from(s.tokens) }))
    };
    let texts = lane.scored().by_text();
    let sums = texts.map(|(key, own)| Some((*key, own.values().map(|s| sum(s)).collect::<Option<Vec<_>>>()?)));
    sums.collect::<Option<DivergenceSums<'a>>>().filter(|sums| !sums.is_empty())
}

/// Mean difference (first less second) per token, on the sequences that both have with as many tokens.
pub fn mean_difference(first: &DivergenceSums<'_>, second: &DivergenceSums<'_>) -> Option<Estimate> {
    let mut differences = Vec::new();
    for ((_, own), (_, others)) in common(first, second) {
        for ((_, a), (_, b)) in common(own, others).filter(|((_, a), (_, b))| a.count == b.count) {
            differences.push(Cluster { sum: a.sum - b.sum, count: a.count });
        }
    }
    stats::mean(&differences)
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
