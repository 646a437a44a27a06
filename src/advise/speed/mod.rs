//! How fast llama.cpp decodes and takes in prompts on machines one does not own: a formula of bytes, operations and launches
//! ([`formula`]) whose constants are fitted to published measurements ([`fit`]), checked on rows left out ([`validate`]), with
//! ranges learned from those errors ([`error_model`]). The result is a file ([`calibration`]). Nothing is measured here, and
//! memory is not asked about.

pub mod calibration;
pub mod case;
pub mod error_model;
pub mod fit;
pub mod formula;
pub mod resolve;
pub mod table;
pub mod validate;
mod weight_type;

pub use calibration::{Calibration, Forecast};
pub use case::{Build, Case, LlamaBackend};
pub use weight_type::type_class;

#[cfg(test)]
mod tests {
    use super::*;

    /// A 7B model in 4 bits on a card of no known make.
    pub fn case() -> Case {
        Case {
            machine: "card".into(),
            vendor: "nobody".into(),
            generation: "first".into(),
            build: Build::Card,
            backend: LlamaBackend::Vulkan,
            driver: "Vulkan".into(),
            bandwidth: 500e9,
            fp32: Some(20e12),
            fp16: Some(40e12),
            devices: 1,
            year: 2026.0,
            shape: "32x4096".into(),
            layers: 32.0,
            hidden: 4096.0,
            sparsity: 1.0,
            recurrent: false,
            weight_type: "Q4_0".into(),
            weights: 6.6e9,
            bytes: 3.7e9,
            batch_bytes: 3.7e9,
            cache_bytes: 3e7,
            prompt: 512.0,
            attention: 1e8,
        }
    }
}
