//! Rotary embedding in the metadata: base, stretching of positions, and which blocks rotate.

use super::keys::MetadataReader;
use super::{RopeScaling, Window, Yarn};
use crate::Result;
use crate::arch::{LocalRope, RopePairing, Rotated, YarnLog};
use crate::gguf::{Array, Value};

/// llama.cpp's own default where a file gives no base.
const DEFAULT_ROPE_FREQ_BASE: f32 = 10000.0;

impl MetadataReader<'_> {
    pub(super) fn rope_freq_base(&self) -> Result<f32> {
        Ok(self.positive("rope.freq_base")?.unwrap_or(DEFAULT_ROPE_FREQ_BASE))
    }

    /// As llama.cpp, which takes an embedding for one in sections where the first two are not empty (`use_mrope`, b11434).
    pub(super) fn rope_pairs(&self) -> RopePairing {
        let in_sections = match self.get("rope.dimension_sections") {
            Some(Value::Array(Array::I32(sizes))) => sizes.iter().take(2).filter(|&&size| size > 0).count() == 2,
            Some(Value::Array(Array::U32(sizes))) => sizes.iter().take(2).filter(|&&size| size > 0).count() == 2,
            _ => false,
        };
        let traits = &self.arch.block;
        traits.rope_in_sections.filter(|_| in_sections).unwrap_or(traits.rope)
    }

    /// Base of the blocks with a window, where those have their own or are not stretched.
    pub(super) fn rope_local_base(&self, base: f32, scaling: RopeScaling) -> Result<Option<f32>> {
        if let Some(stated) = self.positive("rope.freq_base_swa")? {
            return Ok(Some(stated));
        }
        // Another part of a head is rotated by angles of its own.
        let own_part = self.get("rope.dimension_count_swa").is_some() || self.get("attention.key_length_swa").is_some();
        Ok(match self.arch.block.local_rope {
            LocalRope::Same if own_part => Some(base),
            LocalRope::Same => None,
            LocalRope::Base(local) => Some(local),
            LocalRope::Unscaled => (scaling != RopeScaling::None).then_some(base),
        })
    }

    /// As llama.cpp reads it: a factor without a type means linear, a factor of 0 means none, and `rope.scale_linear` is
    /// the factor's old name.
    pub(super) fn rope_scaling(&self) -> Result<RopeScaling> {
        const TYPE: &str = "rope.scaling.type";
        const FACTOR: &str = "rope.scaling.factor";
        let factor_stem = if self.get(FACTOR).is_some() { FACTOR } else { "rope.scale_linear" };
        let kind = match self.get(TYPE) {
            None => "linear",
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(self.error(TYPE, "is not a string")),
        };
        let factor = || self.positive(FACTOR)?.ok_or_else(|| self.error(FACTOR, "is missing"));
        match kind {
            // LongRoPE is all in its tensors and in the factor on cosines and sines.
            "none" | "longrope" => Ok(RopeScaling::None),
            "linear" if self.metadata.f32(&self.key(factor_stem)) == Some(0.0) => Ok(RopeScaling::None),
            "linear" => Ok(match self.positive(factor_stem)? {
                None | Some(1.0) => RopeScaling::None,
                Some(factor) => RopeScaling::Linear { factor },
            }),
            "dynamic" => Ok(RopeScaling::Dynamic { factor: factor()? }),
            "yarn" => Ok(RopeScaling::Yarn(Yarn {
                factor: factor()?,
                extrapolation: self.factor("rope.scaling.yarn_ext_factor", 1.0)?,
                beta_fast: self.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: self.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                truncate: self.bool("rope.scaling.yarn_truncate")?.unwrap_or(true),
            })),
            other => Err(self.error(TYPE, format!("{other:?} is not supported; known: none, linear, dynamic, yarn, longrope"))),
        }
    }

    /// The weight of YaRN's logarithm by which attention is scaled in place of cosines and sines (`mscale_all_dim`); 0 where
    /// there is none.
    pub(super) fn yarn_log_multiplier(&self) -> Result<f32> {
        let stated = self.factor("rope.scaling.yarn_log_multiplier", 0.0)?;
        Ok(match self.arch.block.yarn_log {
            // The converter writes a tenth of it for this architecture.
            YarnLog::AttentionScale => stated / 0.1,
            YarnLog::Magnitude => stated,
        })
    }

    /// As llama.cpp computes it where no key of ours says it (`llama_context`, b11434): YaRN's logarithm (Peng et al. 2023,
    /// section 3.4) unless it is in the scale of attention, times LongRoPE's factor.
    pub(super) fn rope_magnitude(&self, scaling: RopeScaling) -> Result<f32> {
        if let Some(magnitude) = self.positive("rope.scaling.magnitude")? {
            return Ok(magnitude);
        }
        let multiplier = self.yarn_log_multiplier()?;
        let logarithm = match scaling {
            RopeScaling::Yarn(yarn) if multiplier == 0.0 => yarn_magnitude(yarn.factor, 1.0),
            RopeScaling::Yarn(yarn) if self.arch.block.yarn_log == YarnLog::Magnitude => {
                yarn_magnitude(yarn.factor, 1.0) / yarn_magnitude(yarn.factor, multiplier)
            }
            _ => 1.0,
        };
        Ok(logarithm * self.factor("rope.scaling.attn_factor", 1.0)?)
    }

    pub(super) fn rope_blocks(&self, count: usize, window: Option<&Window>) -> Result<Vec<bool>> {
        if let Some(blocks) = self.blocks("rope.blocks", count)? {
            return Ok(blocks);
        }
        let finetuned = self.bool("rope.scaling.finetuned")?.unwrap_or(true);
        Ok((0..count)
            .map(|block| match self.arch.block.rotated {
                Rotated::All => true,
                Rotated::Never => false,
                Rotated::Finetuned => finetuned,
                Rotated::AllBut(n) => !(block + 1).is_multiple_of(n),
                Rotated::Windowed => window.is_some_and(|w| w.blocks[block]),
                Rotated::WindowedOrAll => window.is_none_or(|w| w.blocks[block]),
            })
            .collect())
    }
}

/// YaRN's factor on attention, `0.1 multiplier ln(factor) + 1` (Peng et al. 2023, section 3.4).
pub(super) fn yarn_magnitude(factor: f32, multiplier: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { (0.1 * f64::from(multiplier) * f64::from(factor).ln() + 1.0) as f32 }
}
