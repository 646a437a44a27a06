//! `bitworth compare`: what candidates lost against a reference, on the same tokens, from one walk through the model.

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::perplexity::TextArgs;
use super::session::Session;
use super::{Outcome, ScoringArgs};
use crate::engine::model::Variant;
use crate::engine::sweep::Lane;
use crate::eval::metrics::TextMetrics;
use crate::eval::stats::Estimate;
use crate::on_device;
use crate::runner::{models, text};
use crate::tokenizer::Tokenizer;

/// Compare candidates with a reference: perplexity, KL divergence, agreement, from one walk through the model.
#[derive(Args)]
pub struct CompareArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    reference: String,
    /// Models, or @RECIPE for the reference quantized on the fly.
    #[arg(required = true, value_name = "CANDIDATE")]
    candidates: Vec<String>,
    #[command(flatten)]
    text: TextArgs,
    /// Fail (exit code 1) when a candidate's mean KL divergence is above this many nats.
    #[arg(long, value_name = "NATS")]
    max_kld: Option<f64>,
    #[command(flatten)]
    scoring: ScoringArgs,
}

pub fn run(args: &CompareArgs, session: &Session) -> Result<Outcome> {
    if args.max_kld.is_some_and(|bound| !(bound.is_finite() && bound >= 0.0)) {
        bail!("--max-kld must be a number of nats, 0 or more");
    }
    let checkpoint = models::open(&args.reference, session.watch())?;
    let mut lanes = vec![Lane {
        name: checkpoint.name().to_owned(),
        variant: Variant::Stored(checkpoint.clone()),
        arithmetic: args.scoring.arithmetic,
    }];
    for candidate in &args.candidates {
        lanes.push(Lane { arithmetic: args.scoring.arithmetic, ..models::candidate(&checkpoint, candidate, session.watch())? });
    }
    models::number_duplicates(&mut lanes);
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let cut = args.text.cut(&tokenizer)?;
    let device = args.scoring.open()?;
    let begin = std::time::Instant::now();
    let all = 0..cut.sequences.len();
    let scores = on_device!(&device, backend =>
        text::score(backend, &lanes, &cut, all, args.text.sweep_limits(), session.watch()))?;
    let seconds = begin.elapsed().as_secs_f64();
    let metrics = scores
        .iter()
        .map(|lane| TextMetrics::of(&lane.iter().collect::<Vec<_>>()).context("nothing was scored"))
        .collect::<Result<Vec<_>>>()?;
    let rows: Vec<Value> = lanes.iter().zip(&metrics).map(|(lane, m)| row(lane, m)).collect();
    let document = json!({
        "reference": rows[0], "candidates": rows[1..], "tokens": metrics[0].tokens, "windows": cut.sequences.len(),
        "ctx": args.text.ctx, "text_sha256": cut.sha256, "seconds": seconds, "device": device.info(),
        "arithmetic": args.scoring.arithmetic,
    });
    session.print(&document, || table(&lanes, &metrics, seconds))?;
    let worst = lanes.iter().zip(&metrics).find(|(_, m)| {
        m.against.zip(args.max_kld).is_some_and(|(a, bound)| a.kld.mean.value.is_nan() || a.kld.mean.value > bound)
    });
    Ok(match (worst, args.max_kld) {
        (Some((lane, m)), Some(bound)) => {
            let kld = m.against.map_or(f64::NAN, |a| a.kld.mean.value);
            Outcome::GateFailed(format!("{}: mean KL divergence {kld:.6} is above --max-kld {bound}", lane.name))
        }
        _ => Outcome::Done,
    })
}

/// One lane as JSON; every value with its interval as `*_low` and `*_high`.
fn row(lane: &Lane, m: &TextMetrics) -> Value {
    let mut row = json!({ "name": lane.name, "bytes": lane.variant.bytes(), "tokens": m.tokens });
    let mut put = |name: &str, suffix: &str, estimate: Estimate| {
        row[format!("{name}{suffix}")] = json!(estimate.value);
        row[format!("{name}_low")] = json!(estimate.interval.map(|i| i.low));
        row[format!("{name}_high")] = json!(estimate.interval.map(|i| i.high));
    };
    put("ppl", "", m.perplexity);
    if let Some(a) = m.against {
        put("kld", "_mean", a.kld.mean);
        put("top1_agreement", "", a.top1_agreement);
        put("delta_p", "_mean", a.delta_p.mean);
        put("delta_p_rms", "", a.delta_p.rms);
        for (name, value) in [
            ("kld_median", a.kld.median),
            ("kld_p90", a.kld.p90),
            ("kld_p99", a.kld.p99),
            ("kld_p999", a.kld.p99_9),
            ("kld_max", a.kld.max),
        ] {
            row[name] = json!(value);
        }
    }
    row
}

fn table(lanes: &[Lane], metrics: &[TextMetrics], seconds: f64) -> String {
    let width = lanes.iter().map(|lane| lane.name.chars().count()).max().unwrap_or(0).max(9);
    let mut text = format!(
        "{:width$} {:>10} {:>10} {:>10} {:>21} {:>9} {:>9} {:>9} {:>8} {:>9}\n",
        "lane", "MiB", "ppl", "mean KLD", "95 % interval", "median", "99 %", "99.9 %", "top-1 %", "rms dp %"
    );
    for (lane, m) in lanes.iter().zip(metrics) {
        let mib = lane.variant.bytes() as f64 / (1 << 20) as f64;
        text += &format!("{:width$} {mib:10.1} {:10.4}", lane.name, m.perplexity.value);
        if let Some(a) = m.against {
            let interval = a.kld.mean.interval.map_or(String::new(), |i| format!("{:.6} - {:.6}", i.low, i.high));
            text += &format!(
                " {:10.6} {interval:>21} {:9.6} {:9.5} {:9.5} {:8.2} {:9.3}",
                a.kld.mean.value,
                a.kld.median,
                a.kld.p99,
                a.kld.p99_9,
                100.0 * a.top1_agreement.value,
                100.0 * a.delta_p.rms.value
            );
        }
        text.push('\n');
    }
    text + &format!("{} tokens scored per lane in {seconds:.1} s\n", metrics[0].tokens)
}
