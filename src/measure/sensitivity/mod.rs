//! What every unit of a model loses in every type: how far off the outputs of its matrices are, and how far the whole model's
//! predictions are from the reference's when that unit alone is in another type.
//!
//! Each unit in a type is a lane that is the reference everywhere else. Such lanes begin with the reference's activations and
//! have their own from their block on (see `bitworth_engine::sweep`), so all of them together take about half of what as many
//! whole models would. One more lane a measured type has all units in it: what they lose together is not the sum. Absent: what
//! to make of it (see [`crate::allocate`]).

mod errors;
mod kept;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bitworth_quant::allocate::{self, TensorUnit};
use bitworth_quant::checkpoint::{Checkpoint, ModelOrigin, Tensor};
use bitworth_quant::hex::hex;
use bitworth_quant::imatrix::ImatrixFormat;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::{DType, Imatrix, Plan};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use self::errors::OutputError;
use self::kept::Kept;
use super::Watch;
use super::error::{Error, Result};
use super::imatrix::{self, Collect};
use super::text::TextWindows;
use bitworth_engine::backend::{Arithmetic, Backend};
use bitworth_engine::error::EngineError;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane, LaneScores, Resume, SweepLimits, SweepOptions};
use bitworth_eval::sensitivity::{Sensitivity, SensitivityOrigin, SensitivityTable, TOGETHER};
use bitworth_eval::stats::mean_with_error;

/// What is measured, and how.
pub struct Measure<'a> {
    /// The types of the table.
    pub types: &'a [DType],
    /// Those of them in which divergences are measured; for others only the errors of outputs are known.
    pub measured: &'a [DType],
    /// Whether one lane stands for all units of a block, which share what it loses by the errors of their outputs.
    pub fast: bool,
    /// What encoders weigh by; collected on the text where there is none.
    pub imatrix: Option<Arc<Imatrix>>,
    /// How walks are cut.
    pub limits: SweepLimits,
    /// A folder that keeps what is done.
    pub resume: Option<&'a Path>,
}

/// The types of a table in which divergences are measured where nobody says: what larger ones lose is little beside the noise of
/// a short text. Where the table has none of the usual ones it is its first.
pub fn usual(types: &[DType]) -> Vec<DType> {
    let usual = [DType::Q2_K, DType::Q3_K, DType::Q4_K];
    let found: Vec<DType> = types.iter().copied().filter(|dtype| usual.contains(dtype)).collect();
    if found.is_empty() { types.iter().copied().take(1).collect() } else { found }
}

/// What one lane loses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Divergence {
    mean: f64,
    error: Option<f64>,
}

/// Parts of a model in another type together.
#[derive(Debug, Clone, PartialEq)]
struct Branch {
    units: Vec<usize>,
    /// The number of the type among those of the table.
    to: usize,
}

/// The identity of a model in tables of sensitivities.
///
/// # Errors
/// A model that cannot be read.
pub fn model_sha256(checkpoint: &Arc<Checkpoint>) -> Result<String> {
    Ok(hex(&Variant::Stored(checkpoint.clone()).fingerprint()?))
}

