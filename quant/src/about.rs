//! What kind of model a checkpoint is, in the terms of the field: sizes, context, attention, experts, weights in all and those
//! that work for one token. Derived from hyper-parameters and tensors alone.
//!
//! Absent: metadata and tensors themselves, and how anything is shown.

use serde_json::{Value, json};

use crate::Checkpoint;
use crate::arch::{Norm, Role};
use crate::checkpoint::{LeftOut, Published};
use crate::hparams::{RecurrentKind, RopeScaling};

/// A model in a few words and numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Weights of all tensors, as llama.cpp counts them.
    pub parameters: u64,
    /// Those that a token goes through: of experts only as many as are used.
    pub active_parameters: u64,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Decoder blocks.
    pub blocks: usize,
    /// Blocks behind them that predict further tokens and take no part in the computation.
    pub mtp_blocks: usize,
    /// Mixers that carry a state in place of attention, by kind, and how many blocks have them.
    pub recurrent: Option<(&'static str, usize)>,
    /// Tensors of a directory that are of no language model and are left out.
    pub left_out: LeftOut,
    /// How weights are stored, where some are stored otherwise than as floats or as GGUF has them.
    pub published: Option<Published>,
    /// Width of the residual stream.
    pub embedding_length: usize,
    /// Width of the feed-forward network.
    pub feed_forward_length: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Whether the output matrix is the token embedding.
    pub tied: bool,
    /// `rms` or `layer`.
    pub norm: &'static str,
    /// Attention.
    pub attention: AboutAttention,
    /// How positions are encoded, as `rotary, base 500000, llama3 factors`.
    pub positions: String,
    /// Experts, where the model has them.
    pub experts: Option<AboutExperts>,
}

/// Attention in a few words and numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct AboutAttention {
    /// `multi-head`, `grouped-query`, `multi-query` or `multi-head latent`.
    pub kind: &'static str,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, as stored.
    pub kv_heads: usize,
    /// Width of a query or key head as attention computes it.
    pub key_width: usize,
    /// Width of a value head.
    pub value_width: usize,
    /// Tokens that blocks with a sliding window see, and how many blocks that are.
    pub window: Option<(usize, usize)>,
    /// Whether the model has attention sinks.
    pub sinks: bool,
}

/// Experts in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AboutExperts {
    /// Experts of a block.
    pub count: usize,
    /// Those that a token uses.
    pub used: usize,
    /// Width of one.
    pub feed_forward_length: usize,
    /// Width of what all tokens share beside them; 0 where there is nothing.
    pub shared_feed_forward_length: usize,
    /// Blocks that have experts.
    pub blocks: usize,
}

impl About {
    /// For programs.
    pub fn document(&self) -> Value {
        let attention = &self.attention;
        json!({
            "architecture": self.architecture,
            "parameters": self.parameters,
            "active_parameters": self.active_parameters,
            "context_length": self.context_length,
            "blocks": self.blocks,
            "mtp_blocks": self.mtp_blocks,
            "recurrent": self.recurrent.map(|(kind, blocks)| json!({ "kind": kind, "blocks": blocks })),
            "embedding_length": self.embedding_length,
            "feed_forward_length": self.feed_forward_length,
            "vocab_size": self.vocab_size,
            "tied": self.tied,
            "norm": self.norm,
            "positions": self.positions,
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
            "experts": self.experts.map(|e| json!({
                "count": e.count,
                "used": e.used,
                "feed_forward_length": e.feed_forward_length,
                "shared_feed_forward_length": e.shared_feed_forward_length,
                "blocks": e.blocks,
            })),
        })
    }

