//! The module of a Python function as a text. Some twins take their words from it, so that prompts in many languages stand
//! where they were written and not here. Its hash says what stands where; only literals are read, and nothing is run.

use std::path::{Path, PathBuf};

use bitworth_quant::message::Message;
use bitworth_text::python::literal;
use serde_json::Value;

/// Larger modules are none that a twin was written after.
const MAX_BYTES: u64 = 1 << 20;

/// A module's source.
#[derive(Debug, Clone)]
pub struct Module {
    path: PathBuf,
    source: String,
}

impl Module {
    /// Reads a module.
    ///
    /// # Errors
    /// It is not there, or is no module of that size.
    pub(super) fn read(path: &Path) -> Result<Self, Message> {
        let fail = |what: String| Message::from(format!("{}: {what}", path.display()));
        let bytes = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if bytes > MAX_BYTES {
            return Err(fail(format!("it has {bytes} bytes; at most {MAX_BYTES} are read")));
        }
        let source = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        Ok(Self { path: path.to_owned(), source: source.replace("\r\n", "\n") })
    }

    /// A module beside this one.
    pub(super) fn beside(&self, name: &str) -> Result<Self, Message> {
        Self::read(&self.path.with_file_name(format!("{name}.py")))
    }

    /// The name of the folder that it lies in.
    pub(super) fn folder(&self) -> &str {
        self.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// The literal behind the first place of a text.
    pub(super) fn value(&self, behind: &str) -> Result<Value, Message> {
        let found = self.source.split_once(behind).and_then(|(_, rest)| literal::first(rest));
        found.ok_or_else(|| format!("{} has no literal behind {behind:?}", self.path.display()).into())
    }

    /// The text literal behind the first place of a text.
    pub(super) fn text(&self, behind: &str) -> Result<String, Message> {
        match self.value(behind)? {
            Value::String(text) => Ok(text),
            _ => Err(format!("{} has no text behind {behind:?}", self.path.display()).into()),
        }
    }

    /// The list of texts behind the first place of a text.
    pub(super) fn texts(&self, behind: &str) -> Result<Vec<String>, Message> {
        let texts = match self.value(behind)? {
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        texts.ok_or_else(|| format!("{} has no list of texts behind {behind:?}", self.path.display()).into())
    }
}

/// `str.format`, or what an f-string makes: fields in braces by what stands in them, empty ones in order.
pub(super) fn filled(template: &str, fields: &[(&str, &str)]) -> Result<String, Message> {
    let mut made = String::with_capacity(template.len());
    let mut rest = template;
    let mut unnamed = fields.iter().filter(|(name, _)| name.is_empty());
    while let Some(at) = rest.find(['{', '}']) {
        made += &rest[..at];
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            made += brace;
            rest = behind;
            continue;
        }
        let (name, behind) = rest.split_once('}').ok_or_else(|| Message::from("a brace of a template is not closed"))?;
        let field = if name.is_empty() { unnamed.next() } else { fields.iter().find(|(own, _)| *own == name) };
        made += field.ok_or_else(|| Message::from(format!("a template has the unknown field {name:?}")))?.1;
        rest = behind;
    }
    Ok(made + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: CPython's `str.format`.
    #[test]
    fn templates_are_filled_as_python_fills_them() {
        let fields = [("a", "1"), ("", "x"), ("", "{y}"), ("b.c('d')", "2")];
        assert_eq!(filled("{a} {{}} {} {}{a}", &fields), Ok("1 {} x {y}1".to_owned()));
        assert_eq!(filled("{b.c('d')}", &fields), Ok("2".to_owned()));
        assert!(filled("{z}", &fields).is_err() && filled("{a", &fields).is_err() && filled("{}{}{}", &fields).is_err());
    }
}
