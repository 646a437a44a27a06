//! Hyper-parameters of a model, read from GGUF metadata keys and nothing else, so that a safetensors directory (through the
//! metadata its conversion would have) and a GGUF file give the same values.
//!
//! Absent: what depends on the architecture (see `arch`) and anything about the tokenizer but the size of the vocabulary.

use std::path::Path;

use crate::arch::{ArchSpec, AttentionScale, EmbeddingScale, Gating, LogitScale, Residual, Rotated, Windowed};
use crate::gguf::{Array, Metadata, Value};
use crate::{Error, Result};

/// How positions are stretched beyond the context the model was first trained on. Divisors by frequency are not here: they are
/// tensors (`rope_freqs.weight`, `rope_factors_long.weight`, `rope_factors_short.weight`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Positions as they are.
    None,
    /// Positions divided by `factor` (Chen et al. 2023).
    Linear {
        /// The divisor, above 0.
        factor: f32,
    },
    /// A larger base for sequences beyond the original context, by their length (NTK-aware interpolation, as transformers
    /// computes it).
    Dynamic {
        /// How fast the base grows, above 0.
        factor: f32,
    },
    /// YaRN (Peng et al. 2023).
    Yarn(Yarn),
}

/// The constants of YaRN (Peng et al. 2023, section 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// Divisor of the low frequencies.
    pub factor: f32,
    /// Weight of the unscaled high frequencies, 1 in the paper.
    pub extrapolation: f32,
    /// Turns within the original context above which frequencies stay as they are.
    pub beta_fast: f32,
    /// Turns below which they are divided.
    pub beta_slow: f32,
    /// Whether the ends of the ramp between the two are rounded outwards to whole pairs.
    pub truncate: bool,
}

/// Attention that sees the last tokens only, in some blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Tokens that a token sees, itself included.
    pub width: usize,
    /// Which blocks have it.
    pub blocks: Vec<bool>,
}

