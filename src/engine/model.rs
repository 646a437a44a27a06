//! A model as the engine sees it: where each tensor comes from, and the weights of one block on a device.
//!
//! A [`Variant`] is a checkpoint as stored, or a checkpoint with a plan applied on the fly, tensor by tensor. Nothing here
//! holds more than the tensors asked for. Absent: the computation (`forward`) and the order of reading (`sweep`, `generate`).

use std::ops::Range;
use std::sync::Arc;

use bitworth_quant::arch::{Mlp, Role};
use bitworth_quant::checkpoint::{Tensor, TensorBytes};
use bitworth_quant::{Checkpoint, DType, HParams, Imatrix, Plan};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::backend::{Arithmetic, Backend, HostTensor};
use super::error::{EngineError, Result};
use super::supply::Supply;

/// One version of a model's weights.
#[derive(Clone)]
pub enum Variant {
    /// The tensors as the file has them.
    Stored(Arc<Checkpoint>),
    /// The tensors of a checkpoint, each quantized to its type in the plan at the moment it is needed.
    Planned(Arc<Checkpoint>, Arc<Plan>),
}

impl Variant {
    /// The file behind it.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        match self {
            Self::Stored(checkpoint) | Self::Planned(checkpoint, _) => checkpoint,
        }
    }

    /// The model's hyper-parameters.
    pub fn hparams(&self) -> &HParams {
        self.checkpoint().hparams()
    }

    /// Bytes of all tensors in this variant.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Stored(checkpoint) => checkpoint.total_bytes(),
            Self::Planned(_, plan) => plan.bytes(),
        }
    }

    /// The encoding a tensor of the checkpoint has in this variant.
    pub fn dtype(&self, tensor: &Tensor) -> DType {
        match self {
            Self::Stored(_) => tensor.dtype,
            Self::Planned(_, plan) => plan.get(&tensor.name).map_or(tensor.dtype, |entry| entry.to),
        }
    }

    /// How many weights have which encoding, most weights first.
    pub fn types(&self) -> Vec<(DType, u64)> {
        let mut types: Vec<(DType, u64)> = Vec::new();
        for tensor in self.checkpoint().tensors() {
            let dtype = self.dtype(tensor);
            match types.iter_mut().find(|(d, _)| *d == dtype) {
                Some((_, weights)) => *weights += tensor.elements(),
                None => types.push((dtype, tensor.elements())),
            }
        }
        types.sort_by_key(|&(_, weights)| std::cmp::Reverse(weights));
        types
    }

    /// Tells apart what tensors are read from, and what decides how they are encoded beside their type: two variants with the
    /// same of this have the same bytes for a tensor in an encoding. For as long as both live.
    pub(super) fn source_identity(&self) -> [usize; 2] {
        let imatrix = self.imatrix().map_or(0, |imatrix| std::ptr::from_ref(imatrix) as usize);
        [Arc::as_ptr(self.checkpoint()) as usize, imatrix]
    }

    /// What tensors are encoded by, where that is something.
    fn imatrix(&self) -> Option<&Imatrix> {
        match self {
            Self::Stored(_) => None,
            Self::Planned(_, plan) => plan.imatrix(),
        }
    }

    /// Tells variants apart without reading all of them: names, types, shapes and the first row of every tensor.
    ///
    /// # Errors
    /// A model that cannot be read.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        for tensor in self.checkpoint().tensors() {
            hash.update(format!("{} {} {} {:?}\n", tensor.name, tensor.dtype, self.dtype(tensor), tensor.shape));
            hash.update(&*self.checkpoint().read(tensor, 0..1)?);
            let weights = self.imatrix().and_then(|imatrix| imatrix.weights(&tensor.name));
            weights.into_iter().flatten().for_each(|weight| hash.update(weight.to_le_bytes()));
        }
        Ok(hash.finalize().into())
    }

    /// The bytes of some rows of a tensor in the encoding `dtype`: as stored, or encoded now.
    pub(super) fn encoded(&self, tensor: &Tensor, rows: Range<usize>, dtype: DType) -> Result<TensorBytes> {
        let checkpoint = self.checkpoint();
        if dtype == tensor.dtype {
            return Ok(checkpoint.read(tensor, rows)?);
        }
        let bytes = bitworth_quant::quantize::encode_rows(checkpoint.as_ref(), &tensor.name, rows, dtype, self.imatrix())?;
        Ok(TensorBytes::Owned(bytes))
    }

    /// The tensor of a role.
    fn require(&self, role: Role, block: usize) -> Result<&Tensor> {
        self.checkpoint().tensor_of(role, block).ok_or_else(|| EngineError::Unfit {
            model: self.checkpoint().path().display().to_string(),
            what: format!("the tensor {} is missing", role.gguf_name(block)),
        })
    }

    /// The tensor behind a tied head, or the head's own.
    pub fn output_role(&self) -> Role {
        if self.checkpoint().tensor_of(Role::Output, 0).is_some() { Role::Output } else { Role::TokenEmbd }
    }
}

