//! What a forecast depends on: the machine, the software, the model's work per token. Numbers and labels only; where they come
//! from (profiles, shapes, plans, rows of a table) is the matter of `work` and `rows`.

use serde::Serialize;

/// The programming interface llama.cpp was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum LlamaBackend {
    /// NVIDIA's.
    Cuda,
    /// Apple's.
    Metal,
    /// Any vendor's, through Vulkan.
    Vulkan,
    /// AMD's (HIP).
    Rocm,
    /// Intel's (SYCL, IPEX-LLM).
    Sycl,
    /// No GPU.
    Cpu,
}

/// Every backend, the word its name begins with, and how it is written.
const BACKENDS: &[(LlamaBackend, &str, &str)] = &[
    (LlamaBackend::Cuda, "cuda", "CUDA"),
    (LlamaBackend::Metal, "metal", "Metal"),
    (LlamaBackend::Vulkan, "vulkan", "Vulkan"),
    (LlamaBackend::Rocm, "rocm", "ROCm"),
    (LlamaBackend::Rocm, "hip", "ROCm"),
    (LlamaBackend::Sycl, "sycl", "SYCL"),
    (LlamaBackend::Sycl, "ipex", "SYCL"),
    (LlamaBackend::Cpu, "cpu", "CPU"),
];

impl LlamaBackend {
    /// The backend of a free spelling: `Vulkan (RADV)`, `ROCm (HIP+hipBLASLt)`, `IPEX-LLM`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        BACKENDS.iter().find(|(_, word, _)| text.starts_with(word)).map(|(backend, ..)| *backend)
    }

    /// How it is written.
    pub fn name(self) -> &'static str {
        BACKENDS.iter().find(|(backend, ..)| *backend == self).map_or("?", |(.., name)| name)
    }

    /// The names one can write, each once.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let first = |i: &usize| *i == 0 || BACKENDS[*i].0 != BACKENDS[*i - 1].0;
        (0..BACKENDS.len()).filter(first).map(|i| BACKENDS[i].2)
    }
}

/// How a machine's memory hangs on what computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Build {
    /// A card with its own memory.
    Card,
    /// A GPU that shares memory and power with the CPU.
    Shared,
    /// The CPU itself.
    Cpu,
}

/// One forecast's inputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Case {
    /// The machine's identity: same name, same measured speed.
    pub machine: String,
    /// Who made the processor, in small letters.
    pub vendor: String,
    /// The processor's generation, in small letters (`ampere`, `m2`).
    pub generation: String,
    /// How its memory hangs on it.
    pub build: Build,
    /// The backend.
    pub backend: LlamaBackend,
    /// The backend with its driver or version: `Vulkan (RADV)`.
    pub driver: String,
    /// Memory bandwidth, bytes/s: the vendor's figure.
    pub bandwidth: f64,
    /// f32 rate, operations/s; `None` where nobody says.
    pub fp32: Option<f64>,
    /// Dense f16 rate of matrix units, operations/s.
    pub fp16: Option<f64>,
    /// Identical devices, each holding a part of the layers.
    pub devices: u32,
    /// When the software was made, as a year with fraction.
    pub year: f64,
    /// The model's identity: models of one shape have one.
    pub shape: String,
    /// Blocks.
    pub layers: f64,
    /// Width.
    pub hidden: f64,
    /// Experts over experts used per token; 1 for dense models.
    pub sparsity: f64,
    /// Whether most blocks keep a state of fixed size in place of a KV cache (linear attention, Mamba).
    pub recurrent: bool,
    /// The type most weights have: `Q4_K`, `F16`.
    pub weight_type: String,
    /// Weights multiplied per token.
    pub weights: f64,
    /// Bytes of those weights.
    pub bytes: f64,
    /// Bytes of all weights that a large batch touches.
    pub batch_bytes: f64,
    /// Bytes of KV cache read for a decoded token, on average over the decoded tokens.
    pub cache_bytes: f64,
    /// Tokens of the prompt.
    pub prompt: f64,
    /// Operations of attention per token of the prompt, on average.
    pub attention: f64,
}

impl Case {
    /// Whether only some experts compute a token.
    pub fn is_sparse(&self) -> bool {
        self.sparsity > 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_found_under_free_spellings() {
        for (text, expected) in [
            ("CUDA", Some(LlamaBackend::Cuda)),
            ("Vulkan (RADV)", Some(LlamaBackend::Vulkan)),
            ("ROCm (HIP rocWMMA+hipBLASLt)", Some(LlamaBackend::Rocm)),
            ("IPEX-LLM", Some(LlamaBackend::Sycl)),
            ("Metal?", Some(LlamaBackend::Metal)),
            ("cpu", Some(LlamaBackend::Cpu)),
            ("OpenCL", None),
        ] {
            assert_eq!(LlamaBackend::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn each_backend_is_named_once() {
        assert_eq!(LlamaBackend::names().collect::<Vec<_>>(), ["CUDA", "Metal", "Vulkan", "ROCm", "SYCL", "CPU"]);
    }
}
