//! The order in which llama-quantize meets a model's tensors, and which layer each counts as. What is absent: what follows
//! from it (see `recipe`).

use std::cmp::Ordering;

use crate::recipe::{Category, Count, ModelFacts};
use crate::tensor::Tensor;

/// llama.cpp's `weight_name_comparer`: by layer, tensors of no layer first, then by the bytes of the name.
pub(super) fn visit_order(a: &str, b: &str) -> Ordering {
    (layer_in_name(a), a).cmp(&(layer_in_name(b), b))
}

/// The number in `blk.<number>`.
pub(super) fn layer_in_name(name: &str) -> Option<usize> {
    let tail = name.strip_prefix("blk.")?;
    let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
    tail[..digits].parse().ok()
}

/// Where a tensor stands among the layers, by each way of counting that rules know (see [`crate::recipe::TensorFacts`]).
pub(super) struct Position {
    pub(super) visit: Count,
    pub(super) layer: Option<Count>,
    pub(super) block: Option<Count>,
}

/// Counts tensors as they are visited. llama-quantize does not read layers from names but counts tensors of the same category,
/// except for MLP tensors of models with experts, whose experts it may meet in any order.
pub(super) struct Layers<'a> {
    model: &'a ModelFacts,
    /// Number of tensors that hold values: fewer than layers where some layers have none.
    attn_v: usize,
    /// Visits so far, by category.
    visited: Vec<(Category, usize)>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(model: &'a ModelFacts, tensors: &[&Tensor]) -> Self {
        let attn_v = tensors.iter().filter(|t| Category::of(&t.name) == Category::AttnV).count();
        Self { model, attn_v, visited: Vec::new() }
    }

    /// The place of the next tensor for which rules are asked.
    pub(super) fn visit(&mut self, category: Category, name: &str) -> Position {
        let blocks = self.model.block_count;
        let number = self.count(category);
        let visit = Count { number, of: if category == Category::AttnV { self.attn_v } else { blocks } };
        let block = layer_in_name(name).map(|number| Count { number, of: blocks });
        let layer = if self.model.expert_count > 1 { block.filter(|c| c.number < c.of) } else { Some(visit) };
        Position { visit, layer, block }
    }

    /// How many tensors of this category were visited before.
    fn count(&mut self, category: Category) -> usize {
        if !self.visited.iter().any(|(c, _)| *c == category) {
            self.visited.push((category, 0));
        }
        let mut counts = self.visited.iter_mut().filter(|(c, _)| *c == category);
        counts.next().map_or(0, |(_, count)| std::mem::replace(count, *count + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_visited_by_layer_then_name() {
        let mut names = ["blk.10.attn_k.weight", "output.weight", "blk.2.ffn_up.weight", "blk.2.attn_q.weight", "blkx", "a"];
        names.sort_by(|a, b| visit_order(a, b));
        assert_eq!(names, ["a", "blkx", "output.weight", "blk.2.attn_q.weight", "blk.2.ffn_up.weight", "blk.10.attn_k.weight"]);
    }
}
