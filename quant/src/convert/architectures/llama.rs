//! What is computed for llama and its heirs: Llama 3's divisors of the rotary frequencies.

use crate::Result;
use crate::arch::Role;
use crate::convert::config::Config;
use crate::convert::keys::ComputedTensor;
use crate::convert::rope::RopeConfig;
use crate::gguf::Metadata;
use crate::safetensors::HfTensor;

/// Llama 3's divisors of the rotary frequencies, for all heirs of the converter's llama class.
pub(super) fn rope_factors(config: &Config, _: &[HfTensor], _: &mut Metadata) -> Result<Vec<ComputedTensor>> {
    Ok(match config.rope {
        RopeConfig::Llama3 { .. } => vec![ComputedTensor { role: Role::RopeFreqs, values: llama3_rope_factors(config) }],
        _ => Vec::new(),
    })
}

/// The divisor of each pair's frequency: 1 for wavelengths that turn often within the original context, `factor` for those
/// that turn less than once, blended in between (Llama 3.1's frequency scaling). To give the converter's bits, every step is
/// rounded to f32 and `a / tensor` is `1 / tensor * a`, as PyTorch computes it. The power goes through f64, so that it
/// does not depend on the system's `powf`.
fn llama3_rope_factors(config: &Config) -> Vec<f32> {
    let RopeConfig::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } = config.rope else {
        return Vec::new();
    };
    let low_freq_wavelen = (original_context / low_freq_factor) as f32;
    let high_freq_wavelen = (original_context / high_freq_factor) as f32;
    let dim = config.head_dim as f32;
    (0..config.head_dim / 2)
        .map(|pair| {
            let exponent = (2 * pair) as f32 / dim;
            let freq = 1.0 / config.rope_theta.powf(f64::from(exponent)) as f32;
            let wavelen = 1.0 / freq * std::f32::consts::TAU;
            if wavelen < high_freq_wavelen {
                1.0
            } else if wavelen > low_freq_wavelen || low_freq_factor == high_freq_factor {
                factor as f32
            } else {
                let turns = 1.0 / wavelen * original_context as f32;
                let smooth = (turns - low_freq_factor as f32) / (high_freq_factor - low_freq_factor) as f32;
                1.0 / ((1.0 - smooth) / factor as f32 + smooth)
            }
        })
        .collect()
}