/// How a router's scores become experts and weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Routing {
    /// The function of the scores.
    pub gating: Gating,
    /// Whether the weights of the chosen are divided by their sum.
    pub normalizes: bool,
    /// What the weights are multiplied by then.
    pub scale: f32,
    /// Groups of neighbouring experts; 1 where there are none.
    pub groups: usize,
    /// Groups from which experts are chosen.
    pub groups_used: usize,
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
    /// The same in blocks with a sliding window, where it is another; positions are not stretched there.
    pub rope_local_base: Option<f32>,
    /// Components of a head that are rotated: even, at most `head_dim`.
    pub rope_dim: usize,
    /// Stretching of positions.
    pub rope_scaling: RopeScaling,
    /// Positions the model was first trained on.
    pub rope_original_context: usize,
    /// Factor on the cosines and sines of rotary embedding.
    pub rope_magnitude: f32,
    /// Which blocks rotate.
    pub rope_blocks: Vec<bool>,
    /// Attention that sees the last tokens only, where the model has it.
    pub window: Option<Window>,
    /// Factor on q.k before the softmax.
    pub attention_scale: f32,
    /// Attention scores s become `c tanh(s / c)` with this c; 0 where they stay as they are.
    pub attention_softcap: f32,
    /// The same for logits.
    pub logit_softcap: f32,
    /// Factor on logits, before they are capped.
    pub logit_scale: f32,
    /// Factor on token embeddings.
    pub embedding_scale: f32,
    /// Factor on what attention and feed-forward network add to the residual stream.
    pub residual_scale: f32,
    /// Whether attention and feed-forward network read the same norm.
    pub parallel: bool,
    /// Tokens V.
    pub vocab_size: usize,
    /// Experts of a block; 0 where the model has none.
    pub expert_count: usize,
    /// Experts that a token uses.
    pub expert_used_count: usize,
    /// Which blocks have experts in place of one feed-forward network.
    pub expert_blocks: Vec<bool>,
    /// How experts are chosen.
    pub routing: Routing,
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
        let block_count = keys.size("block_count", MAX_BLOCKS)?;
        let context_length = keys.size("context_length", MAX_CONTEXT)?;
        let mla = keys.mla(head_count, rope_dim)?;
        let window = keys.window(block_count)?;
        let rope_scaling = keys.rope_scaling()?;
        let key_dim = mla.map_or(head_dim, |mla| mla.key_length);
        Ok(Self {
            block_count,
            context_length,
            embedding_length,
            feed_forward_length,
            head_count,
            head_count_kv,
            head_dim,
            value_dim,
            norm_epsilon: keys.norm_epsilon()?,
            rope_freq_base: keys.positive("rope.freq_base")?.unwrap_or(DEFAULT_ROPE_FREQ_BASE),
            rope_local_base: keys.positive("rope.freq_base_swa")?.or(arch.block.local_rope_base),
            rope_dim,
            rope_magnitude: keys.rope_magnitude(rope_scaling)?,
            rope_original_context: keys
                .optional_size("rope.scaling.original_context_length", MAX_CONTEXT)?
                .unwrap_or(context_length),
            rope_scaling,
            rope_blocks: keys.rope_blocks(block_count, window.as_ref())?,
            window,
            attention_scale: keys.attention_scale(embedding_length, head_count, key_dim, block_count, rope_scaling)?,
            attention_softcap: keys.factor("attn_logit_softcapping", 0.0)?,
            logit_softcap: keys.factor("final_logit_softcapping", 0.0)?,
            logit_scale: keys.logit_scale()?,
            embedding_scale: match arch.block.embedding_scale {
                EmbeddingScale::Key => keys.factor("embedding_scale", 1.0)?,
                EmbeddingScale::RootOfWidth => (embedding_length as f32).sqrt(),
            },
            residual_scale: keys.factor("residual_scale", 1.0)?,
            parallel: match arch.block.residual {
                Residual::Sequential => false,
                Residual::Parallel => true,
                Residual::Key => keys.bool("use_parallel_residual")?.unwrap_or(false),
            },
            vocab_size: keys.vocab_size()?,
            expert_count,
            expert_used_count,
            expert_blocks: keys.expert_blocks(block_count, expert_count)?,
            routing: keys.routing(expert_count, expert_used_count)?,
            expert_feed_forward_length,
            shared_feed_forward_length: keys.shared_feed_forward_length(expert_feed_forward_length)?,
            mla,
        })
    }

    /// Whether a block has experts in place of one feed-forward network.
    pub fn has_experts(&self, block: usize) -> bool {
        self.expert_blocks.get(block).copied().unwrap_or(false)
    }

    /// The width of the window of a block, where it has one.
    pub fn window_of(&self, block: usize) -> Option<usize> {
        self.window.as_ref().filter(|w| w.blocks.get(block).copied().unwrap_or(false)).map(|w| w.width)
    }

    /// Width of a query or key head as attention computes it: expanded, where it is stored compressed.
    pub fn key_width(&self) -> usize {
        self.mla.map_or(self.head_dim, |mla| mla.key_length)
    }

    /// The same for values.
    pub fn value_width(&self) -> usize {
        self.mla.map_or(self.value_dim, |mla| mla.value_length)
    }

    /// Key and value heads as attention computes them.
    pub fn kv_heads(&self) -> usize {
        if self.mla.is_some() { self.head_count } else { self.head_count_kv }
    }
}

/// Prefix of the keys that say what llama.cpp's layout has no key for, or another meaning of; llama.cpp passes over them. The
/// rest of the name is that of the architecture's own key, which it stands in for.
pub(crate) const OWN_PREFIX: &str = "bitworth.";

/// The metadata with what messages need.
struct Keys<'a> {
    path: &'a Path,
    arch: &'a ArchSpec,
    metadata: &'a Metadata,
}

