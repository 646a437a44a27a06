//! The lanes of a run: the reference, a file for each recipe, and the candidates that are there already. What is missing is made
//! from one read of the model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bitworth_quant::checkpoint::{Model, ModelOrigin};
use bitworth_quant::gguf::Value;
use bitworth_quant::hex::hex;
use bitworth_quant::imatrix::{ImatrixFormat, Sums};
use bitworth_quant::plan::{PlanEntry, PlanOptions};
use bitworth_quant::quantize::{Output, QuantizeOptions, Split};
use bitworth_quant::{Checkpoint, Imatrix, Plan, Recipe};
use sha2::{Digest, Sha256};

use super::folder::MODELS;
use super::prepare::{Importance, Prepared, file_of};
use super::{Run, items};
use crate::device::{Device, DeviceSelector};
use crate::error::{At, Error, Result};
use crate::fit::{self, FitOptions};
use crate::imatrix::{self, Collect};
use crate::{models, on_device};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::Lane;
use bitworth_eval::job::free_name;
use bitworth_eval::record::{Body, COLLECTED_ON, LaneRecord};

/// The names of all lanes, which differ from each other.
pub struct Names {
    /// The reference's.
    pub reference: String,
    /// What made the reference, as its file says, or else the type that most of its weights have.
    pub recipe: String,
    /// The candidates', in order.
    pub candidates: Vec<String>,
}

/// The name of the file of a model's importance matrix, where the run collects it.
pub fn importance_file(checkpoint: &Checkpoint) -> String {
    format!("{}.imatrix.gguf", checkpoint.name())
}

/// Gives every lane a name of its own.
pub fn names(model: &mut Prepared) -> Names {
    let stored = models::reference(&model.checkpoint).name;
    let taken = model.recipes.iter().any(|recipe| recipe.name == stored);
    let reference = match () {
        () if model.by_name => model.name.clone(),
        () if taken => format!("{stored} (stored)"),
        () => stored.clone(),
    };
    let mut used: Vec<String> = model.recipes.iter().map(|recipe| recipe.name.clone()).collect();
    used.push(reference.clone());
    if let Some(floor) = model.candidates.last_mut().filter(|_| model.noise_floor) {
        floor.name = format!("{reference} ({})", floor.arithmetic.name());
    }
    for lane in &mut model.candidates {
        lane.name = free_name(&lane.name, '#', |name| used.iter().any(|known| known == name));
        used.push(lane.name.clone());
    }
    let recipe = match model.checkpoint.origin() {
        ModelOrigin::Gguf => models::recipe_name(&model.checkpoint),
        ModelOrigin::Safetensors => stored,
    };
    Names { reference, recipe, candidates: model.candidates.iter().map(|lane| lane.name.clone()).collect() }
}

