//! Experts in the metadata: how many, how wide, in which blocks, and how they are chosen.

use super::keys::{MAX_BLOCKS, MAX_EXPERTS, MAX_WIDTH, MetadataReader};
use super::{PerBlock, Routing};
use crate::Result;
use crate::arch::Gating;

/// What training lets the scores of a router vary by, where the file does not say (`PhimoeConfig`, transformers 5.24).
const JITTER: f32 = 0.01;

impl MetadataReader<'_> {
    /// How many experts a block has, and how many of them a token uses; 0 and 0 where there are none.
    pub(super) fn expert_counts(&self) -> Result<(usize, usize)> {
        let count = self.count("expert_count", MAX_EXPERTS)?.unwrap_or(0);
        let used_count = self.count("expert_used_count", MAX_EXPERTS)?.unwrap_or(0);
        if used_count > count || (used_count == 0) != (count == 0) {
            let what = format!("is {used_count}, but there are {count} experts");
            return Err(self.error("expert_used_count", what));
        }
        Ok((count, used_count))
    }

    /// All shared experts together: their width, or their number times the width of one.
    pub(super) fn shared_feed_forward_length(&self, expert_feed_forward_length: usize) -> Result<usize> {
        const COUNT: &str = "expert_shared_count";
        if let Some(width) = self.count("expert_shared_feed_forward_length", MAX_WIDTH)? {
            return Ok(width);
        }
        let count = self.count(COUNT, MAX_EXPERTS)?.unwrap_or(self.arch.block.shared_experts);
        let width = count * expert_feed_forward_length;
        if width as u64 > MAX_WIDTH {
            return Err(self.error(COUNT, format!("so many experts of {expert_feed_forward_length} are wider than {MAX_WIDTH}")));
        }
        Ok(width)
    }

    /// Width of what experts read and write, where that is compressed; 0 where it is not.
    pub(super) fn expert_latent_length(&self, embedding_length: usize) -> Result<usize> {
        const KEY: &str = "moe_latent_size";
        let width = self.count(KEY, MAX_WIDTH)?.unwrap_or(0);
        if width > embedding_length {
            return Err(self.error(KEY, format!("is {width}, but must be at most embedding_length, {embedding_length}")));
        }
        Ok(width)
    }

    pub(super) fn expert_blocks(&self, count: usize, experts: usize, feed_forward: &PerBlock<usize>) -> Result<Vec<bool>> {
        if let Some(blocks) = self.blocks("expert_blocks", count)? {
            if experts == 0 && blocks.contains(&true) {
                return Err(self.error("expert_blocks", "says that blocks have experts, but there are 0"));
            }
            return Ok(blocks);
        }
        let dense = self.count("leading_dense_block_count", MAX_BLOCKS)?.unwrap_or(0);
        let step = self.optional_size("interleave_moe_layer_step", MAX_BLOCKS)?.unwrap_or(1);
        // A file says so of blocks that have none.
        let none = |block: usize| feed_forward.of(block) == 0;
        let has = |block: usize| experts > 0 && block >= dense && (block + 1).is_multiple_of(step) && !none(block);
        Ok((0..count).map(has).collect())
    }

    /// 0 is a number like any other here.
    fn jitter(&self) -> Result<f32> {
        const KEY: &str = "expert_jitter";
        let none = self.metadata.f32(&self.key(KEY)) == Some(0.0);
        if none { Ok(0.0) } else { Ok(self.positive(KEY)?.unwrap_or(JITTER)) }
    }

    pub(super) fn routing(&self, experts: usize, used: usize) -> Result<Routing> {
        const GATING: &str = "expert_gating_func";
        const GROUPS: &str = "expert_group_count";
        let gating = match self.count(GATING, u64::from(u32::MAX))? {
            None | Some(0) => self.arch.block.gating,
            Some(number) => Gating::from_number(number as u64)
                .ok_or_else(|| self.error(GATING, format!("{number} is not supported; known: 1, 2, 3")))?,
        };
        let groups = self.count(GROUPS, MAX_EXPERTS)?.unwrap_or(1).max(1);
        let groups_used = self.count("expert_group_used_count", MAX_EXPERTS)?.unwrap_or(groups).clamp(1, groups);
        if !experts.is_multiple_of(groups) || (experts > 0 && experts / groups * groups_used < used) {
            let what = format!("{groups} groups, {groups_used} of them used, do not fit {experts} experts, {used} of them used");
            return Err(self.error(GROUPS, what));
        }
        Ok(Routing {
            gating,
            normalizes: self.bool("expert_weights_norm")?.unwrap_or(self.arch.block.normalizes_experts),
            sum_epsilon: self.arch.block.expert_sum_epsilon,
            scale: self.factor("expert_weights_scale", 1.0)?,
            groups,
            groups_used,
            jitter: self.jitter()?,
        })
    }
}
