//! How questions, answers and choices are made of a document: columns, templates, constants, twins. Absent: the prompt around
//! them ([`crate::ask`]).
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/api/task.py` (`doc_to_text`, `doc_to_target`, `doc_to_choice`).

use bitworth_quant::message::Message;
use bitworth_text::python::{self, literal};
use bitworth_text::template::{Scope, Template, TemplateError};
use serde_json::Value;

use crate::files::config::Field;
use crate::lacking;
use crate::rows::DataRow;
use crate::short::short;
use crate::twins::{self, MakeField, NoTwin, Twin};

/// What makes a value of a document.
pub enum Maker {
    /// A column of this name, or else a template.
    Text(Box<Text>),
    /// A constant.
    Constant(Value),
    /// A twin of a Python function.
    Twin(MakeField),
}

/// A text that is a column's name or a template.
pub struct Text {
    source: String,
    /// `None` for a text without any brace.
    template: Result<Option<Template>, TemplateError>,
}

/// Why there is no maker.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// A Python function without a twin.
    #[error(transparent)]
    NoTwin(#[from] NoTwin),
    /// A function that makes something else.
    #[error("the function {0} does not make this of a document")]
    Kind(String),
}

/// A document with what templates see of it.
pub struct Doc<'a> {
    row: &'a DataRow,
    scope: std::cell::OnceCell<Scope>,
}

impl<'a> Doc<'a> {
    /// Of a row.
    pub fn new(row: &'a DataRow) -> Self {
        Self { row, scope: std::cell::OnceCell::new() }
    }

    fn scope(&self) -> &Scope {
        self.scope.get_or_init(|| Scope::new(self.row))
    }
}

impl Text {
    /// Of a text in a task file.
    pub fn new(source: &str) -> Self {
        let template = match source.contains('{') {
            true => Template::new(source).map(Some),
            false => Ok(None),
        };
        Self { source: source.to_owned(), template }
    }

    /// What is wrong with it as a template.
    pub fn error(&self) -> Option<&TemplateError> {
        self.template.as_ref().err()
    }

    /// The text for a document.
    ///
    /// # Errors
    /// A template that does not compile, or fails on the document.
    pub fn render(&self, doc: &Doc) -> Result<String, Message> {
        match &self.template {
            Ok(Some(template)) => template.render(doc.scope()).map_err(|e| lacking::describe(&e, template, doc.row).into()),
            // As jinja2 has it, newlines are of one kind.
            Ok(None) => Ok(self.source.replace("\r\n", "\n").replace('\r', "\n")),
            Err(e) => Err(e.to_string().into()),
        }
    }

    /// The column's value, where `is_column` says that it is one.
    fn column(&self, doc: &Doc, is_column: impl Fn(&str) -> bool) -> Result<Option<Value>, Message> {
        if !is_column(&self.source) {
            return Ok(None);
        }
        let value = doc.row.get(&self.source).cloned();
        let missing = || format!("the row has no column {:?}; it has {}", self.source, lacking::columns(doc.row));
        value.map(Some).ok_or_else(|| missing().into())
    }

    /// The field of this name, or the text of the template: `resolve_field`.
    ///
    /// # Errors
    /// As [`Text::render`].
    pub fn resolve(&self, doc: &Doc) -> Result<String, Message> {
        match doc.row.get(&self.source) {
            Some(value) => Ok(python::str(value)),
            None => self.render(doc),
        }
    }
}

impl Maker {
    /// Of a field in a task file.
    ///
    /// # Errors
    /// A function without a twin, or whose twin makes something else.
    pub fn new(field: &Field) -> Result<Self, FieldError> {
        Ok(match field {
            Field::Text(text) => Self::Text(Box::new(Text::new(text))),
            Field::Int(value) => Self::Constant((*value).into()),
            Field::List(items) => Self::Constant(Value::Array(items.clone())),
            Field::Function(function) => match twins::find(function)? {
                (Twin::Field(make), _) => Self::Twin(Box::new(make)),
                (Twin::FieldOf(make), _) => {
                    let module = twins::module(function)?;
                    Self::Twin(make(&module).map_err(|what| twins::unread(function, what))?)
                }
                _ => return Err(FieldError::Kind(function.name.clone())),
            },
        })
    }

    /// What is wrong with it whatever the document.
    pub fn error(&self) -> Option<&TemplateError> {
        match self {
            Self::Text(text) => text.error(),
            Self::Constant(_) | Self::Twin(_) => None,
        }
    }

    /// The question: a text, or the place of a choice where the text is a number and there are choices.
    ///
    /// # Errors
    /// What cannot be made of the document.
    pub fn question(&self, doc: &Doc, columns: &[String], has_choices: bool) -> Result<Value, Message> {
        self.make(doc, columns, |text| Ok(if has_choices && is_digits(&text) { index(&text)? } else { text.into() }))
    }

    /// The answer: a text, the place of a choice, or a list of answers.
    ///
    /// # Errors
    /// What cannot be made of the document.
    pub fn answer(&self, doc: &Doc, columns: &[String], has_choices: bool) -> Result<Value, Message> {
        self.make(doc, columns, |text| {
            if has_choices && is_digits(&text) {
                return index(&text);
            }
            if text.len() >= 2 && text.starts_with('[') && text.ends_with(']') {
                return Ok(literal::eval(&text).unwrap_or_else(|| text.into()));
            }
            Ok(text.into())
        })
    }

    /// The choices.
    ///
    /// # Errors
    /// A value that the document does not give, or that is not a list.
    pub fn choices(&self, doc: &Doc, columns: &[String]) -> Result<Vec<Value>, Message> {
        let made = self.make(doc, columns, |text| {
            literal::eval(&text).ok_or_else(|| Message::from(format!("the choices {} are no list of Python's", short(&text))))
        })?;
        match made {
            Value::Array(items) => Ok(items),
            other => Err(format!("the choices must be a list, not {}", short(&python::repr(&other))).into()),
        }
    }

    fn make(&self, doc: &Doc, columns: &[String], of: impl Fn(String) -> Result<Value, Message>) -> Result<Value, Message> {
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Twin(make) => make(doc.row),
            Self::Text(text) => match text.column(doc, |name| columns.iter().any(|column| column == name))? {
                Some(value) => Ok(value),
                None => of(text.render(doc)?),
            },
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn index(text: &str) -> Result<Value, Message> {
    literal::eval(text).filter(Value::is_i64).ok_or_else(|| Message::from(format!("{text} is not the number of a choice")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn maker(field: Value) -> Maker {
        Maker::new(&match field {
            Value::String(text) => Field::Text(text),
            Value::Number(n) => Field::Int(n.as_i64().unwrap()),
            Value::Array(items) => Field::List(items),
            _ => panic!(),
        })
        .unwrap()
    }

    #[test]
    fn columns_come_before_templates() {
        let row = json!({"label": 1, "q": "5", "c": {"text": ["x", "it's"]}, "hidden": 2}).as_object().unwrap().clone();
        let doc = Doc::new(&row);
        let columns: Vec<String> = ["label", "q", "c"].map(str::to_owned).into();
        let question = |field: Value, choices| maker(field).question(&doc, &columns, choices);
        assert_eq!(question(json!("q"), true), Ok(json!("5")));
        assert_eq!(question(json!("{{q}}"), true), Ok(json!(5)));
        assert_eq!(question(json!("{{q}}"), false), Ok(json!("5")));
        assert_eq!(question(json!("hidden"), false), Ok(json!("hidden")));
        assert_eq!(question(json!(""), true), Ok(json!("")));
        assert_eq!(maker(json!("label")).answer(&doc, &columns, true), Ok(json!(1)));
        assert_eq!(maker(json!("{{[q, label]}}")).answer(&doc, &columns, false), Ok(json!(["5", 1])));
        assert_eq!(maker(json!("[a]")).answer(&doc, &columns, false), Ok(json!("[a]")));
        assert_eq!(maker(json!("{{c.text}}")).choices(&doc, &columns), Ok(vec![json!("x"), json!("it's")]));
        assert_eq!(maker(json!(["a"])).choices(&doc, &columns), Ok(vec![json!("a")]));
        assert!(maker(json!("{{q}}")).choices(&doc, &columns).unwrap_err().to_string().contains("must be a list"));
        assert!(maker(json!("{{zzz}}")).answer(&doc, &columns, false).unwrap_err().to_string().contains("no column \"zzz\""));
        assert!(maker(json!("{{q")).error().is_some());
    }
}
