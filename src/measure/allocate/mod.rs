//! A type for every unit of a model, by what each loses in each type: from a table of sensitivities to recipes of a given size or
//! loss. What a unit loses in a type that was not measured is estimated in proportion to the error of its outputs; what units
//! lose is added up. Such sums rank choices well and are too small by a quarter or so, because the choice seeks out what was
//! measured too low: they are no results. How far they may be off stands beside them as a range (`range`). Absent: measuring
//! (see [`crate::sensitivity`] and `execute`).

mod range;
mod trial;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bitworth_quant::allocate::{self, Cost, Goal, TensorUnit};
use bitworth_quant::checkpoint::Checkpoint;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::{DType, Output, Plan, Recipe};
use serde::Serialize;

use super::error::{Error, Result};
use super::fit;
use super::sensitivity::{importance_sha256, model_sha256};
use bitworth_eval::sensitivity::{Sensitivity, SensitivityOrigin, SensitivityTable, TOGETHER};
use bitworth_eval::stats::Interval;

use range::{Joined, Ranged};
pub use trial::{Chosen, Judge, Loss, Losses, Ruling, Trial, Tried};

/// Bytes of a file that are left for keys that say what it was made with, at least: half of them for an importance matrix (of
/// whose paths llama.cpp keeps 127 bytes) and padding, half for fitting. A model of many blocks and many texts take more.
const RESERVED: u64 = 4096;
/// Texts that a file may be fitted to, where nothing is said of them.
const TEXTS: usize = 8;
/// llama.cpp's mixes that a choice is compared with, from large to small.
const MIXES: [&str; 9] = ["q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q3_k_s", "q2_k"];

/// What a choice must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At most so many bytes of the whole file.
    FileBytes(u64),
    /// At most so many bits per weight of the tensors.
    BitsPerWeight(f64),
    /// At most so much predicted divergence.
    Divergence(f64),
}

/// What a plan is expected to lose, without fitting.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The sum of what its units lose; `None` where a unit has types that were not measured.
    pub kld: Option<f64>,
    /// How far off that may be, by the windows that were measured and by what units lose together; `None` where the table says
    /// nothing of one of the two.
    pub range: Option<Interval>,
    /// The first unit whose types are none of the table's, with those types.
    pub unknown: Option<String>,
}

/// A recipe and what is known of it before it is measured.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// The recipe as text.
    #[serde(skip)]
    pub text: String,
    /// What every tensor becomes.
    #[serde(skip)]
    pub plan: Plan,
    /// Bytes of its file.
    pub bytes: u64,
    /// Bits per weight of its tensors.
    pub bpw: f64,
    /// See [`Prediction::kld`].
    pub predicted_kld: Option<f64>,
    /// See [`Prediction::range`].
    pub predicted_range: Option<Interval>,
}

/// A model with what its units lose.
pub struct Allocator<'a> {
    checkpoint: &'a Arc<Checkpoint>,
    options: PlanOptions,
    alignment: u64,
    units: Vec<TensorUnit>,
    /// The types of the table, and each for all tensors.
    types: Vec<DType>,
    plans: Vec<Plan>,
    /// By unit and type; `bytes` with padding.
    choices: Vec<Vec<Cost>>,
    /// The ends of what each may lose; `None` where one window was measured.
    ranges: Option<[Vec<Vec<Cost>>; 2]>,
    joined: Joined,
    /// Texts that there is room for in a file's metadata.
    texts: usize,
    /// Bytes that a file gets because it is fitted, at most; 0 where it will not be.
    fit_bytes: u64,
}

/// What is known of a unit, by type.
type OfUnit<'r> = Vec<(DType, &'r Sensitivity)>;

