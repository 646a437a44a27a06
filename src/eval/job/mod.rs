//! What to measure, as a value: models, their quantizations and other candidates, texts, tasks, timings. Read from TOML, written
//! by commands, printed, hashed; `bitworth_measure::execute` does what it says. Nothing is opened here.

mod forms;
mod models;
mod speed;
mod tasks;
mod written;

use std::path::{Path, PathBuf};

use bitworth_quant::message::{Message, Setting};
use bitworth_quant::{Error, Result};
use serde::{Deserialize, Serialize};

use self::forms::TomlTable;
pub use self::models::{FitSpec, ImatrixSpec, ModelSpec, fitted};
pub use self::speed::{AUTO_SHAPE, Engine, SpeedSpec};
pub use self::tasks::{DEFAULT_MARGIN, INCLUDE_PATH, Limit, PerplexityKind, PerplexitySpec, TasksSpec};
use self::written::Written;
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

impl TomlTable for TextSpec {
    const TAKES: &'static str = "a table, as [[text]] with file = \"eval.txt\"";
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

impl TomlTable for SplitSpec {
    const TAKES: &'static str = "a table, as [split] with max_bytes = 4000000000 or max_tensors = 128";
}

fn default_ctx() -> usize {
    512
}

fn default_pass_tokens() -> usize {
    1 << 16
}

fn default_true() -> bool {
    true
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
        let job = toml::from_str::<Written>(text).map_err(|e| Message::from(forms::told(&e)));
        let job = job.and_then(|written| Self::of(written, folder));
        job.and_then(|mut job| job.check().map(|()| job)).map_err(|what| Error::file(Path::new(name), what))
    }

    /// Checks what can be checked without opening anything, gives recipes their own spelling and every text a name.
    ///
    /// # Errors
    /// An unknown recipe, one that is there twice, nothing to measure, a noise floor of nothing, a count of 0, two texts of one
    /// name.
    pub fn check(&mut self) -> Result<(), Message> {
        self.check_names()?;
        for model in &mut self.models {
            models::check_recipes(model)?;
        }
        if self.texts.is_empty() && self.tasks.is_none() && self.speed.is_none() && self.requests.is_none() {
            return Err("nothing to measure: give at least one of [text], [tasks], [speed] and requests".into());
        }
        if self.noise_floor && self.texts.is_empty() && self.tasks.is_none() {
            return Err("noise_floor needs [text] or [tasks]: it is a loss to compare losses with".into());
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
            model.fit.as_ref().map_or(Ok(()), |fit| all("fit.texts", &fit.texts))?;
        }
        self.requests.as_ref().map_or(Ok(()), |file| check("requests".into(), file))?;
        for (i, text) in self.texts.iter().enumerate() {
            check(format!("text[{i}].file"), &text.file)?;
        }
        let Some(tasks) = &self.tasks else { return Ok(()) };
        all("tasks.names", &tasks.names)?;
        all("tasks.include_path", &tasks.include_path)?;
        tasks.data_map.as_ref().map_or(Ok(()), |map| check("tasks.data_map".into(), map))?;
        let mut files = tasks.llama_perplexity.iter().enumerate();
        files.try_for_each(|(i, spec)| check(format!("tasks.llama_perplexity[{i}].file"), &spec.file))
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
    /// No such part; a job that is a part already; requests, which are answered as a whole.
    pub fn slice(&self, number: usize, of: usize) -> Result<Self, Message> {
        if !self.slice.is_whole() {
            return Err(format!("this job is slice {} of one already", self.slice).into());
        }
        if self.requests.is_some() {
            return Err("requests cannot be cut into slices; leave them out".into());
        }
        let slice = Slice::new(number, of)?;
        Ok(Self { slice, speed: self.speed.clone().filter(|_| slice.is_first()), ..self.clone() })
    }

    /// SHA-256 over all that it says, in hexadecimal.
    pub fn sha256(&self) -> String {
        use sha2::{Digest, Sha256};
        bitworth_quant::hex::hex(&Sha256::digest(serde_json::json!(self).to_string()))
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

#[cfg(test)]
mod tests;
