//! LoRA adapters as PEFT saves them (`adapter_config.json` and `adapter_model.safetensors`), merged into the weights that they
//! were trained beside: `W + s B A` (Hu et al. 2021, section 4.1), s being `lora_alpha / r`, or with `use_rslora`
//! `lora_alpha / sqrt(r)`, times what the caller says. The sum is made in f32, row by row, as rows are read.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Floats, compiled};
use crate::json::read_json;
use crate::mmap::FileMap;
use crate::packing::Packed;
use crate::safetensors::{HfTensor, HfTensors};
use crate::{Error, Result};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of a model's tensors.
const PREFIX: &str = "base_model.model.";
/// More than any rank; it bounds what is decoded at once.
const MAX_RANK: usize = 1 << 14;

/// Settings that mean another computation, unless they have one of these values.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("use_dora", &["false"]),
    ("use_qalora", &["false"]),
    ("fan_in_fan_out", &["false"]),
    ("lora_bias", &["false"]),
    ("bias", &["\"none\"", "\"lora_only\"", "\"all\""]),
    ("megatron_config", &[]),
    ("trainable_token_indices", &["[]", "{}"]),
    ("target_parameters", &["[]"]),
    ("alora_invocation_tokens", &["[]"]),
    ("layer_replication", &["[]"]),
    ("arrow_config", &[]),
    ("use_bdlora", &["false"]),
    // The others change the weights of the base before they are trained.
    ("init_lora_weights", &["true", "false", "\"gaussian\"", "\"eva\"", "\"orthogonal\""]),
];

/// An adapter to be merged.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// Its folder.
    pub path: PathBuf,
    /// What it counts: 1 as it was trained.
    pub scale: f32,
}

/// A weight and what is added to it.
struct Merged {
    base: Base,
    cols: usize,
    rank: usize,
    /// `[rank, cols]`
    a: Floats,
    /// `[rows, rank]`
    b: Floats,
    scale: f32,
}

/// What is added to.
enum Base {
    Floats(Floats),
    Packed(Arc<dyn Packed>),
}

/// The tensors of a model with an adapter merged into them.
///
/// # Errors
/// The adapter's files are missing or broken, it is of another kind than LoRA, asks for something not understood, or has a tensor
/// for a weight that the model does not have or that has another shape.
pub(crate) fn merge(model: HfTensors, adapter: &Adapter) -> Result<HfTensors> {
    let path = adapter.path.join(CONFIG);
    let missing = || Error::file(&adapter.path, format!("has no {CONFIG}; give the folder of a LoRA adapter"));
    let config = read_json(&path)?.ok_or_else(missing)?;
    let config = Config { path: &path, json: &config };
    config.check()?;
    if !adapter.scale.is_finite() {
        return Err(Error::file(&adapter.path, format!("the scale {} is not finite", adapter.scale)));
    }
    let weights = adapter.path.join(WEIGHTS);
    if !weights.is_file() {
        return Err(Error::file(&adapter.path, format!("has no {WEIGHTS}; adapters in other files are not supported")));
    }
    let files = HfTensors::open(&weights)?;
    let all: HashMap<&str, &HfTensor> = files.tensors().iter().map(|t| (t.name.as_str(), t)).collect();
    let mut found: HashMap<String, HfTensor> = HashMap::new();
    let places: HashMap<&str, usize> = model.tensors().iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect();
    for tensor in files.tensors() {
        let name = tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name);
        if name.ends_with(".lora_B.weight") {
            let a = tensor.name.replace(".lora_B.", ".lora_A.");
            if !all.contains_key(a.as_str()) {
                return Err(Error::tensor(&tensor.file, a, "is missing"));
            }
            continue;
        }
        let module = name.strip_suffix(".lora_A.weight");
        let base_name = module.map_or_else(|| name.to_owned(), |module| format!("{module}.weight"));
        let base = places.get(base_name.as_str()).map(|&i| &model.tensors()[i]).ok_or_else(|| {
            let what = match name.contains("lora_") {
                true => format!("is of a kind that is not supported, or of no weight of the model ({base_name})"),
                false => format!("is of no tensor of the model ({base_name}); the adapter is another model's"),
            };
            Error::tensor(&tensor.file, &tensor.name, what)
        })?;
        let merged = match module {
            Some(module) => {
                let b = tensor.name.replace(".lora_A.", ".lora_B.");
                let b = all.get(b.as_str()).ok_or_else(|| Error::tensor(&tensor.file, b.clone(), "is missing"))?;
                merged(base, (tensor, b), config.scale(module, tensor.shape.first().copied().unwrap_or(0))? * adapter.scale)?
            }
            // A module that was trained whole.
            None if model.is_adapted(&base_name) => {
                let what = format!("replaces {base_name}, which another adapter has changed; both cannot hold");
                return Err(Error::tensor(&tensor.file, &tensor.name, what));
            }
            None if base.shape == tensor.shape => {
                let mut whole = tensor.clone();
                whole.name.clone_from(&base.name);
                whole
            }
            None => return Err(other_shape(tensor, base)),
        };
        found.insert(base_name, merged);
    }
    if found.is_empty() {
        return Err(Error::file(&weights, "holds no tensors"));
    }
    let adapted: Vec<String> = found.keys().cloned().collect();
    let tensors = model.tensors().iter().map(|t| found.remove(&t.name).unwrap_or_else(|| t.clone())).collect();
    let more = files.files().to_vec();
    Ok(model.with_tensors(tensors).with_files(&more).with_adapted(adapted))
}