impl Keys<'_> {
    /// The key of a stem: our own where it is there, else the architecture's.
    fn key(&self, stem: &str) -> String {
        let own = format!("{OWN_PREFIX}{stem}");
        if self.metadata.get(&own).is_some() { own } else { self.arch.key(stem) }
    }

    fn error(&self, stem: &str, what: impl Into<crate::message::Message>) -> Error {
        Error::key(self.path, self.key(stem), what)
    }

    fn get(&self, stem: &str) -> Option<&Value> {
        self.metadata.get(&self.key(stem))
    }

    fn bool(&self, stem: &str) -> Result<Option<bool>> {
        match self.get(stem) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(_) => Err(self.error(stem, "is not true or false")),
        }
    }

    /// One truth value a block.
    fn blocks(&self, stem: &str, count: usize) -> Result<Option<Vec<bool>>> {
        match self.get(stem) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(v))) if v.len() == count => Ok(Some(v.clone())),
            Some(_) => Err(self.error(stem, format!("is not a list of {count} truth values, one for each block"))),
        }
    }

    /// A factor of 0 or more, `absent` where the key is absent.
    fn factor(&self, stem: &str, absent: f32) -> Result<f32> {
        match self.get(stem).map(|_| self.metadata.f32(&self.key(stem))) {
            None => Ok(absent),
            // llama.cpp takes 0 for "not there".
            Some(Some(0.0)) => Ok(absent),
            Some(Some(v)) if v.is_finite() && v > 0.0 => Ok(v),
            Some(Some(v)) => Err(self.error(stem, format!("is {v}, but must be a finite number of 0 or more"))),
            Some(None) => Err(self.error(stem, "is not a floating-point number")),
        }
    }

    /// A number from 0 to `max`, or `None` where the key is absent.
    fn count(&self, stem: &str, max: u64) -> Result<Option<usize>> {
        let Some(value) = self.get(stem) else { return Ok(None) };
        if let Value::Array(_) = value {
            return Err(self.error(stem, "differs from block to block, which is not supported"));
        }
        let size = self.metadata.u64(&self.key(stem)).ok_or_else(|| self.error(stem, "is not a whole number of 0 or more"))?;
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
        match self.metadata.f32(&self.key(stem)) {
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
        const FACTOR: &str = "rope.scaling.factor";
        let factor_stem = if self.get(FACTOR).is_some() { FACTOR } else { "rope.scale_linear" };
        let kind = match self.get(TYPE) {
            None => "linear",
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(self.error(TYPE, "is not a string")),
        };
        let factor = || self.positive(FACTOR)?.ok_or_else(|| self.error(FACTOR, "is missing"));
        match kind {
            // LongRoPE is all in its tensors and in the factor on cosines and sines.
            "none" | "longrope" => Ok(RopeScaling::None),
            "linear" if self.metadata.f32(&self.key(factor_stem)) == Some(0.0) => Ok(RopeScaling::None),
            "linear" => Ok(match self.positive(factor_stem)? {
                None | Some(1.0) => RopeScaling::None,
                Some(factor) => RopeScaling::Linear { factor },
            }),
            "dynamic" => Ok(RopeScaling::Dynamic { factor: factor()? }),
            "yarn" => Ok(RopeScaling::Yarn(Yarn {
                factor: factor()?,
                extrapolation: self.factor("rope.scaling.yarn_ext_factor", 1.0)?,
                beta_fast: self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                truncate: self.bool("rope.scaling.yarn_truncate")?.unwrap_or(true),
            })),
            other => Err(self.error(TYPE, format!("{other:?} is not supported; known: none, linear, dynamic, yarn, longrope"))),
        }
    }

    /// The logarithm's factor in the scale of attention (`mscale_all_dim` of DeepSeek's configuration); 0 where there is none.
    fn yarn_log_multiplier(&self) -> Result<f32> {
        Ok(self.factor("rope.scaling.yarn_log_multiplier", 0.0)? / 0.1)
    }

    /// As llama.cpp computes it where no key of ours says it (`llama_context`, b11434): YaRN's logarithm (Peng et al. 2023,
    /// section 3.4) unless it is in the scale of attention, times LongRoPE's factor.
    fn rope_magnitude(&self, scaling: RopeScaling) -> Result<f32> {
        if let Some(magnitude) = self.positive("rope.scaling.magnitude")? {
            return Ok(magnitude);
        }
        let logarithm = match scaling {
            RopeScaling::Yarn(yarn) if self.yarn_log_multiplier()? == 0.0 => yarn_magnitude(yarn.factor, 1.0),
            _ => 1.0,
        };
        Ok(logarithm * self.factor("rope.scaling.attn_factor", 1.0)?)
    }

    fn rope_blocks(&self, count: usize, window: Option<&Window>) -> Result<Vec<bool>> {
        if let Some(blocks) = self.blocks("rope.blocks", count)? {
            return Ok(blocks);
        }
        Ok((0..count)
            .map(|block| match self.arch.block.rotated {
                Rotated::All => true,
                Rotated::Never => false,
                Rotated::AllBut(n) => !(block + 1).is_multiple_of(n),
                Rotated::Windowed => window.is_some_and(|w| w.blocks[block]),
            })
            .collect())
    }

    fn window(&self, count: usize) -> Result<Option<Window>> {
        let width = match self.count("attention.sliding_window", MAX_CONTEXT)? {
            None | Some(0) => return Ok(None),
            Some(width) => width,
        };
        let blocks = self.blocks("attention.sliding_window_blocks", count)?.unwrap_or_else(|| {
            let windowed = |block: usize| match self.arch.block.windowed {
                Windowed::All => true,
                Windowed::AllBut(n) => !(block + 1).is_multiple_of(n),
            };
            (0..count).map(windowed).collect()
        });
        Ok(Some(Window { width, blocks }))
    }

    fn attention_scale(
        &self,
        embedding_length: usize,
        head_count: usize,
        key_dim: usize,
        block_count: usize,
        scaling: RopeScaling,
    ) -> Result<f32> {
        let stated = self.factor("attention.scale", 0.0)?;
        if stated != 0.0 {
            return Ok(stated);
        }
        let dim = match self.arch.block.attention_scale {
            AttentionScale::EvenHeadAt(blocks) if blocks == block_count => embedding_length / head_count,
            _ => key_dim,
        };
        let logarithm = match scaling {
            RopeScaling::Yarn(yarn) => yarn_magnitude(yarn.factor, self.yarn_log_multiplier()?),
            _ => 1.0,
        };
        Ok(logarithm * logarithm / (dim as f32).sqrt())
    }

    fn logit_scale(&self) -> Result<f32> {
        let scale = self.factor("logit_scale", 1.0)?;
        Ok(match self.arch.block.logit_scale {
            LogitScale::Multiplies => scale,
            LogitScale::Divides => 1.0 / scale,
        })
    }

    fn expert_blocks(&self, count: usize, experts: usize) -> Result<Vec<bool>> {
        if let Some(blocks) = self.blocks("expert_blocks", count)? {
            if experts == 0 && blocks.contains(&true) {
                return Err(self.error("expert_blocks", "says that blocks have experts, but there are 0"));
            }
            return Ok(blocks);
        }
        let dense = self.count("leading_dense_block_count", MAX_BLOCKS)?.unwrap_or(0);
        Ok((0..count).map(|block| experts > 0 && block >= dense).collect())
    }

    fn routing(&self, experts: usize, used: usize) -> Result<Routing> {
        const GATING: &str = "expert_gating_func";
        const GROUPS: &str = "expert_group_count";
        let gating = match self.count(GATING, u64::from(u32::MAX))? {
            None | Some(0) => self.arch.block.gating,
            Some(number) => Gating::from_number(number as u64)
                .ok_or_else(|| self.error(GATING, format!("{number} is not supported; known: 1, 2, 3")))?,
        };
        let groups = self.count(GROUPS, MAX_EXPERTS)?.unwrap_or(1).max(1);
        let groups_used = self.count("expert_group_used_count", MAX_EXPERTS)?.unwrap_or(groups).clamp(1, groups);
        if !experts.is_multiple_of(groups) || (experts > 0 && experts / groups * groups_used < used) {
            let what = format!("{groups} groups, {groups_used} of them used, do not fit {experts} experts, {used} of them used");
            return Err(self.error(GROUPS, what));
        }
        Ok(Routing {
            gating,
            normalizes: self.bool("expert_weights_norm")?.unwrap_or(self.arch.block.normalizes_experts),
            scale: self.factor("expert_weights_scale", 1.0)?,
            groups,
            groups_used,
        })
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

/// YaRN's factor on attention, `0.1 multiplier ln(factor) + 1` (Peng et al. 2023, section 3.4).
pub(crate) fn yarn_magnitude(factor: f32, multiplier: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { (0.1 * f64::from(multiplier) * f64::from(factor).ln() + 1.0) as f32 }
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
        check_refused("rope.scaling.type", Some(Value::String("ntk".into())), "known: none, linear");

        check_refused("expert_used_count", Some(Value::U32(1)), "0 experts");
        check_refused("expert_count", Some(Value::U32(1 << 20)), "between");
        check_refused("attention.kv_lora_rank", Some(Value::U32(0)), "between 1");
    }
}