/// Measures.
///
/// # Errors
/// A model that is quantized already, or that a type does not fit; a text that was cut to nothing; what [`sweep::sweep`] and
/// [`imatrix::collect`] may meet; a folder that holds another measurement.
pub fn measure<B: Backend>(
    backend: &B,
    checkpoint: &Arc<Checkpoint>,
    text: &TextWindows,
    asked: &Measure<'_>,
    watch: Watch<'_>,
) -> Result<SensitivityTable> {
    if let Some(dtype) = asked.measured.iter().find(|dtype| !asked.types.contains(dtype)) {
        return Err(Error::unfit(format!("{dtype} is to be measured and is none of the types of the table")));
    }
    let quantized = |tensor: &&Tensor| !tensor.dtype.is_float() && !tensor.dtype.is_carried();
    let published = checkpoint.origin() == ModelOrigin::Safetensors;
    if let Some(tensor) = checkpoint.tensors().iter().find(quantized).filter(|_| !published) {
        let (path, Tensor { name, dtype, .. }) = (checkpoint.path().display(), tensor);
        return Err(Error::unfit(format!("{path}: {name} is {dtype} already; measure the original, in floats")));
    }
    let units = allocate::units(checkpoint.as_ref(), &PlanOptions::default())?;
    let origin = SensitivityOrigin {
        bitworth: env!("CARGO_PKG_VERSION").to_owned(),
        model_sha256: model_sha256(checkpoint)?,
        text_sha256: text.sha256.clone(),
        imatrix_sha256: None,
        tokens: text.sequences.iter().map(|sequence| sequence.tokens.len() as u64).sum(),
        ctx: text.protocol.ctx,
    };
    let identity = json!({
        "bitworth": origin.bitworth, "model": origin.model_sha256, "text": origin.text_sha256, "tokens": origin.tokens,
        "ctx": origin.ctx, "types": names(asked.types), "measured types": names(asked.measured), "fast": asked.fast,
        "together": true, "importance": asked.imatrix.as_deref().map(|matrix| importance_sha256(matrix, &units)),
        "memory": asked.limits.memory_bytes, "device": backend.info().name,
    });
    let kept = Kept::open(asked.resume, &identity)?;
    let imatrix = match &asked.imatrix {
        Some(imatrix) => imatrix.clone(),
        None => collect(backend, checkpoint, text, asked, &kept, watch)?,
    };
    let origin = SensitivityOrigin { imatrix_sha256: Some(importance_sha256(&imatrix, &units)), ..origin };
    let options = PlanOptions { imatrix: Some(imatrix.clone()), ..PlanOptions::default() };
    let plans = asked.types.iter().map(|&dtype| {
        let plan = allocate::alike(checkpoint.as_ref(), dtype, &options)?;
        plan.check_importance(checkpoint.path())?;
        Ok(plan)
    });
    let plans = plans.collect::<Result<Vec<Plan>>>()?;
    let errors = kept.item("errors", || {
        let wanted = wanted(&units, &plans);
        let sequences: Vec<Vec<u32>> = text.sequences.iter().map(|sequence| sequence.tokens.clone()).collect();
        let variant = &Variant::Stored(checkpoint.clone());
        let walk = errors::Walk {
            variant,
            wanted: &wanted,
            size: [units.len(), plans.len()],
            imatrix: Some(&imatrix),
            sequences: &sequences,
            limits: asked.limits,
        };
        errors::errors(backend, &walk, watch)
    })?;
    let (branches, together) = (branches(&units, asked), together(&units, asked));
    let work = Work { backend, checkpoint, text, asked, units: &units, plans: &plans, kept: &kept, watch };
    let mut divergences = work.divergences(&[&branches[..], &together[..]].concat())?;
    let of_all = divergences.split_off(branches.len());
    let alignment = allocate::alignment(checkpoint.as_ref())?;
    let mut rows = Vec::new();
    for (number, unit) in units.iter().enumerate() {
        for (to, dtype) in asked.types.iter().enumerate() {
            let found = branches.iter().zip(&divergences).find(|(branch, _)| branch.to == to && branch.units.contains(&number));
            let shared = found.is_some_and(|(branch, _)| branch.units.len() > 1);
            let kld = found.map(|(branch, divergence)| (share(&errors, branch, number), divergence));
            rows.push(Sensitivity {
                unit: unit.name.clone(),
                block: unit.block.map(|block| block as u32),
                to: dtype.name().to_lowercase(),
                bytes: unit.bytes(&plans[to], alignment),
                err: errors[number][to].relative(),
                kld: kld.map(|(share, divergence)| share * divergence.mean),
                kld_error: kld.and_then(|(share, divergence)| Some(share * divergence.error?)),
                shared,
            });
        }
    }
    for (Branch { to, .. }, divergence) in together.iter().zip(of_all) {
        let sum = |of: fn(&OutputError) -> f64| errors.iter().map(|own| of(&own[*to])).sum::<f64>();
        rows.push(Sensitivity {
            unit: TOGETHER.to_owned(),
            block: None,
            to: asked.types[*to].name().to_lowercase(),
            bytes: units.iter().map(|unit| unit.bytes(&plans[*to], alignment)).sum(),
            err: OutputError { error: sum(|of| of.error), output: sum(|of| of.output) }.relative(),
            kld: Some(divergence.mean),
            kld_error: divergence.error,
            shared: false,
        });
    }
    kept.remove()?;
    Ok(SensitivityTable { origin, rows })
}

