//! What the scored tokens of the lanes say beyond [`super::metrics`]: the statistics of llama-perplexity, ranks and entropies,
//! means by position, and lanes paired with each other. Absent: formulas (see [`super::stats`]), files and tables.

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
            kld: at_least_zero(mean(|a| a.kld)?),
            klds: distribution(|a| a.kld)?,
            reverse_kld: at_least_zero(mean(|a| a.reverse_kld)?),
            reverse_klds: distribution(|a| a.reverse_kld)?,
            delta_p: mean(|a| a.delta_p)?,
            delta_ps: distribution(|a| a.delta_p)?,
            delta_p_square: mean(|a| a.delta_p * a.delta_p)?,
            same_top: mean(|a| f64::from(u8::from(a.same_top)))?,
        })
    }
}

impl PairMetrics {
    /// The figures of two candidates' sequences, the same ones in the same order; `None` where nothing was scored or sequences do
    /// not match.
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

/// A divergence's interval.
fn at_least_zero(mean: TokenMean) -> TokenMean {
    TokenMean { estimate: stats::at_least_zero(mean.estimate), ..mean }
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
            kld: if compared {
                stats::mean(&clusters(&within, |t| t.against.map_or(f64::NAN, |a| a.kld))).map(stats::at_least_zero)
            } else {
                None
            },
        })
    };
    (0..parts).filter_map(means).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Interval;

    // Two windows of four tokens from position 2 on. The expected numbers come from NumPy; intervals of two sequences of equal
    // length are their mean +- scipy.stats.t.ppf(.975, 1) times half their distance.
    const REFERENCE: [[f64; 4]; 2] = [[2.0, 1.0, 0.5, 4.0], [3.0, 0.25, 1.5, 2.0]];
    const LANE: [[f64; 4]; 2] = [[2.5, 1.25, 0.5, 4.5], [3.0, 0.5, 1.25, 2.5]];
    const KLD: [[f64; 4]; 2] = [[0.125, 0.0625, 0.0, 0.25], [0.5, 0.25, 0.0, 0.0625]];

    fn lane(nll: [[f64; 4]; 2], kld: Option<[[f64; 4]; 2]>) -> Vec<TokenSequence> {
        let token = |s: usize, i: usize| Token {
            token: 3,
            nll: nll[s][i],
            rank: [0, 1, 4, 12][i],
            entropy: 1.5,
            argmax: 5,
            against: kld.map(|kld| TokenAgainst {
                kld: kld[s][i],
                reverse_kld: 0.5 * kld[s][i],
                delta_p: libm::exp(-nll[s][i]) - libm::exp(-REFERENCE[s][i]),
                same_top: i > 0,
            }),
        };
        let sequence =
            |s| TokenSequence { sequence: s as u32, bytes: 10, first: 2, tokens: (0..4).map(|i| token(s, i)).collect() };
        vec![sequence(0), sequence(1)]
    }

    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9 * expected.abs().max(1e-3), "{found} is not {expected}");
    }

    #[track_caller]
    fn check(found: TokenMean, value: f64, error: f64, ends: (f64, f64)) {
        near(found.estimate.value, value);
        near(found.error.unwrap(), error);
        let Interval { low, high } = found.estimate.interval.unwrap();
        near(low, ends.0);
        near(high, ends.1);
    }

    #[test]
    fn the_statistics_are_llama_perplexitys_with_paired_intervals() {
        let (reference, own) = (lane(REFERENCE, None), lane(LANE, Some(KLD)));
        let m = TokenMetrics::of(&own, Some(&reference)).unwrap();
        check(m.nll, 2.0, 0.4887118636930003, (-0.38241338803275493, 4.382413388032755));
        let a = m.against.unwrap();
        check(a.ln_ppl_ratio, 0.21875, 0.09952453932860693, (-0.9724566940163775, 1.4099566940163775));
        check(a.ppl_difference, 1.4517827251850433, 1.1295346771904091, (-9.079483662821449, 11.983049113191537));
        check(a.kld, 0.15625, 0.06022650697871446, (0.0, 0.7518533470081887));
        check(a.delta_p, -0.037997167816772884, 0.02481647491984433, (-0.07026171582482288, -0.0057326198087228886));
        near(a.correlation.unwrap(), 0.9813400391798461);
        near(a.reverse_kld.estimate.value, 0.5 * a.kld.estimate.value);
        near(a.klds.median, 0.09375);
        near(a.same_top.estimate.value, 0.75);
        assert_eq!(m.top.map(|share| share.value), [0.25, 0.75, 0.75]);
        assert_eq!((m.ranks.min, m.ranks.median, m.ranks.max), (0.0, 2.5, 12.0));
        assert_eq!((m.entropy.estimate.value, m.entropies.p99), (1.5, 1.5));
        assert_eq!(TokenMetrics::of(&reference, None).unwrap().against, None);
    }

    #[test]
    fn positions_cover_every_token_once() {
        let m = TokenMetrics::of(&lane(LANE, Some(KLD)), Some(&lane(REFERENCE, None))).unwrap();
        let found: Vec<_> = m.positions.iter().map(|p| (p.first, p.last, p.tokens, p.nll.value, p.kld.unwrap().value)).collect();
        let expected = [(2, 2, 2, 2.75, 0.3125), (3, 3, 2, 0.875, 0.15625), (4, 4, 2, 0.875, 0.0), (5, 5, 2, 3.5, 0.15625)];
        assert_eq!(found, expected);
        let mut long = lane(REFERENCE, None);
        let token = long[0].tokens[0];
        long[0].tokens = vec![token; 21];
        let parts = TokenMetrics::of(&long, None).unwrap().positions;
        assert_eq!(parts.len(), 8);
        assert_eq!(parts.iter().map(|p| p.tokens).sum::<u64>(), 25);
        assert!(parts.windows(2).all(|p| p[0].last + 1 == p[1].first) && parts[7].last == 22, "{parts:?}");
    }

    #[test]
    fn pairs_are_of_the_same_tokens_or_not_at_all() {
        let (one, other) = (lane(LANE, Some(KLD)), lane(REFERENCE, Some([[0.0; 4]; 2])));
        let pair = PairMetrics::of(&one, &other).unwrap();
        near(pair.ln_ppl_ratio.value, 0.21875);
        near(pair.kld_difference.value, 0.15625);
        let same = PairMetrics::of(&one, &one).unwrap();
        assert_eq!(same.kld_difference.interval, Some(Interval { low: 0.0, high: 0.0 }));
        assert_eq!(PairMetrics::of(&one, &other[..1]), None);
        assert_eq!(PairMetrics::of(&one, &lane(REFERENCE, None)), None);
        assert_eq!(TokenMetrics::of(&one, Some(&other[..1])), None);
    }
}
