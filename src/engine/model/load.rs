//! Puts the weights of one block onto a device: which tensors it has, fused ones in parts, norms where the model has them.

use std::sync::Arc;

use bitworth_quant::HParams;
use bitworth_quant::arch::{AttentionGate, BlockTraits, Role};
use bitworth_quant::checkpoint::TensorBytes;
use bitworth_quant::hparams::{Recurrent, RecurrentKind};

use super::reader::{Reader, decode, f32_tensor};
use super::weights::{
    Attention, Beside, BlockWeights, DeltaNet, Dense, Experts, FeedForward, Gated, HeadNorm, Latent, LayerGate, Linear, Mamba2,
    Mixer, NormWeights, Projections, Queries, Shared, ShortConv, Stack, gate_of,
};
use crate::backend::{Backend, HostTensor};
use crate::error::{EngineError, Result};

/// Reads the tensors of one block (or of none) onto a device.
pub(super) struct Loader<'a, B: Backend> {
    pub backend: &'a B,
    pub reader: &'a Reader<'a>,
    pub block: usize,
}

impl<B: Backend> Loader<'_, B> {
    fn has(&self, role: Role) -> bool {
        self.reader.variant.checkpoint().tensor_of(role, self.block).is_some()
    }

    pub fn weight(&self, role: Role) -> Result<B::Weight> {
        Ok(self.backend.weight(self.reader.require(role, self.block)?)?)
    }

    /// A matrix for products.
    fn matrix(&self, tensor: HostTensor) -> Result<Arc<B::Weight>> {
        Ok(Arc::new(self.backend.matrix(tensor, self.reader.arithmetic)?))
    }

    pub fn optional(&self, role: Role) -> Result<Option<B::Weight>> {
        Ok(self.reader.tensor(role, self.block)?.map(|tensor| self.backend.weight(tensor)).transpose()?)
    }

    pub fn linear(&self, weight: Role, bias: Option<Role>) -> Result<Linear<B>> {
        let tensor = self.reader.require(weight, self.block)?;
        let (rows, cols) = (tensor.rows, tensor.cols);
        let bias = bias.map(|role| self.optional(role)).transpose()?.flatten();
        Ok(Linear { weight: self.matrix(tensor)?, rows: 0..rows, bias, cols })
    }

    /// The parts of a matrix that holds several ones, of so many rows each.
    fn parts<const N: usize>(&self, weight: Role, bias: Option<Role>, rows: [usize; N]) -> Result<[Linear<B>; N]> {
        let tensor = self.reader.require(weight, self.block)?;
        let cols = tensor.cols;
        let weight = self.matrix(tensor)?;
        let bias = bias.map(|role| self.reader.decoded(role, self.block)).transpose()?.flatten();
        let mut first = 0;
        let mut part = |rows: usize| {
            let range = first..first + rows;
            first += rows;
            let bias = bias.as_ref().map(|bias| self.backend.weight(f32_tensor(1, rows, &bias[range.clone()]))).transpose()?;
            Ok::<_, EngineError>(Linear { weight: weight.clone(), rows: range, bias, cols })
        };
        let mut parts = Vec::with_capacity(N);
        for rows in rows {
            parts.push(part(rows)?);
        }
        parts.try_into().map_err(|_| self.unfit("a fused matrix has another number of parts"))
    }

    fn norm(&self, gain: Role, bias: Role) -> Result<Option<NormWeights<B>>> {
        match self.optional(gain)? {
            None => Ok(None),
            Some(gain) => Ok(Some(NormWeights { gain, bias: self.optional(bias)? })),
        }
    }

    fn head_norm(&self, gain: Role, head_dim: usize) -> Result<Option<HeadNorm<B>>> {
        let Some(tensor) = self.reader.tensor(gain, self.block)? else { return Ok(None) };
        let together = tensor.cols != head_dim;
        Ok(Some(HeadNorm { gain: self.backend.weight(tensor)?, together }))
    }

    /// Norms of heads that have no weights: all of them are 1.
    fn unweighted(&self, width: usize) -> Result<HeadNorm<B>> {
        Ok(HeadNorm { gain: self.backend.weight(f32_tensor(1, width, &vec![1.0; width]))?, together: false })
    }

    fn unfit(&self, what: &str) -> EngineError {
        EngineError::Unfit { model: self.reader.variant.checkpoint().path().display().to_string(), what: what.to_owned() }
    }

    /// A matrix of some rows of a tensor, in this order.
    fn picked(&self, tensor: &HostTensor, rows: impl Iterator<Item = usize>) -> Result<Linear<B>> {
        let row_bytes = tensor.bytes.len() / tensor.rows.max(1);
        let bytes: Vec<u8> = rows.flat_map(|row| tensor.bytes[row * row_bytes..][..row_bytes].iter().copied()).collect();
        let (rows, cols) = (bytes.len() / row_bytes.max(1), tensor.cols);
        let picked = HostTensor { dtype: tensor.dtype, rows, cols, bytes: TensorBytes::Owned(bytes) };
        Ok(Linear { weight: self.matrix(picked)?, rows: 0..rows, bias: None, cols })
    }

    /// One number a row, that a block must have.
    fn numbers(&self, role: Role) -> Result<Vec<f32>> {
        Ok(decode(&self.reader.require(role, self.block)?))
    }

    fn delta_net(&self, r: &Recurrent) -> Result<DeltaNet<B>> {
        let constant = |value: f64| self.backend.weight(f32_tensor(1, r.key_dim, &vec![value as f32; r.key_dim]));
        let (decay, rate) = if self.has(Role::SsmBa) {
            // Key by key the rates of its heads, then their decays.
            let (both, of_key) = (self.reader.require(Role::SsmBa, self.block)?, r.heads / r.key_heads);
            let part = |first: usize| {
                let rows = (0..r.heads).map(move |head| head / of_key * 2 * of_key + first + head % of_key);
                self.picked(&both, rows)
            };
            (part(of_key)?, part(0)?)
        } else {
            (self.linear(Role::SsmAlpha, None)?, self.linear(Role::SsmBeta, None)?)
        };
        let parameters = [self.numbers(Role::SsmA)?, self.numbers(Role::SsmDtBias)?, vec![0.0; r.heads]].concat();
        Ok(DeltaNet {
            projection: self.linear(Role::AttnQkv, None)?,
            gate: self.linear(Role::AttnGate, None)?,
            decay,
            rate,
            conv: self.weight(Role::SsmConv1d)?,
            parameters: self.backend.upload(&parameters)?,
            query_norm: constant(1.0 / r.key_dim as f64)?,
            key_norm: constant(1.0 / (r.key_dim as f64).sqrt())?,
            norm: self.weight(Role::SsmNorm)?,
            output: self.linear(Role::SsmOut, None)?,
        })
    }

    fn mamba2(&self, h: &HParams, r: &Recurrent) -> Result<Mamba2<B>> {
        let [gate, projection, steps] =
            self.parts(Role::SsmIn, None, [r.values(), r.conv_channels(h.embedding_length), r.heads])?;
        let parameters = [self.numbers(Role::SsmA)?, self.numbers(Role::SsmDtBias)?, self.numbers(Role::SsmD)?].concat();
        let conv_bias = self.reader.decoded(Role::SsmConv1dBias, self.block)?;
        Ok(Mamba2 {
            gate,
            projection,
            steps,
            conv: self.weight(Role::SsmConv1d)?,
            conv_bias: conv_bias.map(|bias| self.backend.upload(&bias)).transpose()?,
            parameters: self.backend.upload(&parameters)?,
            norm: self.optional(Role::SsmNorm)?,
            output: self.linear(Role::SsmOut, None)?,
        })
    }

    fn short_conv(&self, h: &HParams) -> Result<ShortConv<B>> {
        let width = h.embedding_length;
        let [gate_in, gate_out, projection] = self.parts(Role::ShortConvIn, None, [width; 3])?;
        let (conv, output) = (self.weight(Role::ShortConv)?, self.linear(Role::ShortConvOut, None)?);
        Ok(ShortConv { gate_in, gate_out, projection, conv, output })
    }

    fn mixers(&self, h: &HParams, traits: &BlockTraits) -> Result<Vec<Mixer<B>>> {
        let mut mixers = Vec::new();
        if let Some(r) = h.recurrent_of(self.block) {
            mixers.push(match r.kind {
                RecurrentKind::DeltaNet => Mixer::DeltaNet(self.delta_net(r)?),
                RecurrentKind::Mamba2 => Mixer::Mamba2(self.mamba2(h, r)?),
                RecurrentKind::ShortConv => Mixer::ShortConv(self.short_conv(h)?),
            });
        }
        if h.has_attention(self.block) {
            mixers.push(Mixer::Attention(self.attention(h, traits)?));
        }
        Ok(mixers)
    }

    fn attention(&self, h: &HParams, traits: &BlockTraits) -> Result<Attention<B>> {
        let sinks = self.reader.decoded(Role::AttnSinks, self.block)?;
        let head_dim = h.head_dim.of(self.block);
        let unweighted = h.unweighted_head_norms && h.rope_blocks[self.block];
        let head_norm = |gain| if unweighted { self.unweighted(head_dim).map(Some) } else { self.head_norm(gain, head_dim) };
        Ok(Attention {
            projections: self.projections(h)?,
            q_norm: head_norm(Role::AttnQNorm)?,
            k_norm: if h.has_own_keys(self.block) { head_norm(Role::AttnKNorm)? } else { None },
            v_norm: traits.normalizes_values.then(|| self.unweighted(h.value_dim.of(self.block))).transpose()?,
            gate: match traits.attention_gate {
                AttentionGate::None => Gated::No,
                AttentionGate::BehindQueries => Gated::BehindQueries,
                AttentionGate::Own => Gated::Own(self.linear(Role::AttnGate, None)?),
            },
            sinks: sinks.map(|sinks| self.backend.upload(&sinks)).transpose()?,
            output: self.linear(Role::AttnOutput, Some(Role::AttnOutputBias))?,
        })
    }

    fn projections(&self, h: &HParams) -> Result<Projections<B>> {
        if let Some(mla) = h.mla {
            let queries = if self.has(Role::AttnQA) {
                let norm = self.weight(Role::AttnQANorm)?;
                Queries::Compressed {
                    down: self.linear(Role::AttnQA, Some(Role::AttnQABias))?,
                    norm,
                    up: self.linear(Role::AttnQB, None)?,
                }
            } else {
                Queries::Plain(self.linear(Role::AttnQ, None)?)
            };
            return Ok(Projections::Latent(Latent {
                queries,
                down: self.linear(Role::AttnKvAMqa, Some(Role::AttnKvAMqaBias))?,
                norm: self.weight(Role::AttnKvANorm)?,
                keys: self.expanded_keys(mla.key_length - h.rope_dim, mla.kv_lora_rank, h.head_count.of(self.block))?,
                values: self.linear(Role::AttnVB, None)?,
            }));
        }
        if !h.has_own_keys(self.block) {
            return Ok(Projections::Queries(self.linear(Role::AttnQ, Some(Role::AttnQBias))?));
        }
        let (heads, kv_heads) = (h.head_count.of(self.block), h.head_count_kv.of(self.block));
        let (key, value) = (h.head_dim.of(self.block), h.value_dim.of(self.block));
        let (queries, keys, values) = (heads * key, kv_heads * key, kv_heads * value);
        if self.has(Role::AttnQkv) {
            let [q, k, v] = self.parts(Role::AttnQkv, Some(Role::AttnQkvBias), [queries, keys, values])?;
            return Ok(Projections::Plain { q, k, v: Some(v) });
        }
        Ok(Projections::Plain {
            q: self.linear(Role::AttnQ, Some(Role::AttnQBias))?,
            k: self.linear(Role::AttnK, Some(Role::AttnKBias))?,
            v: self.has(Role::AttnV).then(|| self.linear(Role::AttnV, Some(Role::AttnVBias))).transpose()?,
        })
    }

    /// The matrix that expands compressed keys. GGUF stores it the other way round, for the products after absorption
    /// (DeepSeek-AI 2024, section 2.1.2); its numbers are decoded, exchanged and kept in F32, which changes none of them.
    fn expanded_keys(&self, width: usize, rank: usize, heads: usize) -> Result<Linear<B>> {
        let stored = decode(&self.reader.require(Role::AttnKB, self.block)?);
        let mut turned = vec![0.0; stored.len()];
        for (stored, turned) in stored.chunks_exact(width * rank).zip(turned.chunks_exact_mut(width * rank)) {
            for (r, row) in stored.chunks_exact(width).enumerate() {
                for (n, &value) in row.iter().enumerate() {
                    turned[n * rank + r] = value;
                }
            }
        }
        let rows = heads * width;
        let weight = self.matrix(f32_tensor(rows, rank, &turned))?;
        Ok(Linear { weight, rows: 0..rows, bias: None, cols: rank })
    }

    /// The network of a block without experts, or the one that all tokens share beside them.
    fn dense(&self, [gate, up, down]: [(Role, Option<Role>); 3], gated: bool, width: usize) -> Result<Dense<B>> {
        let (gate, up_matrix) = match (gated, self.has(gate.0)) {
            (false, _) => (None, self.linear(up.0, up.1)?),
            (true, true) => (Some(self.linear(gate.0, gate.1)?), self.linear(up.0, up.1)?),
            (true, false) => {
                let [gate, up] = self.parts(up.0, up.1, [width, width])?;
                (Some(gate), up)
            }
        };
        Ok(Dense { gate, up: up_matrix, down: self.linear(down.0, down.1)? })
    }

    fn feed_forward(&self, h: &HParams, gated: bool) -> Result<Option<FeedForward<B>>> {
        let roles = [
            (Role::FfnGate, Some(Role::FfnGateBias)),
            (Role::FfnUp, Some(Role::FfnUpBias)),
            (Role::FfnDown, Some(Role::FfnDownBias)),
        ];
        let dense = || self.dense(roles, gated, h.feed_forward_length.of(self.block));
        if h.has_dense_network(self.block) {
            return Ok(Some(FeedForward::Dense(dense()?)));
        }
        if !h.has_experts(self.block) {
            return Ok(None);
        }
        let shared = if self.has(Role::FfnDownShexp) {
            let roles = [(Role::FfnGateShexp, None), (Role::FfnUpShexp, None), (Role::FfnDownShexp, None)];
            let gate = if self.has(Role::FfnGateInpShexp) { Some(self.linear(Role::FfnGateInpShexp, None)?) } else { None };
            Some(Shared { gate, network: self.dense(roles, gated, h.shared_feed_forward_length)? })
        } else {
            None
        };
        let inner = h.expert_feed_forward_length;
        let stack = |weight, bias, stride| {
            let weight = self.matrix(self.reader.require(weight, self.block)?)?;
            Ok::<_, EngineError>(Stack { weight, bias: self.optional(bias)?, stride, first: 0 })
        };
        let (gate, up) = if self.has(Role::FfnGateUpExps) {
            let weight = self.matrix(self.reader.require(Role::FfnGateUpExps, self.block)?)?;
            let part = |first| Stack { weight: weight.clone(), bias: None, stride: 2 * inner, first };
            (Some(part(0)), part(inner))
        } else {
            let gate = gated.then(|| stack(Role::FfnGateExps, Role::FfnGateExpsBias, inner)).transpose()?;
            (gate, stack(Role::FfnUpExps, Role::FfnUpExpsBias, inner)?)
        };
        let latent = match h.expert_latent_length {
            0 => None,
            _ => Some([self.linear(Role::FfnLatentDown, None)?, self.linear(Role::FfnLatentUp, None)?]),
        };
        let beside = if h.dense_beside_experts { Some(self.beside(h, dense()?)?) } else { None };
        Ok(Some(FeedForward::Experts(Box::new(Experts {
            router: self.linear(Role::FfnGateInp, Some(Role::FfnGateInpBias))?,
            choice_bias: self.reader.decoded(Role::ExpProbsBias, self.block)?,
            gate,
            up,
            down: stack(Role::FfnDownExps, Role::FfnDownExpsBias, h.expert_embedding_length())?,
            latent,
            shared,
            scales: self.reader.decoded(Role::FfnDownExpsScale, self.block)?,
            beside,
        }))))
    }

    /// A norm without a bias that a block must have.
    fn gain(&self, role: Role) -> Result<NormWeights<B>> {
        Ok(NormWeights { gain: self.weight(role)?, bias: None })
    }

    /// The router reads a norm without weights, times a weight for each column, by the root of their number: one gain.
    fn beside(&self, h: &HParams, network: Dense<B>) -> Result<Beside<B>> {
        let root = (h.embedding_length as f32).sqrt();
        let gains: Vec<f32> = self.numbers(Role::FfnGateInpScale)?.into_iter().map(|scale| scale / root).collect();
        Ok(Beside {
            network,
            post_norm: self.gain(Role::FfnPostNorm1)?,
            router_gain: self.backend.weight(f32_tensor(1, gains.len(), &gains))?,
            experts_norm: self.gain(Role::FfnPreNorm2)?,
            experts_post_norm: self.gain(Role::FfnPostNorm2)?,
        })
    }

    fn layer_gate(&self) -> Result<LayerGate<B>> {
        let (gate, projection) = (self.linear(Role::InpGate, None)?, self.linear(Role::Proj, None)?);
        Ok(LayerGate { gate, projection, post_norm: self.gain(Role::PostNorm)? })
    }
}

