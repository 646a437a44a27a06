//! What the words of a table's row mean: which machine, which model, how many bytes a token reads. From there to a [`Case`], to
//! measurements for a fit, and to an answer for a row that asks.

use std::sync::Arc;

use bitworth_quant::message::{Message, Names};
use bitworth_quant::recipe::Recipe;
use bitworth_quant::{DType, Error, Result};
use bitworth_report::number::plain;

use super::calibration::{Calibration, Forecast};
use super::case::{Build, Case, LlamaBackend};
use super::table::{SpeedRow, SpeedTable};
use super::validate::Observation;
use super::weight_type::{nominal_bits, type_class};
use crate::hardware::{Catalogue, HardwareProfile, Machine, MachineKind, Vendor};
use crate::memory::{self, Fit, FitVerdict, Usage};
use crate::models::{self, ModelFigures};
use crate::settings::{BACKEND, MODEL_FILE_GIB, ROWS};
use crate::sizes::recipe_like;

/// When the software of a row without a date was made: now, as far as the measurements go.
pub const NEWEST: f64 = 2026.4;

/// What is asked of a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeedQuery {
    /// The backend with its driver or version; the machine's usual one where it is empty.
    pub backend: String,
    /// When the software was made, as a year.
    pub year: f64,
    /// Tokens of the prompt.
    pub prompt: f64,
    /// Decoded tokens.
    pub generate: f64,
    /// Tokens in the cache before either.
    pub depth: f64,
    /// How the cache is stored.
    pub kv_type: DType,
}

impl Default for SpeedQuery {
    /// llama-bench's: 512 tokens of prompt, 128 to decode, an empty cache in F16.
    fn default() -> Self {
        Self { backend: String::new(), year: NEWEST, prompt: 512.0, generate: 128.0, depth: 0.0, kv_type: DType::F16 }
    }
}

/// The weights of one file as a token meets them.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The type most of them have, as [`type_class`] calls it.
    pub class: String,
    /// Bytes of the whole file.
    pub file_bytes: f64,
    /// Weights multiplied per token.
    pub active: f64,
    /// Bytes of those.
    pub active_bytes: f64,
    /// Bytes of all that can be multiplied.
    pub batch_bytes: f64,
}

impl Weights {
    /// The weights of a model under a quantization: a recipe's name, or a free name like one (`UD-Q4_K_XL`). Where the file's
    /// size is known it counts; else it is that of the recipe.
    ///
    /// # Errors
    /// A quantization that is not known.
    pub fn of(model: &ModelFigures, quant: &str, file_bytes: Option<f64>) -> Result<Self> {
        let class = type_class(quant);
        let (Some((recipe, _)), Some(bits)) = (recipe_like(quant), nominal_bits(&class)) else {
            return Err(Error::unknown("quantization", quant, Recipe::all().iter().map(|r| r.name.clone())));
        };
        // Figures that no file can have: below half a bit or above five bytes a weight.
        let per_weight = |bytes: f64| 8.0 * bytes / model.params as f64;
        if let Some(bytes) = file_bytes.filter(|bytes| !(0.5..=40.0).contains(&per_weight(*bytes))) {
            let what =
                format!("is {:.3e} bits for each weight of {}; give the size of the file in GiB", per_weight(bytes), model.name);
            return Err(Error::option(MODEL_FILE_GIB, (bytes / GIB).to_string(), what));
        }
        let size = model.size(&recipe)?;
        let planned = size.file_bytes as f64;
        let ratio = file_bytes.map_or(1.0, |bytes| bytes / planned);
        // Another size than the recipe's is another mix under the same name.
        if !size.exact || !(0.97..1.03).contains(&ratio) {
            return Ok(Self::split(model, class, bits, file_bytes.unwrap_or(planned)));
        }
        Ok(Self {
            class,
            file_bytes: ratio * planned,
            active: model.active_params as f64 - lookups(model),
            active_bytes: ratio * size.read_per_token() as f64,
            batch_bytes: ratio * size.read_per_step(BATCH),
        })
    }

