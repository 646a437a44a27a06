//! Attention in the metadata: heads, the window, latent attention, the factor on q.k.

use super::keys::{MAX_BLOCKS, MAX_CONTEXT, MAX_WIDTH, MetadataReader};
use super::rope::yarn_magnitude;
use super::{Mla, PerBlock, RopeScaling, Sight, Temperature, Window};
use crate::arch::{AttentionScale, QueryTemperature, Shapes, Windowed, YarnLog};
use crate::gguf::Value;
use crate::{Error, Result};

/// The sizes of attention.
pub(super) struct Heads {
    pub(super) head_count: PerBlock<usize>,
    pub(super) head_count_kv: PerBlock<usize>,
    pub(super) head_dim: PerBlock<usize>,
    pub(super) value_dim: PerBlock<usize>,
    pub(super) rope_dim: usize,
    pub(super) rope_local_dim: usize,
}

impl MetadataReader<'_> {
    pub(super) fn heads(&self, embedding_length: usize, blocks: usize, window: Option<&Window>) -> Result<Heads> {
        const HEADS: &str = "attention.head_count";
        if self.arch.block.shapes == Shapes::NoneOfThem {
            let none = || PerBlock::uniform(0);
            let (head_count, head_count_kv, head_dim, value_dim) = (none(), none(), none(), none());
            return Ok(Heads { head_count, head_count_kv, head_dim, value_dim, rope_dim: 0, rope_local_dim: 0 });
        }
        let head_count = self.sizes(HEADS, MAX_WIDTH, blocks)?.ok_or_else(|| self.error(HEADS, "is missing"))?;
        let head_count_kv = self.sizes("attention.head_count_kv", MAX_WIDTH, blocks)?.unwrap_or_else(|| head_count.clone());
        for (heads, kv) in (0..blocks).map(|block| (head_count.of(block), head_count_kv.of(block))) {
            // A block without attention may have heads that nothing is kept for.
            if kv != 0 && heads % kv != 0 {
                let what = format!("{kv} key/value heads do not divide {heads} query heads");
                return Err(self.error("attention.head_count_kv", what));
            }
        }
        // Where a file does not say the width of a head, llama.cpp divides by the first block's heads.
        let head_dim = self.head_dim("attention.key_length", embedding_length, head_count.of(0))?;
        let value_dim = self.head_dim("attention.value_length", embedding_length, head_count.of(0))?;
        let local = |stem: &str, dim| Ok::<_, Error>(self.optional_size(stem, MAX_WIDTH)?.unwrap_or(dim));
        let local_dim = local("attention.key_length_swa", head_dim)?;
        let local_value = local("attention.value_length_swa", value_dim)?;
        for (stem, dim) in [
            ("key_length", head_dim),
            ("value_length", value_dim),
            ("key_length_swa", local_dim),
            ("value_length_swa", local_value),
        ] {
            let heads = head_count.max();
            if (heads * dim) as u64 > MAX_WIDTH {
                let what = format!("{heads} heads of {dim} are wider than {MAX_WIDTH}");
                return Err(self.error(&format!("attention.{stem}"), what));
            }
        }
        let rope_dim = self.rope_dim("rope.dimension_count", head_dim, head_dim)?;
        let default = if local_dim == head_dim { rope_dim } else { local_dim };
        let rope_local_dim = self.rope_dim("rope.dimension_count_swa", default, local_dim)?;
        let by_kind = |local: usize, other: usize| {
            let has_window = |block: usize| window.is_some_and(|window| window.blocks[block]);
            let sizes = (0..blocks).map(|block| if has_window(block) { local } else { other }).collect();
            PerBlock::each(sizes).unwrap_or(PerBlock::uniform(other))
        };
        let (head_dim, value_dim) = (by_kind(local_dim, head_dim), by_kind(local_value, value_dim));
        Ok(Heads { head_count, head_count_kv, head_dim, value_dim, rope_dim, rope_local_dim })
    }

    /// Components that are rotated of a head of `head_dim`.
    fn rope_dim(&self, stem: &str, default: usize, head_dim: usize) -> Result<usize> {
        let dim = self.optional_size(stem, MAX_WIDTH)?.unwrap_or(default);
        if dim % 2 != 0 || dim > head_dim {
            return Err(self.error(stem, format!("is {dim}, but must be even and at most the head width {head_dim}")));
        }
        Ok(dim)
    }

    /// For each block the one whose keys and values its attention sees: of the last ones, the last of those before them that is
    /// of the same kind, with or without a window (transformers 5.24, `modeling_gemma4.py`; llama.cpp takes the last two).
    pub(super) fn kv_blocks(&self, blocks: usize, heads: &Heads, window: Option<&Window>) -> Result<Vec<usize>> {
        const SHARED: &str = "attention.shared_kv_layers";
        let shared = self.count(SHARED, MAX_BLOCKS)?.unwrap_or(0);
        if shared >= blocks {
            return Err(self.error(SHARED, format!("is {shared}, but there are {blocks} blocks, of which some have their own")));
        }
        let own = blocks - shared;
        let kind = |block: usize| (window.is_some_and(|window| window.blocks[block]), heads.head_count_kv.of(block));
        let source = |block: usize| match block < own {
            true => Ok(block),
            false => (0..own).rfind(|&earlier| kind(earlier) == kind(block)).ok_or_else(|| {
                self.error(
                    SHARED,
                    format!("block {block} has no block of its kind before those {shared} whose keys it could use"),
                )
            }),
        };
        (0..blocks).map(source).collect()
    }

    fn head_dim(&self, stem: &str, embedding_length: usize, head_count: usize) -> Result<usize> {
        match self.optional_size(stem, MAX_WIDTH)? {
            Some(dim) => Ok(dim),
            None if head_count > 0 && embedding_length.is_multiple_of(head_count) => Ok(embedding_length / head_count),
            None => {
                Err(self.error(stem, format!("is missing, and {head_count} heads do not divide a width of {embedding_length}")))
            }
        }
    }

    pub(super) fn mla(&self, head_count: usize, rope_dim: usize) -> Result<Option<Mla>> {
        const KEY: &str = "attention.key_length_mla";
        let Some(kv_lora_rank) = self.optional_size("attention.kv_lora_rank", MAX_WIDTH)? else { return Ok(None) };
        let key_length = self.size(KEY, MAX_WIDTH)?;
        let value_length = self.size("attention.value_length_mla", MAX_WIDTH)?;
        let widest = (head_count as u64).saturating_mul(key_length.max(value_length) as u64);
        if key_length <= rope_dim || widest > MAX_WIDTH {
            let what = format!("is {key_length}, but must be above {rope_dim}, and {head_count} heads at most {MAX_WIDTH} wide");
            return Err(self.error(KEY, what));
        }
        let q_lora_rank = self.optional_size("attention.q_lora_rank", MAX_WIDTH)?.unwrap_or(0);
        Ok(Some(Mla { q_lora_rank, kv_lora_rank, key_length, value_length }))
    }

    pub(super) fn window(&self, count: usize) -> Result<Option<Window>> {
        const PATTERN: &str = "attention.sliding_window_pattern";
        let sight = match self.count("attention.chunk_size", MAX_CONTEXT)?.or(self.arch.block.chunk) {
            Some(width) if width > 0 => Sight::Chunk(width),
            _ => match self.count("attention.sliding_window", MAX_CONTEXT)? {
                None | Some(0) => return Ok(None),
                Some(width) => Sight::Last(width),
            },
        };
        let but_every = |n: usize| (0..count).map(|block| n == 0 || !(block + 1).is_multiple_of(n)).collect();
        let blocks = match self.blocks("attention.sliding_window_blocks", count)? {
            Some(blocks) => blocks,
            None => match self.get(PATTERN) {
                Some(Value::Array(_)) => self.blocks(PATTERN, count)?.unwrap_or_default(),
                Some(_) => but_every(self.count(PATTERN, MAX_BLOCKS)?.unwrap_or(0)),
                None => match self.arch.block.windowed {
                    Windowed::All => vec![true; count],
                    Windowed::AllBut(n) => but_every(n),
                },
            },
        };
        Ok(Some(Window { sight, blocks }))
    }

    /// The factor on queries by position, and which blocks have it.
    pub(super) fn temperature(&self, original_context: usize, rotated: &[bool]) -> Result<(Option<Temperature>, Vec<bool>)> {
        const SCALE: &str = "attention.temperature_scale";
        let (default, floor, offset, blocks) = match self.arch.block.temperature {
            QueryTemperature::Never => return Ok((None, vec![false; rotated.len()])),
            QueryTemperature::Key => (0.0, original_context, 0, vec![true; rotated.len()]),
            QueryTemperature::Unrotated { scale, floor } => (scale, floor, 1, rotated.iter().map(|rotates| !rotates).collect()),
        };
        let floor = self.optional_size("attention.temperature_floor", MAX_CONTEXT)?.unwrap_or(floor);
        let scale = match self.get(SCALE).map(|_| self.metadata.f32(&self.key(SCALE))) {
            None => default,
            Some(Some(scale)) if scale.is_finite() && scale >= 0.0 => scale,
            Some(_) => return Err(self.error(SCALE, "must be a finite number of 0 or more")),
        };
        Ok(((scale > 0.0).then_some(Temperature { scale, floor, offset }), blocks))
    }

    pub(super) fn attention_scale(
        &self,
        embedding_length: usize,
        head_count: usize,
        key_dim: usize,
        block_count: usize,
        scaling: RopeScaling,
    ) -> Result<f32> {
        let stated = self.factor("attention.scale", 0.0)?;
        if stated != 0.0 {
            return Ok(stated);
        }
        let dim = match self.arch.block.attention_scale {
            AttentionScale::One => 1,
            AttentionScale::EvenHeadAt(blocks) if blocks == block_count => embedding_length / head_count.max(1),
            _ => key_dim,
        };
        let logarithm = match scaling {
            RopeScaling::Yarn(yarn) if self.arch.block.yarn_log == YarnLog::AttentionScale => {
                yarn_magnitude(yarn.factor, self.yarn_log_multiplier()?)
            }
            _ => 1.0,
        };
        Ok(logarithm * logarithm / (dim.max(1) as f32).sqrt())
    }
}
