//! What the scored tokens of the lanes say beyond [`super::metrics`]: the statistics of llama-perplexity, ranks and entropies, means by
//! position, and lanes paired with each other. Absent: formulas (see [`super::stats`]), files and tables.

use serde::Serialize;

use super::record::{Token, TokenAgainst, TokenSequence};
use super::stats::{self, Cluster, Distribution, Estimate};

/// A token counts as found when it is among so many likeliest ones.
pub const TOP: [u32; 3] = [1, 5, 10];

/// Equal parts of the scored positions.
const PARTS: usize = 8;

/// A mean over tokens. The interval takes the sequences as draws; the error is what it would be if tokens were independent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenMean {
    /// The mean and its 95 % interval, clustered by sequence.
    pub estimate: Estimate,
    /// Standard error of independent tokens, as llama-perplexity gives it.
    pub error: Option<f64>,
}

/// The figures of one lane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenMetrics {
    /// Negative log-likelihood in nats.
    pub nll: TokenMean,
    /// Entropy of the predictions in nats.
    pub entropy: TokenMean,
    /// Where the entropies lie.
    pub entropies: Distribution,
    /// Where the ranks of the tokens lie; 0 is the likeliest.
    pub ranks: Distribution,
    /// Shares of tokens among the [`TOP`] likeliest.
    pub top: [Estimate; TOP.len()],
    /// Means by position.
    pub positions: Vec<PositionMeans>,
    /// The comparison with the reference; `None` for the reference itself.
    pub against: Option<TokenAgainstMetrics>,
}

/// The distance of one lane from the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TokenAgainstMetrics {
    /// Mean difference of negative log-likelihoods (lane less reference): the logarithm of the ratio of the perplexities.
    pub ln_ppl_ratio: TokenMean,
    /// Difference of the perplexities.
    pub ppl_difference: TokenMean,
    /// Correlation of the tokens' negative log-likelihoods under lane and reference.
    pub correlation: Option<f64>,
    /// KL(reference || lane) in nats.
    pub kld: TokenMean,
    /// Where it lies.
    pub klds: Distribution,
    /// KL(lane || reference) in nats.
    pub reverse_kld: TokenMean,
    /// Where it lies.
    pub reverse_klds: Distribution,
    /// Change of the probability of the token that came.
    pub delta_p: TokenMean,
    /// Where it lies.
    pub delta_ps: Distribution,
    /// Mean square of that change; its root is the RMS.
    pub delta_p_square: TokenMean,
    /// Share of tokens with the same likeliest successor, by its independent error alone (see [`super::metrics`]).
    pub same_top: TokenMean,
}

/// Means of the tokens at some neighbouring positions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PositionMeans {
    /// Tokens that stand before the first and before the last of these.
    pub first: u32,
    #[allow(missing_docs)]
    pub last: u32,
    /// How many tokens.
    pub tokens: u64,
    /// Negative log-likelihood in nats.
    pub nll: Estimate,
    /// KL(reference || lane) in nats; `None` for the reference itself.
    pub kld: Option<Estimate>,
}

/// Two candidates on the same tokens; what is below 0 speaks for the first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairMetrics {
    /// Mean difference of negative log-likelihoods (first less second).
    pub ln_ppl_ratio: Estimate,
    /// Mean difference of the divergences from the reference.
    pub kld_difference: Estimate,
}

impl TokenMetrics {
    /// The figures of a lane's sequences beside those of the reference, the same ones in the same order; `None` where nothing was
    /// scored or sequences do not match.
    pub fn of(lane: &[TokenSequence], reference: Option<&[TokenSequence]>) -> Option<Self> {
        let share = |k: u32| stats::agreement(&clusters(lane, |t| f64::from(u8::from(t.rank < k))));
        Some(Self {
            nll: token_mean(lane, |t| t.nll)?,
            entropy: token_mean(lane, |t| t.entropy)?,
            entropies: Distribution::of(all(lane).map(|t| t.entropy))?,
            ranks: Distribution::of(all(lane).map(|t| f64::from(t.rank)))?,
            top: [share(TOP[0])?, share(TOP[1])?, share(TOP[2])?],
            positions: positions(lane),
            against: match reference {
                Some(reference) => Some(TokenAgainstMetrics::of(lane, reference)?),
                None => None,
            },
        })
    }
}

