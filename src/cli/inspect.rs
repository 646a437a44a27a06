//! `bitworth inspect`: what a model file holds.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use quant::gguf::{Array, GgufFile, Value as Metadatum};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::Outcome;
use super::session::Session;
use crate::runner::text::hex;

/// Strings and arrays longer than this are cut in the text form; JSON has all of them.
const SHOWN: usize = 60;

/// Show metadata, tensors, types and bits per weight of a GGUF file.
#[derive(Args)]
pub struct InspectArgs {
    /// The GGUF file.
    file: PathBuf,
    /// Add the SHA-256 of each tensor's bytes.
    #[arg(long)]
    hash: bool,
}

struct Row {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: usize,
    sha256: Option<String>,
}

pub fn run(args: &InspectArgs, session: &Session) -> Result<Outcome> {
    let file = GgufFile::open(&args.file)?;
    let rows: Vec<Row> = file
        .tensors
        .iter()
        .map(|tensor| Row {
            name: tensor.name.clone(),
            dtype: tensor.dtype.name(),
            shape: tensor.shape.clone(),
            bytes: tensor.bytes,
            sha256: args.hash.then(|| hex(&Sha256::digest(&*file.bytes(tensor)))),
        })
        .collect();
    let weights: u64 = rows.iter().map(|row| row.shape.iter().map(|&d| d as u64).product::<u64>()).sum();
    let bytes: u64 = rows.iter().map(|row| row.bytes as u64).sum();
    let bpw = 8.0 * bytes as f64 / weights.max(1) as f64;
    let metadata: Map<String, Value> = file.metadata.iter().map(|(key, value)| (key.to_owned(), to_json(value))).collect();
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
    let document = json!({ "metadata": metadata, "tensors": tensors, "version": file.version, "weights": weights, "bytes": bytes, "bpw": bpw });
    session.print(&document, || {
        let mut text = format!("GGUF version {}, {} keys, {} tensors\n\n", file.version, file.metadata.len(), rows.len());
        for (key, value) in file.metadata.iter() {
            text += &format!("{key:48} {}\n", brief(value));
        }
        text.push('\n');
        for row in &rows {
            let shape = row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            text += &format!("{:40} {:6} {shape:>20} {:>14}", row.name, row.dtype, row.bytes);
            text += &row.sha256.as_ref().map_or_else(|| "\n".to_owned(), |hash| format!("  {hash}\n"));
        }
        text + &format!("\n{weights} weights, {bytes} bytes, {bpw:.3} bits per weight\n")
    })?;
    Ok(Outcome::Done)
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
        Value::String(text) => text.replace('\n', "\\n"),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}
