//! What to measure, as a value: models, their quantizations and other candidates, texts, tasks, timings. Read from TOML, written
//! by commands, printed, hashed; `bitworth_measure::execute` does what it says. Nothing is opened here.

mod forms;
mod speed;
mod tasks;

use std::path::{Path, PathBuf};

use bitworth_quant::message::{Message, Setting};
use bitworth_quant::{Error, Recipe, Result};
use serde::{Deserialize, Serialize};

use self::forms::{NameOr, OneOrMany};
pub use self::speed::{AUTO_SHAPE, Engine, SpeedSpec};
pub use self::tasks::{DEFAULT_MARGIN, INCLUDE_PATH, Limit, PerplexityKind, PerplexitySpec, TasksSpec};
use super::slice::Slice;
use super::{demo, records};

/// [`ModelSpec::fit`].
pub const FIT: Setting = Setting::new("fit");
/// The fewest tokens in a window.
const MIN_CTX: usize = 4;
/// The most letters of a text's name in the names of its files of records, which are a little longer.
const MAX_NAME: usize = 180;

/// The job that needs nothing but the program.
const DEMO: &str = include_str!("../../../configs/runs/demo.toml");

/// What to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Job {
    /// The models; each is measured for itself, with the same texts, tasks and timings.
    pub models: Vec<ModelSpec>,
    /// The texts to score.
    pub texts: Vec<TextSpec>,
    /// The tasks to score.
    pub tasks: Option<TasksSpec>,
    /// A file of requests, JSON lines, to answer; they leave answers and no records.
    pub requests: Option<String>,
    /// What to time.
    pub speed: Option<SpeedSpec>,
    /// The arithmetic of the activations: `f32` (the default) or `q8`.
    pub arithmetic: Option<String>,
    /// How the files of the recipes are cut into parts.
    pub split: Option<SplitSpec>,
    /// Most memory that scoring takes, in MiB [default: 4096]. Results do not depend on it.
    pub max_memory_mib: Option<u64>,
    /// Whether the reference is scored through the other arithmetic, too, as a lane behind the candidates.
    pub noise_floor: bool,
    /// Whether a candidate that is no version of its model ends the job, instead of being left out with a note.
    pub strict: bool,
    /// Which of its windows and items are done.
    pub slice: Slice,
}

/// A model, and what it is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The reference: a Hugging Face directory or a GGUF file, seen from the configuration's folder; or `hf:OWNER/NAME`
    /// on the hub, or `demo:PATH`.
    pub model: String,
    /// The recipes of which files are made: names, or paths of TOML files seen from the configuration's folder.
    #[serde(default)]
    pub recipes: Vec<String>,
    /// Other versions of the model: existing GGUF files and directories, your own or others', and `@RECIPE` for the model
    /// quantized on the fly, without a file.
    #[serde(default)]
    pub candidates: Vec<String>,
    /// What matters how much to the recipes' rounding.
    pub imatrix: Option<ImatrixSpec>,
    /// What the recipes named `RECIPE+fit` are fitted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitSpec>,
    /// Whether the reference goes by the model's name among the lanes, and not by the type of its weights.
    #[serde(skip_deserializing)]
    pub by_name: bool,
}

/// An importance matrix, as llama-quantize's `--imatrix`: a file made before, or a text to collect it on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImatrixSpec {
    /// The file (GGUF or .dat), seen from the configuration's folder.
    pub file: Option<String>,
    /// The text to collect it on from the reference, seen from the configuration's folder, or `demo:PATH`.
    pub text: Option<String>,
    /// Tokens in a window of the text.
    #[serde(default = "default_ctx")]
    pub ctx: usize,
    /// The number of windows [default: all].
    pub chunks: Option<usize>,
    /// The recipes that use it, those of candidates on the fly among them [default: all].
    pub recipes: Option<Vec<String>>,
}

/// The texts that weights are fitted to, as `bitworth quantize` does it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitSpec {
    /// The files, seen from the configuration's folder, or `demo:PATH`.
    pub texts: Vec<String>,
    /// Tokens of them, at most; the same number of each text.
    #[serde(default = "default_fit_tokens")]
    pub tokens: usize,
    /// Tokens in a window.
    #[serde(default = "default_ctx")]
    pub ctx: usize,
}

impl FitSpec {
    /// What stands behind the name of a recipe whose weights are fitted.
    pub const MARK: &str = "+fit";

