//! Task templates on minijinja, set up as lm-evaluation-harness sets up jinja2: `StrictUndefined`, `keep_trailing_newline`, its
//! filter `regex_replace`; and as Python prints. Absent: methods of values (`methods.rs`), filters and tests (`filters.rs`).

use std::sync::OnceLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Rest;
use minijinja::{Environment, Error, UndefinedBehavior, Value};
use serde_json::{Map, Value as Json};

use super::objects::{Cycler, Joiner, Range};
use super::{TemplateError, filters, methods, print, source};
use crate::chat::namespaces;
use crate::faults::describe;

/// The template's name in its environment.
const NAME: &str = "template";
/// Work on one document, in steps of the interpreter; 64 bytes of text count as one.
const FUEL: u64 = 1_000_000;

/// A document as minijinja's value.
#[derive(Debug, Clone)]
pub(super) struct Scope(Value);

impl Scope {
    pub(super) fn new(doc: &Map<String, Json>) -> Self {
        Self(object(doc))
    }
}

fn object(entries: &Map<String, Json>) -> Value {
    Value::from_pairs(entries.iter().map(|(key, item)| (key.as_str(), value(item))))
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        Json::Object(entries) => object(entries),
    }
}

/// A template in an environment of its own.
#[derive(Debug)]
pub(super) struct Compiled {
    source: String,
    environment: Environment<'static>,
}

impl Compiled {
    pub(super) fn new(source: &str) -> Result<Self, TemplateError> {
        // jinja2 knows newlines of one kind.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        if let Some((line, what)) = namespaces::misused(&source) {
            return Err(TemplateError(format!("{what} in line {line}")));
        }
        let mut environment = base().clone();
        let prepared = source::prepare(&source);
        let prepared = prepared.map_err(|(line, what)| TemplateError(format!("{what} in line {line}")))?;
        environment.add_template_owned(NAME, prepared).map_err(|e| TemplateError(describe(&source, &e)))?;
        Ok(Self { source, environment })
    }

    pub(super) fn names(&self) -> Vec<String> {
        let found = self.environment.get_template(NAME).map(|template| template.undeclared_variables(false)).unwrap_or_default();
        let is_global = |name: &String| self.environment.globals().any(|(known, _)| known == name);
        let mut names: Vec<String> = found.into_iter().filter(|name| !is_global(name)).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn render(&self, scope: &Scope) -> Result<String, TemplateError> {
        let rendered = self.environment.get_template(NAME).and_then(|template| template.render(&scope.0));
        rendered.map_err(|e| TemplateError(describe(&self.source, &e)))
    }
}

/// The environment that every template begins with.
fn base() -> &'static Environment<'static> {
    static BASE: OnceLock<Environment<'static>> = OnceLock::new();
    BASE.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_debug(false);
        if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_formatter(|out, state, value| out.write_str(&print::text(state, value)?).map_err(Error::from));
        environment.set_unknown_method_callback(methods::call);
        environment.remove_global("debug");
        environment.add_function("range", Range::make);
        environment.add_function("cycler", |items: Rest<Value>| Cycler::make(items.0));
        environment.add_function("joiner", Joiner::make);
        filters::install(&mut environment);
        environment
    })
}
