//! How much memory a model needs to run: weights, keys and values at a context, buffers of the computation; and whether a machine
//! has it.
//!
//! Two runtimes. llama.cpp, as it printed its buffers in b11434, with flash attention (its default where the backend has it) and
//! one batch of 512 tokens at a time. Our own engine, which says itself what it takes ([`bitworth_engine::footprint`]). Absent:
//! what driver, context and operating system take, which the limits of a machine leave out.

use bitworth_engine::footprint::{self, Decoding};
use bitworth_quant::{DType, Error, Result};
use serde::Serialize;

use super::file_size::FileSize;
use super::hardware::{Limit, Machine, MachineKind};
use super::models::{KvLayers, ModelFigures, bytes_per_element};
use super::settings;

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// llama.cpp and what is built on it.
    LlamaCpp,
    /// This program.
    Bitworth,
}

/// How a model is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// What runs it.
    pub runtime: Runtime,
    /// Tokens of each sequence, prompt and answer together.
    pub context: u32,
    /// Sequences at a time.
    pub sequences: u32,
    /// How llama.cpp stores keys and values; our own engine takes f32 whatever this says.
    #[serde(serialize_with = "by_name")]
    pub kv_type: DType,
    /// Threads with which our own engine computes on the CPU; 0 where it computes on a graphics device.
    pub threads: u32,
}

fn by_name<S: serde::Serializer>(dtype: &DType, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.serialize_str(dtype.name())
}

impl Usage {
    /// One sequence in llama.cpp with f16 keys and values, its defaults.
    pub fn of_context(context: u32) -> Self {
        Self { runtime: Runtime::LlamaCpp, context, sequences: 1, kv_type: DType::F16, threads: 0 }
    }
}

/// Whether keys and values can be stored so: what llama.cpp takes for its cache (`--cache-type-k`).
fn holds_kv(dtype: DType) -> bool {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => true,
        DType::Q8_0 | DType::Q5_1 | DType::Q5_0 | DType::Q4_1 | DType::Q4_0 | DType::IQ4_NL => true,
        DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K => false,
        DType::IQ4_XS | DType::IQ3_S | DType::IQ3_XXS | DType::IQ2_S | DType::IQ2_XS | DType::IQ2_XXS => false,
        DType::IQ1_M | DType::IQ1_S | DType::TQ1_0 | DType::TQ2_0 => false,
        DType::MXFP4 | DType::NVFP4 | DType::Q1_0 | DType::Q2_0 => false,
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::F64 => false,
    }
}

/// The type of keys and values of that name, as `q8_0`.
///
/// # Errors
/// [`Error::Unknown`].
pub fn kv_type(name: &str) -> Result<DType> {
    let mut types = DType::ALL.iter().copied().filter(|&dtype| holds_kv(dtype));
    let names = types.clone().map(|dtype| dtype.name().to_ascii_lowercase());
    let found = types.find(|dtype| dtype.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| Error::unknown("type of keys and values", name, names))
}

/// Bytes that a model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Weights, where they are multiplied.
    pub weights: u64,
    /// Keys and values of all sequences, and what has a fixed size instead.
    pub kv: u64,
    /// Buffers of the computation.
    pub compute: u64,
}

impl Need {
    /// All together.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.compute
    }
}

/// Tokens that llama.cpp computes at a time (`n_ubatch`).
const ROWS: u64 = 512;
/// llama.cpp's caches have a multiple of this many tokens (`llama-context.cpp`, `llama-kv-cache-iswa.cpp`, b11434).
const CELLS: u64 = 256;
/// The most sequences and tokens that are computed with.
const MAX_TOKENS: u64 = 1 << 40;

const F32: u64 = size_of::<f32>() as u64;

/// What `model` needs as the file of that size on a machine of that kind.
///
/// # Errors
/// [`Error::Option`] for a context or a number of sequences of 0; for our own engine, a model that it does not run.
pub fn need(model: &ModelFigures, size: &FileSize, usage: &Usage, kind: MachineKind) -> Result<Need> {
    for (setting, value) in [(settings::CONTEXT, usage.context), (settings::BATCH, usage.sequences)] {
        if value == 0 {
            return Err(Error::option(setting, "0", "there must be at least 1"));
        }
    }
    match usage.runtime {
        Runtime::LlamaCpp => Ok(llama_cpp(model, size, usage, kind)),
        Runtime::Bitworth => bitworth(model, size, usage),
    }
}

