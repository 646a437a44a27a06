//! The models that come with the program: one row a file of `configs/models/`. A test compares this with the folder.
//!
//! Absent: anything about them.

/// Ids and the text of their files.
macro_rules! models {
    ($($id:literal)*) => {
        &[$(($id, include_str!(concat!("../../../configs/models/", $id, ".toml")))),*]
    };
}

/// Id and text of every model.
#[rustfmt::skip]
pub const MODELS: &[(&str, &str)] = models![
    "command-r" "command-r-08-2024" "command-r-plus" "deepseek-v3" "devstral-2-123b" "devstral-small-2-24b" "dots.llm1"
    "gemma-2-27b" "gemma-2-2b" "gemma-2-9b" "gemma-3-12b" "gemma-3-1b" "gemma-3-270m" "gemma-3-27b" "gemma-3-4b"
    "gemma-3n-e4b" "gemma-4-26b-a4b" "gemma-4-31b" "gemma-4-e2b" "gemma-4-e4b" "glm-4.5" "glm-4.5-air" "glm-4.7-flash"
    "gpt-oss-120b" "gpt-oss-20b" "granite-4.0-h-micro" "granite-4.0-h-small" "granite-4.0-h-tiny" "hunyuan-a13b" "kimi-k2"
    "lfm2-1.2b" "lfm2-8b-a1b" "llama-1-13b" "llama-1-30b" "llama-1-65b" "llama-1-7b" "llama-1b" "llama-2-13b" "llama-2-70b"
    "llama-2-7b" "llama-3-70b" "llama-3-8b" "llama-3.3-70b" "llama-3b" "llama-4-maverick" "llama-4-scout" "llama-405b"
    "llama-70b" "llama-8b" "minimax-m2" "ministral-3-14b" "mistral-7b-v0.1" "mistral-7b-v0.3" "mistral-large"
    "mistral-nemo-12b" "mistral-small-3.1-24b" "mixtral-8x22b" "mixtral-8x7b" "nemotron-3-nano-30b-a3b" "phi-3-medium-14b"
    "phi-3-mini-4k" "phi-4" "phi-4-mini" "qwen2.5-0.5b" "qwen2.5-1.5b" "qwen2.5-14b" "qwen2.5-32b" "qwen2.5-3b" "qwen2.5-72b"
    "qwen2.5-7b" "qwen3-0.6b" "qwen3-1.7b" "qwen3-14b" "qwen3-235b-a22b" "qwen3-30b-a3b" "qwen3-30b-a3b-2507" "qwen3-32b"
    "qwen3-4b" "qwen3-8b" "qwen3-coder-30b-a3b" "qwen3-coder-480b-a35b" "qwen3-coder-next-80b-a3b" "qwen3-next-80b-a3b"
    "qwen3.5-0.8b" "qwen3.5-122b-a10b" "qwen3.5-27b" "qwen3.5-2b" "qwen3.5-35b-a3b" "qwen3.5-397b-a17b" "qwen3.5-4b"
    "qwen3.5-9b" "qwen3.6-27b" "qwen3.8-27b" "random-615m" "smollm2-1.7b" "smollm2-135m" "smollm2-360m" "tinyllama-1.1b"
    "yi-34b"
];
