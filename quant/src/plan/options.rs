//! What a caller can ask for beside a recipe: the options of llama-quantize, with its meaning of each. What is absent: what
//! they lead to (see `decide` and `metadata`).

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;

use crate::gguf::Value;
use crate::message::{Command, Message, Setting};
use crate::recipe::ModelFacts;
use crate::{DType, Error, Imatrix, Result};

/// llama.cpp keeps keys and texts of overrides in 128 bytes with a closing zero.
const MAX_OVERRIDE_BYTES: usize = 127;

/// [`PlanOptions::pure`].
pub const PURE: Setting = Setting::new("pure");
/// [`PlanOptions::leave_output_tensor`].
pub const LEAVE_OUTPUT_TENSOR: Setting = Setting::new("leave_output_tensor");
/// [`PlanOptions::allow_requantize`].
pub const ALLOW_REQUANTIZE: Setting = Setting::new("allow_requantize");
/// [`PlanOptions::output_tensor_type`].
pub const OUTPUT_TENSOR_TYPE: Setting = Setting::new("output_tensor_type");
/// [`PlanOptions::token_embedding_type`].
pub const TOKEN_EMBEDDING_TYPE: Setting = Setting::new("token_embedding_type");
/// One of [`PlanOptions::tensor_types`].
pub const TENSOR_TYPE: Setting = Setting::new("tensor_type");
/// One of [`PlanOptions::override_kv`].
pub const OVERRIDE_KV: Setting = Setting::new("override_kv");
/// [`PlanOptions::prune_layers`].
pub const PRUNE_LAYERS: Setting = Setting::new("prune_layers");
/// [`PlanOptions::imatrix`].
pub const IMATRIX: Setting = Setting::new("imatrix");

/// Options of a plan; the default asks for nothing.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// `--pure`: the recipe's default for every tensor; no rules.
    pub pure: bool,
    /// `--leave-output-tensor`: `output.weight` stays as it is.
    pub leave_output_tensor: bool,
    /// `--allow-requantize`: tensors that are quantized already may become another type.
    pub allow_requantize: bool,
    /// `--output-tensor-type`: for `output.weight`, or the embedding of a model without one.
    pub output_tensor_type: Option<DType>,
    /// `--token-embedding-type`.
    pub token_embedding_type: Option<DType>,
    /// `--tensor-type`: the first pattern that fits decides, before any rule.
    pub tensor_types: Vec<TensorType>,
    /// `--override-kv`: keys set in the metadata, in order. Rules see them too.
    pub override_kv: Vec<(String, Value)>,
    /// `--prune-layers`: blocks to leave out.
    pub prune_layers: BTreeSet<usize>,
    /// Files of Q8_0, TQ1_0 and TQ2_0 from a training checkpoint as llama.cpp's converter writes them (`--outtype`), and not as
    /// llama-quantize: other order, other exceptions. Floats are the converter's in any case.
    pub as_converter: bool,
    /// `--keep-split`: tensors are met, counted and written in the order of the source, and not layer by layer.
    pub keep_split: bool,
    /// `--imatrix`.
    pub imatrix: Option<Arc<Imatrix>>,
}

/// `PATTERN=TYPE`: tensors whose name contains a match of the pattern become that type.
#[derive(Debug, Clone)]
pub struct TensorType {
    /// The pattern, in lower case.
    pub pattern: Regex,
    /// The type.
    pub dtype: DType,
}

impl TensorType {
    /// Reads `PATTERN=TYPE`. As llama-quantize does, the pattern ends at the first `=`, is put in lower case, and may match
    /// anywhere in a name. Its syntax is that of the `regex` crate: unlike C++'s, without look-around and back-references.
    ///
    /// # Errors
    /// [`Error::Option`] where there is no `=`, the pattern does not parse, or the type is unknown.
    pub fn parse(text: &str) -> Result<Self> {
        let error = |what: String| Error::option(TENSOR_TYPE, text, what);
        let (pattern, name) = text.split_once('=').ok_or_else(|| error("is not PATTERN=TYPE, as attn_v=q8_0".into()))?;
        if pattern.is_empty() || name.is_empty() {
            return Err(error("lacks the pattern or the type; give PATTERN=TYPE, as attn_v=q8_0".into()));
        }
        let dtype = DType::from_name(name);
        let dtype = dtype.ok_or_else(|| error(Error::unknown("type", name, DType::ALL.iter().map(|d| d.name())).to_string()))?;
        let pattern = Regex::new(&pattern.to_ascii_lowercase()).map_err(|e| error(e.to_string()))?;
        Ok(Self { pattern, dtype })
    }

