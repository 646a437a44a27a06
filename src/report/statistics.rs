//! All figures of scored tokens by name, with what they mean: for rows of JSON, for the columns of a summary, and as a block of
//! lines in the manner of llama-perplexity. Absent: computing them (see `bitworth_eval::metrics` and `bitworth_eval::tokens`).

use bitworth_eval::metrics::TextMetrics;
use bitworth_eval::stats::{Distribution, Estimate};
use bitworth_eval::tokens::{PairMetrics, PositionMeans, TOP, TokenAgainstMetrics, TokenMean, TokenMetrics};
use serde_json::{Map, Value, json};

/// One lane with its figures.
#[derive(Debug, Clone, Copy)]
pub struct LaneFigures<'a> {
    /// The lane's name.
    pub name: &'a str,
    /// The figures that reports have, too.
    pub text: &'a TextMetrics,
    /// All others.
    pub tokens: &'a TokenMetrics,
}

/// One number and its meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name: that of a column, or of a key in JSON.
    pub name: String,
    /// Its unit; empty for a number without one.
    pub unit: &'static str,
    /// What it is, in a few words.
    pub meaning: String,
    /// The value, where there is one.
    pub value: Option<f64>,
}

/// Figures as they grow.
#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn number(&mut self, name: &str, unit: &'static str, meaning: &str, value: Option<f64>) {
        self.0.push(Figure { name: name.to_owned(), unit, meaning: meaning.to_owned(), value });
    }

    /// A value `STEM SUFFIX` with the ends of its interval.
    fn estimate(&mut self, (stem, suffix): (&str, &str), unit: &'static str, meaning: &str, estimate: Option<Estimate>) {
        self.number(&format!("{stem}{suffix}"), unit, meaning, estimate.map(|e| e.value));
        let end = |which: &str| format!("{which} end of the 95 % interval of `{stem}{suffix}`, sequences as draws");
        self.number(&format!("{stem}_low"), unit, &end("lower"), estimate.and_then(|e| e.low()));
        self.number(&format!("{stem}_high"), unit, &end("upper"), estimate.and_then(|e| e.high()));
    }

    fn error(&mut self, (stem, suffix): (&str, &str), unit: &'static str, error: Option<f64>) {
        let meaning = format!("standard error of `{stem}{suffix}` if tokens were independent, as llama-perplexity gives it");
        self.number(&format!("{stem}_se"), unit, &meaning, error);
    }

    fn mean(&mut self, names: (&str, &str), unit: &'static str, meaning: &str, mean: Option<TokenMean>) {
        self.estimate(names, unit, meaning, mean.map(|m| m.estimate));
        self.error(names, unit, mean.and_then(|m| m.error));
    }

    fn distribution(&mut self, stem: &str, unit: &'static str, of: &str, values: Option<&Distribution>) {
        const NONE: f64 = f64::NAN;
        let none = Distribution {
            min: NONE,
            p001: NONE,
            p01: NONE,
            p05: NONE,
            p10: NONE,
            p25: NONE,
            median: NONE,
            p75: NONE,
            p90: NONE,
            p95: NONE,
            p99: NONE,
            p999: NONE,
            max: NONE,
        };
        for (place, share, value) in values.unwrap_or(&none).named() {
            let meaning = match place {
                "max" => format!("largest {of} of a token"),
                "min" => format!("least {of} of a token"),
                "median" => format!("median of {of} over tokens"),
                _ => format!("{of} that {} % of the tokens stay below", percent(share)),
            };
            self.number(&format!("{stem}_{place}"), unit, &meaning, values.map(|_| value));
        }
    }
}

/// The percentage of a share, without digits that only rounding makes.
fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}

/// What a lane's tokens say by themselves: of these, or without them the names alone.
pub fn of_lane(lane: Option<(&TextMetrics, &TokenMetrics)>) -> Vec<Figure> {
    let (m, t) = (lane.map(|l| l.0), lane.map(|l| l.1));
    let mut f = Figures::default();
    f.estimate(("ppl", ""), "", "perplexity", m.map(|m| m.perplexity));
    f.mean(("nll", ""), "nats/token", "mean negative log-likelihood", t.map(|t| t.nll));
    f.estimate(("bits_per_byte", ""), "bits/byte", "bits per byte of text", m.and_then(|m| m.bits_per_byte));
    f.mean(("entropy", "_mean"), "nats/token", "mean entropy of the predictions", t.map(|t| t.entropy));
    f.distribution("entropy", "nats", "entropy", t.map(|t| &t.entropies));
    f.distribution("rank", "", "rank (0 is the likeliest)", t.map(|t| &t.ranks));
    for (place, k) in TOP.iter().enumerate() {
        let meaning = format!("share of tokens that came and were among the {k} likeliest");
        f.estimate((&format!("top{k}_accuracy"), ""), "share", &meaning, t.map(|t| t.top[place]));
    }
    f.0
}

