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
    /// YaRN (Peng et al. 2023).
    Yarn,
    /// LongRoPE (Ding et al. 2024).
    LongRope,
}

/// The sizes of multi-head latent attention (DeepSeek-AI 2024, section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mla {
    /// Width of compressed queries; 0 where queries are not compressed.
    pub q_lora_rank: usize,
    /// Width of compressed keys and values.
    pub kv_lora_rank: usize,
    /// Width of an expanded key head.
    pub key_length: usize,
    /// Width of an expanded value head.
    pub value_length: usize,
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
    /// Epsilon inside the root of normalization.
    pub norm_epsilon: f32,
    /// Base of the rotary frequencies.
    pub rope_freq_base: f32,
    /// Components of a head that are rotated: even, at most `head_dim`.
    pub rope_dim: usize,
    /// Stretching of positions.
    pub rope_scaling: RopeScaling,
    /// Tokens V.
    pub vocab_size: usize,
    /// Experts of a block; 0 where the model has none.
    pub expert_count: usize,
    /// Experts that a token uses.
    pub expert_used_count: usize,
    /// Blocks at the beginning that have no experts.
    pub leading_dense_block_count: usize,
    /// Width of the feed-forward network of one expert.
    pub expert_feed_forward_length: usize,
    /// Width of that of all shared experts together; 0 where there are none.
    pub shared_feed_forward_length: usize,
    /// Multi-head latent attention, where the model has it.
    pub mla: Option<Mla>,
}

/// The largest sizes that are believed; a file that claims more is broken or hostile. They keep every product of two sizes
/// below 2^53.
const MAX_BLOCKS: u64 = 1 << 12;
const MAX_WIDTH: u64 = 1 << 24;
const MAX_VOCAB: u64 = 1 << 26;
const MAX_CONTEXT: u64 = 1 << 26;
const MAX_EXPERTS: u64 = 1 << 16;
/// llama.cpp's own default where a file gives no base.
const DEFAULT_ROPE_FREQ_BASE: f32 = 10000.0;

impl HParams {
    /// Reads the hyper-parameters of an `arch` model from `metadata`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Key`] for a key that is missing, of the wrong type or out of range.
    pub fn from_metadata(path: &Path, arch: &ArchSpec, metadata: &Metadata) -> Result<Self> {
        let keys = Keys { path, arch, metadata };
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
        let feed_forward_length = keys.size("feed_forward_length", MAX_WIDTH)?;
        let expert_count = keys.count("expert_count", MAX_EXPERTS)?.unwrap_or(0);
        let expert_used_count = keys.count("expert_used_count", MAX_EXPERTS)?.unwrap_or(0);
        if expert_used_count > expert_count || (expert_used_count == 0) != (expert_count == 0) {
            let what = format!("is {expert_used_count}, but there are {expert_count} experts");
            return Err(keys.error("expert_used_count", what));
        }
        let expert_width = keys.optional_size("expert_feed_forward_length", MAX_WIDTH)?;
        let expert_feed_forward_length = expert_width.unwrap_or(feed_forward_length);
        Ok(Self {
            block_count: keys.size("block_count", MAX_BLOCKS)?,
            context_length: keys.size("context_length", MAX_CONTEXT)?,
            embedding_length,
            feed_forward_length,
            head_count,
            head_count_kv,
            head_dim,
            value_dim,
            norm_epsilon: keys.norm_epsilon()?,
            rope_freq_base: keys.positive("rope.freq_base")?.unwrap_or(DEFAULT_ROPE_FREQ_BASE),
            rope_dim,
            rope_scaling: keys.rope_scaling()?,
            vocab_size: keys.vocab_size()?,
            expert_count,
            expert_used_count,
            leading_dense_block_count: keys.count("leading_dense_block_count", MAX_BLOCKS)?.unwrap_or(0),
            expert_feed_forward_length,
            shared_feed_forward_length: keys.shared_feed_forward_length(expert_feed_forward_length)?,
            mla: keys.mla(head_count, rope_dim)?,
        })
    }