impl Run<'_> {
    /// The importance matrix, which is collected once and then stands beside the models. The CPU collects it whatever the
    /// run's device: its sums are the same bits on every machine, and so are the models made with them.
    pub fn importance(&self, importance: &Importance) -> Result<Arc<Imatrix>> {
        let (name, windows, ctx) = match importance {
            Importance::Stored { imatrix, .. } => return Ok(imatrix.clone()),
            Importance::Collect { name, windows, ctx, .. } => (name, windows, *ctx),
        };
        let checkpoint = &self.model.checkpoint;
        let file = importance_file(checkpoint);
        let collect = || {
            let stage = self.stages.begin("importance matrix");
            let variant = Variant::Stored(checkpoint.clone());
            let chunk_size = u32::try_from(ctx).map_err(|_| Error::unfit(format!("imatrix.ctx = {ctx} is too long")))?;
            let sums = on_device!(&Device::open(DeviceSelector::Cpu)?, backend =>
                imatrix::collect(backend, &variant, windows, chunk_size, Collect::default(), self.watch))?;
            self.stages.end(stage);
            Ok::<_, Error>(Sums { datasets: vec![name.clone()], ..sums })
        };
        let Some(folder) = self.folder() else {
            // Kept nowhere, but read as a file is, so that the models are the same.
            let passing = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
            let path = passing.path().join(&file);
            collect()?.write(&path, ImatrixFormat::Gguf)?;
            return Ok(Arc::new(Imatrix::open(&path)?.named(&file)));
        };
        let path = folder.join(MODELS).join(&file);
        if path.exists() {
            self.found.set(self.found.get() + 1);
        } else {
            create(&folder.join(MODELS))?;
            collect()?.write(&path, ImatrixFormat::Gguf)?;
            self.store.borrow_mut().note_files(std::slice::from_ref(&path))?;
        }
        // Models say what they were made with: a name that is the same whatever the folder.
        Ok(Arc::new(Imatrix::open(&path)?.named(&file)))
    }

    /// The reference, one lane for each recipe, and the candidates.
    pub fn lanes(&self, imatrix: Option<&Arc<Imatrix>>) -> Result<Vec<Lane>> {
        let checkpoint = &self.model.checkpoint;
        let arithmetic = self.model.arithmetic;
        let reference = Lane { name: self.names.reference.clone(), arithmetic, ..models::reference(checkpoint) };
        if !self.is_done(items::REFERENCE_ITEM)? {
            let body = stored_record(&reference, &self.names.recipe, true, None)?;
            self.keep(items::REFERENCE_ITEM, vec![self.record(&reference, body)])?;
        }
        let mut lanes = vec![reference];
        let folder = self.folder().map(|folder| folder.join(MODELS));
        let candidates = self.candidates(imatrix)?;
        let made = self.made(folder.as_deref(), imatrix, &candidates)?;
        self.make(&made)?;
        let mut files = made.into_iter();
        for recipe in &self.model.recipes {
            if folder.is_some() || self.model.fitted.contains(&recipe.name) {
                lanes.push(self.next_file(&mut files)?);
                continue;
            }
            let plan = Plan::of(checkpoint.as_ref(), recipe, &self.model.choices(recipe, imatrix))?;
            let variant = Variant::Planned(checkpoint.clone(), Arc::new(plan));
            let lane = Lane { name: recipe.name.clone(), variant, arithmetic };
            self.on_the_fly(&lane)?;
            lanes.push(lane);
        }
        for lane in candidates {
            match &lane.variant {
                Variant::Planned(_, plan) if self.model.fitted.contains(&plan.recipe.name) => {
                    lanes.push(self.next_file(&mut files)?);
                    continue;
                }
                Variant::Planned(..) => self.on_the_fly(&lane)?,
                Variant::Stored(stored) => self.existing(&lane, stored)?,
            }
            lanes.push(lane);
        }
        Ok(lanes)
    }

    /// The candidates; those on the fly are planned again where their importance matrix was yet to be collected.
    fn candidates(&self, imatrix: Option<&Arc<Imatrix>>) -> Result<Vec<Lane>> {
        let model = self.model;
        let planned = |lane: &Lane| -> Result<Lane> {
            let Variant::Planned(checkpoint, plan) = &lane.variant else { return Ok(lane.clone()) };
            if !model.awaits_importance(&plan.recipe) {
                return Ok(lane.clone());
            }
            let plan = Plan::of(checkpoint.as_ref(), &plan.recipe, &model.choices(&plan.recipe, imatrix))?;
            plan.check_importance(checkpoint.path()).at(|| lane.name.clone())?;
            Ok(Lane { variant: Variant::Planned(checkpoint.clone(), Arc::new(plan)), ..lane.clone() })
        };
        model.candidates.iter().map(planned).collect()
    }

    /// Describes a candidate that is there already.
    fn existing(&self, lane: &Lane, stored: &Arc<Checkpoint>) -> Result<()> {
        let plan = fallen(&self.model.checkpoint, stored);
        if let Some(note) = plan.as_ref().and_then(Plan::fall_back_note) {
            self.note(format!("{}: {note}", lane.name).into());
        }
        let item = items::lane_item(&lane.name);
        if self.is_done(&item)? {
            return Ok(());
        }
        let mut body = stored_record(lane, &models::recipe_name(stored), false, None)?;
        if let Body::Lane(record) = &mut body {
            record.fell_back = plan.map(|plan| plan.fell_back() as u64);
        }
        self.keep(&item, vec![self.record(lane, body)])
    }

    /// The lanes that are files of this run: all recipes in a folder, and those whose weights are fitted wherever they stand.
    /// With what each is made as.
    fn made(&self, folder: Option<&Path>, imatrix: Option<&Arc<Imatrix>>, candidates: &[Lane]) -> Result<Vec<(String, Output)>> {
        let model = self.model;
        let source = model.checkpoint.as_ref();
        let passing = match folder {
            Some(folder) => folder.to_owned(),
            None if model.fitted.is_empty() => return Ok(Vec::new()),
            None => self.passing()?,
        };
        let mut made = Vec::new();
        for recipe in model.recipes.iter().filter(|recipe| folder.is_some() || model.fitted.contains(&recipe.name)) {
            let output = Output::of(source, recipe, &model.choices(recipe, imatrix), &file_of(&passing, source, recipe))?;
            made.push((recipe.name.clone(), Output { split: model.split.clone(), ..output }));
        }
        for lane in candidates {
            let Variant::Planned(_, plan) = &lane.variant else { continue };
            if model.fitted.contains(&plan.recipe.name) {
                let choices = PlanOptions { imatrix: plan.imatrix().cloned().map(Arc::new), ..PlanOptions::default() };
                let mut path = file_of(&passing, source, &plan.recipe);
                if let Some((other, _)) = made.iter().find(|(_, output): &&(String, Output)| output.path == path) {
                    if folder.is_some() {
                        let name = &plan.recipe.name;
                        let what =
                            format!("{other} and {} would make the same file, as both recipes are named {name}", lane.name);
                        return Err(Error::unfit(what));
                    }
                    path = file_of(&passing.join(made.len().to_string()), source, &plan.recipe);
                }
                made.push((lane.name.clone(), Output::of(source, &plan.recipe, &choices, &path)?));
            }
        }
        made.iter().for_each(|(_, output)| self.note_fall_back(&output.plan));
        Ok(made)
    }

    /// Files that are gone with the run.
    fn passing(&self) -> Result<PathBuf> {
        let mut passing = self.passing.borrow_mut();
        if passing.is_none() {
            *passing = Some(tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?);
        }
        Ok(passing.as_ref().map(|folder| folder.path().to_owned()).unwrap_or_default())
    }

    /// Makes the files that are missing.
    fn make(&self, made: &[(String, Output)]) -> Result<()> {
        let (mut missing, mut unfitted) = (Vec::new(), Vec::new());
        for (name, output) in made {
            let has_record = self.store.borrow().has(&items::lane_item(name))?;
            if has_record && files(output)?.iter().all(|path| path.exists()) {
                continue;
            }
            match self.model.fitted.contains(&output.plan.recipe.name) {
                true => unfitted.push(output.clone()),
                false => missing.push(output.clone()),
            }
        }
        for output in missing.iter().chain(&unfitted) {
            create(output.path.parent().unwrap_or(Path::new("")))?;
        }
        if !missing.is_empty() {
            let stage = self.stages.begin("quantizing");
            let options = QuantizeOptions::default();
            let source = self.model.checkpoint.as_ref();
            bitworth_quant::quantize::quantize(source, &missing, &options, self.watch.stop, self.watch.progress)?;
            self.stages.end(stage);
        }
        if let (Some((text, spec)), false) = (&self.model.fit, unfitted.is_empty()) {
            // The CPU, whatever the run's device: the same files on every machine.
            let stage = self.stages.begin("fitting weights");
            let (device, variant) = (Device::open(DeviceSelector::Cpu)?, Variant::Stored(self.model.checkpoint.clone()));
            let (outputs, notes) = (unfitted.clone(), Mutex::new(Vec::new()));
            let note = |text: &str| notes.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
            let (memory_bytes, output) = (self.model.limits.memory_bytes, spec.output);
            let options = FitOptions { memory_bytes, output, note: &note, ..FitOptions::default() };
            on_device!(&device, backend => fit::fit(backend, &variant, outputs, text, &options, self.watch))?;
            for text in notes.into_inner().unwrap_or_else(PoisonError::into_inner) {
                self.note(text.into());
            }
            self.stages.end(stage);
        }
        for output in missing.iter().chain(&unfitted) {
            self.store.borrow_mut().note_files(&files(output)?)?;
        }
        Ok(())
    }

    /// The next of the files that were made, as a lane. Records stand in the order of lanes.
    fn next_file(&self, made: &mut impl Iterator<Item = (String, Output)>) -> Result<Lane> {
        let (name, output) = made.next().ok_or_else(|| Error::unfit("a file is missing that was to be made"))?;
        let files = files(&output)?;
        let variant = Variant::Stored(Arc::new(Checkpoint::open(&files[0])?));
        let lane = Lane { name, variant, arithmetic: self.model.arithmetic };
        let item = items::lane_item(&lane.name);
        if !self.is_done(&item)? {
            let sha256 = match &files[..] {
                [file] => Some(file_sha256(file)?),
                _ => None,
            };
            let mut body = stored_record(&lane, &output.plan.recipe.name, false, sha256)?;
            if let Body::Lane(record) = &mut body {
                record.fell_back = Some(output.plan.fell_back() as u64);
                // Seen from the run's folder: the same run has the same records wherever it stands.
                let name = files[0].file_name().unwrap_or_default().to_string_lossy();
                record.file = self.folder().map(|_| format!("{MODELS}/{name}"));
            }
            self.keep(&item, vec![self.record(&lane, body)])?;
        }
        Ok(lane)
    }

    fn note_fall_back(&self, plan: &Plan) {
        if let Some(note) = plan.fall_back_note() {
            self.note(note.into());
        }
    }

    /// Describes a lane that has no file.
    fn on_the_fly(&self, lane: &Lane) -> Result<()> {
        let item = items::lane_item(&lane.name);
        if self.is_done(&item)? {
            return Ok(());
        }
        let Variant::Planned(_, applied) = &lane.variant else { return Ok(()) };
        self.note_fall_back(applied);
        let body = describe_lane(lane, false)?;
        self.keep(&item, vec![self.record(lane, body)])
    }
}