    /// By the numbers of weights alone: experts at the type's own bits, what is left of the file in the rest, which publishers
    /// keep at higher precision, up to 16 bits.
    fn split(model: &ModelFigures, class: String, bits: f64, file_bytes: f64) -> Self {
        let params = model.params as f64;
        let share = experts_share(model);
        let experts = if share < 1.0 { (params - model.active_params as f64) / (1.0 - share) } else { 0.0 };
        let rest = (params - experts).max(1.0);
        let (expert_bytes, rest_bytes) = if experts > 0.0 {
            let per_weight = bits / 8.0;
            let left = ((file_bytes - experts * per_weight) / rest).clamp(0.9 * per_weight, 2.0);
            ((file_bytes - left * rest).max(0.0) / experts, left)
        } else {
            (0.0, file_bytes / params)
        };
        let read = (rest - lookups(model)).max(0.0);
        Self {
            class,
            file_bytes,
            active: experts * share + read,
            active_bytes: experts * share * expert_bytes + read * rest_bytes,
            batch_bytes: experts * expert_bytes + read * rest_bytes,
        }
    }
}

/// Tokens of a batch of prefill, which between them use all experts.
const BATCH: u32 = 512;

/// Weights of which a token only looks up a row: the embedding, unless it is the output matrix too.
fn lookups(model: &ModelFigures) -> f64 {
    if model.tied { 0.0 } else { f64::from(model.vocab) * f64::from(model.hidden) }
}

/// The share of a block's experts that a token uses; 1 for dense models.
fn experts_share(model: &ModelFigures) -> f64 {
    if model.experts > 0 { f64::from(model.experts_used) / f64::from(model.experts) } else { 1.0 }
}

/// Whether a machine can be used through a backend: its profile says so, or the backend is for chips like its own. A card's
/// memory is none of the CPU's.
fn runs(profile: &HardwareProfile, backend: LlamaBackend) -> bool {
    let listed = profile.backends.iter().any(|name| LlamaBackend::parse(name) == Some(backend));
    let any = profile.vendor == Vendor::Other;
    let gpu = profile.kind != MachineKind::Cpu;
    listed
        || match backend {
            LlamaBackend::Cpu => profile.kind != MachineKind::DiscreteGpu,
            LlamaBackend::Metal => gpu && profile.vendor == Vendor::Apple,
            LlamaBackend::Cuda => gpu && (any || profile.vendor == Vendor::Nvidia),
            LlamaBackend::Rocm => gpu && (any || profile.vendor == Vendor::Amd),
            LlamaBackend::Sycl => gpu && profile.vendor != Vendor::Apple,
            LlamaBackend::Vulkan => gpu,
        }
}

/// The case of a machine, a model's weights and a workload.
///
/// # Errors
/// A backend that is not known, or that the machine cannot be used through.
pub fn case(machine: &Machine, model: &ModelFigures, weights: &Weights, load: &SpeedQuery) -> Result<Case> {
    let profile = &machine.profile;
    let usual = profile.backends.first().map_or("CPU", String::as_str);
    let driver = if load.backend.trim().is_empty() { usual } else { load.backend.trim().trim_end_matches('?') };
    let backend = LlamaBackend::parse(driver).ok_or_else(|| Error::unknown("backend", driver, LlamaBackend::names()))?;
    if !runs(profile, backend) {
        let what = format!("does not run on {}; use {}", profile.name, profile.backends.join(" or "));
        return Err(Error::option(BACKEND, driver, what));
    }
    let build = match profile.kind {
        _ if backend == LlamaBackend::Cpu => Build::Cpu,
        MachineKind::Cpu => Build::Cpu,
        MachineKind::DiscreteGpu => Build::Card,
        MachineKind::AppleUnified | MachineKind::AmdUnified | MachineKind::NvidiaUnified | MachineKind::IntelUnified => {
            Build::Shared
        }
    };
    // What a GPU can do says nothing of the CPU beside it.
    let rate = |tflops: Option<f64>| tflops.filter(|_| build != Build::Cpu || profile.kind == MachineKind::Cpu).map(|t| t * 1e12);
    let (vendor, generation) = match build {
        Build::Cpu => ("cpu".to_owned(), "cpu".to_owned()),
        _ => (format!("{:?}", profile.vendor).to_lowercase(), profile.generation.clone()),
    };
    let middle = load.depth + load.generate / 2.0;
    let seen = load.depth + load.prompt / 2.0;
    let attended = |kv: &models::KvLayers| f64::from(kv.layers) * kv.window.map_or(seen, |w| seen.min(w.into()));
    let per_position = 4.0 * f64::from(model.heads) * f64::from(model.head_dim);
    Ok(Case {
        machine: profile.id.clone(),
        vendor,
        generation,
        build,
        backend,
        driver: driver.to_owned(),
        bandwidth: machine.bandwidth_gbs * 1e9,
        fp32: rate(profile.fp32_tflops),
        fp16: rate(profile.fp16_tflops),
        devices: machine.devices,
        year: load.year,
        shape: format!("{}x{} of {}", model.layers, model.hidden, model.vocab),
        layers: model.layers.into(),
        hidden: model.hidden.into(),
        sparsity: experts_share(model).recip(),
        recurrent: model.state_bytes > 0,
        weight_type: weights.class.clone(),
        weights: weights.active,
        bytes: weights.active_bytes,
        batch_bytes: weights.batch_bytes,
        cache_bytes: model.kv_bytes_read(middle.round() as u64, load.kv_type),
        prompt: load.prompt,
        attention: per_position * model.kv.iter().map(attended).sum::<f64>(),
    })
}