fn llama_cpp(model: &ModelFigures, size: &FileSize, usage: &Usage, kind: MachineKind) -> Need {
    let sequences = u64::from(usage.sequences);
    let cells = (u64::from(usage.context) * sequences).min(MAX_TOKENS).next_multiple_of(CELLS);
    let rows = ROWS.min(cells);
    let kept = |kv: &KvLayers| match kv.window {
        Some(window) => cells.min((u64::from(window) * sequences + rows).next_multiple_of(CELLS)),
        None => cells,
    };
    let numbers = |kv: &KvLayers| u64::from(kv.layers) as f64 * f64::from(kv.elements) * kept(kv) as f64;
    let kv = model.kv.iter().map(numbers).sum::<f64>() * bytes_per_element(usage.kv_type);
    // What stands in its buffers at its fullest, besides a mask of f16 for each kind of cache.
    let columns = 5 * u64::from(model.hidden) + u64::from(model.vocab).max(model.widest_part());
    let mut kinds: Vec<u64> = model.kv.iter().map(kept).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mask: u64 = kinds.iter().map(|kept| kept * rows * 2).sum();
    // The host looks up embeddings itself; in one memory that makes no difference.
    let aside = if kind == MachineKind::DiscreteGpu { size.lookup_bytes } else { 0 };
    Need {
        weights: size.tensor_bytes - aside,
        kv: kv as u64 + model.state_bytes * sequences,
        compute: rows * columns * F32 + mask,
    }
}

fn bitworth(model: &ModelFigures, size: &FileSize, usage: &Usage) -> Result<Need> {
    let Some(h) = &model.hparams else {
        let what = format!("{} is not run by our own engine, whose memory it was asked for", model.architecture);
        return Err(Error::option(settings::RUNTIME, "bitworth", what));
    };
    let usage =
        Decoding { context: u64::from(usage.context), sequences: u64::from(usage.sequences), threads: u64::from(usage.threads) };
    let footprint = footprint::decoding(h, &usage);
    Ok(Need { weights: size.tensor_bytes, kv: footprint.state, compute: footprint.compute })
}

/// Whether a model fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitVerdict {
    /// As the platform comes.
    Fits,
    /// Once the platform's limit is raised.
    FitsRaised,
    /// Not at all.
    DoesNotFit,
}

/// Whether a model fits into a machine on one platform, and by how much.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Fit {
    /// Of the platform.
    pub platform: &'static str,
    /// The answer.
    pub verdict: FitVerdict,
    /// GiB that are needed.
    pub need_gib: f64,
    /// GiB that a model may take as the platform comes, on all devices.
    pub usable_gib: f64,
    /// GiB that it may take at most.
    pub most_gib: f64,
    /// How the limit is raised, where that is what it takes.
    pub how: Option<String>,
}

impl Fit {
    /// The answer in words: `fits: 42.5 of 48 GiB`.
    pub fn sentence(&self) -> String {
        let Self { need_gib, usable_gib, most_gib, platform, .. } = self;
        match self.verdict {
            FitVerdict::Fits => format!("fits: {need_gib:.1} of {usable_gib:.1} GiB ({platform})"),
            FitVerdict::FitsRaised => {
                let how = self.how.as_deref().unwrap_or("raise the limit");
                format!("fits with a raised limit: {need_gib:.1} GiB, {usable_gib:.1} as it comes ({platform}): {how}")
            }
            FitVerdict::DoesNotFit => {
                format!(
                    "does not fit: {need_gib:.1} GiB, {:.1} more than the {most_gib:.1} there are ({platform})",
                    need_gib - most_gib
                )
            }
        }
    }
}

const GIB: f64 = (1_u64 << 30) as f64;

/// Whether it fits, by platform, the usual one first. Devices side by side share weights, keys and values by layers; each has the
/// buffers of the computation.
pub fn fits(machine: &Machine, need: &Need) -> Vec<Fit> {
    let devices = f64::from(machine.devices.max(1));
    let need_gib = ((need.weights + need.kv) as f64 + need.compute as f64 * devices) / GIB;
    let fit = |limit: &Limit| {
        let (usable_gib, most_gib) = (limit.usable_gib * devices, limit.raised_gib.unwrap_or(limit.usable_gib) * devices);
        let verdict = match need_gib {
            need if need <= usable_gib => FitVerdict::Fits,
            need if need <= most_gib => FitVerdict::FitsRaised,
            _ => FitVerdict::DoesNotFit,
        };
        Fit { platform: limit.platform, verdict, need_gib, usable_gib, most_gib, how: limit.how_for(need_gib / devices) }
    };
    machine.memory.limits.iter().map(fit).collect()
}

