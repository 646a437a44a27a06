//! A model as the engine sees it: where each tensor comes from, and the weights of one block on a device.
//!
//! A [`Variant`] is a checkpoint as stored, or a checkpoint with a plan applied on the fly, tensor by tensor. Nothing here
//! holds more than the tensors asked for. Absent: the computation (`forward`) and the order of reading (`sweep`, `generate`).

use std::sync::Arc;

use quant::arch::Role;
use quant::checkpoint::{Tensor, TensorBytes};
use quant::{Checkpoint, DType, HParams, Plan};

use super::backend::{Backend, HostTensor};
use super::error::{EngineError, Result};

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

    /// The tensor of a role, if the model has it.
    fn tensor(&self, role: Role, block: usize) -> Result<Option<HostTensor>> {
        let checkpoint = self.checkpoint();
        let name = role.gguf_name(block);
        let Some(tensor) = checkpoint.tensor(&name) else { return Ok(None) };
        let (rows, cols) = (tensor.rows(), tensor.cols());
        let dtype = self.dtype(tensor);
        let bytes = if dtype == tensor.dtype {
            checkpoint.read(tensor, 0..rows)?
        } else {
            TensorBytes::Owned(quant::quantize::encode_tensor(checkpoint.as_ref(), &name, dtype, None)?)
        };
        Ok(Some(HostTensor { dtype, rows, cols, bytes }))
    }

    fn require(&self, role: Role, block: usize) -> Result<HostTensor> {
        self.tensor(role, block)?.ok_or_else(|| EngineError::Unfit {
            model: self.checkpoint().path().display().to_string(),
            what: format!("the tensor {} is missing", role.gguf_name(block)),
        })
    }

    /// Divisors of the rotary frequencies, where the model has them.
    pub fn rope_factors(&self) -> Result<Option<Vec<f32>>> {
        Ok(self.tensor(Role::RopeFreqs, 0)?.map(|tensor| decode(&tensor)))
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

/// `y = W x (+ b)` on a device.
pub struct Linear<B: Backend> {
    /// `[N, K]`, as stored; shared where the head is the token embedding.
    pub weight: Arc<B::Weight>,
    /// `[N]`, where the model has one.
    pub bias: Option<B::Weight>,
    /// N.
    pub rows: usize,
    /// K.
    pub cols: usize,
}

impl<B: Backend> Linear<B> {
    fn load(backend: &B, variant: &Variant, weight: Role, bias: Option<Role>, block: usize) -> Result<Self> {
        let tensor = variant.require(weight, block)?;
        let (rows, cols) = (tensor.rows, tensor.cols);
        let bias = bias.map(|role| variant.tensor(role, block)).transpose()?.flatten();
        Ok(Self { weight: Arc::new(backend.weight(tensor)?), bias: bias.map(|b| backend.weight(b)).transpose()?, rows, cols })
    }
}

/// The weights of one transformer block on a device.
pub struct Block<B: Backend> {
    /// Gain of the norm before attention.
    pub attn_norm: B::Weight,
    /// Queries.
    pub q: Linear<B>,
    /// Keys.
    pub k: Linear<B>,
    /// Values.
    pub v: Linear<B>,
    /// Output projection of attention.
    pub attn_output: Linear<B>,
    /// Gain of the norm before the MLP.
    pub ffn_norm: B::Weight,
    /// Gate of the MLP.
    pub gate: Linear<B>,
    /// Up projection.
    pub up: Linear<B>,
    /// Down projection.
    pub down: Linear<B>,
}

impl<B: Backend> Block<B> {
    /// Reads block `index` of `variant` onto the device.
    pub fn load(backend: &B, variant: &Variant, index: usize) -> Result<Self> {
        let linear = |weight, bias| Linear::load(backend, variant, weight, Some(bias), index);
        Ok(Self {
            attn_norm: backend.weight(variant.require(Role::AttnNorm, index)?)?,
            q: linear(Role::AttnQ, Role::AttnQBias)?,
            k: linear(Role::AttnK, Role::AttnKBias)?,
            v: linear(Role::AttnV, Role::AttnVBias)?,
            attn_output: linear(Role::AttnOutput, Role::AttnOutputBias)?,
            ffn_norm: backend.weight(variant.require(Role::FfnNorm, index)?)?,
            gate: linear(Role::FfnGate, Role::FfnGateBias)?,
            up: linear(Role::FfnUp, Role::FfnUpBias)?,
            down: linear(Role::FfnDown, Role::FfnDownBias)?,
        })
    }
}

/// The final norm and the output matrix on a device.
pub struct OutputHead<B: Backend> {
    /// Gain of the final norm.
    pub norm: B::Weight,
    /// `[V, H]`; the token embedding where the model ties them.
    pub output: Linear<B>,
}

impl<B: Backend> OutputHead<B> {
    /// Reads the head of `variant` onto the device; a tied one is `embedding`, where the caller has that there.
    pub fn load(backend: &B, variant: &Variant, embedding: Option<&Arc<B::Weight>>) -> Result<Self> {
        let tied = variant.checkpoint().tensor(&Role::Output.gguf_name(0)).is_none();
        let h = variant.hparams();
        let output = match embedding.filter(|_| tied) {
            Some(embedding) => Linear { weight: embedding.clone(), bias: None, rows: h.vocab_size, cols: h.embedding_length },
            None => Linear::load(backend, variant, if tied { Role::TokenEmbd } else { Role::Output }, None, 0)?,
        };
        Ok(Self { norm: backend.weight(variant.require(Role::OutputNorm, 0)?)?, output })
    }
}

/// The token embedding on a device.
pub fn load_embedding<B: Backend>(backend: &B, variant: &Variant) -> Result<B::Weight> {
    Ok(backend.weight(variant.require(Role::TokenEmbd, 0)?)?)
}
