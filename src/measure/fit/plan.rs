//! What fitting takes, before anything is done: which inputs, how much memory, and which inputs are too wide for all products of
//! their columns to be kept. Absent: doing it.

use std::collections::BTreeMap;

use bitworth_quant::checkpoint::Source;
use bitworth_quant::fit::{Moments, SUPER_BLOCK};
use bitworth_quant::message::Message;
use bitworth_quant::{Checkpoint, Plan};
use serde::Serialize;

use super::{FitOptions, FitText, Wanted};
use crate::error::{Error, Result};
use crate::readers::{matrices, readers};
use crate::second_moment::BLOCK_ROWS;
use bitworth_engine::error::MAX_MEMORY;
use bitworth_engine::observe::Site;
use bitworth_engine::sweep;

/// Weights that are fitted at once.
pub(super) const FITTED_WEIGHTS: usize = 16 << 20;
/// The widest input of which the products of all columns are kept: 16 GiB of them.
const WIDEST_INPUT: usize = 32768;
/// The widest group of columns where they are not.
const WIDEST_GROUP: usize = 16384;
/// Bytes of a sum of products while it is collected, for each part of the text.
const COLLECTED: usize = size_of::<f32>();
/// Bytes of a sum of products while one matrix is fitted, for each part, and beside it: the mean, what was shrunk and its factor.
const FITTED: usize = size_of::<f32>();
const FACTORED: usize = 3 * size_of::<f32>();
/// The same for each part where all experts share what they saw: of all of them, of four as samples, and of the one.
const SHARED: usize = (1 + 4 + 1) * size_of::<f32>();
/// Bytes of a column that wait for their products, for each matrix and part: rows.
const PENDING: usize = BLOCK_ROWS * size_of::<f32>();
/// Bytes of a weight while it is fitted: as stored (f32 at most), decoded, and what it becomes, with and without feedback.
const WEIGHT: usize = 4 * size_of::<f32>();

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
    /// Bytes of moments, and of rows that wait to be added to them, where a block has the most of them.
    pub moment_bytes: u64,
    /// Bytes of weights: two blocks as they are stored, and those that are being fitted.
    pub weight_bytes: u64,
    /// Inputs whose columns go in groups.
    pub grouped: Vec<GroupedInput>,
    /// Parts of the text whose moments are kept apart.
    #[serde(skip)]
    parts: usize,
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
    /// Those of the largest of its matrices.
    weights: usize,
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
        let of_block = |block| (block, inputs(checkpoint, &wanted, block, &Site::OF_BLOCK));
        // The output matrix comes after all blocks.
        let output = options.output.then(|| (0, inputs(checkpoint, &wanted, 0, &[Site::Output])));
        let blocks: Vec<(usize, Vec<Input>)> = (0..h.block_count).map(of_block).chain(output).collect();
        let weight_bytes = weight_bytes(checkpoint, blocks.iter().flat_map(|(_, inputs)| inputs));
        let others = activation_bytes.saturating_add(weight_bytes);
        let parts = text.part_count();
        let least = blocks.iter().map(|(_, inputs)| bytes(inputs, SUPER_BLOCK, parts)).max().unwrap_or(0).saturating_add(others);
        if least > options.memory_bytes {
            let what = format!(
                "fitting to {tokens} tokens takes {} MiB for their activations, {} MiB for weights and, even in groups of \
                 {SUPER_BLOCK} columns, {} MiB for moments; give ",
                activation_bytes.div_ceil(1 << 20),
                weight_bytes.div_ceil(1 << 20),
                (least - others).div_ceil(1 << 20),
            );
            let mib = least.div_ceil(1 << 20);
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
            weight_bytes: weight_bytes as u64,
            grouped: Vec::new(),
            parts,
            widths: BTreeMap::new(),
        };
        for (block, inputs) in &blocks {
            plan.add_block(*block, inputs, options.memory_bytes - others);
        }
        Ok(plan)
    }

    /// Bytes of memory in all, beside what the program itself takes: its code, tokens, and temporary buffers.
    pub fn bytes(&self) -> u64 {
        self.activation_bytes.saturating_add(self.moment_bytes).saturating_add(self.weight_bytes)
    }

    /// Which inputs lose the products of some of their columns, and why.
    pub fn grouped_note(&self) -> Option<String> {
        let first = self.grouped.first()?;
        let others = match self.grouped.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} other inputs in such groups"),
        };
        let why = if first.columns > WIDEST_INPUT && first.width == WIDEST_GROUP {
            format!("inputs of more than {WIDEST_INPUT} columns have too many products")
        } else {
            "the products of all together do not fit into the memory that was given".to_owned()
        };
        let GroupedInput { tensor, columns, width } = first;
        Some(format!("{tensor}: its {columns} columns are fitted in groups of {width}, because {why}{others}"))
    }

    /// Columns of a group of an input of `cols` columns.
    pub(super) fn width(&self, block: usize, site: Site, cols: usize) -> usize {
        self.widths.get(&(block, site)).copied().unwrap_or(cols)
    }

    /// The inputs of a block, whose moments may take `budget` bytes.
    fn add_block(&mut self, block: usize, inputs: &[Input], budget: usize) {
        // As wide as fits, and alike for all inputs of a block.
        let narrower = |width: &usize| (*width > SUPER_BLOCK).then_some(width / 2);
        let mut limits = std::iter::once(usize::MAX).chain(std::iter::successors(Some(WIDEST_GROUP), narrower));
        let limit = limits.find(|&limit| bytes(inputs, limit, self.parts) <= budget).unwrap_or(SUPER_BLOCK);
        self.moment_bytes = self.moment_bytes.max(bytes(inputs, limit, self.parts) as u64);
        for input in inputs {
            let width = width(input.cols, limit);
            self.widths.insert((block, input.site), width);
            self.inputs += input.matrices;
            self.tensors += input.tensors;
            if width < input.cols {
                self.grouped.push(GroupedInput { tensor: input.first.clone(), columns: input.cols, width });
            }
        }
    }
}

