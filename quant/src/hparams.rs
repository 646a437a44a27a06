//! Hyper-parameters of a model, read from GGUF metadata keys and nothing else, so that a safetensors directory (through the
//! metadata its conversion would have) and a GGUF file give the same values.
//!
//! Absent: what depends on the architecture (see `arch`) and anything about the tokenizer but the size of the vocabulary.

use std::path::Path;

use crate::arch::ArchSpec;
use crate::gguf::{Array, Metadata, Value};
use crate::{Error, Result};

/// How positions are stretched beyond the context the model was first trained on. Llama 3's per-frequency factors are not
/// here: they are a tensor (`rope_freqs.weight`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Positions as they are.
    None,
    /// Positions divided by `factor` (Chen et al. 2023).
    Linear {
        /// The divisor, above 0.
        factor: f32,
    },
}

/// The sizes and constants of one model. All have been checked: none is zero where it must not be, and products of two of
/// them fit `usize` with room to spare.
#[derive(Debug, Clone, PartialEq)]
pub struct HParams {
    /// Decoder blocks.
    pub block_count: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Width H of the residual stream.
    pub embedding_length: usize,
    /// Width F of the feed-forward network.
    pub feed_forward_length: usize,
    /// Query heads.
    pub head_count: usize,
    /// Key and value heads; divides `head_count`.
    pub head_count_kv: usize,
    /// Width of a query or key head (`attention.key_length`).
    pub head_dim: usize,
    /// Width of a value head (`attention.value_length`).
    pub value_dim: usize,
    /// Epsilon inside the root of RMS normalization.
    pub rms_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_freq_base: f32,
    /// Components of a head that are rotated: even, at most `head_dim`.
    pub rope_dim: usize,
    /// Stretching of positions.
    pub rope_scaling: RopeScaling,
    /// Tokens V.
    pub vocab_size: usize,
}

/// The largest sizes that are believed; a file that claims more is broken or hostile. They keep every product of two sizes
/// below 2^53.
const MAX_BLOCKS: u64 = 1 << 12;
const MAX_WIDTH: u64 = 1 << 24;
const MAX_VOCAB: u64 = 1 << 26;
const MAX_CONTEXT: u64 = 1 << 26;
/// llama.cpp's own default where a file gives no base.
const DEFAULT_ROPE_FREQ_BASE: f32 = 10000.0;

impl HParams {
    /// Reads the hyper-parameters of an `arch` model from `metadata`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Key`] for a key that is missing, of the wrong type, out of range, or that asks for a computation not
    /// supported (mixture of experts, sliding windows, YaRN).
    pub fn from_metadata(path: &Path, arch: &ArchSpec, metadata: &Metadata) -> Result<Self> {
        let keys = Keys { path, arch, metadata };
        keys.refuse_unsupported()?;
        let embedding_length = keys.size("embedding_length", MAX_WIDTH)?;
        let head_count = keys.size("attention.head_count", MAX_WIDTH)?;
        let head_count_kv = keys.optional_size("attention.head_count_kv", MAX_WIDTH)?.unwrap_or(head_count);
        if head_count % head_count_kv != 0 {
            let what = format!("{head_count_kv} key/value heads do not divide {head_count} query heads");
            return Err(keys.error("attention.head_count_kv", what));
        }
        let head_dim = keys.head_dim("attention.key_length", embedding_length, head_count)?;
        let value_dim = keys.head_dim("attention.value_length", embedding_length, head_count)?;
        for (stem, heads, dim) in [("key", head_count, head_dim), ("value", head_count, value_dim)] {
            if (heads * dim) as u64 > MAX_WIDTH {
                let what = format!("{heads} heads of {dim} are wider than {MAX_WIDTH}");
                return Err(keys.error(&format!("attention.{stem}_length"), what));
            }
        }
        let rope_dim = keys.optional_size("rope.dimension_count", MAX_WIDTH)?.unwrap_or(head_dim);
        if rope_dim % 2 != 0 || rope_dim > head_dim {
            let what = format!("is {rope_dim}, but must be even and at most the head width {head_dim}");
            return Err(keys.error("rope.dimension_count", what));
        }
        Ok(Self {
            block_count: keys.size("block_count", MAX_BLOCKS)?,
            context_length: keys.size("context_length", MAX_CONTEXT)?,
            embedding_length,
            feed_forward_length: keys.size("feed_forward_length", MAX_WIDTH)?,
            head_count,
            head_count_kv,
            head_dim,
            value_dim,
            rms_epsilon: keys.rms_epsilon()?,
            rope_freq_base: keys.positive("rope.freq_base")?.unwrap_or(DEFAULT_ROPE_FREQ_BASE),
            rope_dim,
            rope_scaling: keys.rope_scaling()?,
            vocab_size: keys.vocab_size()?,
        })
    }
}

