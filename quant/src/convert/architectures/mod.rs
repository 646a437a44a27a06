//! What conversion writes for one architecture and for no other: one row an architecture, and a file where the common keys
//! (see `keys`) are not all.
//!
//! Absent: tensors of the files, their names and their layout (`crate::arch` describes them), and keys of our own (see `facts`).

mod apertus;
mod cohere2;
mod command_r;
mod deepseek2;
mod ernie4_5_moe;
mod exaone4;
mod falcon_h1;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod glm4;
mod glm4moe;
mod gpt2;
mod gpt_oss;
mod granite;
mod granite_hybrid;
mod hunyuan_dense;
mod hunyuan_moe;
mod lfm2;
mod llama;
mod llama4;
mod mamba2;
mod minimax_m2;
mod mistral3;
mod muse_glimmer;
mod nemotron_h;
mod olmo2;
mod phi3;
mod phimoe;
mod qwen2moe;
mod qwen35;
mod qwen3moe;
mod qwen3vl;
mod qwen3vlmoe;
mod stablelm;

use super::config::Config;
use super::file_type::FileType;
use super::keys::{self, ComputedTensor};
use crate::arch::ArchSpec;
use crate::gguf::Metadata;
use crate::safetensors::HfTensor;
use crate::{Error, Result};

/// One architecture.
struct Conversion {
    /// Its name in `general.architecture`.
    name: &'static str,
    /// Adds the metadata keys that describe the computation, in the converter's order.
    keys: fn(&Config, FileType, &mut Metadata) -> Result<()>,
    /// Tensors that stand in no Hugging Face file and are computed from the configuration, and keys from small tensors; they
    /// come first in the file, and so do the keys that are added with them.
    computed: fn(&Config, &[HfTensor], &mut Metadata) -> Result<Vec<ComputedTensor>>,
}

/// What most rows have in common.
const COMMON: Conversion = Conversion { name: "", keys: keys::add_base, computed: |_, _, _| Ok(Vec::new()) };

/// Every architecture that can be converted.
const CONVERSIONS: &[Conversion] = &[
    Conversion { name: "llama", keys: keys::add_llama, computed: llama::rope_factors },
    Conversion { name: "apertus", keys: keys::add_llama, computed: apertus::computed },
    Conversion { name: "cohere2", keys: cohere2::add_keys, ..COMMON },
    Conversion { name: "command-r", keys: command_r::add_keys, ..COMMON },
    Conversion { name: "deepseek2", keys: deepseek2::add_keys, ..COMMON },
    Conversion { name: "ernie4_5", ..COMMON },
    Conversion { name: "ernie4_5-moe", keys: ernie4_5_moe::add_keys, ..COMMON },
    Conversion { name: "exaone4", keys: exaone4::add_keys, computed: llama::rope_factors },
    Conversion { name: "falcon-h1", keys: falcon_h1::add_keys, ..COMMON },
    Conversion { name: "gemma", keys: gemma::add_keys, ..COMMON },
    Conversion { name: "gemma2", keys: gemma2::add_keys, ..COMMON },
    Conversion { name: "gemma3", keys: gemma3::add_keys, ..COMMON },
    Conversion { name: "gemma4", keys: gemma4::add_keys, computed: gemma4::rope_factors },
    Conversion { name: "glm4", keys: glm4::add_keys, ..COMMON },
    Conversion { name: "glm4moe", keys: glm4moe::add_keys, ..COMMON },
    Conversion { name: "gpt2", keys: gpt2::add_keys, ..COMMON },
    Conversion { name: "gpt-oss", keys: gpt_oss::add_keys, ..COMMON },
    Conversion { name: "granite", keys: granite::add_keys, computed: llama::rope_factors },
    Conversion { name: "granitehybrid", keys: granite_hybrid::add_keys, ..COMMON },
    Conversion { name: "hunyuan-dense", keys: hunyuan_dense::add_keys, ..COMMON },
    Conversion { name: "hunyuan-moe", keys: hunyuan_moe::add_keys, ..COMMON },
    Conversion { name: "lfm2", keys: lfm2::add_keys, ..COMMON },
    Conversion { name: "lfm2moe", keys: lfm2::add_moe_keys, ..COMMON },
    Conversion { name: "llama4", keys: llama4::add_keys, computed: llama::rope_factors },
    Conversion { name: "mamba2", keys: mamba2::add_keys, ..COMMON },
    Conversion { name: "minimax-m2", keys: minimax_m2::add_keys, ..COMMON },
    Conversion { name: "mistral3", keys: mistral3::add_keys, computed: llama::rope_factors },
    Conversion { name: "muse-glimmer", keys: muse_glimmer::add_keys, ..COMMON },
    Conversion { name: "nemotron_h", keys: nemotron_h::add_keys, ..COMMON },
    Conversion { name: "nemotron_h_moe", keys: nemotron_h::add_keys, ..COMMON },
    Conversion { name: "olmo2", keys: olmo2::add_keys, ..COMMON },
    Conversion { name: "phi3", keys: phi3::add_keys, computed: phi3::rope_factors },
    Conversion { name: "phimoe", keys: phimoe::add_keys, computed: phi3::rope_factors },
    Conversion { name: "qwen2", ..COMMON },
    Conversion { name: "qwen2moe", keys: qwen2moe::add_keys, ..COMMON },
    Conversion { name: "qwen3", ..COMMON },
    Conversion { name: "qwen35", keys: qwen35::add_keys, ..COMMON },
    Conversion { name: "qwen35moe", keys: qwen35::add_moe_keys, ..COMMON },
    Conversion { name: "qwen3moe", keys: qwen3moe::add_keys, ..COMMON },
    Conversion { name: "qwen3next", keys: qwen35::add_moe_keys, ..COMMON },
    Conversion { name: "qwen3vl", keys: qwen3vl::add_keys, ..COMMON },
    Conversion { name: "qwen3vlmoe", keys: qwen3vlmoe::add_keys, ..COMMON },
    Conversion { name: "seed_oss", ..COMMON },
    Conversion { name: "smollm3", keys: keys::add_llama, computed: llama::rope_factors },
    Conversion { name: "stablelm", keys: stablelm::add_keys, ..COMMON },
    Conversion { name: "starcoder2", ..COMMON },
];

fn conversion(arch: &ArchSpec) -> Result<&'static Conversion> {
    let unknown = || Error::unknown("architecture", arch.name, CONVERSIONS.iter().map(|row| row.name));
    CONVERSIONS.iter().find(|row| row.name == arch.name).ok_or_else(unknown)
}

/// Adds the metadata keys that describe the computation, in the converter's order.
///
/// # Errors
/// The configuration lacks a key or asks for something not understood.
pub(crate) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    (conversion(config.arch)?.keys)(config, file_type, m)
}

/// The tensors that are computed from the configuration, and the keys that come with them.
///
/// # Errors
/// The configuration says something of them that cannot be.
pub(crate) fn computed(config: &Config, stored: &[HfTensor], m: &mut Metadata) -> Result<Vec<ComputedTensor>> {
    (conversion(config.arch)?.computed)(config, stored, m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::ARCHITECTURES;

    #[test]
    fn every_architecture_has_a_row() {
        let described: Vec<&str> = ARCHITECTURES.iter().map(|arch| arch.name).collect();
        let converted: Vec<&str> = CONVERSIONS.iter().map(|row| row.name).collect();
        assert_eq!(converted, described);
    }
}
