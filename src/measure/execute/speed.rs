//! The timings of a job: the lanes of all its models in turn, where they fit into memory together, and else one after the other.

use bitworth_engine::error::EngineError;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::Lane;
use bitworth_eval::record::{Body, Speed};
use bitworth_quant::message::Message;

use super::stages::Stages;
use super::stand_in::{self, CACHES, TimedShape};
use super::{Run, items};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::on_device;
use crate::probe::last_level_cache;
use crate::timing::{self, NoEnergy, TimedEngine, Timings};

/// How lanes were timed.
#[derive(Debug)]
pub struct TimedTogether {
    /// Whether one was timed after the other.
    pub sequential: bool,
    /// One list for all lanes that took turns, one for each that did not; see [`Timings::anchors`].
    pub anchors: Vec<Vec<f64>>,
    /// What counted the energy, or why nothing did.
    pub energy: Result<Vec<String>, NoEnergy>,
    /// Whether it was stopped early, in a job without a folder. All timings there are complete.
    pub interrupted: bool,
}

/// A lane to be timed, and what is timed in its place.
struct ToTime<'r, 'a> {
    run: &'r Run<'a>,
    lane: &'r Lane,
    variant: Variant,
}

/// Times what is not timed yet.
pub fn time(runs: &[Run<'_>], device: &Device, stages: &Stages<'_>) -> Result<Option<TimedTogether>> {
    let Some(spec) = runs.iter().find_map(|run| run.model.speed.as_ref()) else { return Ok(None) };
    let mut missing = Vec::new();
    for run in runs {
        // A noise floor is the reference again: timings have an arithmetic of their own.
        for lane in run.lanes.iter().filter(|lane| lane.arithmetic == run.model.arithmetic) {
            if !run.is_done(&items::speed_item(&lane.name))? {
                missing.push((run, lane));
            }
        }
    }
    let mut timed =
        TimedTogether { sequential: spec.sequential, anchors: Vec::new(), energy: Ok(Vec::new()), interrupted: false };
    if missing.is_empty() {
        return Ok(Some(timed));
    }
    let stage = stages.begin("timing");
    let mut to_time = Vec::new();
    for run in runs {
        let own: Vec<&Lane> = missing.iter().filter(|(of, _)| std::ptr::eq(*of, run)).map(|(_, lane)| *lane).collect();
        to_time.extend(run.stand_ins(&own)?);
    }
    let variants: Vec<Variant> = to_time.iter().map(|one| one.variant.clone()).collect();
    let (at_once, note) = timing::groups(device, &variants, &spec.load, spec.sequential)?;
    runs[0].notes.borrow_mut().extend(note);
    timed.sequential = at_once < to_time.len();
    let mut groups: Vec<&[ToTime<'_, '_>]> = to_time.chunks(at_once).collect();
    let mut next = 0;
    let mut failed = None;
    while next < groups.len() {
        let group = groups[next];
        stages.part(next, groups.len());
        let variants: Vec<&Variant> = group.iter().map(|one| &one.variant).collect();
        let watch = group[0].run.watch;
        match on_device!(device, backend => timing::measure(backend, &variants, &spec.load, watch)) {
            Ok(timings) => {
                let interrupted = timings.interrupted;
                if interrupted && group[0].run.folder().is_some() {
                    return Err(Error::interrupted());
                }
                keep(group, timings, spec.shape.as_ref(), &mut timed)?;
                if interrupted {
                    timed.interrupted = true;
                    break;
                }
            }
            // What was timed before is whole.
            Err(e) if e.is_interruption() && !timed.anchors.is_empty() && group[0].run.folder().is_none() => {
                timed.interrupted = true;
                break;
            }
            // A model too large to be resident was scored all the same; its speed stays empty, and a later run tries again.
            Err(Error::Engine(EngineError::Device(why))) if group.len() == 1 => {
                let ToTime { run, lane, .. } = &group[0];
                run.note(Message::from(format!("{} is not timed: ", lane.name)).then(why.message()));
                failed = Some(Error::Engine(EngineError::Device(why)));
            }
            // Another program that times nothing, and nothing beside it.
            Err(e @ Error::Unfit { .. }) if !spec.load.engines.contains(&TimedEngine::Bitworth) => {
                group[0].run.note(Message::from("not timed: ").then(e.message()));
                failed = Some(e);
            }
            // Together they were too much for the device.
            Err(Error::Engine(EngineError::Device(_))) => {
                groups.splice(next..=next, group.chunks(1));
                timed.sequential = true;
                continue;
            }
            Err(e) => return Err(e),
        }
        next += 1;
    }
    stages.end(stage);
    match failed {
        // There is nothing else to show.
        Some(e) if timed.anchors.is_empty() && runs[0].folder().is_none() => Err(e),
        _ => Ok(Some(timed)),
    }
}

/// Keeps the timings of lanes that took turns.
fn keep(group: &[ToTime<'_, '_>], timings: Timings, shape: Option<&TimedShape>, timed: &mut TimedTogether) -> Result<()> {
    let shape = shape.map(|shape| shape.name().to_owned());
    for (ToTime { run, lane, .. }, speeds) in group.iter().zip(timings.speeds) {
        let record = |speed: Speed| run.record(lane, Body::Speed(Speed { shape: shape.clone(), ..speed }));
        run.keep(&items::speed_item(&lane.name), speeds.into_iter().map(record).collect())?;
    }
    let run = group[0].run;
    run.notes.borrow_mut().extend(timings.failed.into_iter().map(|why| Message::from("not timed: ").then(why)));
    if let Some(drift) = timings.drift {
        let of = if group.len() == 1 { format!("{}: ", group[0].lane.name) } else { String::new() };
        run.note(Message::from(of).then(drift));
    }
    timed.anchors.push(timings.anchors);
    timed.energy = timings.energy;
    Ok(())
}

impl<'a> Run<'a> {
    /// What is timed in the place of lanes: the lanes themselves, or files that stand for them.
    fn stand_ins<'r>(&'r self, lanes: &[&'r Lane]) -> Result<Vec<ToTime<'r, 'a>>> {
        let Some(spec) = &self.model.speed else { return Ok(Vec::new()) };
        let one = |(lane, variant): (&'r Lane, Variant)| ToTime { run: self, lane, variant };
        if let Some(shape) = &spec.shape {
            return Ok(self.shaped(lanes, shape)?.into_iter().map(one).collect());
        }
        let elsewhere = spec.load.engines.iter().any(|engine| matches!(engine, TimedEngine::LlamaBench(_)));
        let mut timed = Vec::new();
        for lane in lanes {
            let is_gguf =
                matches!(&lane.variant, Variant::Stored(stored) if stored.path().extension().is_some_and(|e| e == "gguf"));
            let file = match self.folder().filter(|_| elsewhere && !is_gguf) {
                Some(folder) => stand_in::converted(&lane.variant, &folder, self.watch)?,
                None => None,
            };
            timed.push(one((*lane, file.unwrap_or_else(|| lane.variant.clone()))));
        }
        Ok(timed)
    }

    /// Files of a shape in the types of lanes. A lane whose types no recipe makes, or whose file would not fit into memory, is
    /// left out with a note.
    fn shaped<'r>(&'r self, lanes: &[&'r Lane], shape: &TimedShape) -> Result<Vec<(&'r Lane, Variant)>> {
        let Some(folder) = self.folder() else {
            return Err(Error::unfit(
                "speed.shape needs a folder, where its files stand; measure into a folder, or leave it out",
            ));
        };
        let (mut kept, mut recipes) = (Vec::new(), Vec::new());
        for lane in lanes {
            let Some(recipe) = self.model.recipe_of(lane) else {
                let what = format!("{} is not timed: no recipe makes its types, so the shape cannot have them", lane.name);
                self.note(what.into());
                continue;
            };
            kept.push(*lane);
            recipes.push(recipe);
        }
        let files = shape.files(&folder, &recipes, self.watch)?;
        let free = self.device.free_memory();
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let mut timed = Vec::new();
        let mut in_cache: Vec<String> = Vec::new();
        for (lane, file) in kept.into_iter().zip(files) {
            let bytes = file.bytes();
            if let Some(free) = free.filter(|&free| bytes > free) {
                self.note(
                    format!(
                        "{} is not timed: the shape {} takes {:.1} GB in its types, and {:.1} GB of memory are free; name a \
                         smaller shape",
                        lane.name,
                        shape.name(),
                        gigabytes(bytes),
                        gigabytes(free)
                    )
                    .into(),
                );
                continue;
            }
            if last_level_cache().is_some_and(|cache| bytes < CACHES * cache) {
                in_cache.push(lane.name.clone());
            }
            timed.push((lane, file));
        }
        if !in_cache.is_empty() {
            let what = "less than ten times the processor's last cache, so that their speeds may be a little high";
            self.note(format!("{}: the weights of the shape {} are {what}", in_cache.join(", "), shape.name()).into());
        }
        Ok(timed)
    }
}
