//! Pipelines of filters: a task file's steps one behind the other, under a name. Every figure is given for each pipeline. Absent:
//! what a step does (`filters`; those that are Python `twins`).
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/filters/`.

use std::sync::Arc;

use bitworth_quant::message::Message;
use serde_json::Value;

use crate::files::config::{FilterConfig, Step};
use crate::filters::{FILTERS, Filter, TakeFirst};
use crate::rows::DataRow;
use crate::twins::{self, NoTwin, Twin};

/// A named pipeline.
pub struct Pipeline {
    /// Its name, a part of every figure's.
    pub name: String,
    steps: Vec<Box<dyn Filter>>,
}

/// Why a pipeline cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A step is a Python function without a twin.
    #[error("the filter {0}: {1}")]
    NoTwin(String, NoTwin),
    /// A step is unknown, or cannot take its options.
    #[error("the filter {0}: {1}")]
    Options(String, Message),
}

impl Pipeline {
    /// The pipeline that takes the first answer as it is.
    pub fn first() -> Self {
        Self { name: "none".to_owned(), steps: vec![Box::new(TakeFirst)] }
    }

    /// A pipeline of a task file.
    ///
    /// # Errors
    /// A step that is unknown, has no twin, or cannot take its options.
    pub fn new(config: &FilterConfig) -> Result<Self, FilterError> {
        let steps = config.steps.iter().map(|step| make(&config.name, step)).collect::<Result<_, _>>()?;
        Ok(Self { name: config.name.clone(), steps })
    }

    /// The filtered answers of all requests of a task.
    ///
    /// # Errors
    /// A step that fails; says which filter.
    pub fn apply(&self, answers: Vec<Value>, docs: &[Arc<DataRow>]) -> Result<Vec<Value>, Message> {
        let mut filtered = answers;
        for step in &self.steps {
            filtered = step.apply(filtered, docs).map_err(|what| format!("the filter {}: {what}", self.name))?;
        }
        Ok(filtered)
    }
}

fn make(name: &str, step: &Step) -> Result<Box<dyn Filter>, FilterError> {
    let options = |what: Message| FilterError::Options(name.to_owned(), what);
    if let Some((_, function)) = step.functions.first() {
        return Err(match twins::find(function) {
            Err(missing) => FilterError::NoTwin(name.to_owned(), missing),
            Ok(_) => options(format!("the function {} is no option of a filter", function.name).into()),
        });
    }
    match &step.function {
        Ok(known) => {
            let found = FILTERS.iter().find(|(own, _)| own == known);
            let names = || FILTERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let (_, make) =
                found.ok_or_else(|| options(format!("the step {known:?} is unknown; known are {}", names()).into()))?;
            make(&step.options).map_err(options)
        }
        Err(function) => match twins::find(function).map_err(|missing| FilterError::NoTwin(name.to_owned(), missing))? {
            (Twin::Filter(make), _) => make(&step.options).map_err(options),
            _ => Err(options(format!("the function {} is no filter", function.name).into())),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    #[test]
    fn a_step_that_is_unknown_is_named() {
        let step = Step { function: Ok("nothing".to_owned()), options: Map::new(), functions: Vec::new() };
        let config = FilterConfig { name: "strict".to_owned(), steps: vec![step] };
        let error = Pipeline::new(&config).err().unwrap().to_string();
        assert!(error.contains("strict") && error.contains("\"nothing\" is unknown"), "{error}");
    }
}