    /// Of a checkpoint.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let h = checkpoint.hparams();
        let has = |role: Role| checkpoint.tensor_of(role, 0).is_some();
        let (heads, kv_heads) = (h.head_count.max(), h.head_count_kv.max());
        let kind = match (h.mla.is_some(), kv_heads) {
            (true, _) => "multi-head latent",
            (false, 0) => "none",
            (false, kv) if kv == heads => "multi-head",
            (false, 1) => "multi-query",
            (false, _) => "grouped-query",
        };
        let experts = (h.expert_count > 0).then(|| AboutExperts {
            count: h.expert_count,
            used: h.expert_used_count,
            feed_forward_length: h.expert_feed_forward_length,
            shared_feed_forward_length: h.shared_feed_forward_length,
            blocks: (0..h.block_count).filter(|&block| h.has_experts(block)).count(),
        });
        let recurrent = h.recurrent.map(|r| {
            let kind = match r.kind {
                RecurrentKind::DeltaNet => "gated delta net",
                RecurrentKind::Mamba2 => "Mamba-2",
                RecurrentKind::ShortConv => "short convolution",
            };
            (kind, (0..h.block_count).filter(|&block| h.recurrent_of(block).is_some()).count())
        });
        let window = h.window.as_ref().map(|w| (w.sight.width(), w.blocks[..h.block_count].iter().filter(|&&has| has).count()));
        Self {
            architecture: checkpoint.arch().name,
            parameters: checkpoint.parameter_count(),
            active_parameters: active(checkpoint),
            context_length: h.context_length,
            blocks: h.block_count,
            mtp_blocks: h.mtp_block_count,
            recurrent,
            left_out: checkpoint.left_out(),
            published: checkpoint.published().cloned(),
            embedding_length: h.embedding_length,
            feed_forward_length: h.feed_forward_length.max(),
            vocab_size: h.vocab_size,
            tied: !has(Role::Output),
            norm: match checkpoint.arch().block.norm {
                Norm::Rms => "rms",
                Norm::Layer => "layer",
            },
            attention: AboutAttention {
                kind,
                heads,
                kv_heads,
                key_width: h.largest(|block| h.key_width(block)),
                value_width: h.largest(|block| h.value_width(block)),
                window,
                sinks: has(Role::AttnSinks),
            },
            positions: positions(checkpoint),
            experts,
        }
    }
}

/// The weights that one token goes through.
fn active(checkpoint: &Checkpoint) -> u64 {
    let h = checkpoint.hparams();
    let of_experts = |role: Role| {
        matches!(role, Role::FfnGateExps | Role::FfnUpExps | Role::FfnGateUpExps | Role::FfnDownExps) || of_expert_biases(role)
    };
    let used = |elements: u64| elements / (h.expert_count as u64).max(1) * h.expert_used_count as u64;
    let tensors = checkpoint.tensors().iter().map(|tensor| match tensor.role() {
        Some((_, Some(block))) if h.is_mtp(block) => 0,
        Some((role, _)) if of_experts(role) => used(tensor.elements()),
        _ => tensor.elements(),
    });
    tensors.sum()
}

fn of_expert_biases(role: Role) -> bool {
    matches!(role, Role::FfnGateExpsBias | Role::FfnUpExpsBias | Role::FfnDownExpsBias)
}

fn positions(checkpoint: &Checkpoint) -> String {
    let h = checkpoint.hparams();
    let rotates = |block: usize| h.has_attention(block) && h.rope_blocks[block];
    if checkpoint.tensor_of(Role::PositionEmbd, 0).is_some() {
        return "learned".to_owned();
    }
    if !(0..h.block_count).any(rotates) {
        return "none".to_owned();
    }
    let mut text = format!("rotary, base {}", h.rope_freq_base);
    if let Some(base) = h.rope_local_base.filter(|_| h.window.is_some()) {
        text += &format!(" ({base} in blocks with a window)");
    }
    let width = h.largest(|block| h.key_width(block));
    if h.rope_dim < width {
        text += &format!(", {} of {width} components", h.rope_dim);
    }
    let attends = |block: &usize| h.has_attention(*block);
    let attending = (0..h.block_count).filter(attends).count();
    let rotated = (0..h.block_count).filter(attends).filter(|&block| h.rope_blocks[block]).count();
    if rotated < attending {
        text += &format!(", in {rotated} of {attending} blocks");
    }
    match h.rope_scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => text += &format!(", linear factor {factor}"),
        RopeScaling::Dynamic { factor } => text += &format!(", dynamic NTK factor {factor}"),
        RopeScaling::Yarn(yarn) => text += &format!(", YaRN factor {} from {}", yarn.factor, h.rope_original_context),
    }
    if checkpoint.tensor_of(Role::RopeFreqs, 0).is_some() {
        text += ", llama3 factors";
    }
    if checkpoint.tensor_of(Role::RopeFactorsLong, 0).is_some() {
        text += &format!(", LongRoPE from {}", h.rope_original_context);
    }
    text
}
