//! Reads the sizes of mixers that carry a state from token to token: gated delta nets, Mamba-2 and short convolutions.
//!
//! Absent: what they compute (the engine does) and what their tensors are called (see `arch`).

use super::keys::{MAX_BLOCKS, MAX_WIDTH, MetadataReader};
use super::{Recurrent, RecurrentKind};
use crate::Result;
use crate::arch::Recurs;

/// Wider convolutions and longer keys than any model has.
const MAX_KERNEL: u64 = 64;
const MAX_KEY: u64 = 1 << 12;

/// A step that is not limited: it is positive as it is.
const NO_LIMITS: [f32; 2] = [0.0, f32::INFINITY];

impl MetadataReader<'_> {
    /// The mixer with a state, and which of the `stored` blocks have it: none of those that predict further tokens, which stand
    /// behind the first `blocks`. `is_mixed` says of a block whether it has attention, or is a feed-forward network alone.
    pub(super) fn recurrent(
        &self,
        blocks: usize,
        stored: usize,
        embedding_length: usize,
        is_mixed: impl Fn(usize) -> bool,
    ) -> Result<(Option<Recurrent>, Vec<bool>)> {
        const LAYERS: &str = "attention.recurrent_layers";
        let others = || (0..stored).map(|block| block < blocks && !is_mixed(block)).collect();
        let found = match self.arch.block.recurs {
            Recurs::Never => return Ok((None, vec![false; stored])),
            Recurs::ShortConv => return Ok((Some(self.short_conv(embedding_length)?), others())),
            Recurs::Mamba2 { beside_attention: false } => {
                return Ok((Some(self.heads_with_state(RecurrentKind::Mamba2)?), others()));
            }
            Recurs::Mamba2 { beside_attention: true } => {
                let found = self.heads_with_state(RecurrentKind::Mamba2)?;
                return Ok((Some(found), (0..stored).map(|block| block < blocks).collect()));
            }
            Recurs::DeltaNet { .. } => self.heads_with_state(RecurrentKind::DeltaNet)?,
        };
        let recurs = match self.blocks(LAYERS, stored)? {
            Some(listed) if listed[blocks..].contains(&true) => {
                return Err(self.error(LAYERS, "names a block that predicts further tokens"));
            }
            Some(listed) => listed,
            None => {
                let interval = self.optional_size("full_attention_interval", MAX_BLOCKS)?.unwrap_or(4);
                (0..stored).map(|block| block < blocks && !(block + 1).is_multiple_of(interval)).collect()
            }
        };
        Ok((Some(found), recurs))
    }

    fn kernel(&self, stem: &str) -> Result<usize> {
        match self.size(stem, MAX_KERNEL)? {
            kernel if kernel < 2 => Err(self.error(stem, format!("is {kernel}, but must be at least 2"))),
            kernel => Ok(kernel),
        }
    }

    fn short_conv(&self, embedding_length: usize) -> Result<Recurrent> {
        const KERNEL: &str = "shortconv.l_cache";
        let (kind, conv_kernel) = (RecurrentKind::ShortConv, self.kernel(KERNEL)?);
        if 3 * embedding_length as u64 > MAX_WIDTH {
            return Err(self.error(KERNEL, format!("its gates and inputs together are wider than {MAX_WIDTH}")));
        }
        let (heads, key_heads, key_dim, value_dim) = (0, 0, 0, 0);
        Ok(Recurrent { kind, conv_kernel, heads, key_heads, key_dim, value_dim, step_limits: NO_LIMITS })
    }

    fn heads_with_state(&self, kind: RecurrentKind) -> Result<Recurrent> {
        let inner = "ssm.inner_size";
        let conv_kernel = self.kernel("ssm.conv_kernel")?;
        let heads = self.size("ssm.time_step_rank", MAX_WIDTH)?;
        let key_heads = self.size("ssm.group_count", MAX_WIDTH)?;
        let values = self.size(inner, MAX_WIDTH)?;
        if !heads.is_multiple_of(key_heads) || !values.is_multiple_of(heads) {
            let what = format!("{key_heads} groups do not divide {heads} heads, or those not an inner size of {values}");
            return Err(self.error("ssm.group_count", what));
        }
        let found = Recurrent {
            kind,
            conv_kernel,
            heads,
            key_heads,
            key_dim: self.size("ssm.state_size", MAX_KEY)?,
            value_dim: values / heads,
            step_limits: self.step_limits()?,
        };
        if (2 * found.keys() + found.values()) as u64 > MAX_WIDTH {
            return Err(self.error(inner, format!("all keys and values together are wider than {MAX_WIDTH}")));
        }
        Ok(found)
    }

    fn step_limits(&self) -> Result<[f32; 2]> {
        const MAX: &str = "ssm.time_step_max";
        let [least, most] = NO_LIMITS;
        let limits = [self.factor("ssm.time_step_min", least)?, self.positive(MAX)?.unwrap_or(most)];
        if limits[0] > limits[1] {
            return Err(self.error(MAX, format!("is {}, but must be at least ssm.time_step_min, {}", limits[1], limits[0])));
        }
        Ok(limits)
    }
}
