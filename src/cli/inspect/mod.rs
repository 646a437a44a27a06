//! `bitworth inspect`: what a model is and what its files hold.

mod against;

use anyhow::Result;
use bitworth_quant::About;
use bitworth_quant::contents::Contents;
use bitworth_quant::gguf::Value as Metadatum;
use clap::Args;
use serde_json::{Map, Value, json};

use super::session::Session;
use super::{Outcome, output};
use bitworth_measure::models;
use bitworth_report::number;

/// Strings and arrays longer than this are cut in the text form; JSON has all of them.
const SHOWN: usize = 60;

/// Show what a model is, and its metadata, tensors, types and bits per weight.
#[derive(Args)]
pub struct InspectArgs {
    /// GGUF file (of any kind), Hugging Face directory or hf:OWNER/NAME.
    model: String,
    /// Add the SHA-256 of each tensor's bytes.
    #[arg(long)]
    hash: bool,
    /// Show how it differs from this one: keys, tensors, types, shapes and bytes. Exit code 1 where it does.
    #[arg(long, value_name = "MODEL")]
    against: Option<String>,
}

pub fn run(args: &InspectArgs, session: &Session) -> Result<Outcome> {
    let path = models::locate(&args.model, session.watch())?;
    if let Some(other) = &args.against {
        let other = models::locate(other, session.watch())?;
        return against::run(&Contents::of(&path, true)?, &Contents::of(&other, true)?, session);
    }
    let contents = Contents::of(&path, args.hash)?;
    let (weights, bytes, bpw) = (contents.weights(), contents.bytes(), contents.bits_per_weight());
    let Contents { kind, version, metadata, rows, about } = contents;
    let keys: Map<String, Value> = metadata.iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    let mut document =
        json!({ "metadata": keys, "tensors": rows, "version": version, "weights": weights, "bytes": bytes, "bpw": bpw });
    if let Some(about) = &about {
        document["model"] = about.document();
        if let Some(published) = &about.published {
            let types: serde_json::Map<String, Value> =
                published.types.iter().map(|(name, n)| (name.clone(), json!(n))).collect();
            document["stored_as"] = json!({ "weights": types, "bytes": published.bytes });
        }
        if about.left_out.tensors > 0 {
            document["left_out"] = json!({ "tensors": about.left_out.tensors, "bytes": about.left_out.bytes });
        }
        if about.left_out.uncounted > 0 {
            document["left_out_mtp"] = json!({ "tensors": about.left_out.uncounted });
        }
    }
    session.print(&document, || {
        let mut text = format!("{kind}, {} keys, {} tensors\n\n", metadata.len(), rows.len());
        if let Some(about) = &about {
            for (name, value) in about_lines(about) {
                text += &format!("{name:20} {value}\n");
            }
            text.push('\n');
        }
        for (key, value) in metadata.iter() {
            text += &format!("{key:48} {}\n", brief(value));
        }
        text.push('\n');
        for row in &rows {
            let shape = row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            let name = output::tame(&row.name).replace('\n', "\\n");
            text += &format!("{name:40} {:6} {shape:>20} {:>14}", row.dtype, row.bytes);
            text += &row.sha256.as_ref().map_or_else(|| "\n".to_owned(), |hash| format!("  {hash}\n"));
        }
        text + &format!("\n{weights} weights in tensors of {bytes} bytes, {bpw:.3} bits per weight\n")
    })?;
    Ok(Outcome::Done)
}

fn about_lines(about: &About) -> Vec<(&'static str, String)> {
    let attention = &about.attention;
    let widths = match (attention.key_width, attention.value_width) {
        (key, value) if key == value => format!("{key} wide"),
        (key, value) => format!("{key} and {value} wide"),
    };
    let mut heads = match attention.kv_heads {
        0 => attention.kind.to_owned(),
        kv => format!("{}, {} query and {kv} key heads, {widths}", attention.kind, attention.heads),
    };
    if let Some((width, blocks)) = attention.window {
        heads += &format!(", window of {width} in {blocks} of {} blocks", about.blocks);
    }
    if attention.sinks {
        heads += ", sinks";
    }
    let mut lines = vec![
        ("architecture", about.architecture.to_owned()),
        ("parameters", format!("{} ({} active)", billions(about.parameters), billions(about.active_parameters))),
        ("context", format!("{} tokens", about.context_length)),
        ("size", format!("{} blocks, {} wide, MLP {} wide", about.blocks, about.embedding_length, about.feed_forward_length)),
        ("attention", heads),
        ("positions", about.positions.clone()),
        (
            "vocabulary",
            format!("{} tokens, {}", about.vocab_size, if about.tied { "output tied to embedding" } else { "output untied" }),
        ),
    ];
    if let Some((kind, blocks)) = about.recurrent {
        lines.push(("state", format!("{kind} in {blocks} of {} blocks", about.blocks)));
    }
    if about.mtp_blocks > 0 {
        lines.push(("further tokens", format!("{} blocks behind the last predict them; not computed", about.mtp_blocks)));
    }
    if let Some(published) = &about.published {
        let total: u64 = published.types.iter().map(|(_, weights)| weights).sum();
        let share = |weights: u64| 100.0 * weights as f64 / total.max(1) as f64;
        let types: Vec<String> = published.types.iter().map(|(name, n)| format!("{name} ({:.1} %)", share(*n))).collect();
        let stored = format!("{}, {} with scales", types.join(", "), number::bytes(published.bytes));
        lines.push(("stored as", format!("{stored}; shown here as the floats that they stand for")));
    }
    if let Some(text) = output::left_out(about.left_out) {
        lines.push(("left out", text));
    }
    if let Some(experts) = about.experts {
        let mut text = format!(
            "{} of {} used, {} wide, in {} of {} blocks",
            experts.used, experts.count, experts.feed_forward_length, experts.blocks, about.blocks
        );
        if experts.shared_feed_forward_length > 0 {
            text += &format!(", {} wide shared", experts.shared_feed_forward_length);
        }
        lines.push(("experts", text));
    }
    lines
}

/// A count as people say it: `135 M`, `8.03 B`.
fn billions(count: u64) -> String {
    let digits = |value: f64| if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let (value, unit) = match count {
        0..1_000_000 => (count as f64 / 1e3, "K"),
        1_000_000..1_000_000_000 => (count as f64 / 1e6, "M"),
        _ => (count as f64 / 1e9, "B"),
    };
    format!("{value:.*} {unit}", digits(value))
}

/// A value in a line.
fn brief(value: &Metadatum) -> String {
    if let Metadatum::Array(all) = value {
        return format!("[{} values]", all.len());
    }
    let text = match json!(value) {
        Value::String(text) => output::tame(&text).replace('\n', "\\n"),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}
