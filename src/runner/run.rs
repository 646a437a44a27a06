//! `bitworth run`: quantize, score, time, report. The work is a list of items; each leaves its records in one file when it is
//! done, and a later run of the same configuration in the same folder does only what is not there.
//!
//! Absent: what the numbers mean (`eval::stats`) and how they are shown (`report`).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use quant::quantize::Output;
use quant::{Checkpoint, Recipe};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::config::{RunConfig, TextConfig};
use super::device::Device;
use super::text::{self, CutText};
use super::timing::{self, Workload};
use super::{Watch, models, requests};
use crate::engine::model::Variant;
use crate::engine::sweep::{self, Cut, Lane};
use crate::eval::record::{Body, Item, Lane as LaneRecord, Origin, Record};
use crate::eval::task::{self, Task};
use crate::on_device;
use crate::report::frames;
use crate::tokenizer::Tokenizer;

/// What the folder of a run is for; written first, compared before anything is added.
const IDENTITY: &str = "run.json";
/// The folder of the GGUF files.
const MODELS: &str = "models";

/// Does what `config` says in the folder `out`; the records are there afterwards.
///
/// # Errors
/// Anything that the steps say; a folder that holds another run.
pub fn run(config: &RunConfig, out: &Path, device: &Device, watch: Watch<'_>) -> Result<()> {
    let checkpoint = models::open(&config.model)?;
    // What can be wrong with the configuration shows before the first long step.
    let recipes = config.recipes.iter().map(|name| Recipe::find(name)).collect::<Result<Vec<_>, _>>()?;
    let task_config = config.tasks.as_ref();
    let tasks = task_config.map_or(Ok(Vec::new()), |t| t.names.iter().map(|name| Task::load(name)).collect::<Result<_, _>>())?;
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let texts = config.text.as_ref().map(|text| cut(text, &tokenizer)).transpose()?.unwrap_or_default();
    claim(out, config, &checkpoint, device)?;

    let run = Run { out, device, watch, checkpoint: &checkpoint, tokenizer: &tokenizer };
    let lanes = run.lanes(&recipes)?;
    for text in &texts {
        run.text(&lanes, text, config.text.as_ref().map_or(usize::MAX, |t| t.pass_tokens))?;
    }
    for task in &tasks {
        run.task(&lanes, task, task_config.and_then(|t| t.limit))?;
    }
    if let Some(speed) = &config.speed {
        let crate::runner::config::SpeedConfig { prompt, generate, depth, batch, repetitions } = *speed;
        run.speed(&lanes, Workload { prompt, generate, depth, batch, repetitions })?;
    }
    Ok(())
}

/// The passes over the text.
fn cut(config: &TextConfig, tokenizer: &Tokenizer) -> Result<Vec<CutText>> {
    let text = models::read_text(&config.file)?;
    let mut cuts = vec![CutText::windows(tokenizer, &text, config.ctx, config.chunks).with_context(|| config.file.clone())?];
    if config.bits_per_byte {
        cuts.push(CutText::rolling(tokenizer, &text, config.ctx, config.bits_per_byte_chunks)?);
    }
    Ok(cuts)
}