fn files(output: &Output) -> Result<Vec<PathBuf>> {
    Ok(output.files()?.into_iter().map(|(path, _)| path).collect())
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
}

/// What the recipe that `file` says to be made by gives a model of the reference's shape, where the file has those types wherever
/// rows do not fit the recipe's blocks; `None` where it says none, or has others.
fn fallen(reference: &Checkpoint, file: &Checkpoint) -> Option<Plan> {
    if file.origin() != ModelOrigin::Gguf {
        return None;
    }
    let recipe = Recipe::of_file_type(file.metadata())?;
    let plan = Plan::of(reference, &recipe, &PlanOptions::default()).ok()?;
    let block = recipe.default.block_len();
    let fits = |entry: &PlanEntry| entry.shape.len() < 2 || entry.shape[0].is_multiple_of(block);
    // Of a reference that is quantized itself, nothing says what its rows would have become.
    let is_as_planned =
        |entry: &PlanEntry| entry.from.is_float() && file.tensor(&entry.tensor).is_some_and(|tensor| tensor.dtype == entry.to);
    plan.entries.iter().all(|entry| fits(entry) || is_as_planned(entry)).then_some(plan)
}

/// The record of a lane that stands in files.
fn stored_record(lane: &Lane, recipe: &str, is_reference: bool, sha256: Option<String>) -> Result<Body> {
    let checkpoint = lane.variant.checkpoint();
    let bpw = 8.0 * checkpoint.total_bytes() as f64 / checkpoint.parameter_count() as f64;
    let bytes = models::stored_bytes(checkpoint)?;
    Ok(lane_record(lane, recipe, is_reference, Some(checkpoint.path()), bytes, bpw, sha256))
}