impl<B: Backend> BlockWeights<B> {
    /// Reads block `index` of `variant` onto the device, its matrices for products in `arithmetic`.
    pub fn load(backend: &B, reader: &Reader<'_>, index: usize) -> Result<Self> {
        let (h, traits) = (reader.variant.hparams(), reader.variant.checkpoint().block_traits()?);
        let load = Loader { backend, reader, block: index };
        // No architecture has a bias with these.
        let gain = |role: Role| Ok::<_, EngineError>(load.optional(role)?.map(|gain| NormWeights { gain, bias: None }));
        // gpt-oss names the norm before the feed-forward network as others name that behind attention.
        let post = traits.ffn_norm != Role::AttnPostNorm;
        let mixers = load.mixers(h, traits)?;
        let feed_forward = load.feed_forward(h, gate_of(traits.mlp).is_some())?;
        let mixer_norm = if mixers.is_empty() { None } else { load.norm(Role::AttnNorm, Role::AttnNormBias)? };
        let ffn_norm = if feed_forward.is_some() { load.norm(traits.ffn_norm, Role::FfnNormBias)? } else { None };
        Ok(Self {
            index,
            mixer_norm,
            mixers,
            mixer_post_norm: if post { gain(Role::AttnPostNorm)? } else { None },
            ffn_norm,
            feed_forward,
            ffn_post_norm: gain(Role::FfnPostNorm)?,
            layer_gate: (h.layer_input_length > 0).then(|| load.layer_gate()).transpose()?,
            output_scale: reader.decoded(Role::LayerOutputScale, index)?.and_then(|scale| scale.first().copied()),
        })
    }
}