fn names(types: &[DType]) -> Vec<&'static str> {
    types.iter().map(|dtype| dtype.name()).collect()
}

/// What tells importance weights from others.
pub fn importance_sha256(imatrix: &Imatrix, units: &[TensorUnit]) -> String {
    let mut hash = Sha256::new();
    for name in units.iter().flat_map(|unit| &unit.tensors) {
        let weights = imatrix.weights(name).unwrap_or_default();
        hash.update(format!("{name} {}\n", weights.len()));
        weights.iter().for_each(|weight| hash.update(weight.to_le_bytes()));
    }
    hex(&hash.finalize())
}

/// The importance of columns on the text, as a file would hold it.
fn collect<B: Backend>(
    backend: &B,
    checkpoint: &Arc<Checkpoint>,
    text: &TextWindows,
    asked: &Measure<'_>,
    kept: &Kept,
    watch: Watch<'_>,
) -> Result<Arc<Imatrix>> {
    let passing = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let path = kept.path("imatrix.gguf").unwrap_or_else(|| passing.path().join("imatrix.gguf"));
    if !path.exists() {
        let windows: Vec<Vec<u32>> = text.sequences.iter().map(|sequence| sequence.tokens.clone()).collect();
        let how = Collect { cut: asked.limits, ..Collect::default() };
        let sums = imatrix::collect(backend, &Variant::Stored(checkpoint.clone()), &windows, text.protocol.ctx, how, watch)?;
        sums.write(&path, ImatrixFormat::Gguf)?;
    }
    Ok(Arc::new(Imatrix::open(&path)?.named("imatrix.gguf")))
}

/// By tensor: the number of its unit, and what it becomes by type.
fn wanted(units: &[TensorUnit], plans: &[Plan]) -> HashMap<String, (usize, Vec<DType>)> {
    let mut wanted = HashMap::new();
    for (number, unit) in units.iter().enumerate() {
        for name in &unit.tensors {
            let types = plans.iter().filter_map(|plan| Some(plan.get(name)?.to)).collect();
            wanted.insert(name.clone(), (number, types));
        }
    }
    wanted
}

/// What is measured, so that neighbours differ from the reference from about the same block on.
fn branches(units: &[TensorUnit], asked: &Measure<'_>) -> Vec<Branch> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (number, unit) in units.iter().enumerate() {
        let same = |group: &&mut Vec<usize>| asked.fast && unit.block.is_some() && units[group[0]].block == unit.block;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(number),
            None => groups.push(vec![number]),
        }
    }
    groups.sort_by_key(|group| units[group[0]].block);
    let types = (0..asked.types.len()).filter(|&to| asked.measured.contains(&asked.types[to]));
    let types: Vec<usize> = types.collect();
    groups.iter().flat_map(|group| types.iter().map(|&to| Branch { units: group.clone(), to })).collect()
}

/// The model with all units in a type, for each that is measured.
fn together(units: &[TensorUnit], asked: &Measure<'_>) -> Vec<Branch> {
    let types = (0..asked.types.len()).filter(|&to| asked.measured.contains(&asked.types[to]));
    types.map(|to| Branch { units: (0..units.len()).collect(), to }).collect()
}

/// A unit's share of what several units lose together: in proportion to the errors of their outputs.
fn share(errors: &[Vec<OutputError>], branch: &Branch, unit: usize) -> f64 {
    if branch.units.len() == 1 {
        return 1.0;
    }
    let of = |unit: usize| errors[unit][branch.to].relative();
    let all: f64 = branch.units.iter().map(|&unit| of(unit)).sum();
    if all > 0.0 { of(unit) / all } else { 1.0 / branch.units.len() as f64 }
}

