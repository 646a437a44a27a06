//! In the place of `jinja.rs` where the feature `chat` is off: templates are refused, with the reason.

use serde_json::{Map, Value};

use super::TemplateError;

/// There is none.
#[derive(Debug)]
pub(super) enum Compiled {}

/// Nothing reads it.
#[derive(Debug, Clone)]
pub(super) struct Scope;

impl Scope {
    pub(super) fn new(_: &Map<String, Value>) -> Self {
        Self
    }
}

impl Compiled {
    pub(super) fn new(_: &str) -> Result<Self, TemplateError> {
        Err(TemplateError("this program was built without the feature `chat`, which renders templates".to_owned()))
    }

    pub(super) fn names(&self) -> Vec<String> {
        match *self {}
    }

    pub(super) fn render(&self, _: &Scope) -> Result<String, TemplateError> {
        match *self {}
    }
}
