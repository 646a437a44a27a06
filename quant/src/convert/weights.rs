//! How many weights a model has, for its size label.

use crate::tensor::Tensor;

/// How many weights a model has, as gguf-py counts them for its size label (`get_total_parameter_count`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WeightCount {
    pub(super) total: u64,
    /// Outside of experts.
    pub(super) shared: u64,
    /// In one expert of every tensor that has them.
    pub(super) expert: u64,
    /// The number of experts, 0 where there are none.
    pub(super) experts: u64,
}

impl WeightCount {
    pub(super) fn of(tensors: &[Tensor]) -> Self {
        let mut count = Self { total: 0, shared: 0, expert: 0, experts: 0 };
        let (mut experts, mut stacked) = (0, 0);
        for tensor in tensors {
            let elements = tensor.elements();
            count.total += elements;
            match tensor.shape.get(2) {
                Some(&n) if tensor.name.contains("_exps.") => {
                    count.expert += elements / (n as u64).max(1);
                    experts += n as u64;
                    stacked += 1;
                }
                _ => count.shared += elements,
            }
        }
        count.experts = experts / u64::max(stacked, 1);
        count
    }
}
