//! `bitworth bench`: speeds, as llama-bench means them.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::session::Session;
use super::{DeviceArgs, Outcome};
use crate::engine::model::Variant;
use crate::eval::record::{Phase, Speed};
use crate::on_device;
use crate::runner::device::Device;
use crate::runner::models;
use crate::runner::timing::{self, Workload};

/// Time prefill and decoding.
#[derive(Args)]
pub struct BenchArgs {
    /// Hugging Face directories, GGUF files or hf:OWNER/NAME.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Tokens of the prompt (0: leave prefill out).
    #[arg(long, default_value_t = 512, value_name = "N")]
    prompt: usize,
    /// Tokens to decode (0: leave decoding out).
    #[arg(long, default_value_t = 128, value_name = "N")]
    generate: usize,
    /// Tokens that stand in the cache before.
    #[arg(long, default_value_t = 0, value_name = "N")]
    depth: usize,
    /// Sequences at once.
    #[arg(long, default_value_t = 1, value_name = "N")]
    batch: usize,
    /// Repetitions, after one warm-up that is not counted.
    #[arg(long, default_value_t = 5, value_name = "N")]
    repetitions: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &BenchArgs, session: &Session) -> Result<Outcome> {
    let BenchArgs { prompt, generate, depth, batch, repetitions, .. } = *args;
    let load = Workload { prompt, generate, depth, batch, repetitions };
    let device = Device::open(args.device.device)?;
    let mut rows = Vec::new();
    for model in &args.models {
        let variant = Variant::Stored(models::open(model, session.watch())?);
        let speeds = on_device!(&device, backend => timing::measure(backend, &variant, load, session.watch()))?;
        for phase in [Phase::Prefill, Phase::Decode] {
            rows.extend(row(variant.checkpoint().name(), &variant, phase, &speeds));
        }
    }
    session.print(&json!({ "results": rows, "device": device.info() }), || table(&rows))?;
    Ok(Outcome::Done)
}

fn row(model: &str, variant: &Variant, phase: Phase, speeds: &[Speed]) -> Option<Value> {
    let mut rates: Vec<f64> =
        speeds.iter().filter(|s| s.phase == phase).map(|s| f64::from(s.tokens) / s.seconds.max(1e-9)).collect();
    rates.sort_by(f64::total_cmp);
    let first = speeds.iter().find(|s| s.phase == phase)?;
    let median = crate::eval::stats::quantile(&rates, 0.5)?;
    let name = if phase == Phase::Prefill { "prefill" } else { "decode" };
    Some(json!({
        "model": model, "bytes": variant.bytes(), "phase": name, "tokens": first.tokens, "depth": first.depth,
        "batch": first.batch, "tps": median, "tps_min": rates.first(), "tps_max": rates.last(),
        "repetitions": rates.len(),
        "seconds": speeds.iter().filter(|s| s.phase == phase).map(|s| s.seconds).collect::<Vec<_>>(),
    }))
}

fn table(rows: &[Value]) -> String {
    let wide = rows.iter().filter_map(|row| row["model"].as_str()).map(|name| name.chars().count()).max().unwrap_or(5);
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or(f64::NAN);
    let mut text = format!(
        "{:wide$} {:>9} {:8} {:>6} {:>6} {:>6} {:>10} {:>21}\n",
        "model", "MiB", "phase", "tokens", "depth", "batch", "tok/s", "min - max"
    );
    for row in rows {
        let spread = format!("{:.1} - {:.1}", number(row, "tps_min"), number(row, "tps_max"));
        text += &format!(
            "{:wide$} {:9.1} {:8} {:>6} {:>6} {:>6} {:10.1} {spread:>21}\n",
            row["model"].as_str().unwrap_or(""),
            number(row, "bytes") / (1 << 20) as f64,
            row["phase"].as_str().unwrap_or(""),
            row["tokens"],
            row["depth"],
            row["batch"],
            number(row, "tps")
        );
    }
    text
}