fn other_shape(tensor: &HfTensor, base: &HfTensor) -> Error {
    let what = format!("has the shape {:?}, which does not fit {} of {:?}", tensor.shape, base.name, base.shape);
    Error::tensor(&tensor.file, &tensor.name, what)
}

/// A weight with the product of two matrices added.
fn merged(base: &HfTensor, (a, b): (&HfTensor, &HfTensor), scale: f32) -> Result<HfTensor> {
    let (&[rows, cols], &[rank, a_cols], &[b_rows, b_rank]) = (&base.shape[..], &a.shape[..], &b.shape[..]) else {
        return Err(other_shape(a, base));
    };
    if a_cols != cols || rank == 0 || rank > MAX_RANK {
        return Err(other_shape(a, base));
    }
    if b_rows != rows || b_rank != rank {
        return Err(other_shape(b, base));
    }
    let floats = |tensor: &HfTensor| Ok(Floats { span: tensor.span(), dtype: tensor.dtype()? });
    let base_of = match base.packing() {
        Some(packed) => Base::Packed(Arc::clone(packed)),
        None => Base::Floats(floats(base)?),
    };
    let merged = Merged { base: base_of, cols, rank, a: floats(a)?, b: floats(b)?, scale };
    Ok(HfTensor::packed(base, base.name.clone(), base.shape.clone(), Arc::new(merged), base.stored_bytes()))
}

#[derive(Clone, Copy)]
struct Config<'a> {
    path: &'a Path,
    json: &'a Map<String, Value>,
}