    /// Reads the contents of a `--tensor-type-file`: as many `PATTERN=TYPE`, with white space between.
    ///
    /// # Errors
    /// As [`TensorType::parse`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        text.split_ascii_whitespace().map(Self::parse).collect()
    }
}

/// Reads `KEY=TYPE:VALUE` with TYPE `int`, `float`, `bool` or `str`. Whole numbers are stored as u32 and fractions as f32, as
/// llama-quantize stores them.
///
/// # Errors
/// [`Error::Option`] where the text is not of that form or the value does not fit.
pub fn parse_override_kv(text: &str) -> Result<(String, Value)> {
    let error = |what: &str| Error::option(OVERRIDE_KV, text, what);
    let form = "is not KEY=TYPE:VALUE with TYPE int, float, bool or str";
    let (key, rest) = text.split_once('=').ok_or_else(|| error(form))?;
    let (kind, value) = rest.split_once(':').ok_or_else(|| error(form))?;
    if key.is_empty() || key.len() > MAX_OVERRIDE_BYTES {
        return Err(error("the key must have 1 to 127 bytes"));
    }
    let value = match kind {
        "int" => Value::U32(value.parse().map_err(|_| error("the value is no whole number from 0 to 4294967295"))?),
        "float" => {
            let number: f64 = value.parse().map_err(|_| error("the value is no number"))?;
            Value::F32(number as f32)
        }
        "bool" => Value::Bool(value.parse().map_err(|_| error("the value is neither true nor false"))?),
        "str" if value.len() > MAX_OVERRIDE_BYTES => return Err(error("the value has more than 127 bytes")),
        "str" => Value::String(value.to_owned()),
        _ => return Err(error(form)),
    };
    Ok((key.to_owned(), value))
}

/// Reads block numbers separated by commas.
///
/// # Errors
/// [`Error::Option`] for anything else.
pub fn parse_prune_layers(text: &str) -> Result<BTreeSet<usize>> {
    let error = |_| Error::option(PRUNE_LAYERS, text, "is not a list of block numbers, as 20,21,22");
    text.split(',').map(|number| number.parse().map_err(error)).collect()
}

impl PlanOptions {
    /// The importance matrix, unless nothing is left in it: then llama-quantize goes on as without one.
    pub(super) fn importance(&self) -> Option<&Imatrix> {
        self.imatrix.as_deref().filter(|matrix| !matrix.is_empty())
    }

    /// The first pattern that fits a tensor's name.
    pub(super) fn tensor_type(&self, name: &str) -> Option<&TensorType> {
        self.tensor_types.iter().find(|t| t.pattern.is_match(name))
    }

    /// The facts of a model with the overridden keys. Of a key given twice, llama.cpp's loader takes the first.
    pub(super) fn overridden(&self, model: &ModelFacts) -> Result<ModelFacts> {
        const ARCHITECTURE: &str = "general.architecture";
        if self.override_kv.iter().any(|(key, _)| key == ARCHITECTURE) {
            let what = "decides which rules and keys there are, and cannot be another one than the model's";
            return Err(Error::option(OVERRIDE_KV, ARCHITECTURE, what));
        }
        let mut facts = model.clone();
        for (stem, fact) in [
            ("block_count", &mut facts.block_count),
            ("attention.head_count", &mut facts.head_count),
            ("attention.head_count_kv", &mut facts.head_count_kv),
            ("expert_count", &mut facts.expert_count),
        ] {
            let key = format!("{}.{stem}", model.arch);
            match self.override_kv.iter().find(|(k, _)| *k == key) {
                None => {}
                Some((_, Value::U32(number))) => *fact = *number as usize,
                Some(_) => return Err(Error::option(OVERRIDE_KV, key, "must be an int: it is a size of the model")),
            }
        }
        Ok(facts)
    }