/// The record of a lane that is measured without a job: from its file, or on the fly.
///
/// # Errors
/// A file that went away.
pub fn describe_lane(lane: &Lane, is_reference: bool) -> Result<Body> {
    match &lane.variant {
        Variant::Stored(checkpoint) => stored_record(lane, &models::recipe_name(checkpoint), is_reference, None),
        Variant::Planned(checkpoint, plan) => {
            let output = Output {
                metadata: plan.metadata(&Model::output_metadata(checkpoint.as_ref())?),
                plan: (**plan).clone(),
                path: PathBuf::from("none.gguf"),
                imatrix: None,
                split: Split::None,
            };
            let bytes = output.files()?.iter().map(|(_, bytes)| bytes).sum();
            Ok(lane_record(lane, &plan.recipe.name, is_reference, None, bytes, plan.bits_per_weight(), None))
        }
    }
}

/// The record that describes a lane.
pub fn lane_record(
    lane: &Lane,
    recipe: &str,
    is_reference: bool,
    file: Option<&Path>,
    bytes: u64,
    bpw: f64,
    sha256: Option<String>,
) -> Body {
    let types: Vec<String> = match &lane.variant {
        Variant::Stored(checkpoint) if checkpoint.published().is_some() => {
            let types = checkpoint.published().map_or(&[][..], |published| &published.types);
            types.iter().map(|(name, weights)| format!("{name} {weights}")).collect()
        }
        _ => lane.variant.types().iter().map(|(dtype, weights)| format!("{dtype} {weights}")).collect(),
    };
    Body::Lane(LaneRecord {
        recipe: recipe.to_owned(),
        is_reference,
        file: file.map(|path| path.display().to_string()),
        bytes,
        bpw,
        sha256,
        types: Some(types.join(", ")),
        imatrix: importance(lane),
        fell_back: match &lane.variant {
            Variant::Planned(_, plan) => Some(plan.fell_back() as u64),
            Variant::Stored(_) => None,
        },
        parts: file.map(|_| lane.variant.checkpoint().files().len() as u32),
    })
}

