//! Which matrices of a model read what stands at a site.

use bitworth_quant::Checkpoint;
use bitworth_quant::arch::Role;
use bitworth_quant::checkpoint::Tensor;

use bitworth_engine::observe::Site;

/// The tensors of a model that read what stands at a site; the token embedding where it is the output matrix, too.
pub fn readers(checkpoint: &Checkpoint, block: usize, site: Site) -> Vec<&Tensor> {
    let tensors: Vec<&Tensor> = site.readers().iter().filter_map(|&role| checkpoint.tensor_of(role, block)).collect();
    if tensors.is_empty() && site == Site::Output {
        return checkpoint.tensor_of(Role::TokenEmbd, 0).into_iter().collect();
    }
    tensors
}

/// How many matrices a tensor holds, one behind the other.
pub fn matrices(tensor: &Tensor) -> usize {
    tensor.shape.iter().skip(2).product()
}