/// Reads the weights of one variant, for products in one arithmetic.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// What is read.
    pub variant: &'a Variant,
    /// How products are computed.
    pub arithmetic: Arithmetic,
    /// What it shares with other readers, and its number among them.
    pub supply: Option<(&'a Supply, usize)>,
}

impl<'a> Reader<'a> {
    /// One that shares nothing.
    pub fn alone(variant: &'a Variant, arithmetic: Arithmetic) -> Self {
        Self { variant, arithmetic, supply: None }
    }

    /// The tensor of a role, if the model has it.
    fn tensor(&self, role: Role, block: usize) -> Result<Option<HostTensor>> {
        let Some(tensor) = self.variant.checkpoint().tensor_of(role, block) else { return Ok(None) };
        self.rows(tensor, 0..tensor.rows()).map(Some)
    }

    /// Some rows of a tensor.
    fn rows(&self, tensor: &Tensor, rows: Range<usize>) -> Result<HostTensor> {
        let dtype = self.variant.dtype(tensor);
        let bytes = match self.supply {
            Some((supply, number)) => supply.rows(self.variant, number, tensor, rows.clone(), dtype)?,
            None => self.variant.encoded(tensor, rows.clone(), dtype)?,
        };
        Ok(HostTensor { dtype, rows: rows.len(), cols: tensor.cols(), bytes })
    }

    /// Rows of the tensor of a role that lie anywhere, in the order given.
    ///
    /// # Errors
    /// A tensor that is missing or cannot be read.
    pub fn picked(&self, role: Role, rows: &[u32]) -> Result<HostTensor> {
        let tensor = self.variant.require(role, 0)?;
        let dtype = self.variant.dtype(tensor);
        let one = |&row: &u32| self.variant.encoded(tensor, row as usize..row as usize + 1, dtype);
        let picked = rows.par_iter().map(one).collect::<Result<Vec<_>>>()?;
        let bytes = TensorBytes::Owned(picked.iter().flat_map(|bytes| bytes.iter().copied()).collect());
        Ok(HostTensor { dtype, rows: rows.len(), cols: tensor.cols(), bytes })
    }

    fn require(&self, role: Role, block: usize) -> Result<HostTensor> {
        let tensor = self.variant.require(role, block)?;
        self.rows(tensor, 0..tensor.rows())
    }

    /// Divisors of the rotary frequencies (Llama 3), where the model has them.
    pub fn rope_freqs(&self) -> Result<Option<Vec<f32>>> {
        self.decoded(Role::RopeFreqs, 0)
    }

