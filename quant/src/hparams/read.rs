//! Hyper-parameters from metadata: every key is read once, in the order in which faults are told.
//!
//! Absent: what single groups of keys mean (see `attention`, `rope`, `experts`).

use std::path::Path;

use super::attention::Heads;
use super::keys::{MAX_BLOCKS, MAX_CONTEXT, MAX_VOCAB, MAX_WIDTH, MetadataReader};
use super::{HParams, PerBlock, Xielu};
use crate::arch::{ArchSpec, AttentionGate, EmbeddingScale, HeadNorms, LogitScale, Mlp, MtpBlocks, Recurs, Residual, Shapes};
use crate::gguf::{Array, Metadata, Value};
use crate::{Error, Result};

impl HParams {
    /// Reads the hyper-parameters of an `arch` model from `metadata`; `path` is for messages.
    ///
    /// # Errors
    /// [`crate::Error::Key`] for a key that is missing, of the wrong type or out of range.
    pub fn from_metadata(path: &Path, arch: &ArchSpec, metadata: &Metadata) -> Result<Self> {
        let keys = MetadataReader { path, arch, metadata };
        let embedding_length = keys.size("embedding_length", MAX_WIDTH)?;
        let stored = keys.size("block_count", MAX_BLOCKS)?;
        let mtp_block_count = keys.mtp_block_count(stored)?;
        let block_count = stored - mtp_block_count;
        let window = keys.window(stored)?;
        let heads = keys.heads(embedding_length, stored, window.as_ref())?;
        let kv_blocks = keys.kv_blocks(stored, &heads, window.as_ref())?;
        let Heads { head_count, head_count_kv, head_dim, value_dim, rope_dim, rope_local_dim } = heads;
        let (expert_count, expert_used_count) = keys.expert_counts()?;
        let expert_width = keys.optional_size("expert_feed_forward_length", MAX_WIDTH)?;
        // A model whose every block has experts need not say another width.
        let feed_forward_length = match arch.block.shapes {
            Shapes::NoneOfThem => PerBlock::uniform(0),
            Shapes::Uniform | Shapes::ByBlock => keys
                .sizes("feed_forward_length", MAX_WIDTH, stored)?
                .or(expert_width.filter(|_| expert_count > 0).map(PerBlock::uniform))
                .ok_or_else(|| keys.error("feed_forward_length", "is missing"))?,
        };
        let expert_feed_forward_length = expert_width.unwrap_or(feed_forward_length.max());
        let context_length = keys.size("context_length", MAX_CONTEXT)?;
        let mla = keys.mla(head_count.max(), rope_dim)?;
        let is_mixed = |block: usize| {
            let alone = arch.block.residual == Residual::OneOfThem && feed_forward_length.of(block) > 0;
            head_count_kv.of(block) > 0 || alone
        };
        let (recurrent, recurrent_blocks) = keys.recurrent(block_count, stored, embedding_length, is_mixed)?;
        // What carries a state does so in place of attention, or beside it.
        let in_place = arch.block.recurs != Recurs::Mamba2 { beside_attention: true };
        let kv_heads = |block: usize| if recurrent_blocks[block] && in_place { 0 } else { head_count_kv.of(block) };
        let head_count_kv = PerBlock::each((0..stored).map(kv_heads).collect()).unwrap_or(head_count_kv);
        let expert_blocks = keys.expert_blocks(stored, expert_count, &feed_forward_length)?;
        let rope_scaling = keys.rope_scaling()?;
        let key_dim = mla.map_or(head_dim.max(), |mla| mla.key_length);
        let attention_scale = keys.attention_scale(embedding_length, head_count.max(), key_dim, block_count, rope_scaling)?;
        let rope_blocks = keys.rope_blocks(stored, window.as_ref())?;
        let rope_freq_base = keys.rope_freq_base()?;
        let rope_magnitude = keys.rope_magnitude(rope_scaling)?;
        let norm_epsilon = keys.norm_epsilon()?;
        let rope_original_context =
            keys.optional_size("rope.scaling.original_context_length", MAX_CONTEXT)?.unwrap_or(context_length);
        let (temperature, temperature_blocks) = keys.temperature(rope_original_context, &rope_blocks)?;
        Ok(Self {
            block_count,
            mtp_block_count,
            context_length,
            embedding_length,
            feed_forward_length,
            head_count,
            head_count_kv,
            head_dim,
            value_dim,
            norm_epsilon,
            post_norm_epsilon: keys
                .positive("attention.post_norm_epsilon")?
                .or(arch.block.post_norm_epsilon)
                .unwrap_or(norm_epsilon),
            norms_embeddings: arch.block.norms_embeddings,
            rope_freq_base,
            rope_local_base: keys.rope_local_base(rope_freq_base, rope_scaling)?,
            rope_pairs: keys.rope_pairs(),
            rope_dim,
            rope_local_dim,
            rope_magnitude,
            rope_long_magnitude: keys.positive("rope.scaling.long_magnitude")?.unwrap_or(rope_magnitude),
            rope_original_context,
            rope_scaling,
            rope_blocks,
            window,
            kv_blocks,
            attention_scale,
            temperature,
            temperature_blocks,
            gates_attention: arch.block.attention_gate != AttentionGate::None,
            unweighted_head_norms: keys.unweighted_head_norms(expert_count)?,
            xielu: keys.xielu(block_count)?,
            attention_softcap: keys.factor("attn_logit_softcapping", 0.0)?,
            logit_softcap: keys.factor("final_logit_softcapping", 0.0)?,
            logit_scale: keys.logit_scale()?,
            embedding_scale: match arch.block.embedding_scale {
                EmbeddingScale::Key => keys.factor("embedding_scale", 1.0)?,
                EmbeddingScale::RootOfWidth => (embedding_length as f32).sqrt(),
            },
            layer_input_length: keys.count("embedding_length_per_layer_input", MAX_WIDTH)?.unwrap_or(0),
            residual_scale: keys.factor("residual_scale", 1.0)?,
            parallel: match arch.block.residual {
                Residual::Sequential | Residual::OneOfThem => false,
                Residual::Parallel => true,
                Residual::Key => keys.bool("use_parallel_residual")?.unwrap_or(false),
            },
            vocab_size: keys.vocab_size()?,
            expert_count,
            expert_used_count,
            expert_blocks,
            dense_beside_experts: arch.block.dense_beside_experts && expert_count > 0,
            routing: keys.routing(expert_count, expert_used_count)?,
            expert_feed_forward_length,
            expert_latent_length: keys.expert_latent_length(embedding_length)?,
            shared_feed_forward_length: keys.shared_feed_forward_length(expert_feed_forward_length)?,
            mla,
            recurrent,
            recurrent_blocks,
        })
    }
}