impl<'a> Allocator<'a> {
    /// Reads what a table says of a model.
    ///
    /// # Errors
    /// A table of another model, or one that lacks a unit of this one.
    pub fn new(checkpoint: &'a Arc<Checkpoint>, table: &SensitivityTable, options: PlanOptions) -> Result<Self> {
        if table.origin.model_sha256 != model_sha256(checkpoint)? {
            let what = format!("the sensitivities are of another model than {}; measure this one", checkpoint.path().display());
            return Err(Error::unfit(what));
        }
        let units = allocate::units(checkpoint.as_ref(), &options)?;
        let mut types: Vec<DType> = Vec::new();
        let mut rows: HashMap<(&str, Option<u32>), OfUnit<'_>> = HashMap::new();
        for row in &table.rows {
            let dtype = DType::from_name(&row.to).filter(|dtype| !dtype.is_float());
            let dtype = dtype.ok_or_else(|| Error::unfit(format!("the sensitivities name {:?}, which is no type", row.to)))?;
            if !types.contains(&dtype) {
                types.push(dtype);
            }
            rows.entry((&row.unit, row.block)).or_default().push((dtype, row));
        }
        let plans = types.iter().map(|&dtype| allocate::alike(checkpoint.as_ref(), dtype, &options));
        let plans = plans.collect::<std::result::Result<Vec<_>, _>>()?;
        let alignment = allocate::alignment(checkpoint.as_ref())?;
        let windows = table.origin.tokens / u64::from(table.origin.ctx.max(1));
        let mut losses = Vec::with_capacity(units.len());
        let mut sizes = Vec::with_capacity(units.len());
        for unit in &units {
            let known = rows.get(&(unit.name.as_str(), unit.block.map(|block| block as u32))).map_or(&[][..], Vec::as_slice);
            let lacks = |what: &str| Error::unfit(format!("the sensitivities lack {what} of {}", unit.full_name()));
            let mut own = Vec::with_capacity(types.len());
            for &dtype in &types {
                let row = known.iter().find(|(of, _)| *of == dtype).map(|(_, row)| *row);
                let row = row.ok_or_else(|| lacks(&format!("the type {dtype}")))?;
                own.push(loss(known, row, windows).ok_or_else(|| lacks("a measured divergence"))?);
            }
            losses.push(own);
            sizes.push(plans.iter().map(|plan| unit.bytes(plan, alignment)).collect::<Vec<u64>>());
        }
        let costs = |of: fn(&Ranged) -> Option<f64>| range::costs(&sizes, &losses, of);
        let choices = costs(|loss| Some(loss.value)).unwrap_or_default();
        let ranges = costs(|loss| Some(loss.range?.low)).zip(costs(|loss| Some(loss.range?.high)));
        let ranges = ranges.map(|(low, high)| [low, high]);
        let together = types.iter().enumerate().filter_map(|(to, dtype)| {
            let of = rows.get(&(TOGETHER, None))?.iter().find(|(of, _)| of == dtype)?.1;
            Some((losses.iter().map(|own: &Vec<Ranged>| own[to].value).sum::<f64>(), of.kld?))
        });
        let joined = Joined::new(together.collect());
        let (texts, fit_bytes) = (TEXTS, 0);
        Ok(Self { checkpoint, options, alignment, units, types, plans, choices, ranges, joined, texts, fit_bytes })
    }

    /// For files that will be fitted to `texts` texts; 0 for files that will not be.
    #[must_use]
    pub fn for_texts(self, texts: usize) -> Self {
        let keys = || fit::metadata_bytes(self.checkpoint, texts).next_multiple_of(self.alignment);
        let fit_bytes = if texts > 0 { keys() } else { 0 };
        Self { texts: self.texts.max(texts), fit_bytes, ..self }
    }

    /// The most bytes that the file of a candidate of llama.cpp's types takes, with what fitting adds where it will be fitted.
    pub fn file_bytes(&self, mix: &Candidate) -> u64 {
        mix.bytes + self.fit_bytes
    }

    /// The units.
    pub fn units(&self) -> &[TensorUnit] {
        &self.units
    }

    /// What to say where sensitivities were measured with other importance than the files will be made with.
    pub fn importance_note(&self, origin: &SensitivityOrigin) -> Option<String> {
        let own = self.options.imatrix.as_ref().map(|imatrix| importance_sha256(imatrix, &self.units));
        let with = if own.is_some() { "another importance matrix" } else { "an importance matrix" };
        let note = || format!("the sensitivities were measured with {with}; they hold for these files only about");
        (own != origin.imatrix_sha256).then(note)
    }