    /// LongRoPE's divisors for short and for long sequences, where the model has them.
    pub fn longrope_factors(&self) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        Ok(self.decoded(Role::RopeFactorsShort, 0)?.zip(self.decoded(Role::RopeFactorsLong, 0)?))
    }

    /// The numbers of the tensor of a role, if the model has it.
    fn decoded(&self, role: Role, block: usize) -> Result<Option<Vec<f32>>> {
        Ok(self.tensor(role, block)?.map(|tensor| decode(&tensor)))
    }
}

fn decode(tensor: &HostTensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.rows * tensor.cols];
    let row_bytes = tensor.bytes.len() / tensor.rows.max(1);
    for (row, out) in out.chunks_exact_mut(tensor.cols).enumerate() {
        tensor.dtype.decode_row(&tensor.bytes[row * row_bytes..][..row_bytes], out);
    }
    out
}

/// Numbers as a tensor of F32.
fn f32_tensor(rows: usize, cols: usize, numbers: &[f32]) -> HostTensor {
    let bytes = TensorBytes::Owned(numbers.iter().flat_map(|v| v.to_le_bytes()).collect());
    HostTensor { dtype: DType::F32, rows, cols, bytes }
}

/// `y = W x (+ b)` on a device, with some of the rows of a matrix.
pub struct Linear<B: Backend> {
    /// `[*, K]`, as stored; shared where the head is the token embedding, and between the parts of a fused matrix.
    pub weight: Arc<B::Weight>,
    /// The N rows of W that are meant.
    pub rows: Range<usize>,
    /// `[N]`, where the model has one.
    pub bias: Option<B::Weight>,
    /// K.
    pub cols: usize,
}

/// Reads the tensors of one block (or of none) onto a device.
struct Loader<'a, B: Backend> {
    backend: &'a B,
    reader: &'a Reader<'a>,
    block: usize,
}

