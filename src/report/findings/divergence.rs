//! Differences of two lanes' divergences from their reference, paired by sequence.

use std::collections::BTreeMap;

use bitworth_eval::stats::{self, Cluster, Estimate};

use crate::gather::GatheredLane;

/// Tokens and the sum of the divergences of every sequence, by its number.
pub type DivergenceSums = BTreeMap<u32, Cluster>;

/// The sums of a lane's divergences; `None` where it was compared with no reference.
pub fn divergence_sums(lane: &GatheredLane) -> Option<DivergenceSums> {
    let sum = |(number, s): (&u32, &bitworth_eval::record::SequenceRecord)| {
        let sum = s.against.as_ref()?.kld.iter().sum();
        Some((*number, Cluster { sum, count: u64::from(s.tokens) }))
    };
    lane.scored().iter().map(sum).collect::<Option<DivergenceSums>>().filter(|sums| !sums.is_empty())
}

/// Mean difference (first less second) per token, on the sequences that both have with as many tokens.
pub fn mean_difference(first: &DivergenceSums, second: &DivergenceSums) -> Option<Estimate> {
    let difference = |(number, own): (&u32, &Cluster)| {
        let other = second.get(number).filter(|o| o.count == own.count)?;
        Some(Cluster { sum: own.sum - other.sum, count: own.count })
    };
    stats::mean(&first.iter().filter_map(difference).collect::<Vec<_>>())
}