    /// Windows of each text: two at least, as one half is held out.
    pub fn windows(&self) -> usize {
        (self.tokens / self.texts.len().max(1) / self.ctx.max(1)).max(2)
    }

    /// Checks names and counts.
    ///
    /// # Errors
    /// No text, a window that is too short, no tokens.
    pub fn check(&self) -> Result<(), Message> {
        if self.texts.is_empty() || self.texts.iter().any(|text| text.trim().is_empty()) {
            return Err("fit: name at least one text, by its file".into());
        }
        if self.ctx < MIN_CTX || self.tokens == 0 {
            return Err(format!("fit: ctx must be {MIN_CTX} or more, and tokens above 0").into());
        }
        Ok(())
    }
}

/// A recipe's own name, and whether its weights are fitted (`q4_k_m+fit`).
pub fn fitted(name: &str) -> (&str, bool) {
    name.strip_suffix(FitSpec::MARK).map_or((name, false), |plain| (plain, true))
}

/// A text and how it is scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// The file, seen from the configuration's folder, or `demo:PATH`.
    pub file: String,
    /// Its name in records and tables [default: the file's name without its ending].
    #[serde(default)]
    pub name: String,
    /// Tokens in a window.
    #[serde(default = "default_ctx")]
    pub ctx: usize,
    /// The number of windows [default: all].
    pub chunks: Option<usize>,
    /// Tokens scored between two writes of records.
    #[serde(default = "default_pass_tokens")]
    pub pass_tokens: usize,
    /// Whether to score every token of the text once more, for bits per byte.
    #[serde(default = "default_true")]
    pub bits_per_byte: bool,
    /// The number of windows for bits per byte [default: as `chunks`].
    pub bits_per_byte_chunks: Option<usize>,
    /// Whether records keep every scored token: about 50 bytes for each token and lane.
    #[serde(default = "default_true")]
    pub keep_tokens: bool,
}

impl TextSpec {
    /// Checks the counts.
    fn check(&self) -> Result<(), Message> {
        if self.ctx < MIN_CTX {
            let what = "is too short: the second half of a window must predict something";
            return Err(format!("ctx = {} {what}; give {MIN_CTX} or more", self.ctx).into());
        }
        if self.pass_tokens == 0 {
            return Err("pass_tokens must be above 0".into());
        }
        for (key, count) in [("chunks", self.chunks), ("bits_per_byte_chunks", self.bits_per_byte_chunks)] {
            if count == Some(0) {
                return Err(above_zero(key));
            }
        }
        Ok(())
    }

    /// The same, scored without a pause for records.
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { pass_tokens: usize::MAX, ..self }
    }

    /// A text in whole windows, without bits per byte.
    pub fn windows(file: impl Into<String>, ctx: usize, chunks: Option<usize>) -> Self {
        let (pass_tokens, bits_per_byte) = (default_pass_tokens(), false);
        let (file, name) = (file.into(), String::new());
        Self { file, name, ctx, chunks, pass_tokens, bits_per_byte, bits_per_byte_chunks: None, keep_tokens: true }
    }
}

/// Parts of files, as llama-gguf-split cuts them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSpec {
    /// The most bytes of tensors in a part.
    pub max_bytes: Option<u64>,
    /// The most tensors in a part.
    pub max_tensors: Option<usize>,
}

fn default_ctx() -> usize {
    512
}

fn default_fit_tokens() -> usize {
    1 << 15
}

fn default_pass_tokens() -> usize {
    1 << 16
}

fn default_true() -> bool {
    true
}

/// A job as it stands in TOML. Unknown keys are errors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The only model, or none.
    model: Option<String>,
    /// Several models, by name or with what is their own.
    #[serde(default)]
    models: Vec<NameOr<WrittenModel>>,
    /// Of every model that names none of its own.
    recipes: Option<Vec<String>>,
    candidates: Option<Vec<String>>,
    imatrix: Option<ImatrixSpec>,
    fit: Option<FitSpec>,
    #[serde(default, rename = "text")]
    texts: OneOrMany<TextSpec>,
    tasks: Option<TasksSpec>,
    speed: Option<SpeedSpec>,
    arithmetic: Option<String>,
    split: Option<SplitSpec>,
    max_memory_mib: Option<u64>,
    #[serde(default)]
    strict: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenModel {
    model: String,
    recipes: Option<Vec<String>>,
    candidates: Option<Vec<String>>,
    imatrix: Option<ImatrixSpec>,
    fit: Option<FitSpec>,
}