/// A row's machine, model, weights and workload.
struct Asked {
    machine: Machine,
    model: Arc<ModelFigures>,
    weights: Weights,
    load: SpeedQuery,
}

impl Asked {
    fn of(catalogue: &Catalogue, row: &SpeedRow) -> Result<Self> {
        let devices = row.n_devices.unwrap_or(1);
        // The processor beside a GPU is another machine, with a profile of its own where there is one.
        let on_cpu = LlamaBackend::parse(&row.backend) == Some(LlamaBackend::Cpu) && !row.hardware.contains("(CPU)");
        let hardware = if on_cpu { format!("{} (CPU)", row.hardware) } else { row.hardware.clone() };
        let mut machine = catalogue.identify(&hardware, &row.gpu_cores_or_variant, row.memory_gb, row.bandwidth_gbs)?;
        machine.devices = devices;
        let model = models::find(&row.model)?;
        let weights = Weights::of(&model, &row.quant, row.model_file_gib.map(|gib| gib * GIB))?;
        let load = SpeedQuery {
            backend: row.backend.clone(),
            year: row.year().unwrap_or(NEWEST),
            prompt: row.n_prompt.unwrap_or(0.0),
            generate: row.n_gen.unwrap_or(0.0),
            depth: row.depth.unwrap_or(0.0),
            kv_type: DType::F16,
        };
        Ok(Self { machine, model, weights, load })
    }

    fn case(&self) -> Result<Case> {
        case(&self.machine, &self.model, &self.weights, &self.load)
    }

    /// Whether it fits into the memory of the machine's usual platform, with the file as large as it is.
    fn fit(&self, quant: &str) -> Result<Fit> {
        let Self { machine, model, weights, load } = self;
        let Some((recipe, _)) = recipe_like(quant) else { return Err(Error::unknown("quantization", quant, [""; 0])) };
        let size = model.size(&recipe)?;
        let context = (load.depth + load.prompt.max(load.generate)).clamp(1.0, f64::from(u32::MAX)) as u32;
        let usage = Usage { kv_type: load.kv_type, ..Usage::of_context(context) };
        let mut need = memory::need(model, &size, &usage, machine.profile.kind)?;
        need.weights = (need.weights as f64 * weights.file_bytes / size.file_bytes as f64) as u64;
        let fits = memory::fits(machine, &need);
        fits.into_iter().next().ok_or_else(|| Error::option(ROWS, machine.id(), "has no memory"))
    }
}

const GIB: f64 = (1u64 << 30) as f64;

/// The measurements of a table.
#[derive(Debug, Default)]
pub struct Observations {
    /// Of decoding.
    pub decode: Vec<Observation>,
    /// Of prefill.
    pub prefill: Vec<Observation>,
    /// Rows that are not understood, and why.
    pub left_out: Vec<Message>,
}

