//! The time of a token as a formula of what the machine does: bytes over bandwidth, operations over rate, launches, cache. Its
//! constants are sums of named effects (this vendor, this generation, this type of weights, ...), each with a prior; `fit` finds
//! them. Nothing is fitted or stored here.
//!
//! Decoding: `t = layers * launch + ((bytes / (bandwidth * efficiency))^p + (weights * operations / fp32)^p)^(1/p) + cache bytes
//! / bandwidth * cost`. A constant share of the nominal bandwidth fails: the launches weigh on small models and on wide machines,
//! unpacking on machines with much bandwidth for little arithmetic.
//!
//! Prefill of n tokens: `t = ((2 n weights / rate)^2 + (batches * bytes / bandwidth)^2)^(1/2) + n attention / rate * cost +
//! batches * layers * launch`, in batches of 512 as llama.cpp cuts them.

// Not the system's functions, which differ from machine to machine: the same rows give the same calibration everywhere.
use libm::{exp, log, pow};

use super::case::{Build, Case, LlamaBackend};
use super::weight_type::type_family;

/// A named constant in the sum of a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Which of the formula's logarithmic constants it adds to.
    pub slot: usize,
    /// Its name, unique in the phase; `machine=...` and `shape=...` mark those of one machine and one model.
    pub name: String,
    /// Expected value before any measurement.
    pub mean: f64,
    /// How far it may lie from there.
    pub sd: f64,
    /// What it is multiplied with.
    pub weight: f64,
}

/// A formula with its effects.
#[derive(Debug, Clone, Copy)]
pub struct SpeedFormula {
    /// Name in files.
    pub name: &'static str,
    /// Number of slots.
    pub slots: usize,
    /// Spread of a good measurement around the formula, in logarithms.
    pub sigma: f64,
    /// The effects of a case.
    pub effects: fn(&Case) -> Vec<Effect>,
    /// Logarithm of the seconds: of one decoded token, or of the whole prompt.
    pub log_seconds: fn(&Case, &[f64]) -> f64,
}

/// Decoding.
pub const DECODE: SpeedFormula =
    SpeedFormula { name: "decode", slots: 6, sigma: 0.1, effects: decode_effects, log_seconds: decode_log_seconds };

/// Prefill.
pub const PREFILL: SpeedFormula =
    SpeedFormula { name: "prefill", slots: 3, sigma: 0.15, effects: prefill_effects, log_seconds: prefill_log_seconds };

/// Collects the effects of one slot after the other.
struct Effects<'a> {
    case: &'a Case,
    prefix: &'static str,
    slot: usize,
    list: Vec<Effect>,
}

impl<'a> Effects<'a> {
    fn new(case: &'a Case) -> Self {
        Self { case, prefix: "", slot: 0, list: Vec::with_capacity(24) }
    }

    fn slot(&mut self, slot: usize, prefix: &'static str) -> &mut Self {
        (self.slot, self.prefix) = (slot, prefix);
        self
    }

    /// An effect that always counts once.
    fn of(&mut self, name: impl std::fmt::Display, mean: f64, sd: f64) -> &mut Self {
        self.times(1.0, name, mean, sd)
    }

    /// An effect that counts `weight` times; none at 0.
    fn times(&mut self, weight: f64, name: impl std::fmt::Display, mean: f64, sd: f64) -> &mut Self {
        if weight != 0.0 {
            let name = format!("{} {name}", self.prefix);
            self.list.push(Effect { slot: self.slot, name, mean, sd, weight });
        }
        self
    }

    /// Years the software is older than mid 2025, when most of the measurements begin; newer builds gain for a year.
    fn age(&self) -> f64 {
        (2025.5 - self.case.year).clamp(-1.0, 3.0)
    }
}

