//! What fitting takes, before anything is done: which inputs, how much memory, and which inputs are too wide for all products of
//! their columns to be kept. Absent: doing it.

use std::collections::BTreeMap;

use bitworth_quant::fit::{Moments, SUPER_BLOCK};
use bitworth_quant::message::Message;
use bitworth_quant::{Checkpoint, Plan};
use serde::Serialize;

use super::{FitOptions, FitText, Wanted};
use crate::error::{Error, Result};
use crate::readers::{matrices, readers};
use bitworth_engine::error::MAX_MEMORY;
use bitworth_engine::observe::Site;
use bitworth_engine::sweep;

/// The widest input of which the products of all columns are kept: 16 GiB of them.
const WIDEST_INPUT: usize = 32768;
/// The widest group of columns where they are not.
const WIDEST_GROUP: usize = 16384;
/// Bytes of a sum of products while it is collected: f64, for both halves of the text.
const COLLECTED: usize = 16;
/// Bytes of a sum of products while one matrix is fitted, at most: both halves, those of all experts, of four of them as samples
/// and of one, the mean, what was shrunk and its factor, each in f32.
const FITTED: usize = 8 + 8 + 4 * 8 + 8 + 3 * 4;

/// What fitting takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FitPlan {
    /// Tokens of the texts.
    pub tokens: usize,
    /// Windows that they are cut into.
    pub windows: usize,
    /// Walks through the model.
    pub passes: usize,
    /// Inputs of matrices whose moments are collected; each expert has one of its own.
    pub inputs: usize,
    /// Tensors that are fitted in any of the files.
    pub tensors: usize,
    /// Bytes of activations, which are held to the end.
    pub activation_bytes: u64,
    /// Bytes of moments, where a block has the most of them.
    pub moment_bytes: u64,
    /// Inputs whose columns go in groups.
    pub grouped: Vec<GroupedInput>,
    #[serde(skip)]
    widths: BTreeMap<(usize, Site), usize>,
}

/// An input whose columns go in groups, because the products of all of them would be too many.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupedInput {
    /// The first tensor that reads it.
    pub tensor: String,
    /// Its columns.
    pub columns: usize,
    /// Columns of a group.
    pub width: usize,
}

/// An input that is to be fitted to.
struct Input {
    site: Site,
    first: String,
    tensors: usize,
    matrices: usize,
    cols: usize,
}

impl FitPlan {
    /// What it takes to make files of `plans`.
    ///
    /// # Errors
    /// Activations or moments that do not fit into the memory.
    pub fn new(checkpoint: &Checkpoint, plans: &[&Plan], text: &FitText, options: &FitOptions<'_>) -> Result<Self> {
        let wanted: Vec<Wanted> = plans.iter().map(|plan| Wanted::new(plan)).collect();
        let (h, tokens) = (checkpoint.hparams(), text.tokens());
        let activation_bytes = tokens.saturating_mul(sweep::row_bytes(h));
        if tokens > sweep::pass_rows(h, options.cut) {
            let what = format!("the activations of {tokens} tokens must be in memory at once to fit weights to them; give ");
            // Half of the memory is for activations.
            let mib = activation_bytes.saturating_mul(2).div_ceil(1 << 20);
            return Err(Error::unfit(Message::from(what).then(MAX_MEMORY.with(mib)).then(" (MiB) or fewer tokens")));
        }
        let mut plan = Self {
            tokens,
            windows: text.sequences.len(),
            passes: 1,
            inputs: 0,
            tensors: 0,
            activation_bytes: activation_bytes as u64,
            moment_bytes: 0,
            grouped: Vec::new(),
            widths: BTreeMap::new(),
        };
        for block in 0..h.block_count {
            plan.add_block(block, &inputs(checkpoint, &wanted, block), options.moment_bytes)?;
        }
        Ok(plan)
    }

    /// Columns of a group of an input of `cols` columns.
    pub(super) fn width(&self, block: usize, site: Site, cols: usize) -> usize {
        self.widths.get(&(block, site)).copied().unwrap_or(cols)
    }

