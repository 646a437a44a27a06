//! From names to [`Choice`]s: joins machines, models, sizes, memory, speeds and quality. Ranks nothing.

use std::collections::BTreeSet;

use bitworth_quant::recipe::Recipe;
use bitworth_quant::{DType, Error, Result};

use super::choice::{Choice, FitVerdict, Room};
use super::claims::{Oracle, Usable};
use super::file_size::FileSize;
use super::hardware::{Catalogue, Machine};
use super::memory::{self, Usage};
use super::models::{self, ModelFigures};
use super::quality::{Candidate, Quality};
use super::request::AdviceRequest;
use super::settings::HARDWARE;
use super::speed::resolve::{self, SpeedQuery, Weights};
use super::speed::{Calibration, LlamaBackend};

/// What all choices of an advisor have in common.
#[derive(Debug, Clone, Default)]
pub struct AdvisorSettings {
    /// Type of the KV cache; f16 where none is named.
    pub kv_type: Option<String>,
    /// Backend in place of each machine's usual one.
    pub backend: Option<String>,
    /// Whether files are made with an importance matrix.
    pub imatrix: bool,
}

/// Tokens that are decoded in a forecast.
const GENERATE: f64 = 128.0;

/// Knows machines, models, speeds and quality.
#[derive(Debug)]
pub struct Advisor<'a> {
    catalogue: Catalogue,
    calibration: &'a Calibration,
    quality: Quality,
    kv_type: DType,
    backend: String,
    imatrix: bool,
}

impl<'a> Advisor<'a> {
    /// An advisor.
    ///
    /// # Errors
    /// A backend or a type of the KV cache that is not known.
    pub fn new(catalogue: Catalogue, calibration: &'a Calibration, quality: Quality, settings: AdvisorSettings) -> Result<Self> {
        let kv_type = match settings.kv_type.as_deref() {
            None => DType::F16,
            Some(name) => memory::kv_type(name)?,
        };
        let backend = settings.backend.unwrap_or_default();
        if !backend.is_empty() && LlamaBackend::parse(&backend).is_none() {
            return Err(Error::unknown("backend", backend, LlamaBackend::names()));
        }
        Ok(Self { catalogue, calibration, quality, kv_type, backend, imatrix: settings.imatrix })
    }

    /// Every choice of a request, by machine, model and recipe; and the machines' names.
    ///
    /// # Errors
    /// A name that is not known; a recipe that a model cannot have.
    pub fn choices(&self, request: &AdviceRequest) -> Result<(Vec<String>, Vec<Choice>)> {
        let mut machines = request.hardware.iter().map(|name| self.catalogue.find(name)).collect::<Result<Vec<_>>>()?;
        let mut models = request.models.iter().map(|name| models::find(name)).collect::<Result<Vec<_>>>()?;
        // What is named twice is one.
        let mut seen = BTreeSet::new();
        machines.retain(|machine| seen.insert(machine.id()));
        seen.clear();
        models.retain(|model| seen.insert(model.id.clone()));
        let recipes = request.recipes().into_iter().map(Recipe::find).collect::<Result<Vec<_>>>()?;
        // By their own names, whatever their spelling.
        let mut recipes: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        seen.clear();
        recipes.retain(|recipe| seen.insert((*recipe).to_owned()));
        let labels = labels(&machines);
        let mut choices = Vec::new();
        for (machine, label) in machines.iter().zip(&labels) {
            for model in &models {
                let all = recipes.iter().map(|recipe| self.choice_of(model, recipe, machine, request.context));
                let mut all = all.collect::<Result<Vec<_>>>()?;
                self.keep_published(model, machine, &mut all, request.context)?;
                choices.extend(all.into_iter().map(|choice| Choice { machine: label.clone(), ..choice }));
            }
        }
        Ok((labels, choices))
    }