impl Job {
    /// Reads a job; without a path, the embedded demo.
    ///
    /// # Errors
    /// A file that cannot be read; TOML that does not parse; an unknown key or recipe; nothing to measure. All name the file.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Self::parse(DEMO, Path::new(""), "configs/runs/demo.toml (embedded)") };
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&text, path.parent().unwrap_or(Path::new("")), &path.display().to_string())
    }

    /// Reads a job from TOML; relative paths are seen from `folder`, messages begin with `name`.
    ///
    /// # Errors
    /// As [`Job::load`].
    pub fn parse(text: &str, folder: &Path, name: &str) -> Result<Self> {
        let job = toml::from_str::<Written>(text).map_err(|e| Message::from(e.to_string().trim_end().to_owned()));
        let job = job.and_then(|written| Self::of(written, folder));
        job.and_then(|mut job| job.check().map(|()| job)).map_err(|what| Error::file(Path::new(name), what))
    }

    fn of(written: Written, folder: &Path) -> Result<Self, Message> {
        let Written {
            model,
            models,
            recipes,
            candidates,
            imatrix,
            fit,
            texts,
            tasks,
            speed,
            arithmetic,
            split,
            max_memory_mib,
            strict,
        } = written;
        let written_recipes = recipes.clone();
        let own = |model: NameOr<WrittenModel>| {
            let own = match model {
                NameOr::Name(model) => WrittenModel { model, recipes: None, candidates: None, imatrix: None, fit: None },
                NameOr::Whole(model) => model,
            };
            ModelSpec {
                model: own.model,
                recipes: own.recipes.or_else(|| recipes.clone()).unwrap_or_default(),
                candidates: own.candidates.or_else(|| candidates.clone()).unwrap_or_default(),
                imatrix: own.imatrix.or_else(|| imatrix.clone()),
                fit: own.fit.or_else(|| fit.clone()),
                by_name: false,
            }
        };
        let models: Vec<ModelSpec> = match (model, models.is_empty()) {
            (Some(model), true) => vec![own(NameOr::Name(model))],
            (None, false) => models.into_iter().map(own).collect(),
            (Some(_), false) => return Err("give either model or models".into()),
            (None, true) => return Err("missing field `model` (or `models`, for several)".into()),
        };
        let alone = |model: &ModelSpec| model.recipes.is_empty() && model.candidates.is_empty();
        if written_recipes.is_some_and(|recipes| recipes.is_empty()) && models.iter().all(alone) {
            let what = "recipes is empty and there are no candidates; name some, or leave recipes out to measure the model alone";
            return Err(what.into());
        }
        let mut job = Self { models, texts: texts.0, tasks, speed, arithmetic, split, max_memory_mib, strict, ..Self::default() };
        // Before an empty path becomes that of a folder.
        job.check_names()?;
        job.look_from(folder);
        Ok(job)
    }

    /// Relative paths count from `folder`.
    fn look_from(&mut self, folder: &Path) {
        let from_here = |path: &mut String| {
            if demo::is_path(path) {
                *path = folder.join(&*path).display().to_string();
            }
        };
        let recipe = |name: &mut String| {
            if Recipe::is_path(fitted(name).0) {
                *name = folder.join(&*name).display().to_string();
            }
        };
        for model in &mut self.models {
            from_here(&mut model.model);
            model.recipes.iter_mut().for_each(recipe);
            for candidate in &mut model.candidates {
                match candidate.strip_prefix('@') {
                    Some(name) if Recipe::is_path(fitted(name).0) => *candidate = format!("@{}", folder.join(name).display()),
                    Some(_) => {}
                    None => from_here(candidate),
                }
            }
            if let Some(imatrix) = &mut model.imatrix {
                imatrix.file.iter_mut().chain(&mut imatrix.text).for_each(from_here);
                imatrix.recipes.iter_mut().flatten().for_each(recipe);
            }
            model.fit.iter_mut().flat_map(|fit| &mut fit.texts).for_each(from_here);
        }
        self.texts.iter_mut().for_each(|text| from_here(&mut text.file));
        if let Some(speed) = &mut self.speed {
            // A bare name is looked for among the shapes that come with the program, and on the PATH.
            let is_path =
                |name: &str| Path::new(name).components().count() > 1 || name.ends_with(".toml") || name.ends_with(".json");
            speed.llama_bench.iter_mut().chain(&mut speed.shape).filter(|name| is_path(name)).for_each(from_here);
        }
        if let Some(tasks) = &mut self.tasks {
            let is_file = |name: &&mut String| [".toml", ".yaml", ".yml"].iter().any(|ending| name.ends_with(ending));
            tasks.names.iter_mut().filter(is_file).for_each(from_here);
            let files = tasks.llama_perplexity.iter_mut().map(|spec| &mut spec.file);
            tasks.include_path.iter_mut().chain(&mut tasks.data_map).chain(files).for_each(from_here);
        }
    }

    /// Checks what can be checked without opening anything, gives recipes their own spelling and every text a name.
    ///
    /// # Errors
    /// An unknown recipe, one that is there twice, nothing to measure, a count of 0, two texts of one name.
    pub fn check(&mut self) -> Result<(), Message> {
        self.check_names()?;
        for model in &mut self.models {
            check_recipes(model)?;
        }
        if self.texts.is_empty() && self.tasks.is_none() && self.speed.is_none() && self.requests.is_none() {
            return Err("nothing to measure: give at least one of [text], [tasks] and [speed]".into());
        }
        self.tasks.as_ref().map_or(Ok(()), TasksSpec::check)?;
        if self.max_memory_mib == Some(0) {
            return Err("max_memory_mib must be above 0; leave it out for 4096".into());
        }
        let split = self.split.as_ref();
        if split.is_some_and(|s| s.max_bytes.is_none() == s.max_tensors.is_none()) {
            return Err("[split]: give either max_bytes or max_tensors".into());
        }
        if split.is_some_and(|s| s.max_bytes == Some(0) || s.max_tensors == Some(0)) {
            return Err("[split]: max_bytes and max_tensors must be above 0".into());
        }
        self.speed.as_ref().map_or(Ok(()), SpeedSpec::check)?;
        self.check_texts()
    }

    /// Nothing that is named has an empty name.
    fn check_names(&self) -> Result<(), Message> {
        let check = |key: String, name: &str| match name.trim().is_empty() {
            true => Err(Message::from(format!("{key} is empty: it names nothing"))),
            false => Ok(()),
        };
        let all =
            |key: &str, names: &[String]| names.iter().enumerate().try_for_each(|(i, name)| check(format!("{key}[{i}]"), name));
        for model in &self.models {
            check("model".into(), &model.model)?;
            all("recipes", &model.recipes)?;
            all("candidates", &model.candidates)?;
            let imatrix = model.imatrix.as_ref();
            imatrix.and_then(|imatrix| imatrix.file.as_ref()).map_or(Ok(()), |file| check("imatrix.file".into(), file))?;
            imatrix.and_then(|imatrix| imatrix.text.as_ref()).map_or(Ok(()), |text| check("imatrix.text".into(), text))?;
        }
        for (i, text) in self.texts.iter().enumerate() {
            check(format!("text[{i}].file"), &text.file)?;
        }
        self.tasks.as_ref().map_or(Ok(()), |tasks| all("tasks.names", &tasks.names))
    }

    fn check_texts(&mut self) -> Result<(), Message> {
        for i in 0..self.texts.len() {
            let given = !self.texts[i].name.is_empty();
            let stem = Path::new(self.texts[i].file.trim_start_matches(demo::PREFIX)).file_stem();
            let wanted = if given { self.texts[i].name.clone() } else { stem.unwrap_or_default().to_string_lossy().into_owned() };
            if records::escaped(&wanted).len() > MAX_NAME {
                let begin: String = wanted.chars().take(20).collect();
                let what = "its name is too long for files of records; give a shorter name";
                return Err(format!("text {begin}...: {what}").into());
            }
            let taken = |name: &str| self.texts[..i].iter().any(|text| text.name == name);
            if given && taken(&wanted) {
                return Err(format!("text: two texts are named {wanted}").into());
            }
            self.texts[i].name = free_name(&wanted, '-', taken);
        }
        self.texts
            .iter()
            .try_for_each(|text| text.check().map_err(|what| Message::from(format!("text {}: ", text.name)).then(what)))
    }

    /// The folders of its models below that of the run: the run's own where there is one model, and else one for each, named by
    /// the model.
    pub fn folders(&self, out: &Path) -> Vec<PathBuf> {
        if self.models.len() == 1 {
            return vec![out.to_owned()];
        }
        let mut names: Vec<String> = Vec::new();
        for model in &self.models {
            let path = Path::new(model.model.trim_start_matches(demo::PREFIX).trim_start_matches(demo::HUB_PREFIX));
            let is_file = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
            let stem = if is_file { path.file_stem() } else { path.file_name() };
            let stem = stem.map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().replace([':', '@'], "-"));
            names.push(free_name(&stem, '-', |name| names.iter().any(|known| known == name)));
        }
        names.into_iter().map(|name| out.join(name)).collect()
    }

    /// The `number`-th, from 1 on, of `of` disjoint parts of this job, by windows of texts and items of tasks. The records of
    /// all of them are those of the whole; timings, which cannot be divided, are made by the first.
    ///
    /// # Errors
    /// No such part; a job that is a part already.
    pub fn slice(&self, number: usize, of: usize) -> Result<Self, Message> {
        if !self.slice.is_whole() {
            return Err(format!("this job is slice {} of one already", self.slice).into());
        }
        let slice = Slice::new(number, of)?;
        Ok(Self { slice, speed: self.speed.clone().filter(|_| slice.is_first()), ..self.clone() })
    }

    /// SHA-256 over all that it says, in hexadecimal.
    pub fn sha256(&self) -> String {
        use sha2::{Digest, Sha256};
        bitworth_quant::quantize::hex(&Sha256::digest(serde_json::json!(self).to_string()))
    }
}