    /// A recipe as a candidate; `text` is what stands in its file.
    fn candidate(&self, recipe: &Arc<Recipe>, text: String) -> Result<Candidate> {
        let output = Output::of(self.checkpoint.as_ref(), recipe, &self.options, Path::new("none.gguf"))?;
        let bytes = output.files()?.iter().map(|(_, bytes)| bytes).sum();
        let plan = output.plan;
        let bpw = plan.bits_per_weight();
        let Prediction { kld: predicted_kld, range: predicted_range, .. } = self.predict(&plan);
        Ok(Candidate { text, plan, bytes, bpw, predicted_kld, predicted_range })
    }

    /// What a plan of this model is expected to lose where its weights are encoded with the importance that was measured with.
    /// What fitting takes off that is not known before it is measured.
    pub fn predict(&self, plan: &Plan) -> Prediction {
        let mut known = Vec::with_capacity(self.units.len());
        for unit in &self.units {
            let mut types = unit.types(plan);
            match self.plans.iter().position(|known| unit.types(known) == types) {
                Some(at) => known.push(at),
                None => {
                    types.dedup();
                    let types: Vec<String> = types.iter().map(|dtype| dtype.name().to_lowercase()).collect();
                    let unknown = Some(format!("{} in {}", unit.full_name(), types.join(" and ")));
                    return Prediction { kld: None, range: None, unknown };
                }
            }
        }
        let sum = |costs: &[Vec<Cost>]| known.iter().zip(costs).map(|(&at, costs)| costs[at].loss).sum::<f64>();
        let kld = sum(&self.choices);
        let ends = self.ranges.as_ref().map(|[low, high]| Interval { low: sum(low), high: sum(high) });
        Prediction { kld: Some(kld), range: ends.and_then(|ends| self.joined.range(kld, ends)), unknown: None }
    }

    /// A mix of llama.cpp's.
    ///
    /// # Errors
    /// One that does not fit the model.
    pub fn mix(&self, recipe: &Arc<Recipe>, name: &str) -> Result<Candidate> {
        let text = allocate::recipe(name, &recipe.name, &format!("{} as it is", recipe.name), &[]);
        self.candidate(recipe, text)
    }

    /// The best of llama.cpp's mixes that keeps a target: the largest for a size, the smallest for a divergence. Where none
    /// does, the nearest.
    ///
    /// # Errors
    /// As [`Self::mix`].
    pub fn usual(&self, target: Target) -> Result<Arc<Recipe>> {
        let mut names = MIXES;
        if matches!(target, Target::Divergence(_)) {
            names.reverse();
        }
        for name in names {
            let recipe = Recipe::find(name)?;
            let mix = self.mix(&recipe, "mix")?;
            let keeps = match target {
                Target::FileBytes(most) => self.file_bytes(&mix) <= most,
                Target::BitsPerWeight(most) => mix.bpw <= most,
                Target::Divergence(most) => mix.predicted_kld.is_some_and(|kld| kld <= most),
            };
            if keeps {
                return Ok(recipe);
            }
        }
        Ok(Recipe::find(names[names.len() - 1])?)
    }