/// The measurements of a table that are fit for judging.
pub fn observations(catalogue: &Catalogue, table: &SpeedTable) -> Observations {
    let mut placed = Observations::default();
    for (index, row) in table.rows.iter().enumerate() {
        let counts = |score: Option<f64>| score.is_none_or(|s| s > 0.0);
        let decode = row.tg_tok_s.filter(|_| counts(row.score_tg));
        let prefill = row.pp_tok_s.filter(|_| counts(row.score_pp) && row.n_prompt.is_some_and(|n| n > 0.0));
        if decode.is_none() && prefill.is_none() {
            continue;
        }
        let asked = Asked::of(catalogue, row).and_then(|asked| Ok((asked.case()?, asked.machine.profile.name.clone())));
        let (case, line) = match asked {
            Ok(asked) => asked,
            Err(e) => {
                placed.left_out.push(Message::from(format!("row {}: ", index + 1)).then(e.message()));
                continue;
            }
        };
        if let Some(tps) = decode {
            placed.decode.push(Observation { case: case.clone(), log_seconds: -libm::log(tps), line: line.clone() });
        }
        if let Some(tps) = prefill.filter(|_| case.fp32.is_some()) {
            placed.prefill.push(Observation { log_seconds: libm::log(case.prompt / tps), case, line });
        }
    }
    placed
}

/// The answer to a row that asks.
#[derive(Debug, Clone, PartialEq)]
pub struct RowForecast {
    /// Decoding; `None` where the row cannot be placed.
    pub decode: Option<Forecast>,
    /// Prefill; `None` also where the machine's rate is not known.
    pub prefill: Option<Forecast>,
    /// Whether the model fits into the memory.
    pub fits: Option<FitVerdict>,
    /// What the forecast rests on, or why there is none.
    pub reason: Message,
}

impl RowForecast {
    /// The columns that answers add to a table.
    pub const COLUMNS: [&str; 8] = ["tg_forecast", "tg_low", "tg_high", "pp_forecast", "pp_low", "pp_high", "fits", "reason"];

    /// What stands in them, with settings by the names that `name` gives them; empty where there is no forecast.
    pub fn cells(&self, name: Names<'_>) -> Vec<String> {
        let mut cells = Vec::with_capacity(Self::COLUMNS.len());
        for forecast in [self.decode, self.prefill] {
            let values = forecast.map(|Forecast { tps, low, high }| [tps, low, high]);
            cells.extend((0..3).map(|i| values.map_or_else(String::new, |v| plain(v[i], 4))));
        }
        let fits = self.fits.map_or("", |verdict| match verdict {
            FitVerdict::Fits => "yes",
            FitVerdict::FitsRaised => "raised",
            FitVerdict::DoesNotFit => "no",
        });
        cells.extend([fits.to_owned(), self.reason.describe(name)]);
        cells
    }
}

/// Answers a row. Where it names no prompt or no number of tokens, llama-bench's are taken.
pub fn forecast_row(catalogue: &Catalogue, calibration: &Calibration, row: &SpeedRow) -> RowForecast {
    let usual = SpeedQuery::default();
    let row = SpeedRow {
        n_prompt: row.n_prompt.filter(|n| *n > 0.0).or(Some(usual.prompt)),
        n_gen: row.n_gen.filter(|n| *n > 0.0).or(Some(usual.generate)),
        ..row.clone()
    };
    let (asked, case) = match Asked::of(catalogue, &row).and_then(|asked| asked.case().map(|case| (asked, case))) {
        Ok(found) => found,
        Err(e) => return RowForecast { decode: None, prefill: None, fits: None, reason: e.message() },
    };
    let prefill = calibration.prefill(&case);
    let mut reason = calibration.basis(&case);
    if prefill.is_none() {
        reason += &format!("; no forecast of prefill: nobody says how fast {} computes", asked.machine.profile.name);
    }
    let fit = match asked.fit(&row.quant) {
        Ok(fit) => fit,
        Err(e) => return RowForecast { decode: None, prefill: None, fits: None, reason: e.message() },
    };
    if fit.verdict != FitVerdict::Fits {
        reason += &format!("; {}", fit.sentence());
    }
    RowForecast { decode: Some(calibration.decode(&case)), prefill, fits: Some(fit.verdict), reason: reason.into() }
}
