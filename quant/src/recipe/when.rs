//! Conditions of rules, as data. What is absent: which rules there are (see `mixes` and `custom`).

use super::facts::{Count, TensorFacts};
use crate::DType;

/// A condition of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The architecture is this one.
    Arch(&'static str),
    /// The architecture is another.
    NotArch(&'static str),
    /// This text occurs in the tensor's name.
    NameHas(&'static str),
    /// The model has exactly so many experts.
    Experts(usize),
    /// The model has at least so many experts.
    ManyExperts(usize),
    /// llama.cpp calls the model a 70B.
    Is70b,
    /// At least so many query heads share a key head.
    SharedHeads(usize),
    /// There is no importance matrix, or there is one.
    Imatrix(bool),
    /// The row is not a whole number of blocks of the recipe's default encoding.
    UnevenRow,
    /// The tensor holds the matrices of several experts, or it does not.
    Stacked(bool),
    /// The tensor has at least so many weights.
    MinWeights(u64),
    /// The tensor has at most so many weights.
    MaxWeights(u64),
    /// Where among the tensors of its category, in the order in which llama-quantize meets them.
    Visit(LayerSpan),
    /// Where among the layers, as llama-quantize counts those of the MLP (see [`TensorFacts::layer`]).
    Layer(LayerSpan),
    /// Where among the blocks, by the number in the name.
    Block(LayerSpan),
}

/// A part of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerSpan {
    /// The first eighth, the last eighth, and every third layer between (llama.cpp's `use_more_bits`).
    MoreBits,
    /// The first n-th, rounded down.
    First(usize),
    /// The last n-th, rounded up.
    Last(usize),
    /// All but the first and the last n-th.
    Middle(usize),
    /// Numbers from the first to the second, both included.
    Range(usize, usize),
}

impl LayerSpan {
    fn holds(self, Count { number: i, of: n }: Count) -> bool {
        match self {
            Self::MoreBits => {
                Self::First(8).holds(Count { number: i, of: n })
                    || Self::Last(8).holds(Count { number: i, of: n })
                    || (i - n / 8) % 3 == 2
            }
            Self::First(parts) => i < n / parts,
            Self::Last(parts) => i >= (parts - 1).saturating_mul(n) / parts,
            Self::Middle(parts) => i >= n / parts && i < (parts - 1).saturating_mul(n) / parts,
            Self::Range(from, to) => (from..=to).contains(&i),
        }
    }
}

impl When {
    /// Whether the condition holds in a recipe with this `default`.
    pub(super) fn holds(self, site: &TensorFacts, default: DType) -> bool {
        let (model, in_part) = (site.model, |part: LayerSpan, count: Option<Count>| count.is_some_and(|c| part.holds(c)));
        match self {
            Self::Arch(name) => model.arch == name,
            Self::NotArch(name) => model.arch != name,
            Self::NameHas(text) => site.name.contains(text),
            Self::Experts(count) => model.expert_count == count,
            Self::ManyExperts(count) => model.expert_count >= count,
            Self::Is70b => model.is_70b(),
            Self::SharedHeads(count) => model.heads_per_key() >= count,
            Self::Imatrix(wanted) => site.imatrix == wanted,
            Self::UnevenRow => !site.cols.is_multiple_of(default.block_len()),
            Self::Stacked(wanted) => site.stacked == wanted,
            Self::MinWeights(count) => site.weights >= count,
            Self::MaxWeights(count) => site.weights <= count,
            Self::Visit(part) => part.holds(site.visit),
            Self::Layer(part) => in_part(part, site.layer),
            Self::Block(part) => in_part(part, site.block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_as_llama_quantize_cuts_them() {
        let check = |part: LayerSpan, of: usize, expected: &[usize]| {
            let held: Vec<usize> = (0..of).filter(|&number| part.holds(Count { number, of })).collect();
            assert_eq!(held, expected, "{part:?} of {of}");
        };
        check(LayerSpan::MoreBits, 16, &[0, 1, 4, 7, 10, 13, 14, 15]);
        check(LayerSpan::MoreBits, 2, &[1]);
        check(LayerSpan::First(8), 20, &[0, 1]);
        check(LayerSpan::First(16), 15, &[]);
        check(LayerSpan::Last(8), 20, &[17, 18, 19]);
        check(LayerSpan::Middle(8), 9, &[1, 2, 3, 4, 5, 6]);
        check(LayerSpan::Range(2, 3), 9, &[2, 3]);
    }
}