    /// The choice that a target leads to; everything that is no unit with a choice is as in `base`.
    ///
    /// # Errors
    /// A target that no choice keeps; a `name` that recipes cannot have.
    pub fn choose(&self, target: Target, base: &Arc<Recipe>, name: &str) -> Result<Candidate> {
        let mix = self.mix(base, name)?;
        let of_units: u64 = self.units.iter().map(|unit| unit.bytes(&mix.plan, self.alignment)).sum();
        let exact: u64 =
            self.units.iter().flat_map(|unit| &unit.tensors).filter_map(|name| Some(mix.plan.get(name)?.bytes())).sum();
        let goal = match target {
            Target::FileBytes(most) => {
                let reserved = RESERVED.max(RESERVED / 2 + fit::metadata_bytes(self.checkpoint, self.texts));
                most.checked_sub(mix.bytes - of_units + reserved).map(Goal::Bytes)
            }
            Target::BitsPerWeight(bpw) => {
                let most = (bpw * mix.plan.weights() as f64 / 8.0) as u64;
                most.checked_sub(mix.plan.bytes() - exact).map(Goal::Bytes)
            }
            Target::Divergence(most) => Some(Goal::Loss(most)),
        };
        let chosen = goal.and_then(|goal| allocate::solve(&self.choices, goal)).ok_or_else(|| self.impossible(target))?;
        let chosen: Vec<(&TensorUnit, DType)> =
            self.units.iter().zip(&chosen).map(|(unit, &to)| (unit, self.types[to])).collect();
        let read = |text: String| -> Result<Candidate> {
            let recipe = Arc::new(Recipe::parse(Path::new(&format!("{name}.toml")), &text)?);
            self.candidate(&recipe, text)
        };
        let found = read(allocate::recipe(name, &base.name, "", &chosen))?;
        let Candidate { bytes, bpw, predicted_kld, predicted_range, .. } = found;
        let kld = predicted_kld.unwrap_or_default();
        let range = predicted_range.map_or_else(String::new, |i| format!(" ({:.6} to {:.6})", i.low, i.high));
        let size = format!("{bytes} bytes, {bpw:.3} bits per weight");
        let about = format!("Types by measured sensitivities: {size}, predicted KLD {kld:.6}{range}.");
        let found = Candidate { text: allocate::recipe(name, &base.name, &about, &chosen), ..found };
        let keeps = match target {
            Target::FileBytes(most) => self.file_bytes(&found) <= most,
            Target::BitsPerWeight(most) => found.bpw <= most,
            Target::Divergence(_) => true,
        };
        if keeps { Ok(found) } else { Err(self.impossible(target)) }
    }

    /// A target that nothing keeps, with what is nearest to it.
    fn impossible(&self, target: Target) -> Error {
        let all = |pick: fn(&[Cost]) -> f64| self.choices.iter().map(|choices| pick(choices)).sum::<f64>();
        let least = all(|choices| choices.iter().map(|choice| choice.loss).fold(f64::INFINITY, f64::min));
        let smallest = all(|choices| choices.iter().map(|choice| choice.bytes as f64).fold(f64::INFINITY, f64::min));
        let types: Vec<String> = self.types.iter().map(|dtype| dtype.name().to_lowercase()).collect();
        let types = types.join(", ");
        Error::unfit(match target {
            Target::FileBytes(most) => {
                format!("no choice among {types} fits into {most} bytes: the units alone take {smallest}; measure smaller types")
            }
            Target::BitsPerWeight(bpw) => format!("no choice among {types} has {bpw} bits per weight or fewer"),
            Target::Divergence(most) => {
                format!(
                    "no choice among {types} has a predicted KLD of {most} or less: the least is {least:.6}; measure larger types"
                )
            }
        })
    }
}

/// What a unit loses in the type of `row`, with its range over `windows`: as measured, or in proportion to the error of its
/// outputs, from the measured type whose error is nearest.
fn loss(known: &[(DType, &Sensitivity)], row: &Sensitivity, windows: u64) -> Option<Ranged> {
    if row.kld.is_some() {
        return Ranged::of(row, 1.0, windows);
    }
    let distance = |other: &Sensitivity| match (row.err > 0.0, other.err > 0.0) {
        (true, true) => libm::log(row.err / other.err).abs(),
        (false, false) => 0.0,
        _ => f64::INFINITY,
    };
    let measured = known.iter().map(|(_, other)| *other).filter(|other| other.kld.is_some());
    let nearest = measured.min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
    // Where nothing was off in the measured type, what it lost is all that is known.
    let ratio = if nearest.err > 0.0 { row.err / nearest.err } else { 1.0 };
    Ranged::of(nearest, ratio, windows)
}

#[cfg(test)]
mod tests;