impl Config<'_> {
    fn error(self, key: &str, what: impl Into<crate::message::Message>) -> Error {
        Error::key(self.path, key, what)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn check(self) -> Result<()> {
        match self.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => return Err(self.error("peft_type", format!("{other:?} is not supported; only \"LORA\" is"))),
            None => return Err(self.error("peft_type", "is missing; it must be \"LORA\"")),
        }
        for (key, neutral) in NEUTRAL {
            if let Some(value) = self.get(key).filter(|value| !neutral.contains(&value.to_string().as_str())) {
                let shown: String = value.to_string().chars().take(80).collect();
                return Err(self.error(key, format!("{shown} is not supported")));
            }
        }
        Ok(())
    }

    /// What the product of a module's matrices is multiplied by.
    ///
    /// `stored` is the rank that they have.
    fn scale(self, module: &str, stored: usize) -> Result<f32> {
        let rank = self.number("rank_pattern", "r", module)?;
        let alpha = self.number("alpha_pattern", "lora_alpha", module)?;
        let root = match self.get("use_rslora") {
            None => false,
            Some(Value::Bool(root)) => *root,
            Some(other) => return Err(self.error("use_rslora", format!("is {other}, but must be true or false"))),
        };
        if rank != stored as f64 {
            return Err(self.error("r", format!("is {rank} for {module}, whose matrices have the rank {stored}")));
        }
        Ok((alpha / if root { rank.sqrt() } else { rank }) as f32)
    }

    /// A number above 0 that patterns may name for a module: whole names or their ends, as PEFT matches them.
    fn number(self, patterns: &str, key: &str, module: &str) -> Result<f64> {
        let object = match self.get(patterns) {
            None => None,
            Some(Value::Object(object)) => Some(object),
            Some(_) => return Err(self.error(patterns, "must be an object")),
        };
        for (pattern, value) in object.into_iter().flatten() {
            let regex = compiled(&format!("^(?:.*\\.)?(?:{pattern})$"));
            let regex = regex.ok_or_else(|| self.error(patterns, format!("the pattern {pattern:?} is not supported")))?;
            if regex.is_match(module) {
                return self.above_zero(patterns, value);
            }
        }
        let value = self.get(key).ok_or_else(|| self.error(key, "is missing"))?;
        self.above_zero(key, value)
    }

    fn above_zero(self, key: &str, value: &Value) -> Result<f64> {
        let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        number.ok_or_else(|| self.error(key, format!("is {value}, but must be a number above 0")))
    }
}

impl Floats {
    /// Some numbers that lie one behind the other.
    fn decode(&self, numbers: Range<usize>, out: &mut [f32]) {
        let width = self.dtype.block_bytes();
        self.dtype.decode_row(&self.span.bytes()[numbers.start * width..numbers.end * width], out);
    }
}

impl Packed for Merged {
    fn decode(&self, row: usize, cols: Range<usize>, out: &mut [f32]) {
        match &self.base {
            Base::Floats(floats) => floats.decode(row * self.cols + cols.start..row * self.cols + cols.end, out),
            Base::Packed(packed) => packed.decode(row, cols.clone(), out),
        }
        let mut a = vec![0.0; self.rank * cols.len()];
        for (r, a) in a.chunks_exact_mut(cols.len().max(1)).enumerate() {
            self.a.decode(r * self.cols + cols.start..r * self.cols + cols.end, a);
        }
        self.add(row, &a, out);
    }

    fn decode_rows(&self, rows: &[usize], out: &mut [f32]) {
        match &self.base {
            Base::Packed(packed) => packed.decode_rows(rows, out),
            Base::Floats(floats) => {
                for (&row, out) in rows.iter().zip(out.chunks_exact_mut(self.cols)) {
                    floats.decode(row * self.cols..(row + 1) * self.cols, out);
                }
            }
        }
        let mut a = vec![0.0; self.rank * self.cols];
        self.a.decode(0..self.rank * self.cols, &mut a);
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(self.cols)) {
            self.add(row, &a, out);
        }
    }

    fn label(&self) -> Option<String> {
        match &self.base {
            Base::Packed(packed) => packed.label(),
            Base::Floats(_) => None,
        }
    }

    fn each_part(&self, rows: Range<usize>, f: &mut dyn FnMut(&FileMap, Range<usize>)) {
        match &self.base {
            Base::Packed(packed) => packed.each_part(rows, f),
            Base::Floats(floats) => {
                let row = self.cols * floats.dtype.block_bytes();
                f(&floats.span.map, floats.span.within(rows.start * row..rows.end * row));
            }
        }
    }
}

impl Merged {
    /// Adds the product to some columns of a row; `a` is the first matrix in these columns.
    fn add(&self, row: usize, a: &[f32], out: &mut [f32]) {
        let mut sum = vec![0.0; out.len()];
        for (r, a) in a.chunks_exact(out.len().max(1)).enumerate() {
            let b = self.b.get(row * self.rank + r);
            sum.iter_mut().zip(a).for_each(|(sum, a)| *sum += b * a);
        }
        out.iter_mut().zip(&sum).for_each(|(out, sum)| *out += sum * self.scale);
    }
}
