//! Which matrices of a model read what stands at a site.

use bitworth_quant::Checkpoint;
use bitworth_quant::arch::Role;
use bitworth_quant::checkpoint::Tensor;

use bitworth_engine::observe::Site;

/// The tensors of a model that read what stands at a site; the token embedding where it is the output matrix, too.
pub fn readers(checkpoint: &Checkpoint, block: usize, site: Site) -> Vec<&Tensor> {
    // Files hold keys and values that a block does not compute, as it uses an earlier one's: nothing goes into these.
    let own_keys = checkpoint.hparams().has_own_keys(block);
    let is_read = |role: &&Role| own_keys || site != Site::Attention || !matches!(role, Role::AttnK | Role::AttnV);
    let read = site.readers().iter().filter(is_read);
    let tensors: Vec<&Tensor> = read.filter_map(|&role| checkpoint.tensor_of(role, block)).collect();
    if tensors.is_empty() && site == Site::Output {
        return checkpoint.tensor_of(Role::TokenEmbd, 0).into_iter().collect();
    }
    tensors
}

/// How many matrices a tensor holds, one behind the other.
pub fn matrices(tensor: &Tensor) -> usize {
    tensor.shape.iter().skip(2).product()
}