impl<B: Backend> Loader<'_, B> {
    fn has(&self, role: Role) -> bool {
        self.reader.variant.checkpoint().tensor_of(role, self.block).is_some()
    }

    fn weight(&self, role: Role) -> Result<B::Weight> {
        Ok(self.backend.weight(self.reader.require(role, self.block)?)?)
    }

    /// A matrix for products.
    fn matrix(&self, tensor: HostTensor) -> Result<Arc<B::Weight>> {
        Ok(Arc::new(self.backend.matrix(tensor, self.reader.arithmetic)?))
    }

    fn optional(&self, role: Role) -> Result<Option<B::Weight>> {
        Ok(self.reader.tensor(role, self.block)?.map(|tensor| self.backend.weight(tensor)).transpose()?)
    }

    fn linear(&self, weight: Role, bias: Option<Role>) -> Result<Linear<B>> {
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

    fn norm(&self, gain: Role, bias: Role) -> Result<Option<Norm<B>>> {
        match self.optional(gain)? {
            None => Ok(None),
            Some(gain) => Ok(Some(Norm { gain, bias: self.optional(bias)? })),
        }
    }

    fn head_norm(&self, gain: Role, head_dim: usize) -> Result<Option<HeadNorm<B>>> {
        let Some(tensor) = self.reader.tensor(gain, self.block)? else { return Ok(None) };
        let together = tensor.cols != head_dim;
        Ok(Some(HeadNorm { gain: self.backend.weight(tensor)?, together }))
    }

    fn unfit(&self, what: &str) -> EngineError {
        EngineError::Unfit { model: self.reader.variant.checkpoint().path().display().to_string(), what: what.to_owned() }
    }

    fn projections(&self, h: &HParams) -> Result<Projections<B>> {
        if let Some(mla) = h.mla {
            let queries = if self.has(Role::AttnQA) {
                let norm = self.weight(Role::AttnQANorm)?;
                Queries::Compressed { down: self.linear(Role::AttnQA, None)?, norm, up: self.linear(Role::AttnQB, None)? }
            } else {
                Queries::Plain(self.linear(Role::AttnQ, None)?)
            };
            return Ok(Projections::Latent(Latent {
                queries,
                down: self.linear(Role::AttnKvAMqa, None)?,
                norm: self.weight(Role::AttnKvANorm)?,
                keys: self.expanded_keys(mla.key_length - h.rope_dim, mla.kv_lora_rank, h.head_count.of(self.block))?,
                values: self.linear(Role::AttnVB, None)?,
            }));
        }
        let (heads, kv_heads) = (h.head_count.of(self.block), h.head_count_kv.of(self.block));
        let (key, value) = (h.head_dim.of(self.block), h.value_dim.of(self.block));
        let (queries, keys, values) = (heads * key, kv_heads * key, kv_heads * value);
        let [q, k, v] = if self.has(Role::AttnQkv) {
            self.parts(Role::AttnQkv, Some(Role::AttnQkvBias), [queries, keys, values])?
        } else {
            [
                self.linear(Role::AttnQ, Some(Role::AttnQBias))?,
                self.linear(Role::AttnK, Some(Role::AttnKBias))?,
                self.linear(Role::AttnV, Some(Role::AttnVBias))?,
            ]
        };
        Ok(Projections::Plain { q, k, v })
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

    fn feed_forward(&self, h: &HParams, gated: bool) -> Result<FeedForward<B>> {
        if !h.has_experts(self.block) {
            let roles = [
                (Role::FfnGate, Some(Role::FfnGateBias)),
                (Role::FfnUp, Some(Role::FfnUpBias)),
                (Role::FfnDown, Some(Role::FfnDownBias)),
            ];
            return Ok(FeedForward::Dense(self.dense(roles, gated, h.feed_forward_length.of(self.block))?));
        }
        let shared = if self.has(Role::FfnDownShexp) {
            let roles = [(Role::FfnGateShexp, None), (Role::FfnUpShexp, None), (Role::FfnDownShexp, None)];
            let gate = if self.has(Role::FfnGateInpShexp) { Some(self.linear(Role::FfnGateInpShexp, None)?) } else { None };
            Some(Shared { gate, network: self.dense(roles, gated, h.shared_feed_forward_length)? })
        } else {
            None
        };
        let stack = |weight, bias| {
            let weight = self.matrix(self.reader.require(weight, self.block)?)?;
            Ok::<_, EngineError>(Stack { weight, bias: self.optional(bias)? })
        };
        Ok(FeedForward::Experts(Experts {
            router: self.linear(Role::FfnGateInp, Some(Role::FfnGateInpBias))?,
            choice_bias: self.reader.decoded(Role::ExpProbsBias, self.block)?,
            gate: stack(Role::FfnGateExps, Role::FfnGateExpsBias)?,
            up: stack(Role::FfnUpExps, Role::FfnUpExpsBias)?,
            down: stack(Role::FfnDownExps, Role::FfnDownExpsBias)?,
            shared,
        }))
    }
}

/// A norm on a device.
pub struct Norm<B: Backend> {
    /// `[H]`, or `[heads, head_dim]`.
    pub gain: B::Weight,
    /// `[H]`, where the model has one.
    pub bias: Option<B::Weight>,
}

/// A norm of queries or keys on a device.
pub struct HeadNorm<B: Backend> {
    /// `[head_dim]`, `[heads, head_dim]` or `[heads * head_dim]`.
    pub gain: B::Weight,
    /// Whether all heads of a row are one vector to it.
    pub together: bool,
}

/// Where queries, keys and values come from.
pub enum Projections<B: Backend> {
    /// A matrix each.
    #[allow(missing_docs)]
    Plain { q: Linear<B>, k: Linear<B>, v: Linear<B> },
    /// Compressed keys and values.
    Latent(Latent<B>),
}

/// Multi-head latent attention (DeepSeek-AI 2024, section 2.1), as it is before absorption.
pub struct Latent<B: Backend> {
    /// Queries.
    pub queries: Queries<B>,
    /// To compressed keys and values, and the rotated part of the key behind them.
    pub down: Linear<B>,
    /// Gain of the norm of what is compressed.
    pub norm: B::Weight,
    /// To the keys' parts that are not rotated: `[heads * width, rank]`.
    pub keys: Linear<B>,
    /// To the values: `[heads * width, rank]`.
    pub values: Linear<B>,
}

/// Queries of latent attention.
pub enum Queries<B: Backend> {
    /// From the block's input.
    Plain(Linear<B>),
    /// Compressed in between.
    #[allow(missing_docs)]
    Compressed { down: Linear<B>, norm: B::Weight, up: Linear<B> },
}

/// A feed-forward network.
pub struct Dense<B: Backend> {
    /// The gate, where the architecture has one.
    pub gate: Option<Linear<B>>,
    /// Up projection.
    pub up: Linear<B>,
    /// Down projection.
    pub down: Linear<B>,
}

/// The matrices of all experts, one behind the other.
pub struct Stack<B: Backend> {
    /// `[experts * N, K]`
    pub weight: Arc<B::Weight>,
    /// `[experts, N]`, where the model has one.
    pub bias: Option<B::Weight>,
}

/// The network that all tokens share.
pub struct Shared<B: Backend> {
    /// Its weight is the sigmoid of this product; 1 where there is none.
    pub gate: Option<Linear<B>>,
    /// The network.
    pub network: Dense<B>,
}

/// A mixture of experts.
pub struct Experts<B: Backend> {
    /// Scores of the experts.
    pub router: Linear<B>,
    /// What is added to the scores to choose, on the host.
    pub choice_bias: Option<Vec<f32>>,
    /// Gates.
    pub gate: Stack<B>,
    /// Up projections.
    pub up: Stack<B>,
    /// Down projections.
    pub down: Stack<B>,
    /// The network beside them, where the model has one.
    pub shared: Option<Shared<B>>,
}

/// What follows attention.
#[allow(missing_docs)]
pub enum FeedForward<B: Backend> {
    Dense(Dense<B>),
    Experts(Experts<B>),
}

/// The weights of one transformer block on a device.
pub struct Block<B: Backend> {
    /// Its number.
    pub index: usize,
    /// Norm before attention; some models have none.
    pub attn_norm: Option<Norm<B>>,
    /// Queries, keys and values.
    pub projections: Projections<B>,
    /// Norm of the queries, where the model has one: of each head, or of all together.
    pub q_norm: Option<HeadNorm<B>>,
    /// The same of the keys.
    pub k_norm: Option<HeadNorm<B>>,
    /// Scores of keys without values, one a head, where the model has them.
    pub sinks: Option<B::Buffer>,
    /// Output projection of attention.
    pub attn_output: Linear<B>,
    /// Norm behind attention, where the model has one.
    pub attn_post_norm: Option<Norm<B>>,
    /// Norm before the feed-forward network, where the model has one.
    pub ffn_norm: Option<Norm<B>>,
    /// The feed-forward network.
    pub feed_forward: FeedForward<B>,
    /// Norm behind it, where the model has one.
    pub ffn_post_norm: Option<Norm<B>>,
}

impl<B: Backend> Block<B> {
    /// Reads block `index` of `variant` onto the device, its matrices for products in `arithmetic`.
    pub fn load(backend: &B, reader: &Reader<'_>, index: usize) -> Result<Self> {
        let (load, variant) = (Loader { backend, reader, block: index }, reader.variant);
        let (h, traits) = (variant.hparams(), variant.checkpoint().block_traits()?);
        // No architecture has a bias with these.
        let gain = |role: Role| Ok::<_, EngineError>(load.optional(role)?.map(|gain| Norm { gain, bias: None }));
        // gpt-oss names the norm before the feed-forward network as others name that behind attention.
        let post = traits.ffn_norm != Role::AttnPostNorm;
        let sinks = reader.decoded(Role::AttnSinks, index)?;
        Ok(Self {
            index,
            attn_norm: load.norm(Role::AttnNorm, Role::AttnNormBias)?,
            projections: load.projections(h)?,
            q_norm: load.head_norm(Role::AttnQNorm, h.head_dim.of(index))?,
            k_norm: load.head_norm(Role::AttnKNorm, h.head_dim.of(index))?,
            sinks: sinks.map(|sinks| backend.upload(&sinks)).transpose()?,
            attn_output: load.linear(Role::AttnOutput, Some(Role::AttnOutputBias))?,
            attn_post_norm: if post { gain(Role::AttnPostNorm)? } else { None },
            ffn_norm: load.norm(traits.ffn_norm, Role::FfnNormBias)?,
            feed_forward: load.feed_forward(h, traits.mlp != Mlp::Gelu)?,
            ffn_post_norm: gain(Role::FfnPostNorm)?,
        })
    }
}

/// The final norm and the output matrix, or some of its rows, on a device.
pub struct OutputHead<B: Backend> {
    /// The final norm.
    pub norm: Norm<B>,
    /// `[V, H]`; the token embedding where the model ties them.
    pub output: Linear<B>,
}

impl<B: Backend> OutputHead<B> {
    /// Reads the head onto the device; a tied one is the embedding, where the caller has that there (which is for f32 products).
    pub fn load(backend: &B, reader: &Reader<'_>, embedding: Option<&Embedding<B>>) -> Result<Self> {
        let h = reader.variant.hparams();
        let output = match embedding.filter(|_| reader.variant.output_role() == Role::TokenEmbd) {
            Some(Embedding { tokens, .. }) => {
                Linear { weight: tokens.clone(), bias: None, rows: 0..h.vocab_size, cols: h.embedding_length }
            }
            None => output_rows(backend, reader, 0..h.vocab_size)?,
        };
        Ok(Self { norm: output_norm(backend, reader)?, output })
    }
}

/// The norm before the output matrix.
///
/// # Errors
/// A tensor that is missing or cannot be read; a device that fails.
pub fn output_norm<B: Backend>(backend: &B, reader: &Reader<'_>) -> Result<Norm<B>> {
    let load = Loader { backend, reader, block: 0 };
    Ok(Norm { gain: load.weight(Role::OutputNorm)?, bias: load.optional(Role::OutputNormBias)? })
}

/// The rows of the output matrix for some tokens.
///
/// # Errors
/// As [`output_norm`].
pub fn output_rows<B: Backend>(backend: &B, reader: &Reader<'_>, tokens: Range<usize>) -> Result<Linear<B>> {
    let tensor = reader.rows(reader.variant.require(reader.variant.output_role(), 0)?, tokens)?;
    let (rows, cols) = (tensor.rows, tensor.cols);
    Ok(Linear { weight: Arc::new(backend.matrix(tensor, reader.arithmetic)?), rows: 0..rows, bias: None, cols })
}

/// The embeddings on a device.
pub struct Embedding<B: Backend> {
    /// `[V, H]`, or the rows of some tokens.
    pub tokens: Arc<B::Weight>,
    /// Learned positions `[context, H]`, where the model has them.
    pub positions: Option<B::Weight>,
}

impl<B: Backend> Embedding<B> {
    /// Reads the embeddings onto the device.
    pub fn load(backend: &B, reader: &Reader<'_>) -> Result<Self> {
        let load = Loader { backend, reader, block: 0 };
        Ok(Self { tokens: Arc::new(load.weight(Role::TokenEmbd)?), positions: load.optional(Role::PositionEmbd)? })
    }

    /// Reads the embeddings of some tokens onto the device.
    pub fn of_tokens(backend: &B, reader: &Reader<'_>, tokens: &[u32]) -> Result<Self> {
        let load = Loader { backend, reader, block: 0 };
        let picked = Arc::new(backend.weight(reader.picked(Role::TokenEmbd, tokens)?)?);
        Ok(Self { tokens: picked, positions: load.optional(Role::PositionEmbd)? })
    }
}
