//! Which tasks of an index run here, and what keeps the others from it. Nothing of their data is read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bitworth_quant::Result;
use rayon::prelude::*;
use serde::Serialize;

use crate::files::config::TaskConfig;
use crate::files::index::{Chosen, Entry, Index};
use crate::task::Definition;

/// Whether one task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskCheck {
    /// The task's name.
    pub task: String,
    /// Its file.
    pub file: PathBuf,
    /// In a word or two: `runs`, `needs a twin`, `needs Python`, `not text`, `broken`.
    pub verdict: &'static str,
    /// What keeps it from running, beyond the verdict.
    pub why: Option<String>,
}

/// Looks at the tasks that `names` mean; without names, at all that the index has.
///
/// # Errors
/// A name that is unknown, as [`Index::select`] has it.
pub fn check(index: &Index, names: &[String]) -> Result<Vec<TaskCheck>> {
    let chosen: Vec<(Chosen, bool)> = match names {
        [] => index.entries().filter_map(|(name, entry)| of_entry(name, entry)).collect(),
        names => index.select(names)?.tasks.into_iter().map(|chosen| (chosen, false)).collect(),
    };
    let one = |(chosen, is_class): (Chosen, bool)| {
        let (verdict, why) = match is_class {
            true => ("needs Python", Some("the task is a Python class".to_owned())),
            false => verdict(&chosen),
        };
        TaskCheck { task: chosen.name, file: chosen.source.path, verdict, why }
    };
    Ok(chosen.into_par_iter().map(one).collect())
}

/// How many tasks have each verdict.
pub fn counts(checked: &[TaskCheck]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    checked.iter().for_each(|task| *counts.entry(task.verdict).or_default() += 1);
    counts
}

/// What keeps a task from running, as a word and as a text.
fn verdict(chosen: &Chosen) -> (&'static str, Option<String>) {
    let config = match TaskConfig::new(chosen) {
        Ok(config) => config,
        Err(e) => return ("broken", Some(e.to_string())),
    };
    match Definition::new(config) {
        Ok(_) => ("runs", None),
        Err(refusal) => (refusal.word(), Some(refusal.reason())),
    }
}

/// A task of the index, and whether it is a Python class.
fn of_entry(name: &str, entry: &Entry) -> Option<(Chosen, bool)> {
    match entry {
        Entry::Task(source) => Some((Chosen { name: name.to_owned(), source: source.clone() }, false)),
        Entry::Python(source) => Some((Chosen { name: name.to_owned(), source: source.clone() }, true)),
        Entry::Group(_) | Entry::Tag(_) => None,
    }
}
