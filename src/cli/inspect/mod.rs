//! `bitworth inspect`: what a model is and what its files hold.

mod against;

use std::path::Path;

use anyhow::Result;
use bitworth_quant::checkpoint::{Container, Model};
use bitworth_quant::gguf::{Array, GgufFile, Metadata, TensorEntry, Value as Metadatum};
use bitworth_quant::{About, Checkpoint};
use clap::Args;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::session::Session;
use super::{Outcome, output};
use bitworth_measure::models;
use bitworth_quant::quantize::hex;
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

struct TensorRow {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: usize,
    sha256: Option<String>,
}

/// What there is to show, whichever kind of source it comes from.
struct Contents {
    /// `GGUF version 3` or the like.
    kind: String,
    version: Option<u32>,
    metadata: Metadata,
    rows: Vec<TensorRow>,
    /// Absent where the file holds no model, or one of an architecture that is not known here.
    about: Option<About>,
}

pub fn run(args: &InspectArgs, session: &Session) -> Result<Outcome> {
    let path = models::locate(&args.model, session.watch())?;
    if let Some(other) = &args.against {
        let other = models::locate(other, session.watch())?;
        return against::run(&contents(&path, true)?, &contents(&other, true)?, session);
    }
    let Contents { kind, version, metadata, rows, about } = contents(&path, args.hash)?;
    let weights: u64 = rows.iter().map(|row| row.shape.iter().map(|&d| d as u64).product::<u64>()).sum();
    let bytes: u64 = rows.iter().map(|row| row.bytes as u64).sum();
    let bpw = 8.0 * bytes as f64 / weights.max(1) as f64;
    let keys: Map<String, Value> = metadata.iter().map(|(key, value)| (key.to_owned(), to_json(value))).collect();
    let tensors: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut tensor = json!({ "name": row.name, "type": row.dtype, "shape": row.shape, "bytes": row.bytes });
            if let Some(sha256) = &row.sha256 {
                tensor["sha256"] = json!(sha256);
            }
            tensor
        })
        .collect();
    let mut document =
        json!({ "metadata": keys, "tensors": tensors, "version": version, "weights": weights, "bytes": bytes, "bpw": bpw });
    if let Some(about) = &about {
        document["model"] = about_json(about);
        if let Some(published) = &about.published {
            let types: serde_json::Map<String, Value> =
                published.types.iter().map(|(name, n)| (name.clone(), json!(n))).collect();
            document["stored_as"] = json!({ "weights": types, "bytes": published.bytes });
        }
        if about.other_parts.tensors > 0 {
            document["left_out"] = json!({ "tensors": about.other_parts.tensors, "bytes": about.other_parts.bytes });
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
        text + &format!("\n{weights} weights, {bytes} bytes, {bpw:.3} bits per weight\n")
    })?;
    Ok(Outcome::Done)
}

fn contents(path: &Path, hash: bool) -> Result<Contents> {
    if path.is_dir() { of_directory(path, hash) } else { of_gguf(path, hash) }
}

fn of_gguf(path: &Path, hash: bool) -> Result<Contents> {
    let file = GgufFile::open(path)?;
    let row = |tensor: &TensorEntry| TensorRow {
        name: tensor.name.clone(),
        dtype: tensor.dtype.name(),
        shape: tensor.shape.clone(),
        bytes: tensor.bytes,
        sha256: hash.then(|| hex(&Sha256::digest(&*file.bytes(tensor)))),
    };
    let rows = file.tensors.iter().map(row).collect();
    // An importance matrix, a projector or an architecture of tomorrow is listed all the same.
    let about = Checkpoint::open(path).ok().map(|checkpoint| About::of(&checkpoint));
    let kind = format!("GGUF version {}", file.version);
    Ok(Contents { kind, version: Some(file.version), metadata: file.metadata.clone(), rows, about })
}