/// What a lane's tokens say beside those of the reference: of these, or without them the names alone.
pub fn of_comparison(lane: Option<(&TextMetrics, &TokenMetrics)>) -> Vec<Figure> {
    let a = lane.and_then(|l| l.0.against);
    let b = lane.and_then(|l| l.1.against.as_ref());
    let mut f = Figures::default();
    f.estimate(("kld", "_mean"), "nats/token", "mean KL(reference || lane)", a.map(|a| a.kld.mean));
    f.error(("kld", "_mean"), "nats/token", b.and_then(|b| b.kld.error));
    f.distribution("kld", "nats", "KL(reference || lane)", b.map(|b| &b.klds));
    f.mean(("reverse_kld", "_mean"), "nats/token", "mean KL(lane || reference)", b.map(|b| b.reverse_kld));
    f.distribution("reverse_kld", "nats", "KL(lane || reference)", b.map(|b| &b.reverse_klds));
    let ratio = b.map(|b| b.ln_ppl_ratio);
    f.mean(("ln_ppl_ratio", ""), "nats/token", "logarithm of perplexity over the reference's, paired", ratio);
    let ratio = ratio.map(|r| r.estimate.map(libm::exp));
    f.estimate(("ppl_ratio", ""), "", "perplexity over the reference's, paired", ratio);
    f.mean(("ppl_difference", ""), "", "perplexity less the reference's, paired", b.map(|b| b.ppl_difference));
    let meaning = "correlation of the tokens' negative log-likelihoods with the reference's";
    f.number("ln_ppl_correlation", "", meaning, b.and_then(|b| b.correlation));
    let meaning = "share of tokens whose likeliest successor is the reference's";
    f.estimate(("top1_agreement", ""), "share", meaning, a.map(|a| a.top1_agreement));
    f.error(("top1_agreement", ""), "share", b.and_then(|b| b.same_top.error));
    let meaning = "mean change of the probability of the token that came, lane less reference";
    f.mean(("delta_p", "_mean"), "share", meaning, b.map(|b| b.delta_p));
    f.distribution("delta_p", "share", "change of probability", b.map(|b| &b.delta_ps));
    f.estimate(("delta_p_rms", ""), "share", "root mean square of that change", a.map(|a| a.delta_p.rms));
    f.error(("delta_p_rms", ""), "share", b.and_then(rms_error));
    f.0
}

/// Everything as JSON: a value with its interval as `*_low` and `*_high`, with the error of independent tokens as `*_se`; for the
/// reference without what compares with it.
pub fn row(lane: LaneFigures<'_>, bytes: u64) -> Value {
    let both = Some((lane.text, lane.tokens));
    let mut row = Map::new();
    row.insert("name".into(), json!(lane.name));
    row.insert("bytes".into(), json!(bytes));
    row.insert("tokens".into(), json!(lane.text.tokens));
    let mut figures = of_lane(both);
    if lane.text.bits_per_byte.is_none() {
        figures.retain(|f| !f.name.starts_with("bits_per_byte"));
    }
    if lane.text.against.is_some() && lane.tokens.against.is_some() {
        figures.extend(of_comparison(both));
    }
    row.extend(figures.into_iter().map(|f| (f.name, json!(f.value))));
    row.insert("positions".into(), lane.tokens.positions.iter().map(position).collect());
    Value::Object(row)
}

fn position(p: &PositionMeans) -> Value {
    let mut figures = Figures::default();
    figures.estimate(("nll", ""), "", "", Some(p.nll));
    if let Some(kld) = p.kld {
        figures.estimate(("kld", "_mean"), "", "", Some(kld));
    }
    let counts = [("first", json!(p.first)), ("last", json!(p.last)), ("tokens", json!(p.tokens))];
    let counts = counts.map(|(name, value)| (name.to_owned(), value)).into_iter();
    Value::Object(counts.chain(figures.0.into_iter().map(|f| (f.name, json!(f.value)))).collect())
}