fn file_sha256(path: &Path) -> Result<String> {
    use std::io::Read;
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block).map_err(|e| Error::io(path, e))?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&block[..read]);
    }
}

/// The importance matrix of a lane and the text that it was collected on, as far as the file or the matrix says.
fn importance(lane: &Lane) -> Option<String> {
    let told =
        |file: &str, text: Option<&str>| text.map_or_else(|| file.to_owned(), |text| format!("{file}{COLLECTED_ON}{text}"));
    match &lane.variant {
        Variant::Planned(_, plan) => {
            let imatrix = plan.imatrix()?;
            Some(told(&imatrix.path().to_string_lossy(), imatrix.datasets().first().map(String::as_str)))
        }
        Variant::Stored(checkpoint) => {
            let text = |key: &str| match checkpoint.metadata().get(key) {
                Some(Value::String(text)) => Some(text.as_str()),
                _ => None,
            };
            Some(told(text("quantize.imatrix.file")?, text("quantize.imatrix.dataset")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use bitworth_quant::plan::TensorType;
    use bitworth_quant::progress::Silent;

    #[test]
    fn what_fell_back_is_known_of_files_that_others_made() {
        // Rows of 128 and 192 weights, which blocks of 256 do not fit.
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../quant/tests/fixtures/hf/phi4_mini");
        let reference = Checkpoint::open(&model).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let fell_back = |name: &str, recipe: &str, options: &PlanOptions| {
            let path = dir.path().join(name);
            let output = Output::of(&reference, &Recipe::find(recipe).unwrap(), options, &path).unwrap();
            let (quantize_options, stop) = (QuantizeOptions::default(), AtomicBool::new(false));
            bitworth_quant::quantize::quantize(&reference, &[output], &quantize_options, &stop, &Silent).unwrap();
            fallen(&reference, &Checkpoint::open(&path).unwrap()).map(|plan| plan.fell_back())
        };
        let plain = PlanOptions::default();
        let expected = Plan::of(&reference, &Recipe::find("q4_k_m").unwrap(), &plain).unwrap().fell_back();
        assert!(expected > 0);
        assert_eq!(fell_back("a.gguf", "q4_k_m", &plain), Some(expected));
        assert_eq!(fell_back("b.gguf", "q8_0", &plain), Some(0));
        let other = PlanOptions { tensor_types: vec![TensorType::parse("ffn_down=q4_0").unwrap()], ..plain };
        assert_eq!(fell_back("c.gguf", "q4_k_m", &other), None, "another choice than the recipe's");
    }
}
