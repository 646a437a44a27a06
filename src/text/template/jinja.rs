//! Task templates on minijinja, set up as lm-evaluation-harness sets up jinja2: `StrictUndefined`, `keep_trailing_newline`, its
//! filter `regex_replace`; and as Python prints. Absent: methods of values (`methods.rs`).

use std::fmt::Write;
use std::sync::OnceLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde_json::{Map, Value as Json};

use super::{TemplateError, methods};
use crate::chat::namespaces;
use crate::faults::describe;
use crate::python::{self, JsonStyle, re::Regex};

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

/// A value of a template as JSON, for `tojson`.
fn json(value: &Value, depth: usize) -> Result<Json, Error> {
    let bad = |what: String| Error::new(ErrorKind::BadSerialization, what);
    if depth > python::MAX_DEPTH {
        return Err(bad(format!("nested more than {} times", python::MAX_DEPTH)));
    }
    Ok(match value.kind() {
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => match (i64::try_from(value.clone()), f64::try_from(value.clone())) {
            (Ok(n), _) if value.is_integer() => n.into(),
            (_, Ok(float)) => float.into(),
            _ => return Err(bad(format!("{value} is no number of JSON"))),
        },
        ValueKind::String => value.as_str().unwrap_or_default().into(),
        ValueKind::Seq | ValueKind::Iterable => {
            Json::Array(value.try_iter()?.map(|item| json(&item, depth + 1)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut entries = Map::new();
            for key in value.try_iter()? {
                let item = json(&value.get_item(&key)?, depth + 1)?;
                entries.insert(text(&key)?, item);
            }
            Json::Object(entries)
        }
        other => return Err(bad(format!("{other} is no JSON"))),
    })
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
        environment.add_template_owned(NAME, source.clone()).map_err(|e| TemplateError(describe(&source, &e)))?;
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
        environment.set_formatter(|out, _, value| out.write_str(&text(value)?).map_err(Error::from));
        environment.set_unknown_method_callback(methods::call);
        environment.remove_global("debug");
        environment.add_filter("string", |value: &Value| text(value));
        environment.add_filter("trim", |value: String, chars: Option<String>| match chars {
            None => python::strip(&value).to_owned(),
            Some(chars) => value.trim_matches(|c| chars.contains(c)).to_owned(),
        });
        environment.add_filter("join", join);
        environment.add_filter("tojson", tojson);
        environment.add_filter("regex_replace", regex_replace);
        environment
    })
}

/// `str(value)` of Python.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    repr(value, 0, &mut out)?;
    Ok(out)
}

fn repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > python::MAX_DEPTH {
        return Err(Error::new(ErrorKind::BadSerialization, format!("nested more than {} times", python::MAX_DEPTH)));
    }
    match value.kind() {
        ValueKind::String => out.push_str(&python::string_repr(value.as_str().unwrap_or_default())),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(float) => out.push_str(&python::float_repr(float)),
            Err(_) => write!(out, "{value}").map_err(Error::from)?,
        },
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter()? {
                out.push_str(if count > 0 { ", " } else { "" });
                repr(&item, depth + 1, out)?;
                count += 1;
            }
            out.push_str(if open == '(' && count == 1 { "," } else { "" });
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                repr(&key, depth + 1, out)?;
                out.push_str(": ");
                repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        ValueKind::Undefined => return Err(Error::new(ErrorKind::UndefinedError, "an undefined value in a list")),
        // None, booleans and integers print as Python's.
        _ => write!(out, "{value}").map_err(Error::from)?,
    }
    Ok(())
}

/// `value|join(between, attribute)`.
fn join(value: &Value, between: Option<String>, options: Kwargs) -> Result<String, Error> {
    let between = between.or(options.get::<Option<String>>("d")?).unwrap_or_default();
    let attribute: Option<String> = options.get("attribute")?;
    options.assert_all_used()?;
    let mut out = String::new();
    for (i, item) in value.try_iter()?.enumerate() {
        if i > 0 {
            out += &between;
        }
        let item = match &attribute {
            Some(name) => name.split('.').try_fold(item, |item, part| item.get_attr(part))?,
            None => item,
        };
        if item.is_undefined() {
            return Err(Error::new(ErrorKind::UndefinedError, "an undefined value in a list to join"));
        }
        out += &text(&item)?;
    }
    Ok(out)
}

/// `value|tojson(indent)` as jinja2 has it: keys in order, and what HTML would read written as escapes.
fn tojson(value: &Value, indent: Option<usize>) -> Result<String, Error> {
    let json = json(value, 0)?;
    let style = JsonStyle { indent: indent.map(|n| n.min(64)), ensure_ascii: true, sort_keys: true };
    let text = python::json(&json, style);
    Ok(text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('\'', "\\u0027"))
}

/// lm-evaluation-harness's filter: `re.sub(pattern, replacement, text, count)`.
fn regex_replace(text: String, pattern: String, replacement: String, count: Option<usize>) -> Result<String, Error> {
    let replaced = Regex::new(&pattern).and_then(|regex| regex.sub(&replacement, &text, count.unwrap_or(0)));
    replaced.map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
}