/// Columns of a group where no group may be wider than `limit`.
fn width(cols: usize, limit: usize) -> usize {
    let limit = if cols > WIDEST_INPUT { limit.min(WIDEST_GROUP) } else { limit };
    cols.min(limit)
}

/// Bytes of the moments of a block.
fn bytes(inputs: &[Input], limit: usize, parts: usize) -> usize {
    let sums = |input: &Input| Moments::sums_of(input.cols, width(input.cols, limit));
    let collected = inputs.iter().map(|input| {
        let matrix = sums(input).saturating_mul(COLLECTED).saturating_add(input.cols.saturating_mul(PENDING));
        matrix.saturating_mul(input.matrices).saturating_mul(parts)
    });
    let of_product = |input: &Input| FACTORED + parts * if input.site.is_routed() { FITTED + SHARED } else { FITTED };
    let fitted = inputs.iter().map(|input| sums(input).saturating_mul(of_product(input))).max().unwrap_or(0);
    collected.fold(fitted, usize::saturating_add)
}

/// Bytes of two blocks of weights, as the next one is read while one is computed, and of those that are fitted at once.
fn weight_bytes<'a>(checkpoint: &Checkpoint, inputs: impl Iterator<Item = &'a Input>) -> usize {
    let mut stored = vec![0_usize; checkpoint.hparams().block_count];
    for tensor in Source::tensors(checkpoint) {
        let block = tensor.role().and_then(|(_, block)| block);
        if let Some(bytes) = block.and_then(|block| stored.get_mut(block)) {
            let row = tensor.dtype.row_bytes(tensor.cols()).unwrap_or(0);
            *bytes = bytes.saturating_add(row.saturating_mul(tensor.rows()));
        }
    }
    let fitted = inputs.map(|input| input.weights.min(FITTED_WEIGHTS)).max().unwrap_or(0);
    stored.into_iter().max().unwrap_or(0).saturating_mul(2).saturating_add(fitted.saturating_mul(WEIGHT))
}

/// The inputs of a block, among `sites`, that something is to be fitted to.
fn inputs(checkpoint: &Checkpoint, wanted: &[Wanted], block: usize, sites: &[Site]) -> Vec<Input> {
    let mut inputs = Vec::new();
    for &site in sites {
        let tensors = readers(checkpoint, block, site);
        let fitted = tensors.iter().filter(|tensor| wanted.iter().any(|wanted| wanted.of(tensor).is_some())).count();
        if let Some(first) = tensors.first().filter(|_| fitted > 0) {
            let weights = tensors.iter().map(|tensor| (tensor.elements() / matrices(tensor).max(1) as u64) as usize).max();
            let (first, matrices, cols) = (first.name.clone(), matrices(first), first.cols());
            inputs.push(Input { site, first, tensors: fitted, matrices, cols, weights: weights.unwrap_or(0) });
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(site: Site, matrices: usize, cols: usize) -> Input {
        Input { site, first: "t".to_owned(), tensors: 1, matrices, cols, weights: cols }
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
            weight_bytes: 0,
            grouped: Vec::new(),
            parts: 2,
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
            // 32768 columns take 28 bytes for each of 2^30 products, in groups half of it for each halving of the width, and
            // 64 MiB for rows that wait.
            (32768, 29, 32768),
            (32768, 28, 16384),
            (32768, 15, 16384),
            (32768, 14, 8192),
        ] {
            let mut plan = plan();
            plan.add_block(0, &[input(Site::FeedForward, 1, cols)], gib << 30);
            assert_eq!(plan.width(0, Site::FeedForward, cols), expected, "{cols} columns, {gib} GiB");
            assert_eq!(plan.grouped.len(), usize::from(expected < cols));
            let note = plan.grouped_note().unwrap_or_default();
            assert_eq!(note.contains("memory"), expected < cols && cols <= 32768, "{note}");
            assert!(plan.moment_bytes <= (gib as u64) << 30);
        }
    }

    /// 2^20 products: 4 bytes to collect and 4 while one is fitted, and 1 MiB of rows that wait, for each part; 12 bytes for all.
    #[test]
    fn each_text_takes_moments_of_its_own() {
        for parts in [2, 4] {
            let mut plan = FitPlan { parts, ..plan() };
            plan.add_block(0, &[input(Site::FeedForward, 1, 1024)], usize::MAX);
            assert_eq!(plan.moment_bytes, (parts as u64 * (4 + 1 + 4) + 12) << 20);
        }
    }

    #[test]
    fn each_expert_takes_moments_and_all_share_them() {
        // 2^20 products: 8 bytes to collect, 20 while one is fitted and 48 more where experts share; 2 MiB of rows that wait.
        for (site, fitted) in [(Site::FeedForward, 20), (Site::Experts, 20 + 48)] {
            let mut plan = plan();
            plan.add_block(0, &[input(site, 8, 1024)], usize::MAX);
            assert_eq!((plan.inputs, plan.moment_bytes), (8, (8 * (8 + 2) + fitted) << 20), "{site:?}");
        }
    }
}