/// The largest context, a multiple of 256 up to the model's own, with which it takes at most `gib`; `None` where not even 256
/// tokens fit.
///
/// # Errors
/// As [`need`].
pub fn largest_context(model: &ModelFigures, size: &FileSize, usage: &Usage, machine: &Machine, gib: f64) -> Result<Option<u32>> {
    let devices = f64::from(machine.devices.max(1));
    let takes = |blocks: u64| {
        let usage = Usage { context: (blocks * CELLS) as u32, ..*usage };
        let need = need(model, size, &usage, machine.profile.kind)?;
        Ok::<_, Error>(((need.weights + need.kv) as f64 + need.compute as f64 * devices) / GIB)
    };
    // What is needed grows with the context: halve the range until it is one step wide.
    let (mut fits, mut too_many) = (0, u64::from(model.max_context) / CELLS + 1);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if takes(middle)? <= gib { fits = middle } else { too_many = middle }
    }
    Ok((fits > 0).then_some((fits * CELLS) as u32))
}

#[cfg(test)]
mod tests {
    use bitworth_quant::Recipe;

    use super::super::hardware::Catalogue;
    use super::super::models;
    use super::*;

    const MIB: f64 = (1_u64 << 20) as f64;

    fn sized(model: &str, recipe: &str) -> (std::sync::Arc<ModelFigures>, std::sync::Arc<FileSize>) {
        let model = models::find(model).unwrap();
        let size = model.size(&Recipe::find(recipe).unwrap()).unwrap();
        (model, size)
    }

    /// What llama.cpp b11434 printed as KV and compute buffers on the CPU, in MiB, for a prompt of 512 behind so many tokens.
    #[test]
    fn buffers_are_those_that_llama_cpp_prints() {
        for (model, layers, context, kv_type, kv, compute) in [
            ("llama-8b", 2, 512, DType::F16, 4.0, 291.02),
            ("llama-8b", 2, 16_896, DType::F16, 132.0, 315.02),
            ("llama-8b", 2, 4608, DType::Q8_0, 19.12, 295.10),
            ("llama-2-7b", 2, 4608, DType::F16, 144.0, 109.02),
            ("qwen3-30b-a3b", 2, 4608, DType::F16, 18.0, 321.27),
            ("gemma-3-4b", 6, 512, DType::F16, 12.0, 538.15),
            ("gemma-3-4b", 6, 16_896, DType::F16, 96.0, 560.15),
            ("gemma-3-4b", 6, 4608, DType::Q8_0, 25.5, 543.69),
            ("gpt-oss-20b", 2, 512, DType::F16, 2.0, 421.90),
            ("gpt-oss-20b", 2, 4608, DType::F16, 10.5, 426.15),
            ("command-r-08-2024", 1, 16_896, DType::F16, 66.0, 596.52),
            ("deepseek-v3", 3, 4608, DType::F16, 15.19, 410.52),
            ("smollm2-135m", 30, 4608, DType::F16, 101.25, 107.27),
            ("mixtral-8x7b", 1, 512, DType::F16, 2.0, 208.52),
            ("mixtral-8x7b", 1, 4608, DType::F16, 18.0, 212.52),
            ("llama-2-70b", 1, 4608, DType::F16, 18.0, 252.52),
        ] {
            let text = format!("like = \"{model}\"\nnum_hidden_layers = {layers}\n");
            let model = ModelFigures::parse(std::path::Path::new("short.toml"), &text).unwrap();
            let size = model.size(&Recipe::find("q4_0").unwrap()).unwrap();
            let found = need(&model, &size, &Usage { kv_type, ..Usage::of_context(context) }, MachineKind::Cpu).unwrap();
            let near = |ours: u64, theirs: f64, bound: f64| (ours as f64 / MIB / theirs - 1.0).abs() < bound;
            assert!(near(found.kv, kv, 0.002), "{text} {context}: {:.2} MiB of {kv}", found.kv as f64 / MIB);
            assert!(near(found.compute, compute, 0.03), "{text} {context}: {:.2} MiB of {compute}", found.compute as f64 / MIB);
        }
    }