/// `wanted`, or where that is taken `wanted` with a number behind `mark`, from 2 on.
pub fn free_name(wanted: &str, mark: char, taken: impl Fn(&str) -> bool) -> String {
    let mut name = wanted.to_owned();
    let mut number = 1;
    while taken(&name) {
        number += 1;
        name = format!("{wanted}{mark}{number}");
    }
    name
}

fn above_zero(key: &str) -> Message {
    format!("{key} must be above 0; leave it out for all").into()
}

fn check_recipes(model: &mut ModelSpec) -> Result<(), Message> {
    let is_fit = model.fit.is_some();
    let resolve = |name: &mut String, place: String| -> Result<(), Message> {
        let (plain, is_fitted) = fitted(name);
        let recipe = Recipe::find(plain).map_err(|e| Message::from(format!("{place}: ")).then(e.message()))?;
        if is_fitted && !is_fit {
            return Err(Message::from(format!("{place}: {name} is fitted to texts; name them with ")).then(FIT));
        }
        if is_fitted && recipe.only_copy {
            return Err(format!("{place}: {name}: {plain} changes no weights, so there is nothing to fit").into());
        }
        if !Recipe::is_path(plain) {
            *name = format!("{}{}", recipe.name, if is_fitted { FitSpec::MARK } else { "" });
        }
        Ok(())
    };
    for (i, name) in model.recipes.iter_mut().enumerate() {
        resolve(name, format!("recipes[{i}]"))?;
    }
    let mut on_the_fly = Vec::new();
    for (i, candidate) in model.candidates.iter().enumerate() {
        if let Some(name) = candidate.strip_prefix('@') {
            let mut name = name.to_owned();
            resolve(&mut name, format!("candidates[{i}]"))?;
            on_the_fly.push(name);
        }
    }
    if let Some(fit) = &model.fit {
        fit.check()?;
        let on_the_fly = model.candidates.iter().filter_map(|candidate| candidate.strip_prefix('@'));
        let mut names = model.recipes.iter().map(String::as_str).chain(on_the_fly).filter(|name| fitted(name).1);
        let twice = on_the_fly_twice(model);
        if let Some(name) = twice {
            return Err(format!("candidates: @{name} is among the recipes, too; leave one out").into());
        }
        if names.next().is_none() {
            let what = " is for recipes that are fitted, and none is: write q4_k_m+fit for q4_k_m with fitted weights";
            return Err(Message::from(FIT).then(what));
        }
    }
    for (key, names) in [("recipes", &model.recipes), ("candidates", &model.candidates)] {
        if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(format!("{key}: {} occurs twice", names[twice]).into());
        }
    }
    let Some(imatrix) = &mut model.imatrix else { return Ok(()) };
    for (i, name) in imatrix.recipes.iter_mut().flatten().enumerate() {
        resolve(name, format!("imatrix.recipes[{i}]"))?;
        if !model.recipes.contains(name) && !on_the_fly.contains(name) {
            return Err(format!("imatrix.recipes: {name} is none of the recipes of this run").into());
        }
    }
    if imatrix.file.is_some() == imatrix.text.is_some() {
        return Err("[imatrix]: give either a file that holds one or a text to collect it on".into());
    }
    if imatrix.ctx == 0 || u32::try_from(imatrix.ctx).is_err() {
        return Err(format!("imatrix.ctx must be from 1 to {}", u32::MAX).into());
    }
    if imatrix.chunks == Some(0) {
        return Err(above_zero("imatrix.chunks"));
    }
    Ok(())
}

