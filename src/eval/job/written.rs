//! How a job stands in TOML: its keys, what several models share, and the folder that paths are seen from.

use std::path::Path;

use bitworth_quant::Recipe;
use bitworth_quant::message::Message;
use serde::{Deserialize, Serialize};

use super::forms::{NameOr, OneOrMany, toml_table};
use super::{FitSpec, ImatrixSpec, Job, ModelSpec, SpeedSpec, SplitSpec, TasksSpec, TextSpec, fitted};
use crate::demo;
use crate::slice::Slice;

/// A job as it stands in TOML: as it is read, and as it is printed, where every model has all that is its own. Unknown keys are
/// errors.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// The only model, or none.
    model: Option<String>,
    /// Of every model that names none of its own.
    recipes: Option<Vec<String>>,
    candidates: Option<Vec<String>>,
    requests: Option<String>,
    arithmetic: Option<String>,
    max_memory_mib: Option<u64>,
    #[serde(default)]
    noise_floor: bool,
    #[serde(default)]
    strict: bool,
    /// Several models, by name or with what is their own.
    #[serde(default)]
    models: Vec<NameOr<WrittenModel>>,
    /// As `recipes`.
    #[serde(default, deserialize_with = "toml_table")]
    imatrix: Option<ImatrixSpec>,
    #[serde(default, deserialize_with = "toml_table")]
    fit: Option<FitSpec>,
    #[serde(default, rename = "text")]
    texts: OneOrMany<TextSpec>,
    #[serde(default, deserialize_with = "toml_table")]
    tasks: Option<TasksSpec>,
    #[serde(default, deserialize_with = "toml_table")]
    speed: Option<SpeedSpec>,
    #[serde(default, deserialize_with = "toml_table")]
    split: Option<SplitSpec>,
}

/// A model with what is its own.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenModel {
    model: String,
    recipes: Option<Vec<String>>,
    candidates: Option<Vec<String>>,
    #[serde(default, deserialize_with = "toml_table")]
    imatrix: Option<ImatrixSpec>,
    #[serde(default, deserialize_with = "toml_table")]
    fit: Option<FitSpec>,
}

impl WrittenModel {
    fn of(spec: &ModelSpec) -> Self {
        let ModelSpec { model, recipes, candidates, imatrix, fit, .. } = spec.clone();
        Self { model, recipes: Some(recipes), candidates: Some(candidates), imatrix, fit }
    }
}

impl Job {
    /// The job, which was checked, as TOML: [`Job::parse`] makes the same job of it, with paths seen from no folder.
    ///
    /// # Errors
    /// What no configuration says: a slice, a reference that goes by the model's name.
    pub fn to_toml(&self) -> Result<String, Message> {
        let Self { texts, tasks, requests, speed, arithmetic, split, .. } = self.clone();
        let written = Written {
            model: None,
            recipes: None,
            candidates: None,
            requests,
            arithmetic,
            max_memory_mib: self.max_memory_mib,
            noise_floor: self.noise_floor,
            strict: self.strict,
            models: self.models.iter().map(|model| NameOr::Whole(WrittenModel::of(model))).collect(),
            imatrix: None,
            fit: None,
            texts: OneOrMany(texts),
            tasks,
            speed,
            split,
        };
        // It is read again, so that nothing is lost without a word.
        let text = toml::to_string(&written).ok();
        let same = text.filter(|text| Self::parse(text, Path::new(""), "job").is_ok_and(|job| job == *self));
        same.ok_or_else(|| "a configuration cannot say all of this job: it is a slice, or made for one command".into())
    }

    /// The job that was written, with paths seen from `folder`.
    pub(super) fn of(written: Written, folder: &Path) -> Result<Self, Message> {
        let Written {
            model,
            models,
            recipes,
            candidates,
            imatrix,
            fit,
            texts,
            tasks,
            requests,
            speed,
            arithmetic,
            split,
            max_memory_mib,
            noise_floor,
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
            (None, true) => {
                return Err("there is no model: model is missing, and so is models (for several), or it is empty".into());
            }
        };
        let alone = |model: &ModelSpec| model.recipes.is_empty() && model.candidates.is_empty();
        if written_recipes.is_some_and(|recipes| recipes.is_empty()) && models.iter().all(alone) {
            let what = "recipes is empty and there are no candidates; name some, or leave recipes out to measure the model alone";
            return Err(what.into());
        }
        let mut job = Self {
            models,
            texts: texts.0,
            tasks,
            requests,
            speed,
            arithmetic,
            split,
            max_memory_mib,
            noise_floor,
            strict,
            slice: Slice::WHOLE,
        };
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
        self.requests.iter_mut().for_each(from_here);
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
}