    fn add_block(&mut self, block: usize, inputs: &[Input], budget: usize) -> Result<()> {
        // As wide as fits, and alike for all inputs of a block.
        let narrower = |width: &usize| (*width > SUPER_BLOCK).then_some(width / 2);
        let mut limits = std::iter::once(usize::MAX).chain(std::iter::successors(Some(WIDEST_GROUP), narrower));
        let Some(limit) = limits.find(|&limit| bytes(inputs, limit) <= budget) else {
            let what =
                format!("the moments of block {block} do not fit into memory even in groups of {SUPER_BLOCK} columns; give ");
            // The other half is for activations.
            let mib = bytes(inputs, SUPER_BLOCK).saturating_mul(2).div_ceil(1 << 20);
            return Err(Error::unfit(Message::from(what).then(MAX_MEMORY.with(mib)).then(" (MiB)")));
        };
        self.moment_bytes = self.moment_bytes.max(bytes(inputs, limit) as u64);
        for input in inputs {
            let width = width(input.cols, limit);
            self.widths.insert((block, input.site), width);
            self.inputs += input.matrices;
            self.tensors += input.tensors;
            if width < input.cols {
                self.grouped.push(GroupedInput { tensor: input.first.clone(), columns: input.cols, width });
            }
        }
        Ok(())
    }
}

/// Columns of a group where no group may be wider than `limit`.
fn width(cols: usize, limit: usize) -> usize {
    let limit = if cols > WIDEST_INPUT { limit.min(WIDEST_GROUP) } else { limit };
    cols.min(limit)
}

/// Bytes of the moments of a block.
fn bytes(inputs: &[Input], limit: usize) -> usize {
    let sums = |input: &Input| Moments::sums_of(input.cols, width(input.cols, limit));
    let collected = inputs.iter().map(|input| sums(input).saturating_mul(input.matrices).saturating_mul(COLLECTED));
    let fitted = inputs.iter().map(|input| sums(input).saturating_mul(FITTED)).max().unwrap_or(0);
    collected.fold(fitted, usize::saturating_add)
}

/// The inputs of a block that something is to be fitted to.
fn inputs(checkpoint: &Checkpoint, wanted: &[Wanted], block: usize) -> Vec<Input> {
    let mut inputs = Vec::new();
    for site in Site::OF_BLOCK {
        let tensors = readers(checkpoint, block, site);
        let fitted = tensors.iter().filter(|tensor| wanted.iter().any(|wanted| wanted.of(tensor).is_some())).count();
        if let Some(first) = tensors.first().filter(|_| fitted > 0) {
            let (first, matrices, cols) = (first.name.clone(), matrices(first), first.cols());
            inputs.push(Input { site, first, tensors: fitted, matrices, cols });
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(matrices: usize, cols: usize) -> Input {
        Input { site: Site::FeedForward, first: "t".to_owned(), tensors: 1, matrices, cols }
    }

    fn plan() -> FitPlan {
        FitPlan {
            tokens: 0,
            windows: 0,
            passes: 1,
            inputs: 0,
            tensors: 0,
            activation_bytes: 0,
            moment_bytes: 0,
            grouped: Vec::new(),
            widths: BTreeMap::new(),
        }
    }

    #[test]
    fn inputs_go_in_groups_where_they_are_wider_than_32768_columns_or_than_the_memory() {
        for (cols, gib, expected) in [
            (4096, 4, 4096),
            (32768, 1 << 20, 32768),
            (32769, 1 << 20, 16384),
            (131_072, 1 << 20, 16384),
            // 32768 columns take 84 bytes for each of 2^30 products, in groups half of it for each halving of the width.
            (32768, 43, 16384),
            (32768, 22, 8192),
        ] {
            let mut plan = plan();
            plan.add_block(0, &[input(1, cols)], gib << 30).unwrap();
            assert_eq!(plan.width(0, Site::FeedForward, cols), expected, "{cols} columns, {gib} GiB");
            assert_eq!(plan.grouped.len(), usize::from(expected < cols));
            assert!(plan.moment_bytes <= (gib as u64) << 30);
        }
    }

    #[test]
    fn experts_take_moments_each_and_too_little_memory_names_what_would_do() {
        let mut plan = plan();
        plan.add_block(0, &[input(8, 1024)], usize::MAX).unwrap();
        assert_eq!((plan.inputs, plan.moment_bytes), (8, (8 * 16 + 68) << 20));
        let error = plan.add_block(1, &[input(8, 1024)], 1 << 20).unwrap_err().to_string();
        // In groups of 256 columns a quarter of them, and as much again for activations.
        assert!(error.contains("block 1") && error.contains("max_memory 98"), "{error}");
    }
}