/// Makes the folder this run's, or finds that it is. Records of different models, configurations or devices never mix.
fn claim(out: &Path, config: &RunConfig, checkpoint: &Checkpoint, device: &Device) -> Result<()> {
    let identity = json!({
        "bitworth": env!("CARGO_PKG_VERSION"), "config": config, "model_sha256": fingerprint(checkpoint)?, "device": device.info(),
    });
    let path = out.join(IDENTITY);
    match std::fs::read(&path) {
        Ok(there) => {
            let there: serde_json::Value = serde_json::from_slice(&there).with_context(|| path.display().to_string())?;
            if there != identity {
                bail!(
                    "{}: the folder holds a run with another configuration, model, device or version; \
                     choose another --out or remove it",
                    path.display()
                );
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
            let mut file = quant::atomic_file::AtomicFile::create(&path)?;
            file.write_at(0, serde_json::to_string_pretty(&identity)?.as_bytes())?;
            file.commit()?;
        }
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    }
    Ok(())
}

/// Tells models apart without reading all of them: names, types, shapes and the first row of every tensor.
fn fingerprint(checkpoint: &Checkpoint) -> Result<String> {
    let mut hash = Sha256::new();
    for tensor in checkpoint.tensors() {
        hash.update(format!("{} {} {:?}\n", tensor.name, tensor.dtype, tensor.shape));
        hash.update(&*checkpoint.read(tensor, 0..1)?);
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One run's surroundings.
struct Run<'a> {
    out: &'a Path,
    device: &'a Device,
    watch: Watch<'a>,
    checkpoint: &'a Arc<Checkpoint>,
    tokenizer: &'a Tokenizer,
}

impl Run<'_> {
    /// Does an item of work unless its records are there already.
    fn item(&self, name: &str, work: impl FnOnce() -> Result<Vec<Record>>) -> Result<()> {
        if frames::has(self.out, name) {
            return Ok(());
        }
        let records = work()?;
        Ok(frames::append(self.out, name, &records)?)
    }

    fn record(&self, lane: &Lane, body: Body) -> Record {
        Record { origin: Origin::new(self.checkpoint.name(), &lane.name, &self.device.info().name), body }
    }

    /// The reference and one lane per recipe, each in a GGUF file of its own; what is missing is made from one read.
    fn lanes(&self, recipes: &[&'static Recipe]) -> Result<Vec<Lane>> {
        let mut reference = models::reference(self.checkpoint);
        let stored = reference.name.clone();
        if recipes.iter().any(|recipe| recipe.name == stored) {
            reference.name = format!("{stored} (stored)");
        }
        self.item("lane.reference", || {
            let bytes = reference.variant.bytes();
            let bpw = 8.0 * bytes as f64 / self.checkpoint.parameter_count() as f64;
            let body = lane_record(&reference, &stored, true, None, bytes, bpw, None);
            Ok(vec![self.record(&reference, body)])
        })?;
        let folder = self.out.join(MODELS);
        let path = |recipe: &Recipe| folder.join(models::file_name(self.checkpoint, recipe));
        let made = |recipe: &&&'static Recipe| !frames::has(self.out, &lane_item(recipe)) || !path(recipe).exists();
        let missing: Vec<&'static Recipe> = recipes.iter().filter(made).copied().collect();
        if !missing.is_empty() {
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let outputs = missing.iter().map(|r| Output::of(self.checkpoint, r, &path(r))).collect::<Result<Vec<_>, _>>()?;
            quant::quantize::quantize(self.checkpoint.as_ref(), &outputs, self.watch.stop, self.watch.progress)?;
        }
        let mut lanes = vec![reference];
        for &recipe in recipes {
            let path = path(recipe);
            let lane = Lane { name: recipe.name.to_owned(), variant: Variant::Stored(Arc::new(Checkpoint::open(&path)?)) };
            self.item(&lane_item(recipe), || Ok(vec![self.record(&lane, file_record(&lane, recipe, &path)?)]))?;
            lanes.push(lane);
        }
        Ok(lanes)
    }

    fn text(&self, lanes: &[Lane], text: &CutText, pass_tokens: usize) -> Result<()> {
        let pass =
            crate::eval::record::PASSES.iter().find(|(pass, _)| *pass == text.protocol.pass).map_or("text", |(_, name)| name);
        for (number, range) in sweep::cut_by_rows(&text.sequences, pass_tokens).into_iter().enumerate() {
            self.item(&format!("text.{pass}.{number:05}"), || {
                let scores = on_device!(self.device, backend =>
                    text::score(backend, lanes, text, range, Cut::default(), self.watch))?;
                let of_lane = |(lane, sequences): (&Lane, Vec<_>)| {
                    sequences.into_iter().map(|s| self.record(lane, Body::Sequence(s))).collect::<Vec<_>>()
                };
                Ok(lanes.iter().zip(scores).flat_map(of_lane).collect())
            })?;
        }
        Ok(())
    }

    fn task(&self, lanes: &[Lane], task: &Task, limit: Option<usize>) -> Result<()> {
        self.item(&format!("task.{}", task.name), || {
            let items = task.first(limit);
            let asked = task::build(items);
            let answers = on_device!(self.device, backend =>
                requests::answer(backend, lanes, self.tokenizer, &asked, Cut::default(), self.watch))
            .with_context(|| format!("task {}", task.name))?;
            let mut records = Vec::new();
            for (lane, answers) in lanes.iter().zip(&answers) {
                for result in task.judge(items, answers)? {
                    let verdict = result.verdict;
                    let item = Item {
                        task: task.name.clone(),
                        task_version: task.version,
                        item: result.item as u32,
                        correct: verdict.correct,
                        logprobs: verdict.logprobs,
                        text: verdict.text,
                    };
                    records.push(self.record(lane, Body::Item(item)));
                }
            }
            Ok(records)
        })
    }

    fn speed(&self, lanes: &[Lane], load: Workload) -> Result<()> {
        for lane in lanes {
            self.item(&format!("speed.{}", lane.name), || {
                let speeds = on_device!(self.device, backend => timing::measure(backend, &lane.variant, load, self.watch))?;
                Ok(speeds.into_iter().map(|speed| self.record(lane, Body::Speed(speed))).collect())
            })?;
        }
        Ok(())
    }
}

fn lane_item(recipe: &Recipe) -> String {
    format!("lane.{}", recipe.name)
}

fn file_record(lane: &Lane, recipe: &Recipe, path: &PathBuf) -> Result<Body> {
    let bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    let checkpoint = lane.variant.checkpoint();
    let bpw = 8.0 * checkpoint.total_bytes() as f64 / checkpoint.parameter_count() as f64;
    let sha256 = file_sha256(path).with_context(|| path.display().to_string())?;
    Ok(lane_record(lane, recipe.name, false, Some(path), bytes, bpw, Some(sha256)))
}

fn lane_record(
    lane: &Lane,
    recipe: &str,
    is_reference: bool,
    file: Option<&Path>,
    bytes: u64,
    bpw: f64,
    sha256: Option<String>,
) -> Body {
    let types: Vec<String> = lane.variant.types().iter().map(|(dtype, weights)| format!("{dtype} {weights}")).collect();
    Body::Lane(LaneRecord {
        recipe: recipe.to_owned(),
        is_reference,
        file: file.map(|path| path.display().to_string()),
        bytes,
        bpw,
        sha256,
        types: Some(types.join(", ")),
    })
}

fn file_sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&block[..read]);
    }
}
