//! Models timed in turn where they fit into memory together, and else one after the other.

use bitworth_quant::message::Message;

use super::{NoEnergy, Timings, Workload, measure};
use crate::Watch;
use crate::device::Device;
use crate::error::{At, Error, Result};
use crate::on_device;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep;
use bitworth_eval::record::Speed;

/// The timings of all models, or of the first ones where it was stopped between them.
pub struct TimedModels {
    /// Whether one was timed after the other.
    pub sequential: bool,
    /// By model.
    pub speeds: Vec<Vec<Speed>>,
    /// One list for all models that took turns, one for each that did not; see [`Timings::anchors`].
    pub anchors: Vec<Vec<f64>>,
    /// What counted the energy, or why nothing did.
    pub energy: Result<Vec<String>, NoEnergy>,
    /// What the user should know: that models do not fit together, what to do where timings drifted.
    pub notes: Vec<Message>,
    /// Whether it was stopped early. All timings there are complete.
    pub interrupted: bool,
}

/// Times `variants`, in turn unless `sequential` asks otherwise or they do not fit into memory together.
///
/// # Errors
/// As [`measure`]; keys and values that do not fit into memory.
pub fn measure_all(
    device: &Device,
    variants: &[Variant],
    load: &Workload,
    sequential: bool,
    watch: Watch<'_>,
) -> Result<TimedModels> {
    for variant in variants {
        load.check(sweep::longest_sequence(variant.hparams())).at(|| variant.checkpoint().path().display().to_string())?;
    }
    let together = fit_together(device, variants, load)?;
    let sequential = variants.len() > 1 && (sequential || !together);
    let mut notes = Vec::new();
    if sequential && !together {
        notes.push("the models do not fit into memory together: one is timed after the other".into());
    }
    let all: Vec<&Variant> = variants.iter().collect();
    let mut parts: Vec<Timings> = Vec::new();
    for models in all.chunks(if sequential { 1 } else { all.len().max(1) }) {
        match on_device!(device, backend => measure(backend, models, load, watch)) {
            // What was timed before is whole.
            Err(e) if !parts.is_empty() && e.is_interruption() => {
                parts.iter_mut().for_each(|part| part.interrupted = true);
            }
            timings => parts.push(timings?),
        }
        if parts.iter().any(|part| part.interrupted) {
            break;
        }
    }
    let interrupted = parts.iter().any(|part| part.interrupted);
    let energy = parts.first().map_or_else(|| Ok(Vec::new()), |part| part.energy.clone());
    notes.extend(parts.iter().filter_map(|part| part.drift.clone()));
    let (speeds, anchors): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.speeds, part.anchors)).unzip();
    Ok(TimedModels { sequential, speeds: speeds.concat(), anchors, energy, notes, interrupted })
}

/// Whether weights and caches of all models fit into nine tenths of what is free.
fn fit_together(device: &Device, variants: &[Variant], load: &Workload) -> Result<bool> {
    let free = device.free_memory();
    let mut needed = 0u64;
    for variant in variants {
        let cache = load.cache_bytes(variant.hparams());
        // A cache is not mapped from a file: the system cannot give way.
        if let Some(free) = free.filter(|&free| cache > free) {
            let [cache, free] = [cache, free].map(|bytes| bytes as f64 / f64::from(1 << 30));
            return Err(Error::unfit(format!(
                "{}: keys and values of that depth and batch take {cache:.1} GiB, and {free:.1} are free",
                variant.checkpoint().name()
            )));
        }
        needed = needed.saturating_add(variant.bytes()).saturating_add(cache);
    }
    Ok(free.is_none_or(|free| needed < free / 10 * 9))
}