    /// Blocks can be pruned that the model has, and not all of them.
    pub(super) fn check_pruning(&self, model: &ModelFacts) -> Result<()> {
        let blocks = model.block_count;
        if let Some(number) = self.prune_layers.iter().find(|&&number| number >= blocks) {
            let what = format!("the model has {blocks} blocks, counted from 0");
            return Err(Error::option(PRUNE_LAYERS, number.to_string(), what));
        }
        if blocks > 0 && self.prune_layers.len() == blocks {
            return Err(Error::option(PRUNE_LAYERS, format!("0 to {}", blocks - 1), "would leave no block of the model"));
        }
        Ok(())
    }

    /// llama.cpp's converter knows no options but those for the head and the embedding; others would have no effect on the files
    /// of `recipe` that it makes.
    pub(super) fn check_for_converter(&self, recipe: &str) -> Result<()> {
        let given = [
            (self.tensor_types.is_empty(), TENSOR_TYPE),
            (!self.pure, PURE),
            (!self.leave_output_tensor, LEAVE_OUTPUT_TENSOR),
            (self.imatrix.is_none(), IMATRIX),
        ];
        match given.into_iter().find(|(absent, _)| !absent) {
            None => Ok(()),
            Some((_, setting)) => {
                let what = "has no effect on files that are made as llama.cpp's converter makes them; use ";
                Err(Error::option(setting, recipe, Message::from(what).then(Command::Quantize).then(" instead")))
            }
        }
    }

    /// Every pattern must have something to say: that it fits no tensor is a slip of the pen, and a costly one.
    pub(super) fn check_patterns(&self, quantizable: &[&str], others: &[&str]) -> Result<()> {
        for TensorType { pattern, dtype } in &self.tensor_types {
            if quantizable.iter().any(|name| pattern.is_match(name)) {
                continue;
            }
            let kept = others.iter().find(|name| pattern.is_match(name));
            let what = match kept {
                None => Message::from("fits no tensor of the model; ").then(Command::Inspect).then(" lists their names"),
                Some(name) => format!("fits only tensors that are left as they are, as {name}").into(),
            };
            return Err(Error::option(TENSOR_TYPE, format!("{pattern}={}", dtype.name()), what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused<T: std::fmt::Debug>(read: Result<T>, setting: Setting, expected: &str) {
        let error = read.unwrap_err().to_string();
        assert!(error.starts_with(setting.name()) && error.contains(expected), "{error:?} lacks {expected:?}");
    }

    #[test]
    fn tensor_types_are_a_pattern_and_a_type() {
        let read = TensorType::parse(r"BLK\.[0-3]\.ffn=iq4_XS").unwrap();
        assert_eq!((read.pattern.as_str(), read.dtype), (r"blk\.[0-3]\.ffn", DType::IQ4_XS));
        let all = TensorType::parse_all(" a=q8_0\n\tb=f16  \n").unwrap();
        assert_eq!(all.iter().map(|t| t.dtype).collect::<Vec<_>>(), [DType::Q8_0, DType::F16]);
        for (text, expected) in [
            ("a", "PATTERN=TYPE"),
            ("=q8_0", "lacks"),
            ("a=", "lacks"),
            ("a=q9", "Q4_K"),
            ("(=q8_0", "unclosed"),
            ("a=b=q8_0", "b=q8_0"),
        ] {
            refused(TensorType::parse(text), TENSOR_TYPE, expected);
        }
    }

    #[test]
    fn overrides_are_typed_as_llama_quantize_types_them() {
        let check = |text: &str, value: Value| assert_eq!(parse_override_kv(text).unwrap(), ("k".to_owned(), value));
        check("k=int:42", Value::U32(42));
        check("k=float:1e-5", Value::F32(1e-5));
        check("k=bool:true", Value::Bool(true));
        check("k=str:a=b:c", Value::String("a=b:c".into()));
        let long = format!("k=str:{}", "x".repeat(128));
        for text in ["k", "k=3", "k=int:", "k=int:-1", "k=int:4294967296", "k=bool:yes", "k=float:x", "k=u8:1", "=int:1", &long] {
            refused(parse_override_kv(text), OVERRIDE_KV, text);
        }
    }

    #[test]
    fn blocks_to_prune_are_numbers() {
        assert_eq!(parse_prune_layers("3,1,3").unwrap(), BTreeSet::from([1, 3]));
        for text in ["", "1,", "a", "-1", "1-3"] {
            refused(parse_prune_layers(text), PRUNE_LAYERS, "block numbers");
        }
    }
}