fn truth(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

const BANDWIDTH: usize = 0;
const OPERATIONS: usize = 1;
const OVERLAP: usize = 2;
const LAUNCH: usize = 3;
const CACHE: usize = 4;
const REST: usize = 5;

fn decode_effects(case: &Case) -> Vec<Effect> {
    let Case { vendor, generation, build, driver, weight_type, machine, shape, .. } = case;
    let (backend, types) = (case.backend.name(), type_family(weight_type));
    let (sparse, recurrent) = (truth(case.is_sparse()), truth(case.recurrent));
    let mut all = Effects::new(case);
    let age = all.age();
    // Intel's GPUs are known to reach little of their bandwidth in llama.cpp; the few measurements alone would not say so.
    let intel = if vendor == "intel" && case.backend != LlamaBackend::Cpu { -0.3 } else { 0.0 };
    all.slot(BANDWIDTH, "bandwidth")
        .of("all", log(0.8), 0.3)
        .of(format_args!("backend={backend}"), 0.0, 0.15)
        .of(format_args!("vendor={vendor} backend={backend}"), intel, 0.12)
        .of(format_args!("build={build:?}"), 0.0, 0.1)
        .of(format_args!("generation={generation}"), 0.0, 0.12)
        .of(format_args!("types={types}"), 0.0, 0.1)
        .of(format_args!("types={types} backend={backend}"), 0.0, 0.1)
        .of(format_args!("type={weight_type}"), 0.0, 0.06)
        .of(format_args!("type={weight_type} backend={backend}"), 0.0, 0.05)
        .of(format_args!("machine={machine} backend={backend}"), 0.0, 0.1)
        .times(-age, "per year of age", 0.0, 0.15)
        .times(-log(case.bandwidth / 500e9), "per e-fold of bandwidth", 0.0, 0.2);
    all.slot(OPERATIONS, "operations").of("all", log(4.0), 0.7).of(format_args!("types={types}"), unpacking(types), 0.4).of(
        format_args!("type={weight_type}"),
        0.0,
        0.15,
    );
    all.slot(OVERLAP, "overlap").of("all", log(2.0), 0.3);
    all.slot(LAUNCH, "launch")
        .of("all", log(60e-6), 0.7)
        .of(format_args!("backend={backend}"), 0.0, 0.4)
        .of(format_args!("generation={generation}"), 0.0, 0.3)
        .times(age, "per year of age", 0.0, 0.3)
        .times(sparse, "experts", 0.3, 0.4)
        .times(recurrent, "recurrent", 0.3, 0.4);
    all.slot(CACHE, "cache").of("all", log(1.5), 0.5).of(format_args!("driver={driver}"), 0.0, 0.3).times(
        age,
        "per year of age",
        0.0,
        0.3,
    );
    all.slot(REST, "rest")
        .of(format_args!("driver={driver}"), 0.0, 0.1)
        .of(format_args!("shape={shape}"), 0.0, 0.08)
        .times(sparse, format_args!("experts backend={backend}"), 0.0, 0.15)
        .times(sparse, format_args!("experts type={weight_type} driver={driver}"), 0.0, 0.35)
        .times(truth(case.devices > 1), "several devices", 0.0, 0.1);
    all.list
}

/// What is known of unpacking before any row: IQ1 to IQ3 look grids of eight weights up. On Metal with 17 TFLOPS an 8B model
/// takes 12.5 ms a token in IQ1_S and IQ2_XXS alike, which is some 20 operations a weight (llama.cpp of 2025 on an M4 Max; the
/// machine is not stated, so those rows do not count in the fit).
fn unpacking(types: &str) -> f64 {
    if types == "codebook" { 1.6 } else { 0.0 }
}

fn decode_log_seconds(case: &Case, slots: &[f64]) -> f64 {
    let memory = case.bytes / (case.bandwidth * exp(slots[BANDWIDTH]));
    let unpack = case.fp32.map_or(0.0, |rate| case.weights * exp(slots[OPERATIONS]) / rate);
    let power = exp(slots[OVERLAP]);
    let weights = pow(pow(memory, power) + pow(unpack, power), power.recip());
    let launches = case.layers * exp(slots[LAUNCH]);
    let cache = case.cache_bytes / case.bandwidth * exp(slots[CACHE]);
    log(weights + launches + cache) + slots[REST]
}

const RATE: usize = 0;
const ATTENTION: usize = 1;
const LAUNCHES: usize = 2;

fn prefill_effects(case: &Case) -> Vec<Effect> {
    let Case { vendor, generation, build, driver, weight_type, machine, shape, .. } = case;
    let (backend, types) = (case.backend.name(), type_family(weight_type));
    let sparse = truth(case.is_sparse());
    let mut all = Effects::new(case);
    let age = all.age();
    let fp32 = case.fp32.unwrap_or(1e12);
    let matrix_units = case.fp16.map_or(0.0, |fp16| log(fp16 / fp32));
    // What is known of the kernels before any row: CUDA's multiply integers on matrix units, the others mostly do not; chips that
    // share their power with a CPU run below their nominal clock, and a CPU's nominal rate is that of its widest vectors.
    let kernels = match case.backend {
        LlamaBackend::Cuda => 0.5,
        LlamaBackend::Vulkan | LlamaBackend::Rocm => -0.2,
        _ => 0.0,
    };
    let power = match build {
        Build::Shared if vendor == "amd" || vendor == "intel" => -0.35,
        Build::Cpu => -1.2,
        _ => 0.0,
    };
    let intel = if vendor == "intel" && case.backend != LlamaBackend::Cpu { -0.3 } else { 0.0 };
    all.slot(RATE, "rate")
        .of("all", log(0.45), 0.5)
        .of(format_args!("backend={backend}"), kernels, 0.3)
        .of(format_args!("vendor={vendor} backend={backend}"), intel, 0.25)
        .of(format_args!("build={build:?} vendor={vendor}"), power, 0.3)
        .of(format_args!("driver={driver}"), 0.0, 0.15)
        .of(format_args!("generation={generation} backend={backend}"), 0.0, 0.3)
        .of(format_args!("types={types}"), 0.0, 0.12)
        .of(format_args!("types={types} backend={backend}"), 0.0, 0.12)
        .of(format_args!("type={weight_type}"), 0.0, 0.1)
        .of(format_args!("type={weight_type} backend={backend}"), 0.0, 0.1)
        .of(format_args!("machine={machine} backend={backend}"), 0.0, 0.15)
        .of(format_args!("shape={shape}"), 0.0, 0.15)
        .times(matrix_units, "per e-fold of matrix units", 0.6, 0.3)
        .times(log(case.hidden / 4096.0), "per e-fold of width", 0.1, 0.1)
        .times(log(fp32 / 20e12), "per e-fold of f32 rate", -0.05, 0.1)
        .times(-age, "per year of age", 0.15, 0.15)
        .times(-age, format_args!("per year of age backend={backend}"), 0.0, 0.1)
        .times(log(case.sparsity) / 2.5, "experts", -0.5, 0.4)
        .times(log(case.sparsity) / 2.5, format_args!("experts backend={backend}"), 0.0, 0.25)
        .times(sparse, format_args!("experts type={weight_type} backend={backend}"), 0.0, 0.25)
        .times(truth(case.recurrent), "recurrent", -0.3, 0.3)
        .times(truth(case.devices > 1), "several devices", 0.0, 0.15);
    all.slot(ATTENTION, "attention").of("all", log(2.0), 0.6).of(format_args!("driver={driver}"), 0.0, 0.5).times(
        age,
        "per year of age",
        0.2,
        0.2,
    );
    all.slot(LAUNCHES, "launch").of("all", log(100e-6), 0.8).of(format_args!("backend={backend}"), 0.0, 0.4);
    all.list
}

/// Tokens that llama.cpp computes at once by default (`--ubatch-size`).
const BATCH: f64 = 512.0;

/// Share of the nominal bandwidth at which a batch reads its weights.
const BATCH_EFFICIENCY: f64 = 0.8;

fn prefill_log_seconds(case: &Case, slots: &[f64]) -> f64 {
    // Without a rate there is no forecast; who asks for one is told before.
    let rate = case.fp32.unwrap_or(f64::NAN) * exp(slots[RATE]);
    let batches = (case.prompt / BATCH).ceil();
    let compute = 2.0 * case.prompt * case.weights / rate;
    let memory = batches * case.batch_bytes / (case.bandwidth * BATCH_EFFICIENCY);
    let attention = case.prompt * case.attention / rate * exp(slots[ATTENTION]);
    let launches = batches * case.layers * exp(slots[LAUNCHES]);
    log((compute * compute + memory * memory).sqrt() + attention + launches)
}