/// The statistics in the manner of llama-perplexity, a lane's block.
pub fn block(lane: LaneFigures<'_>, reference: LaneFigures<'_>) -> String {
    let (m, t) = (lane.text, lane.tokens);
    let mut out = format!("\n{}\n", lane.name);
    out += "  value, standard error of independent tokens, 95 % interval clustered by sequence\n";
    let ppl = |lane: LaneFigures<'_>| TokenMean {
        estimate: lane.text.perplexity,
        error: lane.tokens.nll.error.map(|error| error * lane.text.perplexity.value),
    };
    out += &line("perplexity", ppl(lane), 1.0);
    if let Some(b) = &t.against {
        out += &line("reference's perplexity", ppl(reference), 1.0);
        out += &line("ln of their ratio", b.ln_ppl_ratio, 1.0);
        let (ratio, error) = (b.ln_ppl_ratio.estimate.map(libm::exp), b.ln_ppl_ratio.error);
        out += &line("ratio", TokenMean { estimate: ratio, error: error.map(|e| e * ratio.value) }, 1.0);
        out += &line("difference", b.ppl_difference, 1.0);
        out += &b.correlation.map_or(String::new(), |r| format!("  {:24}{:>12.4}\n", "correlation %", 100.0 * r));
    }
    if let Some(bits) = m.bits_per_byte {
        out += &line("bits per byte", TokenMean { estimate: bits, error: None }, 1.0);
    }
    for (k, share) in TOP.iter().zip(t.top) {
        out += &line(&format!("target in top {k} %"), TokenMean { estimate: share, error: None }, 100.0);
    }
    out += &line("entropy", t.entropy, 1.0);
    if let (Some(a), Some(b)) = (m.against, &t.against) {
        out += &line("mean KLD", TokenMean { estimate: a.kld.mean, error: b.kld.error }, 1.0);
        out += &line("mean reverse KLD", b.reverse_kld, 1.0);
        out += &line("mean delta p %", b.delta_p, 100.0);
        out += &line("RMS delta p %", TokenMean { estimate: a.delta_p.rms, error: rms_error(b) }, 100.0);
        out += &line("same top token %", TokenMean { estimate: a.top1_agreement, error: b.same_top.error }, 100.0);
    }
    out += &percentiles(t);
    out += &format!("  {:>13} {:>8} {:>12}", "tokens before", "tokens", "nll");
    out += if t.against.is_some() { "          KLD\n" } else { "\n" };
    for p in &t.positions {
        let kld = p.kld.map_or(String::new(), |kld| format!(" {:12.6}", kld.value));
        out += &format!("  {:>13} {:8} {:12.6}{kld}\n", format!("{}-{}", p.first, p.last), p.tokens, p.nll.value);
    }
    out
}

/// The percentiles of ranks, entropies and, beside a reference, of what was compared, a line each.
pub fn percentiles(t: &TokenMetrics) -> String {
    let mut out = format!("  {:>8} {:>12} {:>12}", "", "rank", "entropy");
    out += if t.against.is_some() { "          KLD  reverse KLD    delta p %\n" } else { "\n" };
    let columns = t.ranks.named().into_iter().zip(t.entropies.named()).enumerate();
    for (i, ((name, share, rank), (_, _, entropy))) in columns {
        let name = match name {
            "max" | "min" | "median" => name.to_owned(),
            _ => format!("{} %", percent(share)),
        };
        out += &format!("  {name:>8} {rank:12.1} {entropy:12.6}");
        if let Some(b) = &t.against {
            let [kld, reverse, delta_p] = [&b.klds, &b.reverse_klds, &b.delta_ps].map(|d| d.named()[i].2);
            out += &format!(" {kld:12.6} {reverse:12.6} {:12.4}", 100.0 * delta_p);
        }
        out.push('\n');
    }
    out
}

/// Two candidates' names and what is between them, as JSON.
pub fn pairs_document(pairs: &[(&str, &str, PairMetrics)]) -> Value {
    let row = |(first, second, pair): &(&str, &str, PairMetrics)| {
        let mut figures = Figures::default();
        figures.estimate(("ln_ppl_ratio", ""), "", "", Some(pair.ln_ppl_ratio));
        figures.estimate(("kld_difference", ""), "", "", Some(pair.kld_difference));
        let names = [("first".to_owned(), json!(first)), ("second".to_owned(), json!(second))].into_iter();
        Value::Object(names.chain(figures.0.into_iter().map(|f| (f.name, json!(f.value)))).collect())
    };
    pairs.iter().map(row).collect()
}