/// What all walks over branches have in common.
struct Work<'a, B: Backend> {
    backend: &'a B,
    checkpoint: &'a Arc<Checkpoint>,
    text: &'a TextWindows,
    asked: &'a Measure<'a>,
    units: &'a [TensorUnit],
    plans: &'a [Plan],
    kept: &'a Kept,
    watch: Watch<'a>,
}

impl<B: Backend> Work<'_, B> {
    /// The divergence of each branch, in walks over as many as fit the memory.
    fn divergences(&self, branches: &[Branch]) -> Result<Vec<Divergence>> {
        let mut at_once = branches.len().max(1);
        loop {
            let largest = branches.chunks(at_once).map(|group| self.fits(group)).find(|fits| !matches!(fits, Ok(true)));
            match largest {
                None => break,
                Some(Err(e)) => return Err(e),
                Some(_) => at_once = at_once.div_ceil(2),
            }
        }
        let mut found = Vec::with_capacity(branches.len());
        for (number, group) in branches.chunks(at_once).enumerate() {
            found.extend(self.kept.item(&format!("branches-{number:05}"), || self.group(group))?);
        }
        Ok(found)
    }

    fn lanes(&self, branches: &[Branch]) -> Vec<Lane> {
        let lane = |name: String, variant| Lane { name, variant, arithmetic: Arithmetic::F32 };
        let mut lanes = vec![lane("reference".to_owned(), Variant::Stored(self.checkpoint.clone()))];
        for branch in branches {
            let tensors = branch.units.iter().flat_map(|&unit| self.units[unit].tensors.clone()).collect();
            let unit = TensorUnit { tensors, ..self.units[branch.units[0]].clone() };
            let of = if branch.units.len() == self.units.len() { TOGETHER.to_owned() } else { unit.full_name() };
            let name = format!("{of} {}", self.asked.types[branch.to]);
            lanes.push(lane(name, Variant::Planned(self.checkpoint.clone(), Arc::new(unit.alone(&self.plans[branch.to])))));
        }
        lanes
    }

    /// Whether branches fit the memory together; one alone must.
    fn fits(&self, branches: &[Branch]) -> Result<bool> {
        match sweep::plan(self.backend, &self.lanes(branches), &self.text.sequences, &self.asked.limits) {
            Ok(_) => Ok(true),
            Err(EngineError::TooLittleMemory { .. }) if branches.len() > 1 => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn group(&self, branches: &[Branch]) -> Result<Vec<Divergence>> {
        let folder = self.kept.path("sweep");
        let resume = folder.as_deref().map(|folder| Resume { folder, every_layer: false, renews: true });
        let options = SweepOptions { limits: self.asked.limits, resume, ..SweepOptions::default() };
        let (lanes, sequences) = (self.lanes(branches), &self.text.sequences);
        let scores = sweep::sweep(self.backend, &lanes, sequences, &options, self.watch.progress, self.watch.stop)?;
        Ok(scores.lanes[1..].iter().map(divergence).collect())
    }
}

/// The mean over tokens, with its error by windows.
fn divergence(scores: &LaneScores) -> Divergence {
    let rows = scores.iter().zip(0..).flat_map(|(rows, window)| rows.iter().map(move |row| (row.kld, Some(window))));
    let mean = mean_with_error(&rows.collect::<Vec<_>>());
    mean.map_or(Divergence { mean: 0.0, error: None }, |mean| Divergence { mean: mean.mean, error: mean.clustered_error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_types_are_measured_or_else_the_first() {
        assert_eq!(usual(&[DType::Q8_0, DType::Q4_K, DType::Q2_K]), [DType::Q4_K, DType::Q2_K]);
        assert_eq!(usual(&[DType::Q8_0, DType::Q6_K]), [DType::Q8_0]);
        assert!(usual(&[]).is_empty());
    }
}