fn of_directory(path: &Path, hash: bool) -> Result<Contents> {
    let checkpoint = Checkpoint::open(path)?;
    // As the file of floats that is made of it has them.
    let kept = checkpoint.kept();
    let tensors = kept.map_or(checkpoint.tensors(), Container::tensors);
    let metadata = kept.map_or(checkpoint.metadata(), Container::metadata).clone();
    let mut rows = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let whole = 0..tensor.rows();
        let bytes = tensor.dtype.row_bytes(tensor.cols()).unwrap_or(0) * tensor.rows();
        let sha256 = if hash { Some(hex(&Sha256::digest(&*checkpoint.read(tensor, whole)?))) } else { None };
        rows.push(TensorRow {
            name: tensor.name.clone(),
            dtype: tensor.dtype.name(),
            shape: tensor.shape.clone(),
            bytes,
            sha256,
        });
    }
    let kind = "Hugging Face directory, as GGUF".to_owned();
    let about = Some(About::of(&checkpoint));
    Ok(Contents { kind, version: None, metadata, rows, about })
}

fn about_json(about: &About) -> Value {
    let attention = &about.attention;
    json!({
        "architecture": about.architecture,
        "parameters": about.parameters,
        "active_parameters": about.active_parameters,
        "context_length": about.context_length,
        "blocks": about.blocks,
        "mtp_blocks": about.mtp_blocks,
        "recurrent": about.recurrent.map(|(kind, blocks)| json!({ "kind": kind, "blocks": blocks })),
        "embedding_length": about.embedding_length,
        "feed_forward_length": about.feed_forward_length,
        "vocab_size": about.vocab_size,
        "tied": about.tied,
        "norm": about.norm,
        "positions": about.positions,
        "attention": {
            "kind": attention.kind,
            "heads": attention.heads,
            "kv_heads": attention.kv_heads,
            "key_width": attention.key_width,
            "value_width": attention.value_width,
            "window": attention.window.map(|(width, _)| width),
            "windowed_blocks": attention.window.map_or(0, |(_, blocks)| blocks),
            "sinks": attention.sinks,
        },
        "experts": about.experts.map(|e| json!({
            "count": e.count,
            "used": e.used,
            "feed_forward_length": e.feed_forward_length,
            "shared_feed_forward_length": e.shared_feed_forward_length,
            "blocks": e.blocks,
        })),
    })
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
    if let Some(text) = output::left_out(about.other_parts) {
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

/// Calls `$f` with the vector inside an array, whatever its type.
macro_rules! each_array {
    ($array:expr, $v:ident => $f:expr) => {
        match $array {
            Array::U8($v) => $f,
            Array::I8($v) => $f,
            Array::U16($v) => $f,
            Array::I16($v) => $f,
            Array::U32($v) => $f,
            Array::I32($v) => $f,
            Array::F32($v) => $f,
            Array::Bool($v) => $f,
            Array::String($v) => $f,
            Array::Bytes(bytes) => {
                let $v: Vec<Value> = bytes.iter().map(|bytes| bytes_json(bytes)).collect();
                let $v = &$v;
                $f
            }
            Array::U64($v) => $f,
            Array::I64($v) => $f,
            Array::F64($v) => $f,
            Array::Array(inner) => {
                let $v: Vec<Value> = inner.iter().map(array_json).collect();
                let $v = &$v;
                $f
            }
        }
    };
}

/// A string that is not UTF-8: what can be shown of it.
fn bytes_json(bytes: &[u8]) -> Value {
    json!(String::from_utf8_lossy(bytes))
}

fn array_json(array: &Array) -> Value {
    each_array!(array, v => json!(v))
}

fn to_json(value: &Metadatum) -> Value {
    match value {
        Metadatum::U8(v) => json!(v),
        Metadatum::I8(v) => json!(v),
        Metadatum::U16(v) => json!(v),
        Metadatum::I16(v) => json!(v),
        Metadatum::U32(v) => json!(v),
        Metadatum::I32(v) => json!(v),
        Metadatum::F32(v) => json!(v),
        Metadatum::Bool(v) => json!(v),
        Metadatum::String(v) => json!(v),
        Metadatum::Bytes(v) => bytes_json(v),
        Metadatum::Array(v) => array_json(v),
        Metadatum::U64(v) => json!(v),
        Metadatum::I64(v) => json!(v),
        Metadatum::F64(v) => json!(v),
    }
}

fn brief(value: &Metadatum) -> String {
    if let Metadatum::Array(array) = value {
        let len = each_array!(array, v => v.len());
        return format!("[{len} values]");
    }
    let text = match to_json(value) {
        Value::String(text) => output::tame(&text).replace('\n', "\\n"),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}