/// The same as a block; empty without a pair.
pub fn pairs_block(pairs: &[(&str, &str, PairMetrics)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let mut out = "\npaired differences, first less second, 95 % interval clustered by sequence\n".to_owned();
    for (first, second, pair) in pairs {
        out += &format!("{first} - {second}\n");
        out += &line("ln ppl", TokenMean { estimate: pair.ln_ppl_ratio, error: None }, 1.0);
        out += &line("mean KLD", TokenMean { estimate: pair.kld_difference, error: None }, 1.0);
    }
    out
}

/// The error of a root from that of the square.
fn rms_error(against: &TokenAgainstMetrics) -> Option<f64> {
    let square = against.delta_p_square;
    square.error.map(|error| 0.5 * error / square.estimate.value.sqrt()).filter(|error| error.is_finite())
}

/// One line of a block.
fn line(name: &str, mean: TokenMean, factor: f64) -> String {
    let error = mean.error.map_or(String::new(), |error| format!("± {:.6}", factor * error));
    let interval = mean.estimate.interval.map_or(String::new(), |i| format!("{:.6} to {:.6}", factor * i.low, factor * i.high));
    let line = format!("  {name:24}{:>12.6} {error:12} {interval}", factor * mean.estimate.value);
    line.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summarize;
    use bitworth_eval::sample;

    /// A lane's row of JSON and block from the sample's kept tokens.
    fn of(lane: &str) -> (Value, String) {
        let mut records = sample::two_texts();
        records.retain(|r| r.as_sequence().is_none_or(|s| s.kept.is_some()));
        let rows = summarize(&records).unwrap();
        let texts: Vec<TextMetrics> = rows.iter().map(|r| r.text_metrics().unwrap()).collect();
        let figures = |i: usize| {
            let row = &rows[i];
            LaneFigures { name: &row.lane, text: &texts[i], tokens: row.token_metrics.as_deref().unwrap() }
        };
        let place = rows.iter().position(|r| r.lane == lane).unwrap();
        (row(figures(place), rows[place].bytes), block(figures(place), figures(0)))
    }

    #[test]
    fn a_row_has_the_figures_in_order_and_the_reference_no_comparison() {
        let (own, _) = of("q4_0");
        let keys: Vec<&String> = own.as_object().unwrap().keys().collect();
        let begin = ["name", "bytes", "tokens", "ppl", "ppl_low", "ppl_high", "nll", "nll_low", "nll_high", "nll_se"];
        assert!(keys.iter().take(10).copied().eq(begin.iter()), "{keys:?}");
        for name in ["entropy_p999", "rank_median", "top10_accuracy_high", "kld_se", "reverse_kld_p05", "ppl_difference_se"] {
            assert!(own[name].is_f64(), "{name} in {own}");
        }
        let near = |a: &Value, b: f64| assert!((a.as_f64().unwrap() / b - 1.0).abs() < 1e-12, "{a} is not {b}");
        near(&own["reverse_kld_mean"], 1.5 * own["kld_mean"].as_f64().unwrap());
        near(&own["ppl_ratio"], own["ln_ppl_ratio"].as_f64().unwrap().exp());
        assert_eq!(own["positions"].as_array().unwrap().len(), 8);
        assert_eq!(own["positions"][0]["first"], 129, "the first scored token stands behind 128 + 1");
        let (reference, _) = of("bf16");
        assert!(reference.get("kld_mean").is_none() && reference.get("nll_se").is_some(), "{reference}");
    }

    #[test]
    fn a_block_tells_the_comparison_where_there_is_one() {
        let (_, own) = of("q4_0");
        assert!(
            own.starts_with("\nq4_0\n  value, standard error") && own.contains("  mean KLD   ") && own.contains("99.9 %"),
            "{own}"
        );
        assert!(own.contains("reference's perplexity") && own.contains("  delta p %\n"), "{own}");
        let (_, reference) = of("bf16");
        assert!(!reference.contains("KLD") && reference.contains("entropy"), "{reference}");
    }
}
