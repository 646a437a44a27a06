//! One version of a model's weights: a checkpoint as stored, or a checkpoint with a plan applied on the fly, tensor by tensor.
//! Absent: devices (see `model`).

use std::ops::Range;
use std::sync::Arc;

use bitworth_quant::arch::Role;
use bitworth_quant::checkpoint::{Tensor, TensorBytes};
use bitworth_quant::{Checkpoint, DType, HParams, Imatrix, Plan, content};
use sha2::{Digest, Sha256};

use crate::error::{EngineError, Result};

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
    pub(crate) fn source_identity(&self) -> [usize; 2] {
        let imatrix = self.imatrix().map_or(0, |imatrix| std::ptr::from_ref(imatrix) as usize);
        [Arc::as_ptr(self.checkpoint()) as usize, imatrix]
    }

    /// Whether both are read from the same open model.
    pub(crate) fn is_of_one_model(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.checkpoint(), other.checkpoint())
    }

    /// What tensors are encoded by, where that is something.
    fn imatrix(&self) -> Option<&Imatrix> {
        match self {
            Self::Stored(_) => None,
            Self::Planned(_, plan) => plan.imatrix(),
        }
    }

    /// Tells variants apart by all that the computation reads: hyper-parameters and traits, the tensors' names, types and
    /// shapes, every byte of the files that hold them, and the importance of the weights that are encoded on the fly.
    ///
    /// # Errors
    /// A model that cannot be read.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        let checkpoint = self.checkpoint();
        hash.update(format!("{} {:?} {:?}\n", checkpoint.arch().name, checkpoint.block_traits()?, checkpoint.hparams()));
        for file in checkpoint.files() {
            hash.update(content::hash(file)?);
        }
        for tensor in checkpoint.tensors() {
            hash.update(format!("{} {} {} {:?}\n", tensor.name, tensor.dtype, self.dtype(tensor), tensor.shape));
            let weights = self.imatrix().and_then(|imatrix| imatrix.weights(&tensor.name));
            weights.into_iter().flatten().for_each(|weight| hash.update(weight.to_le_bytes()));
        }
        Ok(hash.finalize().into())
    }

    /// The bytes of some rows of a tensor in the encoding `dtype`: as stored, or encoded now.
    pub(crate) fn encoded(&self, tensor: &Tensor, rows: Range<usize>, dtype: DType) -> Result<TensorBytes> {
        let checkpoint = self.checkpoint();
        if dtype == tensor.dtype {
            return Ok(checkpoint.read(tensor, rows)?);
        }
        let bytes = bitworth_quant::quantize::encode_rows(checkpoint.as_ref(), &tensor.name, rows, dtype, self.imatrix())?;
        Ok(TensorBytes::Owned(bytes))
    }

    /// The tensor of a role.
    pub(crate) fn require(&self, role: Role, block: usize) -> Result<&Tensor> {
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