impl TokenAgainstMetrics {
    fn of(lane: &[TokenSequence], reference: &[TokenSequence]) -> Option<Self> {
        if !matching(lane, reference) || !all(lane).all(|t| t.against.is_some()) {
            return None;
        }
        let mean = |of: fn(TokenAgainst) -> f64| token_mean(lane, |t| t.against.map_or(f64::NAN, of));
        let distribution = |of: fn(TokenAgainst) -> f64| Distribution::of(all(lane).filter_map(|t| t.against).map(of));
        let nll = |sequences: &[TokenSequence]| clusters(sequences, |t| t.nll);
        let pairs: Vec<(f64, f64)> = all(lane).zip(all(reference)).map(|(own, other)| (own.nll, other.nll)).collect();
        let (own, other) = (stats::perplexity(&nll(lane))?.value, stats::perplexity(&nll(reference))?.value);
        let independent = |of: &dyn Fn(f64, f64) -> f64| {
            stats::independent_error(&pairs.iter().map(|&(own, other)| of(own, other)).collect::<Vec<_>>())
        };
        Some(Self {
            ln_ppl_ratio: TokenMean { estimate: difference(lane, reference, |t| t.nll)?, error: independent(&|a, b| a - b) },
            ppl_difference: TokenMean {
                estimate: stats::perplexity_difference(&nll(lane), &nll(reference))?,
                error: independent(&|a, b| own * a - other * b),
            },
            correlation: stats::correlation(&pairs),
            kld: mean(|a| a.kld)?,
            klds: distribution(|a| a.kld)?,
            reverse_kld: mean(|a| a.reverse_kld)?,
            reverse_klds: distribution(|a| a.reverse_kld)?,
            delta_p: mean(|a| a.delta_p)?,
            delta_ps: distribution(|a| a.delta_p)?,
            delta_p_square: mean(|a| a.delta_p * a.delta_p)?,
            same_top: mean(|a| f64::from(u8::from(a.same_top)))?,
        })
    }
}

impl PairMetrics {
    /// The figures of two candidates' sequences, the same ones in the same order; `None` where nothing was scored or sequences do not
    /// match.
    pub fn of(first: &[TokenSequence], second: &[TokenSequence]) -> Option<Self> {
        let compared = |lane: &[TokenSequence]| all(lane).all(|t| t.against.is_some());
        if !matching(first, second) || !compared(first) || !compared(second) {
            return None;
        }
        Some(Self {
            ln_ppl_ratio: difference(first, second, |t| t.nll)?,
            kld_difference: difference(first, second, |t| t.against.map_or(f64::NAN, |a| a.kld))?,
        })
    }
}

fn all(sequences: &[TokenSequence]) -> impl Iterator<Item = &Token> {
    sequences.iter().flat_map(|s| &s.tokens)
}

fn matching(a: &[TokenSequence], b: &[TokenSequence]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.sequence == b.sequence && a.tokens.len() == b.tokens.len())
}

fn clusters(sequences: &[TokenSequence], of: impl Fn(&Token) -> f64) -> Vec<Cluster> {
    let cluster = |s: &TokenSequence| Cluster { sum: s.tokens.iter().map(&of).sum(), count: s.tokens.len() as u64 };
    sequences.iter().map(cluster).collect()
}

fn token_mean(sequences: &[TokenSequence], of: impl Fn(&Token) -> f64) -> Option<TokenMean> {
    let estimate = stats::mean(&clusters(sequences, &of))?;
    Some(TokenMean { estimate, error: stats::independent_error(&all(sequences).map(of).collect::<Vec<_>>()) })
}

/// The mean difference of a quantity over the tokens of matching sequences, paired.
fn difference(a: &[TokenSequence], b: &[TokenSequence], of: impl Fn(&Token) -> f64) -> Option<Estimate> {
    let pairs = clusters(a, &of).into_iter().zip(clusters(b, &of));
    stats::mean(&pairs.map(|(a, b)| Cluster { sum: a.sum - b.sum, count: a.count }).collect::<Vec<_>>())
}

/// Means by position, in [`PARTS`] parts that differ in size by one position at most.
fn positions(sequences: &[TokenSequence]) -> Vec<PositionMeans> {
    let filled = || sequences.iter().filter(|s| !s.tokens.is_empty());
    let Some(first) = filled().map(|s| s.first).min() else { return Vec::new() };
    let end = filled().map(|s| s.first + s.tokens.len() as u32).max().unwrap_or(first);
    let count = (end - first) as usize;
    let parts = PARTS.min(count);
    let bound = |part: usize| first + (count * part / parts) as u32;
    let means = |part: usize| {
        let (first, end) = (bound(part), bound(part + 1));
        let within: Vec<TokenSequence> = sequences
            .iter()
            .map(|s| {
                let place = |at: u32| (at.saturating_sub(s.first) as usize).min(s.tokens.len());
                TokenSequence { tokens: s.tokens[place(first)..place(end)].to_vec(), first: first.max(s.first), ..*s }
            })
            .collect();
        let compared = all(&within).all(|t| t.against.is_some());
        Some(PositionMeans {
            first,
            last: end - 1,
            tokens: all(&within).count() as u64,
            nll: stats::mean(&clusters(&within, |t| t.nll))?,
            kld: if compared { stats::mean(&clusters(&within, |t| t.against.map_or(f64::NAN, |a| a.kld))) } else { None },
        })
    };
    (0..parts).filter_map(means).collect()
}
