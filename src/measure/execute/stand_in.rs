//! Files that are timed in the place of lanes: models of a real shape with random weights, where a lane's own speed would say
//! nothing of larger models (a small one fits into the processor's cache), and GGUF files of lanes that are none, for programs
//! that open nothing else. They stand in a folder of the run and are kept.

use std::path::Path;
use std::sync::Arc;

use bitworth_engine::model::Variant;
use bitworth_engine::sweep;
use bitworth_eval::job::AUTO_SHAPE;
use bitworth_quant::checkpoint::Model;
use bitworth_quant::hex::hex;
use bitworth_quant::message::Message;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::quantize::{Output, QuantizeOptions, Split, quantize};
use bitworth_quant::synth::shape::{self, Shape};
use bitworth_quant::synth::write_repeated;
use bitworth_quant::{Checkpoint, HParams, Plan, Recipe, Synth};
use sha2::{Digest, Sha256};

use crate::Watch;
use crate::error::{At, Error, Result};
use crate::probe::last_level_cache;

/// Their folder.
pub const TIMED: &str = "timed";
/// How many times the last-level cache a shape's weights should take at least. Then the cache holds next to none of them when
/// they are read again.
pub const CACHES: u64 = 10;
/// Bits of a weight in the smallest files that people make.
const FEWEST_BITS: f64 = 2.5;
/// The cache of a processor that tells none, in bytes: that of most.
const USUAL_CACHE: u64 = 32 << 20;
/// Shapes to choose from, from small to large.
const LADDER: [&str; 4] = ["qwen3-0.6b", "llama-1b", "llama-3b", "llama-8b"];

/// A shape that is timed in the place of every lane.
pub struct TimedShape {
    shape: Shape,
    synth: Synth,
    hparams: HParams,
}

impl TimedShape {
    /// The shape of a name or a file; [`AUTO_SHAPE`] for the smallest of a few whose weights are ten times the last-level
    /// cache of this machine even in few bits.
    ///
    /// # Errors
    /// An unknown name; a file that cannot be read.
    pub fn load(name: &str) -> Result<Self> {
        if name != AUTO_SHAPE {
            return Self::of(shape::load(name, None)?);
        }
        let wanted = CACHES * last_level_cache().unwrap_or(USUAL_CACHE);
        for (i, name) in LADDER.iter().enumerate() {
            let shape = Self::of(shape::load(name, None)?)?;
            if shape.parameter_count() as f64 * FEWEST_BITS / 8.0 >= wanted as f64 || i + 1 == LADDER.len() {
                return Ok(shape);
            }
        }
        Err(Error::unfit("there is no shape to choose"))
    }

    fn of(shape: Shape) -> Result<Self> {
        let synth = Synth::new(&shape.name, &shape.config, 0)?;
        let hparams = synth.hparams()?;
        Ok(Self { shape, synth, hparams })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shape.name
    }

    /// Its weights.
    pub fn parameter_count(&self) -> u64 {
        self.synth.parameter_count()
    }

    /// The most tokens that it takes.
    pub fn context(&self) -> usize {
        sweep::longest_sequence(&self.hparams)
    }

    /// What makes it another one than a shape of the same name.
    pub fn identity(&self) -> String {
        hex(&Sha256::digest(format!("{:?}", self.synth.metadata())))
    }

    /// What a recipe makes of it, as a file in the folder of a run.
    fn output(&self, folder: &Path, recipe: &Arc<Recipe>) -> Result<Output> {
        let path = folder.join(TIMED).join(format!("{}-{}.gguf", self.name(), recipe.file_stem_suffix()));
        // Not `Output::of`: random weights are timed in types, too, that are of use only with an importance matrix.
        let plan = Plan::of(&self.synth, recipe, &PlanOptions::default())?;
        let metadata = plan.metadata(&self.synth.output_metadata()?);
        Ok(Output { plan, path, metadata, imatrix: None, split: Split::None })
    }

    /// Bytes of the file that a recipe makes of it.
    ///
    /// # Errors
    /// A recipe that it cannot have.
    pub fn file_bytes(&self, recipe: &Arc<Recipe>) -> Result<u64> {
        Ok(self.output(Path::new(""), recipe)?.files()?.iter().map(|(_, bytes)| bytes).sum())
    }

    /// A file for each of `recipes`: those that are not in the folder of the run are made.
    ///
    /// # Errors
    /// A disk that has no room, a file that cannot be written, an interruption.
    pub fn files(&self, folder: &Path, recipes: &[Arc<Recipe>], watch: Watch<'_>) -> Result<Vec<Variant>> {
        let outputs = recipes.iter().map(|recipe| self.output(folder, recipe)).collect::<Result<Vec<_>>>()?;
        let mut missing: Vec<Output> = Vec::new();
        for output in &outputs {
            if !is_there(output)? && !missing.iter().any(|other| other.path == output.path) {
                missing.push(output.clone());
            }
        }
        if !missing.is_empty() {
            create(folder)?;
            let place = || Message::from(format!("random weights of the shape {}", self.name()));
            write_repeated(&self.synth, missing, watch.stop, watch.progress).at(place)?;
        }
        outputs.iter().map(|output| open(&output.path)).collect()
    }
}

/// The GGUF file of a lane that is none, in the types that it has.
///
/// # Errors
/// As [`TimedShape::files`].
pub fn converted(lane: &Variant, folder: &Path, watch: Watch<'_>) -> Result<Option<Variant>> {
    let (recipe, options) = match lane {
        Variant::Planned(_, plan) => {
            (plan.recipe.clone(), PlanOptions { imatrix: plan.imatrix().cloned().map(Arc::new), ..PlanOptions::default() })
        }
        Variant::Stored(checkpoint) => match Recipe::find(&crate::models::recipe_name(checkpoint)) {
            Ok(recipe) => (recipe, PlanOptions::default()),
            Err(_) => return Ok(None),
        },
    };
    let checkpoint = lane.checkpoint();
    let path = folder.join(TIMED).join(crate::models::file_name(checkpoint, &recipe));
    let output = Output::of(checkpoint.as_ref(), &recipe, &options, &path)?;
    if !is_there(&output)? {
        create(folder)?;
        quantize(checkpoint.as_ref(), &[output], &QuantizeOptions::default(), watch.stop, watch.progress)?;
    }
    open(&path).map(Some)
}

/// Whether the file of an output is there, whole: it got its name when it was.
fn is_there(output: &Output) -> Result<bool> {
    let bytes: u64 = output.files()?.iter().map(|(_, bytes)| bytes).sum();
    Ok(std::fs::metadata(&output.path).is_ok_and(|about| about.len() == bytes))
}

fn open(path: &Path) -> Result<Variant> {
    Ok(Variant::Stored(Arc::new(Checkpoint::open(path)?)))
}

fn create(folder: &Path) -> Result<()> {
    let timed = folder.join(TIMED);
    std::fs::create_dir_all(&timed).map_err(|e| Error::io(timed, e))
}
