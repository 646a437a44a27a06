//! The data map: a TOML file that names local files for the data sets of tasks.
//!
//! ```toml
//! [[map]]
//! path = "aps/super_glue"                  # a task's dataset_path
//! name = "boolq"                           # its dataset_name, absent where it has none
//! split = "validation"
//! file = "boolq/validation.jsonl"          # as seen from the map's folder
//! field = "examples"                       # optional: the key of a JSON object that holds the rows
//! where = { subject = "anatomy" }          # optional: the rows to take
//! set = { label = "{{ answer | int }}" }   # optional: fields computed of a row, typed as Python would
//! ```

use bitworth_quant::message::Message;
use std::path::{Path, PathBuf};

use bitworth_quant::{Error, Result};
use bitworth_text::python;
use bitworth_text::template::{Scope, Template, watched};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{DataRow, Docs, file};
use crate::lacking;

/// A data map.
#[derive(Debug, Clone, PartialEq)]
pub struct DataMap {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    map: Vec<Entry>,
}

/// One file for one split.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    path: String,
    name: Option<String>,
    split: String,
    file: PathBuf,
    field: Option<String>,
    #[serde(default, rename = "where")]
    wanted: Map<String, Value>,
    #[serde(default)]
    set: Map<String, Value>,
}

impl DataMap {
    /// Reads a map.
    ///
    /// # Errors
    /// A file that is no such map.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let file: File = toml::from_str(&text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut entries = file.map;
        for entry in &mut entries {
            entry.file = folder.join(&entry.file);
        }
        Ok(Self { entries })
    }

    /// The file for a split of a data set.
    pub fn find(&self, path: &str, name: Option<&str>, split: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path && entry.name.as_deref() == name && entry.split == split)
    }
}

impl Entry {
    /// Its rows.
    ///
    /// # Errors
    /// A file that cannot be read; a `where` that no row fits; a template of `set` that fails, with the row.
    pub fn rows(&self) -> Result<Docs> {
        let mut rows = file::read(&self.file, self.field.as_deref())?;
        let fits =
            |row: &DataRow| self.wanted.iter().all(|(key, value)| row.get(key).is_some_and(|own| python::equal(own, value)));
        let fail = |what: Message| Error::file(&self.file, what);
        if let Some(key) = self.wanted.keys().find(|key| !rows.iter().any(|row| row.contains_key(*key))) {
            return Err(fail(format!("the map's where.{key}: no row has this field").into()));
        }
        let all = rows.len();
        rows.retain(fits);
        if rows.is_empty() && all > 0 {
            return Err(fail(format!("the map's where fits none of the {all} rows").into()));
        }
        let mut templates = Vec::new();
        for (key, value) in &self.set {
            let maker = match value {
                Value::String(text) if text.contains('{') => {
                    Err(Template::new(text).map_err(|e| fail(format!("the map's set.{key}: {e}").into()))?)
                }
                constant => Ok(constant.clone()),
            };
            templates.push((key.clone(), maker));
        }
        if templates.is_empty() {
            return Ok(Docs::new(rows));
        }
        let compute = move || -> Result<Vec<DataRow>, Message> {
            for (number, row) in rows.iter_mut().enumerate() {
                let scope = Scope::new(row);
                for (key, maker) in &templates {
                    let value = match maker {
                        Ok(constant) => constant.clone(),
                        Err(template) => {
                            let text = template
                                .render(&scope)
                                .map_err(|e| lacking::describe(&e, template, row))
                                .map_err(|what| Message::from(format!("row {number}: the map's set.{key}: {what}")))?;
                            python::literal::eval(&text).unwrap_or(Value::String(text))
                        }
                    };
                    row.insert(key.clone(), value);
                }
            }
            Ok(rows)
        };
        let rows = watched(compute).map_err(|e| fail(format!("the map's set: {e}").into()))?.map_err(fail)?;
        Ok(Docs::new(rows))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(text: &str) -> Result<(tempfile::TempDir, DataMap), String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("rows.jsonl"), "{\"a\": true, \"s\": \"x\"}\n{\"a\": false, \"s\": \"y\"}\n").unwrap();
        let path = dir.path().join("map.toml");
        std::fs::write(&path, text).unwrap();
        DataMap::read(&path).map(|map| (dir, map)).map_err(|e| e.to_string())
    }

    const MAP: &str = "[[map]]\npath = 'p'\nname = 'n'\nsplit = 'test'\nfile = 'rows.jsonl'\n";

    #[test]
    fn rows_are_chosen_and_fields_are_computed() {
        let set = "where = { s = 'y' }\nset = { label = '{{ a | int }}', word = '{{ s }}!', list = '{{ [s] }}', k = 3 }";
        let (_dir, map) = map(&(MAP.to_owned() + set)).unwrap();
        assert!(map.find("p", None, "test").is_none() && map.find("p", Some("n"), "train").is_none());
        let docs = map.find("p", Some("n"), "test").unwrap().rows().unwrap();
        let expected = json!({"a": false, "s": "y", "label": 0, "word": "y!", "list": ["y"], "k": 3});
        assert_eq!((docs.rows.len(), Value::Object(DataRow::clone(&docs.rows[0]))), (1, expected));
    }

    #[test]
    fn a_where_that_takes_nothing_is_an_error() {
        for (wanted, expected) in
            [("{ z = 1 }", "the map's where.z: no row has this field"), ("{ s = 'q' }", "none of the 2 rows")]
        {
            let (_dir, map) = map(&format!("{MAP}where = {wanted}")).unwrap();
            let error = map.find("p", Some("n"), "test").unwrap().rows().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("rows.jsonl"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(map(&(MAP.to_owned() + "colour = 1")).unwrap_err().contains("colour"));
        assert!(map("[[map]]\npath = 'p'").unwrap_err().contains("split"));
        let rows = |more: &str| {
            let (_dir, map) = map(&(MAP.to_owned() + more)).unwrap();
            map.find("p", Some("n"), "test").unwrap().rows().unwrap_err().to_string()
        };
        assert!(rows("set = { l = '{{ b }}' }").contains("row 0"));
        assert!(rows("set = { l = '{{' }").contains("set.l"));
    }
}