/// A recipe that is to be fitted as a candidate and as a recipe: their files would have one name.
fn on_the_fly_twice(model: &ModelSpec) -> Option<&str> {
    let names = model.candidates.iter().filter_map(|candidate| candidate.strip_prefix('@'));
    names.filter(|name| fitted(name).1).find(|name| model.recipes.iter().any(|recipe| recipe == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = Job::parse(text, Path::new(""), "job.toml").unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("job.toml"), "{error:?} lacks {expected:?}");
    }

    fn parse(text: &str) -> Job {
        Job::parse(text, Path::new("/a"), "job.toml").unwrap()
    }

    #[test]
    fn the_embedded_demo_and_the_shipped_configurations_are_sound() {
        Job::load(None).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/runs");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            // The others are for `bitworth advise` (`advise::request` reads them).
            if !text.parse::<toml::Table>().unwrap().contains_key("hardware") {
                Job::load(Some(&path)).unwrap();
            }
        }
    }

    #[test]
    fn paths_are_seen_from_the_configurations_folder() {
        let job = parse("model = \"m\"\n[text]\nfile = \"demo:data/eval.txt\"");
        assert_eq!(job.models[0].model, Path::new("/a").join("m").display().to_string());
        assert_eq!((job.texts[0].file.as_str(), job.texts[0].name.as_str()), ("demo:data/eval.txt", "eval"));
        let job = parse("model = \"hf:o/n@v1\"\ncandidates = [\"q.gguf\", \"@q4_0\"]\n[speed]");
        assert_eq!(job.models[0].model, "hf:o/n@v1");
        assert_eq!(job.models[0].candidates, [Path::new("/a").join("q.gguf").display().to_string(), "@q4_0".to_owned()]);
    }

    #[test]
    fn timings_are_one_or_many_of_one_or_both_programs() {
        let speed = |text: &str| parse(&format!("model = \"m\"\n[speed]\n{text}")).speed.unwrap();
        assert_eq!(speed(""), SpeedSpec::default());
        let both = speed(
            "prompt = [64, 512]\ngenerate = 0\nengine = [\"bitworth\", \"llama-bench\"]\nllama_bench = \"bin/llama-bench\"",
        );
        assert_eq!((both.prompt, both.generate), (vec![64, 512], vec![0]));
        assert_eq!(
            (both.engine, both.llama_bench.unwrap()),
            (vec![Engine::Bitworth, Engine::LlamaBench], "/a/bin/llama-bench".into())
        );
        let other = speed("engine = \"llama-bench\"\nllama_bench = \"llama-bench\"\nshape = \"llama-1b\"");
        assert_eq!((other.llama_bench.unwrap(), other.shape.unwrap()), ("llama-bench".into(), "llama-1b".into()));
        assert_eq!(speed("shape = \"mine/config.json\"").shape.unwrap(), "/a/mine/config.json");
        let refused = |text: &str, expected: &str| check_error(&format!("model = \"m\"\n[speed]\n{text}"), expected);
        refused("engine = \"llama\"", "expected `bitworth` or `llama-bench`");
        refused("engine = []", "speed.engine is empty");
        refused("engine = [\"bitworth\", \"bitworth\"]", "twice");
        refused("llama_bench = \"x\"", "does not ask for");
        refused("shape = \" \"", "speed.shape is empty");
        refused("delay = -1.0", "speed.delay");
        refused("prompt = \"many\"", "prompt");
    }

    #[test]
    fn several_models_share_what_none_has_of_its_own() {
        let job = parse(
            "models = [\"m\", { model = \"n\", recipes = [\"q8_0\"], candidates = [\"n.gguf\"] }]\nrecipes = [\"Q4_0\"]\n[speed]",
        );
        let of = |i: usize| (&job.models[i].recipes[..], job.models[i].candidates.len());
        assert_eq!((of(0), of(1)), ((&["q4_0".to_owned()][..], 0), (&["q8_0".to_owned()][..], 1)));
        assert_eq!(job.folders(Path::new("out")), [Path::new("out/m"), Path::new("out/n")]);
        let job = parse("models = [\"x/m\", \"y/m.gguf\"]\n[speed]");
        assert_eq!(job.folders(Path::new("out")), [Path::new("out/m"), Path::new("out/m-2")]);
    }

    #[test]
    fn texts_are_one_or_many_and_have_names_of_their_own() {
        let job = parse(
            "model = \"m\"\n[[text]]\nfile = \"a/t.txt\"\n[[text]]\nfile = \"b/t.txt\"\n[[text]]\nname = \"c\"\nfile = \"t\"",
        );
        assert!(job.texts.iter().map(|t| t.name.as_str()).eq(["t", "t-2", "c"]));
        check_error(
            "model = \"m\"\n[[text]]\nname = \"c\"\nfile = \"t\"\n[[text]]\nname = \"c\"\nfile = \"u\"",
            "two texts are named c",
        );
    }

    #[test]
    fn another_job_has_another_hash() {
        let [a, b] = ["q8_0", "q4_0"].map(|recipe| parse(&format!("model = \"m\"\nrecipes = [\"{recipe}\"]\n[speed]")).sha256());
        assert!(a != b && a.len() == 64);
    }

    #[test]
    fn a_slice_is_a_job_of_its_own() {
        let job = parse("model = \"m\"\n[text]\nfile = \"t\"\n[speed]");
        let [first, second] = [1, 2].map(|k| job.slice(k, 2).unwrap());
        assert!(first.speed.is_some() && second.speed.is_none(), "timings are made once");
        assert!(first.sha256() != second.sha256() && second.sha256() != job.sha256());
        assert!(job.slice(3, 2).is_err() && first.slice(1, 2).is_err());
    }

    #[test]
    fn the_leaderboards_run_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/runs/leaderboard-v1.toml");
        assert_eq!(Job::load(Some(&path)).unwrap().tasks.unwrap().names, ["leaderboard_v1"]);
    }

    #[test]
    fn mistakes_are_named() {
        check_error("model = \"m\"\nrecipes = [\"q9_9\"]\n[speed]", "q9_9");
        check_error("model = \"m\"\ncandidates = [\"@q9_9\"]\n[speed]", "candidates[0]");
        check_error("model = \"m\"\nrecipes = []\nrecipe = 1", "recipe");
        check_error("model = \"\"\n[speed]", "model is empty");
        check_error("models = [\"m\", \" \"]\n[speed]", "model is empty");
        check_error("model = \"m\"\ncandidates = [\"@q4_0\", \"\"]\n[speed]", "candidates[1] is empty");
        check_error("model = \"m\"\nrecipes = [\"\"]\n[speed]", "recipes[0] is empty");
        check_error("model = \"m\"\nrecipes = []\n[speed]", "recipes is empty");
        check_error("model = \"m\"\n[tasks]\nnames = []", "tasks.names is empty");
        check_error("model = \"m\"\n[tasks]\nnames = [\"\"]", "tasks.names[0] is empty");
        check_error("model = \"m\"\nmax_memory_mib = 0\n[speed]", "max_memory_mib must be above 0");
        check_error("model = \"m\"\n[text]\nfile = \"\"", "text[0].file is empty");
        let two = "model = \"m\"\n[[text]]\nfile = \"a.txt\"\n[[text]]\nfile = \"b.txt\"\n";
        check_error(&format!("{two}ctx = 3"), "text b: ctx = 3");
        check_error(&format!("{two}chunks = 0"), "text b: chunks must be above 0");
        check_error(&format!("{two}name = \"{}\"", "n".repeat(300)), "text nnnnnnnnnnnnnnnnnnnn...: its name is too long");
        check_error("model = \"m\"\nrecipes = [\"q8_0\", \"Q8_0\"]\n[speed]", "twice");
        check_error("model = \"m\"", "nothing to measure");
        check_error("recipes = []\n[speed]", "model");
        check_error("model = \"m\"\nmodels = [\"n\"]\n[speed]", "either model or models");
        check_error("model = \"m\"\nrecipes = []\n[text]\nfile = \"t\"\nctxx = 3", "ctxx");
        check_error("models = [{ model = \"m\", reciped = [] }]\n[speed]", "reciped");
        check_error("model = \"m\"\n[speed]\n[split]", "max_bytes");
    }
}
