//! What tells one head from another: a hash over all that turns final hidden states into logits. What is absent: the
//! arithmetic, which is the device's.

use bitworth_quant::arch::Role;
use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::{Checkpoint, Error, Result};
use sha2::{Digest, Sha256};

use bitworth_quant::hex::hex;

/// Bytes of a matrix hashed at a time.
const BLOCK_BYTES: usize = 16 << 20;

/// SHA-256, in hexadecimal, over kind and epsilon of the final norm, logit scale, cap of the logits, and types, shapes and bytes
/// of the norm's gain and bias, of the output matrix (the token embedding where the model ties them) and of its bias. A directory
/// and the GGUF file of the same types have the same one.
///
/// # Errors
/// A model without a final norm or an output matrix, or one that cannot be read.
pub fn sha256(checkpoint: &Checkpoint) -> Result<String> {
    let (h, traits) = (checkpoint.hparams(), checkpoint.block_traits()?);
    let of = |role: Role| checkpoint.tensor_of(role, 0);
    let missing = |role: Role| Error::tensor(checkpoint.path(), role.gguf_name(0), "is missing; a model needs it for its logits");
    let mut hash = Sha256::new();
    hash.update(format!("{:?} ", traits.norm));
    for scalar in [h.norm_epsilon, h.logit_scale, h.logit_softcap] {
        hash.update(scalar.to_le_bytes());
    }
    let gain = of(traits.output_norm).ok_or_else(|| missing(traits.output_norm))?;
    let output = of(Role::Output).or_else(|| of(Role::TokenEmbd)).ok_or_else(|| missing(Role::TokenEmbd))?;
    let parts = [
        ("gain", Some(gain)),
        ("bias", of(Role::OutputNormBias)),
        ("output", Some(output)),
        ("output bias", of(Role::OutputBias)),
    ];
    for (part, tensor) in parts {
        if let Some(tensor) = tensor {
            hash.update(format!("{part} {} {:?} ", tensor.dtype, tensor.shape));
            update(&mut hash, checkpoint, tensor)?;
        }
    }
    Ok(hex(&hash.finalize()))
}

fn update(hash: &mut Sha256, checkpoint: &Checkpoint, tensor: &Tensor) -> Result<()> {
    let rows = (BLOCK_BYTES / tensor.dtype.row_bytes(tensor.cols()).unwrap_or(BLOCK_BYTES).max(1)).max(1);
    for first in (0..tensor.rows()).step_by(rows) {
        hash.update(&*checkpoint.read(tensor, first..(first + rows).min(tensor.rows()))?);
    }
    Ok(())
}