    #[test]
    fn what_fits_where_is_said_with_the_way_to_raise_the_limit() {
        let known = Catalogue::builtin();
        let check = |model: &str, recipe: &str, machine: &str, expected: &[(&str, FitVerdict)]| {
            let ((model, size), machine) = (sized(model, recipe), known.find(machine).unwrap());
            let need = need(&model, &size, &Usage::of_context(8192), machine.profile.kind).unwrap();
            let found = fits(&machine, &need);
            let verdicts: Vec<(&str, FitVerdict)> = found.iter().map(|fit| (fit.platform, fit.verdict)).collect();
            assert_eq!(verdicts, expected, "{found:?}");
            found[0].sentence()
        };
        use FitVerdict::{DoesNotFit, Fits, FitsRaised};
        let text = check("llama-3-70b", "q4_k_m", "m2-ultra-64gb", &[("macOS", Fits)]);
        assert!(text.starts_with("fits: 42.") && text.contains("of 48.0 GiB"), "{text}");
        let text = check("llama-3-70b", "q5_k_m", "m2-ultra-64gb", &[("macOS", FitsRaised)]);
        assert!(text.contains("sudo sysctl iogpu.wired_limit_mb=51200"), "{text}");
        let text = check("llama-3-70b", "q6_k", "m2-ultra-64gb", &[("macOS", DoesNotFit)]);
        assert!(text.contains("more than the 56.0 there are"), "{text}");
        let both = [("Linux (GTT)", FitsRaised), ("Windows (VGM)", Fits)];
        let text = check("llama-3-70b", "q8_0", "ryzen-ai-max-395-128gb", &both);
        assert!(text.contains("ttm.pages_limit="), "{text}");
        check("llama-3-70b", "q4_k_m", "rtx-4090", &[("VRAM", DoesNotFit)]);
        check("llama-3-70b", "q4_k_m", "2x RTX 3090", &[("VRAM", Fits)]);
        check("llama-405b", "iq1_s", "ryzen-ai-max-395-128gb", &[("Linux (GTT)", FitsRaised), ("Windows (VGM)", Fits)]);
    }

    #[test]
    fn the_largest_context_fits_and_the_next_does_not() {
        let ((model, size), machine) = (sized("llama-8b", "q8_0"), Catalogue::builtin().find("rtx-3080").unwrap());
        let gib = machine.memory.usable_gib();
        let takes = |context| {
            let need = need(&model, &size, &Usage::of_context(context), MachineKind::DiscreteGpu).unwrap();
            need.total() as f64 / GIB
        };
        let largest = largest_context(&model, &size, &Usage::of_context(1), &machine, gib).unwrap().unwrap();
        assert!(takes(largest) <= gib && takes(largest + 256) > gib, "{largest}");
        assert_eq!(largest_context(&model, &size, &Usage::of_context(1), &machine, 5.0).unwrap(), None);
        let all = largest_context(&model, &size, &Usage::of_context(1), &machine, 100.0).unwrap();
        assert_eq!(all, Some(model.max_context), "no more than the model was trained for");
    }

    #[test]
    fn impossible_uses_are_refused() {
        let (model, size) = sized("llama-8b", "q8_0");
        let refused = |usage| need(&model, &size, &usage, MachineKind::Cpu).unwrap_err().to_string();
        assert!(refused(Usage::of_context(0)).contains("context 0"));
        assert!(refused(Usage { sequences: 0, ..Usage::of_context(1) }).contains("batch 0"));
        assert!(need(&model, &size, &Usage { sequences: u32::MAX, ..Usage::of_context(u32::MAX) }, MachineKind::Cpu).is_ok());
        let (model, size) = sized("dots.llm1", "q8_0");
        let ours = Usage { runtime: Runtime::Bitworth, ..Usage::of_context(512) };
        assert!(need(&model, &size, &ours, MachineKind::Cpu).unwrap_err().to_string().contains("dots1"));
        assert_eq!(kv_type("q8_0").unwrap(), DType::Q8_0);
        assert!(kv_type("q3_k").unwrap_err().to_string().contains("iq4_nl"));
    }
}