    /// Whether a block has experts in place of one feed-forward network.
    pub fn has_experts(&self, block: usize) -> bool {
        self.expert_count > 0 && block >= self.leading_dense_block_count
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

    /// A number from 0 to `max`, or `None` where the key is absent.
    fn count(&self, stem: &str, max: u64) -> Result<Option<usize>> {
        let Some(value) = self.get(stem) else { return Ok(None) };
        if let Value::Array(_) = value {
            return Err(self.error(stem, "differs from block to block, which is not supported"));
        }
        let size =
            self.metadata.u64(&self.arch.key(stem)).ok_or_else(|| self.error(stem, "is not a whole number of 0 or more"))?;
        if size > max {
            return Err(self.error(stem, format!("is {size}, but must lie between 1 and {max}")));
        }
        usize::try_from(size).map(Some).map_err(|_| self.error(stem, format!("{size} is too large for this machine")))
    }

    /// A size from 1 to `max`, or `None` where the key is absent.
    fn optional_size(&self, stem: &str, max: u64) -> Result<Option<usize>> {
        match self.count(stem, max)? {
            Some(0) => Err(self.error(stem, format!("is 0, but must lie between 1 and {max}"))),
            size => Ok(size),
        }
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

    fn norm_epsilon(&self) -> Result<f32> {
        const RMS: &str = "attention.layer_norm_rms_epsilon";
        const LAYER: &str = "attention.layer_norm_epsilon";
        let stem = if self.get(RMS).is_none() && self.get(LAYER).is_some() { LAYER } else { RMS };
        let epsilon = self.positive(stem)?.ok_or_else(|| self.error(stem, "is missing"))?;
        if epsilon > 1.0 {
            return Err(self.error(stem, format!("is {epsilon}, but must be at most 1")));
        }
        Ok(epsilon)
    }

    /// All shared experts together: their width, or their number times the width of one.
    fn shared_feed_forward_length(&self, expert_feed_forward_length: usize) -> Result<usize> {
        const COUNT: &str = "expert_shared_count";
        if let Some(width) = self.count("expert_shared_feed_forward_length", MAX_WIDTH)? {
            return Ok(width);
        }
        let width = self.count(COUNT, MAX_EXPERTS)?.unwrap_or(0) * expert_feed_forward_length;
        if width as u64 > MAX_WIDTH {
            return Err(self.error(COUNT, format!("so many experts of {expert_feed_forward_length} are wider than {MAX_WIDTH}")));
        }
        Ok(width)
    }

    fn mla(&self, head_count: usize, rope_dim: usize) -> Result<Option<Mla>> {
        const KEY: &str = "attention.key_length_mla";
        let Some(kv_lora_rank) = self.optional_size("attention.kv_lora_rank", MAX_WIDTH)? else { return Ok(None) };
        let key_length = self.size(KEY, MAX_WIDTH)?;
        let value_length = self.size("attention.value_length_mla", MAX_WIDTH)?;
        let widest = (head_count as u64).saturating_mul(key_length.max(value_length) as u64);
        if key_length <= rope_dim || widest > MAX_WIDTH {
            let what = format!("is {key_length}, but must be above {rope_dim}, and {head_count} heads at most {MAX_WIDTH} wide");
            return Err(self.error(KEY, what));
        }
        let q_lora_rank = self.optional_size("attention.q_lora_rank", MAX_WIDTH)?.unwrap_or(0);
        Ok(Some(Mla { q_lora_rank, kv_lora_rank, key_length, value_length }))
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
            "yarn" => Ok(RopeScaling::Yarn),
            "longrope" => Ok(RopeScaling::LongRope),
            other => Err(self.error(TYPE, format!("{other:?} is not supported; known: none, linear, yarn, longrope"))),
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
        check_refused("rope.scaling.type", Some(Value::String("dynamic".into())), "known: none, linear");
        check_refused("expert_used_count", Some(Value::U32(1)), "0 experts");
        check_refused("expert_count", Some(Value::U32(1 << 20)), "between");
        check_refused("attention.kv_lora_rank", Some(Value::U32(0)), "between 1");
    }
}