    /// Of a model that was published in few bits: as published, and what is smaller. Larger files would hold the same, or less.
    fn keep_published(&self, model: &ModelFigures, machine: &Machine, choices: &mut Vec<Choice>, context: u32) -> Result<()> {
        let native = Recipe::all().iter().find(|recipe| self.quality.is_native(&names(model), &recipe.name));
        if let Some(native) = native {
            let native = self.choice_of(model, &native.name, machine, context)?;
            choices.retain(|choice| choice.bytes < native.bytes);
            choices.insert(0, native);
        }
        Ok(())
    }

    fn choice_of(&self, model: &ModelFigures, recipe: &str, machine: &Machine, context: u32) -> Result<Choice> {
        let size = model.size(&Recipe::find(recipe)?)?;
        let weights = Weights::of(model, recipe, None)?;
        let half = f64::from(context / 2);
        let load =
            SpeedQuery { backend: self.backend.clone(), generate: GENERATE, kv_type: self.kv_type, ..SpeedQuery::default() };
        let decode = resolve::case(machine, model, &weights, &SpeedQuery { depth: half, ..load.clone() })?;
        let prefill = resolve::case(machine, model, &weights, &SpeedQuery { prompt: half.max(1.0), ..load })?;
        let bpw = size.bits_per_weight();
        let names = names(model);
        let candidate = Candidate { model: &names, recipe, bpw, imatrix: self.imatrix };
        let loss = self.quality.loss(&candidate);
        let accuracy = self.quality.accuracy(&candidate, &loss.kld);
        Ok(Choice {
            model: model.name.clone(),
            recipe: recipe.to_owned(),
            machine: machine.label(),
            trained_context: model.max_context,
            bytes: size.file_bytes,
            bpw,
            room: room(machine, model, &size, &Usage { kv_type: self.kv_type, ..Usage::of_context(context) })?,
            decode: self.calibration.decode(&decode),
            prefill: self.calibration.prefill(&prefill),
            loss,
            accuracy,
        })
    }
}

/// What the machines are called: by their labels, by their ids where two have the same label; each once.
fn labels(machines: &[Machine]) -> Vec<String> {
    let same = |machine: &Machine| machines.iter().filter(|m| m.label() == machine.label()).count();
    machines.iter().map(|machine| if same(machine) > 1 { machine.id() } else { machine.label() }).collect()
}

fn names(model: &ModelFigures) -> [&str; 2] {
    [&model.id, &model.name]
}

impl Oracle for Advisor<'_> {
    fn choice(&self, model: &str, recipe: &str, machine: &str, context: u32) -> Result<Choice> {
        let (model, recipe) = (models::find(model)?, Recipe::find(recipe)?);
        self.choice_of(&model, &recipe.name, &self.catalogue.find(machine)?, context)
    }

    fn usable(&self, machine: &str) -> Result<Vec<Usable>> {
        let machine = self.catalogue.find(machine)?;
        let usable = |limit: &super::hardware::Limit| Usable {
            platform: format!("{}, {}", machine.label(), limit.platform),
            gib: limit.usable_gib,
            raised_gib: limit.raised_gib,
        };
        Ok(machine.memory.limits.iter().map(usable).collect())
    }
}

/// What a choice takes of the memory of a machine's usual platform, and on how long a context it would fit.
fn room(machine: &Machine, model: &ModelFigures, size: &FileSize, usage: &Usage) -> Result<Room> {
    let need = memory::need(model, size, usage, machine.profile.kind)?;
    let fits = memory::fits(machine, &need);
    let fit = fits.into_iter().next().ok_or_else(|| Error::option(HARDWARE, machine.id(), "has no memory"))?;
    let bytes = |gib: f64| (gib * f64::from(1 << 30)) as u64;
    Ok(Room {
        fit: fit.verdict,
        needed: bytes(fit.need_gib),
        usable: bytes(fit.usable_gib),
        raised: (fit.most_gib > fit.usable_gib).then_some(bytes(fit.most_gib)),
        largest_context: memory::largest_context(model, size, usage, machine, fit.most_gib)?.unwrap_or(0),
        remedy: fit.how.filter(|_| fit.verdict == FitVerdict::FitsRaised),
    })
}