impl MetadataReader<'_> {
    /// How many of the `stored` blocks predict further tokens, where the architecture has such blocks.
    fn mtp_block_count(&self, stored: usize) -> Result<usize> {
        const KEY: &str = "nextn_predict_layers";
        if self.arch.mtp == MtpBlocks::LeftOut {
            return Ok(0);
        }
        let count = self.count(KEY, MAX_BLOCKS)?.unwrap_or(0);
        if count >= stored {
            return Err(self.error(KEY, format!("is {count}, but there are {stored} blocks in all")));
        }
        Ok(count)
    }

    /// llama.cpp tells the one model without them by its 128 experts (b11434, `llama_model_llama4`).
    fn unweighted_head_norms(&self, expert_count: usize) -> Result<bool> {
        if self.arch.block.head_norms != HeadNorms::AfterRopeUnweighted {
            return Ok(false);
        }
        Ok(self.bool("attention.head_norms")?.unwrap_or(expert_count != 128))
    }

    /// The parameters of xIELU by block, which stand outside of the architecture's keys. They are stored as they are learned: the
    /// weights are their softplus (Huang and Schlag 2024).
    fn xielu(&self, blocks: usize) -> Result<Vec<Xielu>> {
        if self.arch.block.mlp != Mlp::Xielu {
            return Ok(Vec::new());
        }
        let list = |name: &str| match self.metadata.get(&format!("xielu.{name}")) {
            Some(Value::Array(Array::F32(list))) if list.len() == blocks && list.iter().all(|v| v.is_finite()) => Ok(list),
            _ => Err(Error::key(self.path, format!("xielu.{name}"), format!("must be a list of {blocks} finite numbers"))),
        };
        let (alpha_p, alpha_n, beta, eps) = (list("alpha_p")?, list("alpha_n")?, list("beta")?, list("eps")?);
        let softplus = |x: f32| if x > 20.0 { x } else { f64::from(x).exp().ln_1p() as f32 };
        let of = |i: usize| Xielu {
            alpha_p: softplus(alpha_p[i]),
            alpha_n: beta[i] + softplus(alpha_n[i]),
            beta: beta[i],
            eps: eps[i],
        };
        Ok((0..blocks).map(of).collect())
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

    fn logit_scale(&self) -> Result<f32> {
        let scale = self.factor("logit_scale", 1.0)?;
        Ok(match self.arch.block.logit_scale {
            LogitScale::Multiplies => scale,
            LogitScale::Divides => 1.0 / scale,
        })
    }

    /// From its own key, else from the list of tokens.
    fn vocab_size(&self) -> Result<usize> {
        if let Some(size) = self.optional_size("vocab_size", MAX_VOCAB)? {
            return Ok(size);
        }
        match self.metadata.get("tokenizer.ggml.tokens") {
            Some(Value::Array(Array::String(tokens))) if !tokens.is_empty() => Ok(tokens.len()),
            Some(Value::Array(Array::Bytes(tokens))) => Ok(tokens.len()),
            _ => Err(self.error("vocab_size", "is missing, and there is no list of tokens to count")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{BlockTraits, find_gguf};
    use crate::hparams::RopeScaling;

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
        assert_eq!((h.head_dim.of(0), h.value_dim.of(0), h.rope_dim), (64, 64, 64));
        assert_eq!((h.rope_freq_base, h.rope_scaling), (10000.0, RopeScaling::None));
        let mut m = sound();
        m.remove("llama.attention.head_count_kv");
        m.remove("llama.vocab_size");
        m.set("tokenizer.ggml.tokens", Value::Array(Array::String(vec![String::new(); 9])));
        let h = read(&m).unwrap();
        assert_eq!((h.head_count_kv.of(0), h.vocab_size), (4, 9));
    }

    #[test]
    fn sizes_by_block_are_read_where_the_architecture_has_them_and_refused_elsewhere() {
        let llama = find_gguf("llama").unwrap();
        let block = BlockTraits { shapes: Shapes::ByBlock, ..llama.block };
        let by_block = ArchSpec { block, ..*llama };
        let list = |values: [u32; 2]| Value::Array(Array::U32(values.to_vec()));
        let mut m = sound();
        m.set("llama.attention.head_count", list([4, 8]));
        m.set("llama.attention.head_count_kv", list([2, 0]));
        m.set("llama.feed_forward_length", list([512, 256]));
        m.set("llama.attention.key_length", Value::U32(64));
        m.set("llama.attention.value_length", Value::U32(64));
        let h = HParams::from_metadata(Path::new("m.gguf"), &by_block, &m).unwrap();
        let shape = |block| (h.head_count.of(block), h.head_count_kv.of(block), h.feed_forward_length.of(block));
        assert_eq!((shape(0), shape(1)), ((4, 2, 512), (8, 0, 256)));
        assert_eq!(h.largest(|block| h.head_count.of(block) * h.key_width(block)), 512);
        let error = read(&m).unwrap_err().to_string();
        assert!(error.contains("head_count") && error.contains("block to block"), "{error}");
        for broken in [Value::Array(Array::U32(vec![4])), Value::Array(Array::I32(vec![4, -1])), list([4, 1 << 25])] {
            let mut m = m.clone();
            m.set("llama.attention.head_count", broken);
            let error = HParams::from_metadata(Path::new("m.gguf"), &by_block, &m).unwrap_err().to_string();
            assert!(error.contains("one for each block"), "{error}");
        }
    }

    #[test]
    fn blocks_with_a_window_have_their_own_heads_and_the_last_ones_keys_of_earlier_ones() {
        let mut m = Metadata::new();
        for (key, value) in [
            ("block_count", 5),
            ("context_length", 512),
            ("embedding_length", 256),
            ("feed_forward_length", 512),
            ("attention.head_count", 4),
            ("attention.key_length", 64),
            ("attention.value_length", 64),
            ("attention.key_length_swa", 32),
            ("attention.value_length_swa", 32),
            ("attention.sliding_window", 16),
            ("attention.shared_kv_layers", 2),
            ("vocab_size", 384),
        ] {
            m.set(format!("gemma4.{key}"), Value::U32(value));
        }
        let list = |values: [i32; 5]| Value::Array(Array::I32(values.to_vec()));
        m.set("gemma4.attention.head_count_kv", list([2, 1, 2, 2, 1]));
        m.set("gemma4.attention.layer_norm_rms_epsilon", Value::F32(1e-6));
        let windows = |blocks: [bool; 5]| Value::Array(Array::Bool(blocks.to_vec()));
        m.set("gemma4.attention.sliding_window_pattern", windows([true, false, true, true, false]));
        let read = |m: &Metadata| HParams::from_metadata(Path::new("m.gguf"), find_gguf("gemma4").unwrap(), m);
        let h = read(&m).unwrap();
        assert_eq!([0, 1, 4].map(|block| (h.head_dim.of(block), h.value_dim.of(block))), [(32, 32), (64, 64), (64, 64)]);
        assert_eq!((h.rope_dim, h.rope_local_dim, h.rope_local_base), (64, 32, Some(10000.0)));
        assert_eq!((h.kv_blocks.clone(), h.attention_scale), (vec![0, 1, 2, 2, 1], 1.0));
        assert!(h.lends_keys(1, 1) && h.lends_keys(1, 3) && h.lends_keys(2, 2) && !h.lends_keys(2, 3) && !h.lends_keys(0, 0));
        let refused = |key: &str, value: Value, said: &str| {
            let mut m = m.clone();
            m.set(format!("gemma4.attention.{key}"), value);
            let error = read(&m).unwrap_err().to_string();
            assert!(error.starts_with("m.gguf: gemma4.") && error.contains(said), "{error}");
        };
        refused("shared_kv_layers", Value::U32(5), "there are 5 blocks");
        refused("shared_kv_layers", Value::U32(4), "block 1 has no block of its kind");
        refused("head_count_kv", list([2, 1, 2, 2, 2]), "block 4 has no block of its kind");
        refused("key_length_swa", Value::U32(33), "must be even");
        refused("key_length_swa", Value::U32(1 << 24), "wider than");
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
