//! The lanes of a run: the reference, a file for each recipe, and the candidates that are there already. What is missing is made
//! from one read of the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::checkpoint::Model;
use bitworth_quant::gguf::Value;
use bitworth_quant::imatrix::{ImatrixFormat, Sums};
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::quantize::{Output, QuantizeOptions, Split, hex};
use bitworth_quant::{Checkpoint, Imatrix, Plan};
use sha2::{Digest, Sha256};

use super::folder::MODELS;
use super::prepare::{Importance, Prepared, file_of};
use super::{Run, plan};
use crate::device::{Device, DeviceSelector};
use crate::error::{Error, Result};
use crate::imatrix::{self, Collect};
use crate::{fit, models, on_device};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::Lane;
use bitworth_eval::job::free_name;
use bitworth_eval::record::{Body, LaneRecord};

/// The names of all lanes, which differ from each other.
pub struct Names {
    /// The reference's.
    pub reference: String,
    /// The type that most of the reference's weights have.
    pub stored: String,
    /// The candidates', in order.
    pub candidates: Vec<String>,
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
    Names { reference, stored, candidates: model.candidates.iter().map(|lane| lane.name.clone()).collect() }
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
        let file = format!("{}.imatrix.gguf", checkpoint.name());
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
        if !self.is_done(plan::REFERENCE_ITEM)? {
            let body = stored_record(&reference, &self.names.stored, true, None)?;
            self.keep(plan::REFERENCE_ITEM, vec![self.record(&reference, body)])?;
        }
        let mut lanes = vec![reference];
        let folder = self.folder().map(|folder| folder.join(MODELS));
        let made = self.made(folder.as_deref(), imatrix)?;
        let mut files = self.files(made)?.into_iter();
        for recipe in &self.model.recipes {
            if folder.is_some() || self.model.fitted.contains(&recipe.name) {
                lanes.extend(files.next());
                continue;
            }
            let plan = Plan::of(checkpoint.as_ref(), recipe, &self.model.choices(recipe, imatrix))?;
            let variant = Variant::Planned(checkpoint.clone(), Arc::new(plan));
            let lane = Lane { name: recipe.name.clone(), variant, arithmetic };
            self.on_the_fly(&lane)?;
            lanes.push(lane);
        }
        for lane in &self.model.candidates {
            match &lane.variant {
                Variant::Planned(_, plan) if self.model.fitted.contains(&plan.recipe.name) => {
                    lanes.extend(files.next());
                    continue;
                }
                Variant::Planned(..) => self.on_the_fly(lane)?,
                Variant::Stored(stored) => {
                    if !self.is_done(&plan::lane_item(&lane.name))? {
                        let recipe = models::recipe_name(stored);
                        let body = stored_record(lane, &recipe, false, None)?;
                        self.keep(&plan::lane_item(&lane.name), vec![self.record(lane, body)])?;
                    }
                }
            }
            lanes.push(lane.clone());
        }
        Ok(lanes)
    }

    /// The lanes that are files of this run: all recipes in a folder, and those whose weights are fitted wherever they stand. With
    /// what each is made as.
    fn made(&self, folder: Option<&Path>, imatrix: Option<&Arc<Imatrix>>) -> Result<Vec<(String, Output)>> {
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
        for lane in &model.candidates {
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

    /// Makes the files that are missing, and opens all.
    fn files(&self, made: Vec<(String, Output)>) -> Result<Vec<Lane>> {
        let files = |output: &Output| -> Result<Vec<PathBuf>> { Ok(output.files()?.into_iter().map(|(path, _)| path).collect()) };
        let (mut missing, mut unfitted) = (Vec::new(), Vec::new());
        for (name, output) in &made {
            let has_record = self.store.borrow().has(&plan::lane_item(name))?;
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
        if let (Some((text, _)), false) = (&self.model.fit, unfitted.is_empty()) {
            // The CPU, whatever the run's device: the same files on every machine.
            let stage = self.stages.begin("fitting weights");
            let (device, variant) = (Device::open(DeviceSelector::Cpu)?, Variant::Stored(self.model.checkpoint.clone()));
            let outputs = unfitted.clone();
            on_device!(&device, backend => fit::fit(backend, &variant, outputs, text, self.model.limits, self.watch))?;
            self.stages.end(stage);
        }
        for output in missing.iter().chain(&unfitted) {
            self.store.borrow_mut().note_files(&files(output)?)?;
        }
        let mut lanes = Vec::new();
        for (name, output) in &made {
            let files = files(output)?;
            let variant = Variant::Stored(Arc::new(Checkpoint::open(&files[0])?));
            let lane = Lane { name: name.clone(), variant, arithmetic: self.model.arithmetic };
            let item = plan::lane_item(name);
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
            lanes.push(lane);
        }
        Ok(lanes)
    }

    fn note_fall_back(&self, plan: &Plan) {
        if let Some(note) = plan.fall_back_note() {
            self.note(note.into());
        }
    }

    /// Describes a lane that has no file.
    fn on_the_fly(&self, lane: &Lane) -> Result<()> {
        let item = plan::lane_item(&lane.name);
        if self.is_done(&item)? {
            return Ok(());
        }
        let Variant::Planned(_, applied) = &lane.variant else { return Ok(()) };
        self.note_fall_back(applied);
        let body = describe_lane(lane, false)?;
        self.keep(&item, vec![self.record(lane, body)])
    }
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
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
        |file: &str, text: Option<&str>| text.map_or_else(|| file.to_owned(), |text| format!("{file}, collected on {text}"));
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