/// The metadata with what messages need.
struct Keys<'a> {
    path: &'a Path,
    arch: &'a ArchSpec,
    metadata: &'a Metadata,
}

impl Keys<'_> {
    fn error(&self, stem: &str, what: impl Into<String>) -> Error {
        Error::key(self.path, self.arch.key(stem), what)
    }

    fn get(&self, stem: &str) -> Option<&Value> {
        self.metadata.get(&self.arch.key(stem))
    }

    /// A size from 1 to `max`, or `None` where the key is absent.
    fn optional_size(&self, stem: &str, max: u64) -> Result<Option<usize>> {
        let Some(value) = self.get(stem) else { return Ok(None) };
        if let Value::Array(_) = value {
            return Err(self.error(stem, "differs from block to block, which is not supported"));
        }
        let size =
            self.metadata.u64(&self.arch.key(stem)).ok_or_else(|| self.error(stem, "is not a whole number of 0 or more"))?;
        if size == 0 || size > max {
            return Err(self.error(stem, format!("is {size}, but must lie between 1 and {max}")));
        }
        usize::try_from(size).map(Some).map_err(|_| self.error(stem, format!("{size} is too large for this machine")))
    }

    fn size(&self, stem: &str, max: u64) -> Result<usize> {
        self.optional_size(stem, max)?.ok_or_else(|| self.error(stem, "is missing"))
    }

    /// A finite number above 0, or `None` where the key is absent.
    fn positive(&self, stem: &str) -> Result<Option<f32>> {
        if self.get(stem).is_none() {
            return Ok(None);
        }
        match self.metadata.f32(&self.arch.key(stem)) {
            Some(v) if v.is_finite() && v > 0.0 => Ok(Some(v)),
            Some(v) => Err(self.error(stem, format!("is {v}, but must be a finite number above 0"))),
            None => Err(self.error(stem, "is not a floating-point number")),
        }
    }

    fn head_dim(&self, stem: &str, embedding_length: usize, head_count: usize) -> Result<usize> {
        match self.optional_size(stem, MAX_WIDTH)? {
            Some(dim) => Ok(dim),
            None if embedding_length.is_multiple_of(head_count) => Ok(embedding_length / head_count),
            None => {
                Err(self.error(stem, format!("is missing, and {head_count} heads do not divide a width of {embedding_length}")))
            }
        }
    }

    fn rms_epsilon(&self) -> Result<f32> {
        const STEM: &str = "attention.layer_norm_rms_epsilon";
        let epsilon = self.positive(STEM)?.ok_or_else(|| self.error(STEM, "is missing"))?;
        if epsilon > 1.0 {
            return Err(self.error(STEM, format!("is {epsilon}, but must be at most 1")));
        }
        Ok(epsilon)
    }

    /// As llama.cpp reads it: a factor without a type means linear, a factor of 0 means none, and `rope.scale_linear` is
    /// the factor's old name.
    fn rope_scaling(&self) -> Result<RopeScaling> {
        const TYPE: &str = "rope.scaling.type";
        let factor_stem = if self.get("rope.scaling.factor").is_some() { "rope.scaling.factor" } else { "rope.scale_linear" };
        let kind = match self.get(TYPE) {
            None => "linear",
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(self.error(TYPE, "is not a string")),
        };
        match kind {
            "none" => Ok(RopeScaling::None),
            "linear" if self.metadata.f32(&self.arch.key(factor_stem)) == Some(0.0) => Ok(RopeScaling::None),
            "linear" => Ok(match self.positive(factor_stem)? {
                None | Some(1.0) => RopeScaling::None,
                Some(factor) => RopeScaling::Linear { factor },
            }),
            other => Err(self.error(TYPE, format!("{other:?} is not supported; known: none, linear"))),
        }
    }

    /// From its own key, else from the list of tokens.
    fn vocab_size(&self) -> Result<usize> {
        if let Some(size) = self.optional_size("vocab_size", MAX_VOCAB)? {
            return Ok(size);
        }
        match self.metadata.get("tokenizer.ggml.tokens") {
            Some(Value::Array(Array::String(tokens))) if !tokens.is_empty() => Ok(tokens.len()),
            _ => Err(self.error("vocab_size", "is missing, and there is no list of tokens to count")),
        }
    }

    /// Keys that change the computation in ways the forward function does not know. Each is let through at the values that
    /// mean "off" to llama.cpp.
    fn refuse_unsupported(&self) -> Result<()> {
        for (stem, what) in [
            ("expert_count", "mixtures of experts are not supported for this architecture"),
            ("attention.sliding_window", "sliding-window attention is not supported for this architecture"),
            ("leading_dense_block_count", "mixtures of experts are not supported for this architecture"),
        ] {
            if self.get(stem).is_some() && self.metadata.u64(&self.arch.key(stem)) != Some(0) {
                return Err(self.error(stem, what));
            }
        }
        for (stem, neutral) in [
            ("rope.scaling.attn_factor", [1.0, 1.0]),
            ("attention.scale", [0.0, 0.0]),
            ("attention.clamp_kqv", [0.0, 0.0]),
            ("attention.max_alibi_bias", [0.0, 0.0]),
            ("attn_logit_softcapping", [0.0, 0.0]),
            ("final_logit_softcapping", [0.0, 0.0]),
            ("logit_scale", [1.0, 0.0]),
            ("embedding_scale", [1.0, 0.0]),
            ("residual_scale", [1.0, 0.0]),
        ] {
            if self.get(stem).is_some() && !self.metadata.f32(&self.arch.key(stem)).is_some_and(|v| neutral.contains(&v)) {
                return Err(self.error(stem, format!("only {} is supported for this architecture", neutral[0])));
            }
        }
        if self.get("attention.causal").is_some() && self.metadata.bool(&self.arch.key("attention.causal")) != Some(true) {
            return Err(self.error("attention.causal", "only causal attention is supported"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::find_gguf;

    fn sound() -> Metadata {
        let mut m = Metadata::new();
        for (key, value) in [
            ("block_count", 2),
            ("context_length", 512),
            ("embedding_length", 256),
            ("feed_forward_length", 512),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            ("vocab_size", 384),
        ] {
            m.set(format!("llama.{key}"), Value::U32(value));
        }
        m.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        m
    }

    fn read(m: &Metadata) -> Result<HParams> {
        HParams::from_metadata(Path::new("m.gguf"), find_gguf("llama").unwrap(), m)
    }

    /// Changes one key of sound metadata (or removes it) and expects an error that names it and says `what`.
    fn check_refused(key: &str, value: Option<Value>, what: &str) {
        let mut m = sound();
        match value {
            Some(value) => m.set(format!("llama.{key}"), value),
            None => drop(m.remove(&format!("llama.{key}"))),
        }
        let error = read(&m).unwrap_err().to_string();
        assert!(error.starts_with(&format!("m.gguf: llama.{key}: ")) && error.contains(what), "{error}");
    }

    #[test]
    fn absent_keys_take_their_defaults() {
        let h = read(&sound()).unwrap();
        assert_eq!((h.head_dim, h.value_dim, h.rope_dim), (64, 64, 64));
        assert_eq!((h.rope_freq_base, h.rope_scaling), (10000.0, RopeScaling::None));
        let mut m = sound();
        m.remove("llama.attention.head_count_kv");
        m.remove("llama.vocab_size");
        m.set("tokenizer.ggml.tokens", Value::Array(Array::String(vec![String::new(); 9])));
        let h = read(&m).unwrap();
        assert_eq!((h.head_count_kv, h.vocab_size), (4, 9));
    }

    #[test]
    fn rope_scaling_is_read_as_llama_cpp_reads_it() {
        let check = |pairs: &[(&str, Value)], expected| {
            let mut m = sound();
            for (key, value) in pairs {
                m.set(format!("llama.{key}"), value.clone());
            }
            assert_eq!(read(&m).unwrap().rope_scaling, expected, "{pairs:?}");
        };
        let factor = || ("rope.scaling.factor", Value::F32(4.0));
        check(&[factor()], RopeScaling::Linear { factor: 4.0 });
        check(&[("rope.scale_linear", Value::F32(2.0))], RopeScaling::Linear { factor: 2.0 });
        check(&[factor(), ("rope.scaling.type", Value::String("linear".into()))], RopeScaling::Linear { factor: 4.0 });
        check(&[factor(), ("rope.scaling.type", Value::String("none".into()))], RopeScaling::None);
        check(&[("rope.scaling.factor", Value::F32(0.0))], RopeScaling::None);
    }

    #[test]
    fn what_is_missing_zero_or_absurd_is_refused() {
        check_refused("block_count", None, "missing");
        check_refused("block_count", Some(Value::U32(0)), "between 1 and 4096");
        check_refused("block_count", Some(Value::U32(u32::MAX)), "between 1 and 4096");
        check_refused("block_count", Some(Value::I32(-1)), "whole number");
        check_refused("block_count", Some(Value::String("2".into())), "whole number");
        check_refused("embedding_length", Some(Value::U64(u64::MAX)), "between");
        check_refused("vocab_size", None, "no list of tokens");
        check_refused("attention.head_count", Some(Value::U32(0)), "between 1");
        check_refused("attention.head_count", Some(Value::Array(Array::U32(vec![4, 4]))), "block to block");
        check_refused("attention.head_count_kv", Some(Value::U32(3)), "do not divide");
        check_refused("attention.head_count_kv", Some(Value::U32(8)), "do not divide");
        check_refused("attention.key_length", Some(Value::U32(1 << 24)), "wider than");
        check_refused("attention.layer_norm_rms_epsilon", None, "missing");
        check_refused("attention.layer_norm_rms_epsilon", Some(Value::F32(f32::NAN)), "finite");
        check_refused("attention.layer_norm_rms_epsilon", Some(Value::F32(-1e-5)), "above 0");
        check_refused("rope.dimension_count", Some(Value::U32(33)), "even");
        check_refused("rope.dimension_count", Some(Value::U32(66)), "at most");
        check_refused("rope.freq_base", Some(Value::F32(0.0)), "above 0");
        check_refused("rope.scaling.type", Some(Value::String("yarn".into())), "known: none, linear");
        check_refused("rope.scaling.attn_factor", Some(Value::F32(1.2)), "only 1");
        check_refused("expert_count", Some(Value::U32(8)), "mixtures of experts");
        check_refused("attention.sliding_window", Some(Value::U32(4096)), "sliding-window");
        check_refused("attention.causal", Some(Value::Bool(false)), "causal");
    }
}
